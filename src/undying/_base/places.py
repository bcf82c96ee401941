"""Names for the calls of modules that stand at several places of a network."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


class Places:
    """Where in a network each module stands, by which its calls are told apart.

    A module that is held at one place has that name. One that several modules hold is named after its place in the one
    that calls it; held several times by that one too, as in ``nn.Sequential(a, act, b, act)``, by each in turn.

    >>> act = nn.ReLU()
    >>> net = nn.Sequential(nn.Linear(2, 2), act, nn.Sequential(nn.Linear(2, 2), act))
    >>> places = Places(net)
    >>> places.name(act, caller=net), places.name(act, caller=net[2])
    ('1', '2.1')
    """

    def __init__(self, model: nn.Module) -> None:
        self._first: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
        self._held: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
        self._turns: dict[tuple[nn.Module, nn.Module], int] = {}
        for owner, name in self._first.items():
            for key, module in owner._modules.items():
                if module is not None:
                    self._held.setdefault(module, []).append((owner, f"{name}.{key}" if name else key))

    @property
    def modules(self) -> Iterable[nn.Module]:
        """All, each once, as ``model.modules()`` gave them."""
        return self._first

    def restart(self) -> None:
        """Begin a forward pass."""
        self._turns.clear()

    def is_shared(self, module: nn.Module) -> bool:
        """Whether ``module`` stands at several places, so that the caller tells which."""
        return len(self._held.get(module, [])) > 1

    def name(self, module: nn.Module, caller: nn.Module | None) -> str:
        """The qualified name of ``module`` for a call by ``caller``; empty for the network itself."""
        if caller is None or not self.is_shared(module):
            return self._first[module]
        here = [name for owner, name in self._held[module] if owner is caller]
        if not here:
            return self._first[module]
        turn = self._turns[module, caller] = self._turns.get((module, caller), -1) + 1
        return here[turn % len(here)]
