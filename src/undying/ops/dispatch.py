"""Which form an activation is computed in: the one place that decides.

The reference implementation is right everywhere. Something faster is used where it is right too:

* plain eager mode (no transform, no tracing, no mode, no tensor subclass): one relu where no derivative can be asked for;
  else a Function that keeps the input alone, whose backward pass is a kernel for float32, bfloat16 and float16, native on
  the CPU and Triton's on a GPU, where there is one, and the closed form elsewhere (``autograd.EagerSUGAR``).
* while torch.compile traces, and nothing else does: relu, whose backward pass is the native kernel on the CPU
  (``autograd.CompiledKernelSUGAR``) and elsewhere the closed form, which Inductor fuses (``autograd.CompiledSUGAR``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from undying._torch import dispatch_mode_depth, in_dual_level, in_functorch, jit_tracing_state
from undying.ops import autograd, lean, native, reference, triton_loader
from undying.surrogates import BUILT_IN, Surrogate

__all__ = ["PATHS", "report", "using"]

PATHS = ("auto", "native", "triton", "reference")
_OLDER = {"composite": "reference"}
"""Names of before, which are still taken."""


def sugar(x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """SUGAR's forward pass, with its derivative."""
    # Only the built-in surrogates are known to have the derivative that they state; one that inherits may not.
    if not autograd.is_built_in(surrogate) or isinstance(strength, Tensor) or _setting == "reference":
        return reference.sugar(x, surrogate, region, strength)
    if torch.compiler.is_compiling():
        if _compiles_plainly(x):
            # The surrogate is read here: with dynamic shapes Dynamo takes its numbers for variables, and fails where two
            # Functions read the same one.
            if _kernel_compiles(x, surrogate):
                limits = reference.limits(torch.float32, surrogate, region)
                numbers = native.parameter(surrogate), strength, *limits
                return autograd.CompiledKernelSUGAR.apply(x, surrogate.name, *numbers)  # type: ignore[no-any-return]
            slope = reference.slope(x.detach(), surrogate, region, strength)
            return autograd.CompiledSUGAR.apply(x, slope)  # type: ignore[no-any-return]
    elif is_plain_eager(x):
        if not (torch.is_grad_enabled() and x.requires_grad):
            return torch.relu(x)
        library = library_for(x)
        by = autograd.kernel(surrogate, region, library) if library else None
        y: Tensor = autograd.EagerSUGAR.apply(x, (surrogate, region, strength), by)
        if lean.is_lean():
            lean.remember(y, x)
        return y
    return reference.sugar(x, surrogate, region, strength)


def barelu(x: Tensor, alpha: float, eps: float, inplace: bool) -> Tensor:
    """BAReLU's forward pass, with its derivative. Without eps it is torch's own leaky_relu on every path, and
    without a slope its relu."""
    if (
        eps
        and _setting != "reference"
        and not torch.compiler.is_compiling()
        and is_plain_eager(x)
        and x.numel()
        and (library := library_for(x))
    ):
        return autograd.KernelBAReLU.apply(x, alpha, eps, library)  # type: ignore[no-any-return]
    return reference.barelu(x, alpha, eps, inplace)


@contextlib.contextmanager
def using(path: str) -> Iterator[None]:
    """Ask for a path by name, for what is computed inside; the environment variable UNDYING_PATH does so for a process.

    Args:
        path: ``"auto"``: the fastest form that is right. ``"native"``: the same without Triton, and an error if there are
            no native kernels. ``"triton"``: the same without native kernels, and an error if there are no Triton kernels
            or they are given a tensor on a device that they do not run on; on the CPU they run in Triton's interpreter,
            for tests, if TRITON_INTERPRET=1 is set before their first use. ``"reference"`` (``"composite"`` in
            earlier versions): plain PyTorch operations everywhere.

    The path is chosen in the forward pass; the backward pass follows it. A function that is compiled keeps the path
    that it was compiled with until it is compiled again. The setting is one for all threads.

    Raises:
        ValueError: there is no such path.
        RuntimeError: ``"native"`` or ``"triton"``, and there are no such kernels.

    >>> import undying
    >>> x = torch.ones(2, requires_grad=True)
    >>> with using("reference"):
    ...     undying.sugar(x).sum().backward()
    """
    global _setting
    before, _setting = _setting, _known(path)
    try:
        yield
    finally:
        _setting = before


