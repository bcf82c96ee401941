"""One call of an operation, and what is known of the tensors that it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from undying.units.layout import Layout
from undying.units.marks import Known, Mark, Ranks
from undying.units.tensors import tensors_in


class Call:
    """The arguments of an operation, and what is known of them."""

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        of: Callable[[Tensor], Known],
        given: list[Tensor] | None = None,
    ) -> None:
        self.args, self.kwargs = args, kwargs
        given = tensors_in((*args, *kwargs.values())) if given is None else given
        self._known = [(tensor, of(tensor)) for tensor in given]

    @functools.cached_property
    def _of(self) -> dict[int, Layout]:
        return {id(tensor): known for tensor, known in self._known if isinstance(known, Layout)}

    @functools.cached_property
    def ranks(self) -> list[Ranks]:
        return [known for _, known in self._known if isinstance(known, Ranks)]

    def ranks_of(self, tensor: Any) -> Ranks | None:
        return next((known for given, known in self._known if given is tensor and isinstance(known, Ranks)), None)

    def of_ranks(self) -> Call:
        """The same, with ranks for units."""
        known = {id(tensor): known.layout if isinstance(known, Ranks) else known for tensor, known in self._known}
        return Call(self.args, self.kwargs, lambda tensor: known[id(tensor)])

    @property
    def constant(self) -> bool:
        """Whether every tensor among them is."""
        return bool(self._known) and all(is_constant(tensor, known) for tensor, known in self._known)

    @property
    def lost(self) -> bool:
        """Whether any holds no units."""
        return any(known is Mark.LOST or isinstance(known, Ranks) for _, known in self._known)

    def of(self, tensor: Any) -> Layout | None:
        return self._of.get(id(tensor))

    def is_constant(self, tensor: Any) -> bool:
        for given, known in self._known:
            if given is tensor:
                return is_constant(tensor, known)
        return False

    @property
    def layouts(self) -> list[Layout]:
        return list(self._of.values())

    @property
    def first(self) -> Layout | None:
        """Of the first argument: what the operation is a method of."""
        return self.of(self.argument(0, "input"))

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


def is_constant(tensor: Tensor, known: Known) -> bool:
    return known is Mark.CONSTANT or (known is None and isinstance(tensor, nn.Parameter))
