"""What parts and methods of a network return, counted as units: latents of autoencoders, experts of a router."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.module_stack import Hook
from undying._base.standing_in import standing_in
from undying._torch import in_functorch, version_of
from undying.activations.known import is_activation
from undying.census.indexed import Indexed, problem_of
from undying.units.sites import RANKS, name_axis
from undying.units.tensors import tensors_in

Given = str | Sequence[str] | Mapping[str, Callable[[Any], Any]]
"""Names of submodules and methods; as a mapping with what takes the units out of that which each returns."""


class OutputsError(ValueError):
    """What an output gave cannot be counted."""


class Method(nn.Module):
    """Stands for a method as the kind of a site."""


class Outputs:
    """Finds what is returned under each name.

    Args:
        model: the network.
        given: see :data:`Given`.

    Raises:
        ValueError: a name is of no submodule or method, or of an activation, which is a site anyway.
    """

    def __init__(self, model: nn.Module, given: Given) -> None:
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"outputs must be names of submodules and methods, or a mapping from names, not {given!r:.60}"
            )
        if isinstance(given, Mapping) and not all(map(callable, given.values())):
            raise TypeError(f"outputs must map names to functions that take the units out, not {given!r:.60}")
        self._pick = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, itself)
        self._found = {name: _owner(model, name) for name in self._pick}
        self.kinds = {name: type(owner) if method is None else Method for name, (owner, method) in self._found.items()}

    @property
    def methods(self) -> list[tuple[nn.Module, str]]:
        """Those among the names: (module, its method)."""
        return [(owner, method) for owner, method in self._found.values() if method is not None]

    @contextlib.contextmanager
    def attached(self, returned: Callable[[str, Any], Any]) -> Iterator[None]:
        """Meanwhile call ``returned(name, value)`` with what each gives, and pass on what that returns."""
        with contextlib.ExitStack() as stack:
            for name, (owner, method) in self._found.items():
                follower = functools.partial(returned, name)
                if method is None:
                    hook = Hook(lambda _module, _args, value, follower=follower: follower(value))
                    stack.callback(owner.register_forward_hook(hook).remove)
                else:
                    stack.enter_context(standing_in(owner, method, follower))
            yield

    def pick(self, name: str, value: Any) -> Any:
        """What the user's function takes out of a value that ``name`` returned.

        Raises:
            OutputsError: it changes the value.
        """
        before = [(tensor, _state_of(tensor)) for tensor in tensors_in([value])]
        found = self._pick[name](value)
        if any(_is_changed(tensor, state) for tensor, state in before):
            raise self.error(name, "has a function that changes in place what it is given; have it take a clone")
        return found

    def check(self, name: str, value: Any, found: Any) -> None:
        """Raises OutputsError for what cannot be counted of ``value``."""
        parts = [found.values, found.indices] if isinstance(found, Indexed) else [found]
        said = f"gave {_said(found)}"
        if not all(isinstance(part, Tensor) for part in parts):
            raise self.error(name, f"{said}; {self._way_out(name, value)}")
        values = parts[0]
        if in_functorch():
            raise self.error(
                name, f"{said} within a transform of torch.func, such as vmap, which shows no values; {_OUTSIDE}"
            )
        if any(part.layout != torch.strided or part.is_nested or part.is_meta for part in parts) or (
            values.dtype not in _COUNTED
        ):
            raise self.error(
                name,
                f"{said}; units are counted in dense tensors of float16, bfloat16, float32 or float64: outputs={{{name!r}: function}} "
                "can make one, or undying.Indexed(values, indices, units)",
            )
        if isinstance(found, Indexed):
            if parts[0].device != parts[1].device:
                raise self.error(
                    name, f"{said}, on {parts[0].device}, with indices on {parts[1].device}; take both to one"
                )
            if (problem := problem_of(found)) is not None:
                raise self.error(name, said + problem)

    def check_alone(self, name: str, value: Any, found: Tensor) -> None:
        """Raises OutputsError where a tensor came with integers that may be the numbers of its units."""
        if any(_are_indices(found, tensor) for tensor in tensors_in([value])):
            raise self.error(
                name,
                f"gave {_said(found)} with integers of the same shape, as values have their indices: {self._way_out(name, value)}; "
                f"where the integers are something else, {name_axis(name, found.shape)}",
            )

    def not_last(self, name: str) -> OutputsError:
        """That pairs lie along another axis."""
        said = "gave Indexed whose last axis is not that of the units which a position has"
        return self.error(name, f"{said}: movedim takes it there, or [..., None] makes it")

    def of_ranks(self, name: str, value: Any, found: Tensor) -> OutputsError:
        """That ranks were taken for units, and how to give the units."""
        return self.error(
            name, f"gave {_said(found)}, {RANKS}; {self._way_out(name, value)}, or the values scattered back"
        )

    def ambiguous(self, name: str, found: Tensor) -> OutputsError:
        """That nothing says where the units are."""
        return self.error(
            name,
            f"gave a tensor {tuple(found.shape)}, and nothing decides which axis holds its units; {name_axis(name, found.shape)}, "
            "or where they are chosen by a sort or topk, give undying.Indexed(values, indices, units)",
        )

    def error(self, name: str, said: str) -> OutputsError:
        """What is wrong with an output."""
        return OutputsError(f"outputs {name!r} {said}")

    def _way_out(self, name: str, value: Any) -> str:
        """A function that takes the units out of a value."""
        parts = dict(enumerate(value)) if isinstance(value, (tuple, list)) else value
        taken = "out"
        if isinstance(parts, Mapping):
            tensors = {key: part for key, part in parts.items() if isinstance(part, Tensor)}
            floats = [key for key, part in tensors.items() if part.is_floating_point()]
            pairs = [(f, i) for f in floats for i, part in tensors.items() if _are_indices(tensors[f], part)]
            if pairs:
                taken = "undying.Indexed(out[{!r}], out[{!r}], units=...)".format(*pairs[0])
            elif floats:
                taken = f"out[{floats[0]!r}]"
        if taken == "out":
            return (
                f"name a function that takes the units out of it, outputs={{{name!r}: function}}: it gives a tensor, or "
                "undying.Indexed(values, indices, units)"
            )
        return f"name a function that takes the units out of it, as in outputs={{{name!r}: lambda out: {taken}}}"


_COUNTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OUTSIDE = "name what is called outside of it"


def _state_of(tensor: Tensor) -> Any:
    """How often it was written to; of a tensor of inference mode, which does not know that, a copy."""
    return tensor.clone() if tensor.is_inference() else version_of(tensor)


def _is_changed(tensor: Tensor, before: Any) -> bool:
    if not isinstance(before, Tensor):
        return bool(version_of(tensor) != before)
    if tensor.layout != torch.strided:
        return False
    now, then = (each.contiguous().view(-1).view(torch.uint8) for each in (tensor, before))
    return not torch.equal(now, then)  # NaN is what it was too


def _are_indices(values: Tensor, tensor: Tensor) -> bool:
    whole = not (tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool)
    return bool(whole and tensor.shape == values.shape)


def itself(value: Any) -> Any:
    """What is counted of a tensor."""
    return value


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str | None]:
    """(module, None), or (module, its method)."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if name in modules and name:
        if is_activation(modules[name]):
            raise ValueError(f"outputs names {name!r}, an activation, which the census counts anyway; leave it out")
        return modules[name], None
    place, _, method = name.rpartition(".")
    owner = modules.get(place)
    if owner is None or not callable(getattr(owner, method, None)) or method in ("", "forward"):
        known = ", ".join(list(filter(None, modules))[:8])
        raise ValueError(
            f"outputs names {name!r}, which is no submodule of {type(model).__name__} nor a method beside forward; "
            f"submodules: {known or 'none'}"
        )
    return owner, method


def _said(found: Any) -> str:
    if isinstance(found, Indexed) and isinstance(found.values, Tensor):
        return f"Indexed values {tuple(found.values.shape)} of {found.units} units"
    if isinstance(found, Tensor) and found.is_nested:
        return "a nested tensor"
    if isinstance(found, Tensor):
        layout = ", on meta" if found.is_meta else "" if found.layout == torch.strided else f", {found.layout}"
        return f"a tensor {tuple(found.shape)} of {found.dtype}{layout}"
    if isinstance(found, (tuple, list)):
        return f"a {type(found).__name__} of {len(found)}"
    return f"a {type(found).__name__}"