def report() -> dict[str, str]:
    """How activations are computed in this process and why, as ``undying doctor`` prints it."""
    missing = native.missing()
    kernels = f"missing: {missing}" if missing else f"loaded, {native.instructions()} instructions"
    other = "reference implementation" if _setting == "reference" else "relu with the formula of its derivative"
    eager = {"eager, CPU": torch.device("cpu")}
    if torch.cuda.is_available():
        eager["eager, GPU"] = torch.device("cuda", torch.cuda.current_device())
    return {
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "native kernels": kernels,
        "Triton kernels": triton_loader.state(*eager.values()),
        "path": f"{_setting} (UNDYING_PATH)",
        **{where: _eager_on(device, other) for where, device in eager.items()},
        "other devices": other,
        "compiled, CPU": _by("native", other) if _compiles_to_native() else other,
        "compiled, other": other,
        "torch.func": "reference implementation",
    }


def _eager_on(device: torch.device, other: str) -> str:
    if _setting == "reference":
        return other
    try:
        library = _library_on(device)
    except RuntimeError as error:
        return f"an error: {error}"
    if library is None:
        return other
    return _by("native" if library is native else "Triton", other)


def _by(kernels: str, other: str) -> str:
    types = ", ".join(str(dtype).removeprefix("torch.") for dtype in native.DTYPES)
    return f"{kernels} kernels for {types}; {other} for float64"


def is_plain_eager(x: Tensor) -> bool:
    """Whether nothing but reverse-mode autograd can see this call."""
    return (
        type(x) in _PLAIN
        and not in_functorch()
        and not in_dual_level()
        and not dispatch_mode_depth()
        and jit_tracing_state() is None
    )


def library_for(x: Tensor) -> ModuleType | None:
    """The library whose kernels take this tensor, ``native`` or ``triton_kernels``."""
    if _setting != "triton" and x.is_cpu:
        return native if native.serves(x) else None
    return _library_on(x.device) if x.dtype in native.DTYPES and x.layout is torch.strided else None


def _library_on(device: torch.device) -> ModuleType | None:
    if _setting == "triton":
        if why := triton_loader.missing(device):
            raise RuntimeError(f"the path 'triton' is not there for a tensor on {device}: {why}")
        return triton_loader.library()
    if device.type == "cpu":
        return native if native.missing() is None else None
    if _setting == "auto" and device.type in triton_loader.DEVICES and triton_loader.missing(device) is None:
        return triton_loader.library()
    return None


def _compiles_plainly(x: Tensor) -> bool:
    """Whether the compiler traces this call for reverse mode and nothing else; export gets the reference implementation's relu.

    Only with a gradient to take: a compiled function that is called in a forward-mode level later is then either refused
    by PyTorch, which knows no forward-mode derivative of the Function, or was compiled to the reference implementation.
    """
    return (
        not torch.compiler.is_exporting()
        and torch.is_grad_enabled()
        and x.requires_grad
        and type(x) in _PLAIN
        and not in_functorch()
        and not in_dual_level()
    )


def _kernel_compiles(x: Tensor, surrogate: Surrogate) -> bool:
    """Whether the graph calls the native kernel, which the dispatcher hands ordinary memory whatever x is."""
    return _compiles_to_native() and x.is_cpu and x.dtype in native.DTYPES and type(surrogate) in BUILT_IN


def _compiles_to_native() -> bool:
    return _setting in ("auto", "native") and native.missing() is None


_PLAIN = (Tensor, torch.nn.Parameter)


def _known(path: str) -> str:
    path = _OLDER.get(path, path)
    if path not in PATHS:
        raise ValueError(f"the path (UNDYING_PATH) must be {', '.join(PATHS[:-1])} or {PATHS[-1]}, not {path!r}")
    why = native.missing() if path == "native" else triton_loader.missing() if path == "triton" else None
    if why:
        raise RuntimeError(f"the path {path!r} is not there: {why}")
    return path


_setting = _known(os.environ.get("UNDYING_PATH", "auto"))
