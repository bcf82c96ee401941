"""Run something around the forward passes of a network, with nothing put on it that a copy would carry along."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import Any

import torch
from torch import nn

from undying._base.unwrap import stay_uncompiled
from undying._torch import without_compile

#: (module, args, kwargs) of a forward pass: a context for it to run in.
Around = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], contextlib.AbstractContextManager[Any]]


def is_training(module: nn.Module) -> bool:
    """Whether a part with parameters is in training mode: a wrapper is not told of ``eval()`` of the network in it."""
    parts = [part for part in module.modules() if any(True for _ in part.parameters(recurse=False))]
    return any(part.training for part in parts or [module])


class Passes:
    """While entered, runs every forward pass of ``model`` within ``around``.

    A forward pass is a call of the model or of ``method``, of a part of it or one of ``methods`` where none is under way. It is
    noticed by the classes, not by hooks on the modules: however the pass ends, by Ctrl-C too, its context is left, and
    copies of the model know nothing of it.

    Args:
        model: the network.
        method: name of a method that counts as a call of the model, beside ``forward``.
        around: called as a pass begins.
        methods: of the model and its parts, that count as calls of these.

    Raises:
        ValueError: the model's class has no such method, or it is a generator or coroutine.
    """

    def __init__(
        self, model: nn.Module, method: str | None, around: Around, methods: Iterable[tuple[nn.Module, str]] = ()
    ) -> None:
        self.model, self.around = model, around
        self._under_way: set[int] = set()
        """Threads with a pass under way."""
        self._modules: set[nn.Module] = set()
        self._entries = [(nn.Module, "__call__")]
        if method is not None:
            function = inspect.getattr_static(type(model), method, None)
            if not inspect.isfunction(function) or method in vars(model):
                raise ValueError(f"method={method!r}: {type(model).__name__} has no such method in its class")
            if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
                raise ValueError(f"method={method!r} of {type(model).__name__} does not run when it is called")
            self._entries.append((type(model), method))
        for owner, name in methods:  # one of the module itself cannot be followed by its class
            entry = (type(owner), name)
            if inspect.isfunction(inspect.getattr_static(*entry, None)) and entry not in self._entries:
                self._entries.append(entry)

    def __enter__(self) -> Passes:
        self._modules = set(self.model.modules())
        for entry in self._entries:
            _follow(entry, self)
        return self

    def __exit__(self, *_: object) -> None:
        for entry in self._entries:
            _leave(entry, self)
        self._modules = set()

    def begins_with(self, module: nn.Module) -> bool:
        """Whether a call of ``module`` now is a forward pass, not a part of one."""
        # What torch.compile made of a network keeps the network's own __call__ of before, which is not followed.
        return get_ident() not in self._under_way and without_compile(module) in self._modules

    @contextlib.contextmanager
    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        """Run a forward pass in here."""
        thread = get_ident()
        self._under_way.add(thread)
        try:
            with self.around(without_compile(module), args, kwargs):
                yield
        finally:
            self._under_way.discard(thread)


class _Followed:
    """A function of a class whose calls are followed, by some that come and go in any order."""

    def __init__(self, owner: type[nn.Module], name: str) -> None:
        self.owner, self.name = owner, name
        self.followers: list[Passes] = []
        self.own = vars(owner).get(name)
        """None for one that is inherited."""
        self.stand_in = self._standing_in_for(getattr(owner, name))
        setattr(owner, name, self.stand_in)

    def restore(self) -> None:
        if vars(self.owner).get(self.name) is not self.stand_in:
            return  # somebody has put another around it, which stays; without followers it changes nothing
        if self.own is None:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.own)

    def _standing_in_for(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def followed(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return function(module, *args, **kwargs)
            stay_uncompiled()
            beginning = [passes for passes in self.followers if passes.begins_with(module)]
            if not beginning:
                return function(module, *args, **kwargs)
            with contextlib.ExitStack() as stack:
                for passes in beginning:
                    stack.enter_context(passes.run(module, args, kwargs))
                own = vars(module).get(self.name)  # what was put on the module as the pass began
                return function(module, *args, **kwargs) if own is None else own(*args, **kwargs)

        return followed


_followed: dict[tuple[type[nn.Module], str], _Followed] = {}


def _follow(entry: tuple[type[nn.Module], str], passes: Passes) -> None:
    if entry not in _followed:
        _followed[entry] = _Followed(*entry)
    _followed[entry].followers.append(passes)


def _leave(entry: tuple[type[nn.Module], str], passes: Passes) -> None:
    _followed[entry].followers.remove(passes)
    if not _followed[entry].followers:
        _followed.pop(entry).restore()
