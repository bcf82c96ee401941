"""``register_activation``: tell the package of an activation of one's own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from undying.activations import checks, known

__all__ = ["register_activation"]


def register_activation(
    kind: type[nn.Module],
    *,
    name: str | None = None,
    functions: tuple[Callable[..., Tensor], ...] = (),
    inplace: tuple[Callable[..., Tensor], ...] = (),
    flat_below_zero: bool = False,
    ends: known.Ends | known.EndsOfCall | None = None,
    rectifier: bool = False,
) -> None:
    """Have everything know an activation of your own as it knows torch's.

    ``census`` and ``watch`` count its calls as sites, and nothing of what it computes with; ``convert_`` and ``audit`` take
    its type in ``targets`` and find its functional forms; the command line takes the type's name in ``--targets`` and
    ``name`` in ``--activations``. All of that holds in processes that make this call: at best it stands in the module that
    defines the activation.

    Args:
        kind: its type.
        name: how ``--activations`` spells it, a word; arguments follow as in ``name:alpha=0.5``. Default: the type's name in
            lower case.
        functions: its functional forms: functions that compute the same. Each takes the pre-activation first. A Python
            function must begin with the two lines of the example, or nobody sees calls of it; a boolean after the
            pre-activation, or ``inplace=True``, says that this call overwrites it. Their type must do without arguments.
        inplace: further functional forms, which always overwrite the pre-activation.
        flat_below_zero: the derivative is exactly 0 for x <= 0, so that a silent unit is dead.
        ends: (low, high) of a bounded activation: a unit is saturated where x <= low or x >= high, within 1 % of an end of
            the output's range or where it is flat; ``-math.inf`` for low where only high values are flat. Or a function
            (module, args, kwargs) that gives the pair of one call, of a module or, where that is None, of a function.
        rectifier: the output is max(x, 0), which spares counting it.

    Raises:
        TypeError: an argument is not of these kinds.
        ValueError: the type, its name, ``name`` or a function is taken; a function whose calls nobody sees.

    >>> import torch, undying
    >>> from torch import nn
    >>> from torch.overrides import handle_torch_function, has_torch_function
    >>> def ramp(x):
    ...     if has_torch_function((x,)):
    ...         return handle_torch_function(ramp, (x,), x)
    ...     return x.clamp(0, 1)
    >>> class Ramp(nn.Module):
    ...     def forward(self, x):
    ...         return ramp(x)
    >>> undying.register_activation(Ramp, functions=(ramp,), flat_below_zero=True, ends=(-torch.inf, 1.0))
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear, self.act = nn.Linear(2, 3), Ramp()
    ...     def forward(self, x):
    ...         return ramp(self.act(self.linear(x)))
    >>> print(undying.audit(Net(), torch.ones(1, 2), (Ramp,)))
    name    kind    old     calls
    act     module  Ramp()  1
    (root)  call    ramp    1
    """
    _check_kind(kind)
    name = kind.__name__.lower() if name is None else name
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"register_activation: name must be one word, not {name!r}")
    if name in known.SPELLINGS:
        raise ValueError(f"register_activation: the name {name!r} is taken; give {kind.__name__} another with name=")
    for what, given in (("functions", functions), ("inplace", inplace)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"register_activation: {what} must be a tuple of functions, not {given!r}")
    for function in (*functions, *inplace):
        _check_function(kind, function)
    if functions or inplace:
        _check_made_without_arguments(kind)
    checks.flag("flat_below_zero", flat_below_zero)
    checks.flag("rectifier", rectifier)
    _check_ends(ends)
    known.enter(known.Facts(kind, name, tuple(functions), tuple(inplace), flat_below_zero, ends, rectifier))


def know(kind: type[nn.Module]) -> None:
    """Count calls of modules of this type as :func:`register_activation` has it done, without a name and further facts.
    What is known already, or inherits from a type that is, stays as it is.

    Raises:
        ValueError: another type has its name.
    """
    if issubclass(kind, tuple(known.FACTS)):
        return
    itself = (kind.__module__, kind.__qualname__)  # before its module was imported anew
    if itself not in [(other.__module__, other.__qualname__) for other in known.FACTS]:
        _check_kind(kind)
    known.enter(known.Facts(kind))


def _check_kind(kind: Any) -> None:
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise TypeError(f"register_activation: kind must be a type of module, a subclass of nn.Module, not {kind!r}")
    if kind in known.FACTS:
        raise ValueError(f"register_activation: {kind.__name__} is known already; register each type once")
    # Converted calls are kept under the type's name in lower case.
    same = next((other for other in known.FACTS if other.__name__.lower() == kind.__name__.lower()), None)
    if same is not None:
        raise ValueError(
            f"register_activation: {kind.__module__}.{kind.__name__} has the name of {same.__module__}.{same.__name__}, "
            "but for upper and lower case; types go by their names, so give the class another"
        )


def _check_function(kind: type[nn.Module], function: Any) -> None:
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(f"register_activation: {function!r} is no function; name what is called in a forward")
    if function in known.TYPE_OF:
        other = known.TYPE_OF[function].__name__
        raise ValueError(f"register_activation: {function.__name__} is a functional form of {other} already")
    if function in known.overridable_functions():
        return
    with _Seen() as mode, contextlib.suppress(Exception):
        function(_EXAMPLE.clone())
    if function not in mode.functions:
        word = function.__name__
        raise ValueError(
            f"register_activation: nobody sees calls of {word}, a function of {kind.__name__}; let it begin with 'if "
            f"has_torch_function((x,)): return handle_torch_function({word}, (x,), x)', both from torch.overrides, and take "
            "x alone if need be; of an operator, name the overload, as in torch.ops.mine.act.default"
        )


_EXAMPLE = torch.zeros(2, 2)


class _Seen(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def _check_made_without_arguments(kind: type[nn.Module]) -> None:
    try:
        kind()
    except TypeError as error:
        raise TypeError(
            f"register_activation: {kind.__name__}() must stand for its functions, but: {error}; give its arguments defaults"
        ) from None


def _check_ends(ends: Any) -> None:
    if ends is None or callable(ends):
        return
    if not isinstance(ends, tuple) or len(ends) != 2:
        raise TypeError(
            f"register_activation: ends must be a pair (low, high) or a function that gives one, not {ends!r}"
        )
    for name, value in zip(("the low end", "the high end"), ends, strict=True):
        checks.number(name, value, -math.inf, math.inf)
    if not ends[0] < ends[1]:
        raise ValueError(f"register_activation: of ends the first must be below the second, not {ends!r}")
