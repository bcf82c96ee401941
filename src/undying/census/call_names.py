"""Names for the calls of one activation, which stay with the layer that a call is behind."""

from __future__ import annotations

from collections import Counter


class CallNames:
    """Names calls ``relu``, ``relu#2``, ... as they are first seen.

    A later pass may leave calls out or make them in another order, as a network does that chooses among experts. A call has
    the name of the earlier one behind the same layer, so that no site adds up units of different layers. Calls behind one
    layer are told apart by their order, and so are those behind none that is known.

    >>> names = CallNames()
    >>> [names.next("relu", layer) for layer in ("w.0", "w.1", "w.1")]
    ['relu', 'relu#2', 'relu#3']
    >>> names.restart()
    >>> names.next("relu", "w.1")
    'relu#2'
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, str | None, int], str] = {}
        self._many: Counter[str] = Counter()
        self._in_pass: Counter[tuple[str, str | None]] = Counter()
        self._unknown: dict[str, tuple[int, int]] = {}
        """By label: the fewest and most calls behind no layer that is known, in a pass that has any."""
        self.latest = ""
        """The name that was given last."""

    def restart(self) -> None:
        """Begin a pass."""
        for (label, layer), calls in self._in_pass.items():
            if layer is None:
                fewest, most = self._unknown.get(label, (calls, calls))
                self._unknown[label] = min(fewest, calls), max(most, calls)
        self._in_pass.clear()

    def doubts(self) -> dict[str, str]:
        """By label: what cannot be known of its calls."""
        return {
            label: f"it is called {fewest} to {most} times a pass, behind layers that are not followed, and its calls are numbered "
            "in their order: where a pass leaves out one of several layers, a site has units of them all"
            for label, (fewest, most) in self._unknown.items()
            if fewest < most
        }

    def next(self, label: str, layer: str | None) -> str:
        """Of one more call in this pass.

        Args:
            label: the activation's.
            layer: which makes the units; None: not known.
        """
        self._in_pass[label, layer] += 1
        call = (label, layer, self._in_pass[label, layer])
        if call not in self._names:
            self._many[label] += 1
            number = self._many[label]
            self._names[call] = label if number == 1 else f"{label}#{number}"
        self.latest = self._names[call]
        return self.latest
