"""Every private name of torch that this package uses, each with what happens where a later torch does not have it.

A fallback may cost speed or memory, never a wrong number: where no right answer is left, the call raises.
``tests/test_torch.py`` checks that each name is there and says what is claimed, that each fallback works, and that no
other file uses a private name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._python_dispatch
from torch import Tensor, nn
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from torch._ops import OpOverload
else:
    OpOverload = type(torch.ops.aten.relu.default)

__all__ = [
    "COMPILED_PREFIX",
    "SEES_WHAT_IS_SAVED",
    "OpOverload",
    "base_of",
    "below_autograd",
    "compiler_is_loaded",
    "computes_no_numbers",
    "disable_torch_function",
    "dispatch_keys",
    "dispatch_mode_depth",
    "has_hooks",
    "in_backward",
    "in_dual_level",
    "in_functorch",
    "is_compiled_in_place",
    "jit_tracing_state",
    "not_a_view",
    "saved_tensor_hooks",
    "schema_of",
    "show_to_compile",
    "version_of",
    "without_compile",
]

# ---------------------------------------------------------------------------------------------------------------------
# What is at work around a call


def in_functorch() -> bool:
    """Whether a transform of torch.func is at work; while compiling, Dynamo evaluates this and guards on the stack."""
    # Where the name is gone every call counts as transformed: slower, and right.
    # By its type, since what Dynamo makes of the None that is returned here is not None.
    return _peek is None or not isinstance(_peek(), type(None))


_peek = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", None)


def in_dual_level() -> bool:
    """Whether forward-mode derivatives may be under way."""
    inside: bool = _dual_level()
    return inside


def _dual_level() -> bool:
    # While compiling this runs as it is: traced, Dynamo would guard on a number that it changes itself when it enters a
    # level. So there is no guard: the answer is for levels that are entered in what is compiled.
    # Where the name is gone every call counts as within a level: slower, and right.
    return getattr(forward_ad, "_current_level", 0) >= 0


# All that torch.compiler.assume_constant_result does; but it imports Dynamo first, for over a second. Where Dynamo reads
# another name, it guards on the level: what is compiled may be compiled again within one.
_dual_level._dynamo_marked_constant = True  # type: ignore[attr-defined]


def in_backward() -> bool:
    """Whether this runs within a backward pass of autograd."""
    return _graph_task() != -1


# Where the name is gone nothing counts as within: ``watch`` then counts twice what checkpointing computes twice.
_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


def _one() -> int:
    return 1


# These are torch's functions as they are, since each is asked in every eager call of SUGAR.
dispatch_mode_depth: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", _one)
"""How many TorchDispatchModes are active. Where the name is gone, one: no call is plain eager, slower, and right."""

jit_tracing_state: Callable[[], Any] = getattr(torch._C, "_get_tracing_state", _one)
"""What ``torch.jit.trace`` is doing, None if nothing. Where the name is gone, something: slower, and right."""


def computes_no_numbers() -> bool:
    """Whether operations are followed on tensors without numbers, or traced, as for an export.

    Where the name is gone, False: ``watch`` counts such a forward pass as one of training.
    """
    return any(type(mode).__name__ in ("FakeTensorMode", "ProxyTorchDispatchMode") for mode in _dispatch_modes())


_dispatch_modes: Callable[[], Any] = getattr(
    torch.utils._python_dispatch, "_get_current_dispatch_mode_stack", lambda: ()
)


# ---------------------------------------------------------------------------------------------------------------------
# What autograd saves

Hooks = tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]


def saved_tensor_hooks() -> Hooks | None:
    """The innermost saved-tensor hooks in force, None without any. Where the name is gone, hooks that nobody set."""
    hooks: Hooks | None = _top_hooks(True)
    return hooks


def _unknown_hooks(_: bool) -> Hooks:
    return (lambda tensor: tensor), (lambda packed: packed)


_top_hooks: Callable[[bool], Any] = getattr(
    getattr(torch._C, "_autograd", None), "_top_saved_tensors_default_hooks", _unknown_hooks
)


def version_of(x: Tensor) -> int:
    """How often x was written to. Where the name is gone, always 0; see ``SEES_WHAT_IS_SAVED``."""
    return getattr(x, "_version", 0)


SEES_WHAT_IS_SAVED = _top_hooks is not _unknown_hooks and hasattr(Tensor, "_version")
"""Whether the two above can tell. If not, ``lean`` does nothing: it keeps more memory, and is right."""


def base_of(x: Tensor) -> Tensor | None:
    """The tensor that x is a view of, None for one that owns its memory.

    Where the name is gone, None: ``lean`` keeps more of what is viewed, and ``census`` knows less of unused units.
    """
    return getattr(x, "_base", None)


def has_hooks(x: Tensor) -> bool:
    """Whether somebody is called with the gradient of a tensor, or after it was added up.

    Where the names are gone, False: ``prune_`` does not say that such hooks are gone.
    """
    return any(getattr(x, name, None) for name in ("_backward_hooks", "_post_accumulate_grad_hooks"))


def not_a_view(x: Tensor) -> Tensor:
    """x's memory as a tensor that autograd lets one overwrite. Where the name is gone, a copy, which takes time."""
    found = getattr(torch.ops.aten, "_unsafe_view", None)
    return x.clone() if found is None else found.default(x, x.shape)


