"""Follow what a method of one module returns, for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from torch import nn

Follower = Callable[[Any], Any]


class _StandIn:
    """In the place of a method, as an attribute of the module itself, which comes before those of its class."""

    def __init__(self, owner: nn.Module, method: str) -> None:
        self.followers: list[tuple[int, Follower]] = []
        """With the thread of each."""
        self._own, self._method = vars(owner), method
        self._before = self._own.get(method)
        self._function = getattr(owner, method)
        self._own[method] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value = self._function(*args, **kwargs)
        for thread, follower in list(self.followers):
            if thread == get_ident():
                value = follower(value)
        return value

    def restore(self) -> None:
        if self._before is None:
            self._own.pop(self._method, None)
        else:
            self._own[self._method] = self._before


_standing: dict[tuple[int, str], _StandIn] = {}
"""By the identity of a module and the name of its method."""
_lock = threading.Lock()


@contextlib.contextmanager
def standing_in(owner: nn.Module, method: str, follower: Follower) -> Iterator[None]:
    """Meanwhile what the method returns in this thread goes through ``follower``. Several may do so, and end in any order.

    Noticed are calls by the name of the method on the module.
    """
    key, entry = (id(owner), method), (get_ident(), follower)
    with _lock:
        if key not in _standing:
            _standing[key] = _StandIn(owner, method)
        stand_in = _standing[key]
        stand_in.followers.append(entry)
    try:
        yield
    finally:
        with _lock:
            stand_in.followers.remove(entry)
            if not stand_in.followers:
                del _standing[key]
                stand_in.restore()
