"""What parts and methods of a network return, counted as units: latents of autoencoders, experts of a router."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from undying._base.module_stack import Hook
from undying._torch import version_of
from undying.activations.known import is_activation
from undying.units.tensors import tensors_in

Given = str | Sequence[str] | Mapping[str, Callable[[Any], Any]]
"""Names of submodules and methods; as a mapping with what takes the units out of that which each returns."""


class Indexed(NamedTuple):
    """Units of which each position has a few: the others are 0 there. What top-k layers and routers return.

    >>> import torch, undying
    >>> values, indices = torch.topk(torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 2.0]]), 2)
    >>> undying.Indexed(values, indices, units=3).dense()
    tensor([[0., 3., 1.],
            [5., 0., 2.]])
    """

    values: Tensor
    """(..., k), floating-point: of the units that a position has."""
    indices: Tensor
    """(..., k), integers from 0 to ``units`` - 1: which units these are, each at most once a position."""
    units: int
    """How many there are."""

    def dense(self) -> Tensor:
        """(..., units): with the zeros."""
        values = self.values
        return values.new_zeros(*values.shape[:-1], self.units).scatter_(-1, self.indices.long(), values)


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
        self._pick = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, _itself)
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
                if method is None:
                    hook = Hook(lambda _module, _args, value, name=name: returned(name, value))
                    stack.callback(owner.register_forward_hook(hook).remove)
                else:
                    stack.enter_context(_standing_in(owner, method, name, returned))
            yield

    def units_in(self, name: str, value: Any) -> Tensor | Indexed:
        """What is to be counted of a value that ``name`` returned.

        Raises:
            ValueError: it holds nothing that can be counted.
        """
        before = [(tensor, version_of(tensor)) for tensor in tensors_in([value])]
        found = self._pick[name](value)
        if any(version_of(tensor) != version for tensor, version in before):
            raise ValueError(
                f"the function for outputs {name!r} changes in place what it is given; have it take a clone"
            )
        parts = (found.values,) if isinstance(found, Indexed) else (found,)
        said = f"outputs {name!r} gave {_said(found)}"
        if not all(isinstance(part, Tensor) for part in parts):
            raise ValueError(
                f"{said}; name a function that takes the units out of it, as in outputs={{{name!r}: lambda out: out[0]}}: "
                "it gives a tensor, or undying.Indexed(values, indices, units)"
            )
        if any(part.layout != torch.strided or not part.dtype.is_floating_point for part in parts):
            raise ValueError(
                f"{said}; units are counted in dense floating-point tensors: outputs={{{name!r}: function}} can make one, or "
                "undying.Indexed(values, indices, units)"
            )
        if isinstance(found, Indexed):
            _check(said, found)
        return found  # type: ignore[no-any-return]


def _itself(value: Any) -> Any:
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


@contextlib.contextmanager
def _standing_in(owner: nn.Module, method: str, name: str, returned: Callable[[str, Any], Any]) -> Iterator[None]:
    """An attribute of the module itself comes before a method of its class."""
    own = vars(owner)
    before = own.get(method)
    function = getattr(owner, method)

    def followed(*args: Any, **kwargs: Any) -> Any:
        return returned(name, function(*args, **kwargs))

    own[method] = followed
    try:
        yield
    finally:
        if before is None:
            own.pop(method, None)
        else:
            own[method] = before


def _check(said: str, found: Indexed) -> None:
    values, indices, units = found
    if not isinstance(units, int) or isinstance(units, bool) or units < 1:
        raise ValueError(f"{said}; the number of units must be an int of at least 1, not {units!r}")
    if (
        values.shape != indices.shape
        or indices.dtype.is_floating_point
        or indices.dtype == torch.bool
        or not values.dim()
    ):
        raise ValueError(
            f"{said}; it must have integers as indices and one for each value, not {tuple(indices.shape)} of {indices.dtype}"
        )
    if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < units):
        raise ValueError(f"{said}, with indices from {int(indices.min())} to {int(indices.max())}")


def _said(found: Any) -> str:
    if isinstance(found, Indexed) and isinstance(found.values, Tensor):
        return f"Indexed values {tuple(found.values.shape)} of {found.units} units"
    if isinstance(found, Tensor):
        return f"a tensor {tuple(found.shape)} of {found.dtype}, {found.layout}"
    if isinstance(found, (tuple, list)):
        return f"a {type(found).__name__} of {len(found)}"
    return f"a {type(found).__name__}"