# ---------------------------------------------------------------------------------------------------------------------
# Operators and their dispatch

# Where the name is gone operators are called as usual, and autograd, which has nothing to do there, takes 10 us a call.
below_autograd: Callable[[], contextlib.AbstractContextManager[Any]] = getattr(
    torch._C, "_AutoDispatchBelowAutograd", contextlib.nullcontext
)
"""A context in which operators are called below autograd."""

dispatch_keys: Any = getattr(torch._C, "_dispatch_keys", None)
"""The dispatch keys of a tensor. Only they say that it is nothing more than its memory: not lazily negated, batched,
sparse, nested, or zeros that are nowhere written down. Where the name is gone, None, and no native kernel is used."""


def schema_of(operator: Any) -> Any:
    """The schema of an operator: its name and its arguments.

    Raises:
        RuntimeError: this torch has the name no more; ``certify`` does not work with it.
    """
    try:
        return operator._schema
    except AttributeError:
        raise _too_new("OpOverload._schema", "certify") from None


def disable_torch_function() -> contextlib.AbstractContextManager[None]:
    """A context whose operations no TorchFunctionMode and no subclass's ``__torch_function__`` sees.

    Raises:
        RuntimeError: this torch has the name no more. Without it, what counts a network would count itself.
    """
    if _disabled is None:
        raise _too_new("torch._C.DisableTorchFunction", "counting the calls of a network")
    context: contextlib.AbstractContextManager[None] = _disabled()
    return context


_disabled: Any = getattr(torch._C, "DisableTorchFunction", None)


def _too_new(name: str, what: str) -> RuntimeError:
    return RuntimeError(f"torch {torch.__version__} has no {name}, which {what} needs: install torch 2.14 or older")


# ---------------------------------------------------------------------------------------------------------------------
# torch.compile

COMPILED_PREFIX = "_orig_mod."
"""What a network in ``torch.compile`` puts before the names of its parameters."""


def without_compile(model: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``, or the model itself where there is none.

    Where the name is gone, the model itself: sites have a prefix before their names.
    """
    inside: nn.Module = getattr(model, "_orig_mod", model)
    return inside


def is_compiled_in_place(module: nn.Module) -> bool:
    """Whether ``module.compile()`` was called.

    Where the name is gone, False: ``convert_`` does not refuse such a module, and Dynamo compiles the new forward.
    """
    return getattr(module, "_compiled_call_impl", None) is not None


def compiler_is_loaded() -> bool:
    """Whether Dynamo is imported, without which nothing is compiled.

    Where there is no such module, True: asking torch.compiler then imports what takes its place, for a second.
    """
    return _DYNAMO in sys.modules or not _has_dynamo()


_DYNAMO = "torch._dynamo"


@functools.cache
def _has_dynamo() -> bool:
    return importlib.util.find_spec(_DYNAMO) is not None


def show_to_compile(functions: Iterable[Any]) -> bool:
    """Have torch.compile show ``functions`` to TorchFunctionModes; of itself it leaves out torch.relu_ and others.

    Returns:
        whether it will. Where the set that it goes by is gone, False.
    """
    try:
        from torch._dynamo.variables.torch import get_overridable_functions

        get_overridable_functions().update(functions)
        return set(functions) <= set(get_overridable_functions())
    except (ImportError, AttributeError, TypeError):
        return False
