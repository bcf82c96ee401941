"""The surrogates: functions f~, most of them smooth, whose derivative stands in for ReLU's in the backward pass.

One small frozen class a surrogate. Defining it with ``@register_surrogate(name)`` is all it takes: SUGAR, the
command line, the tests and the documentation read the registry.

Sources: B-SiLU and NeLU are new in Horuz et al. 2025, "The Resurrection of the ReLU", arXiv:2505.22074; HeLU and FrigoRelu
are relatives, published as derivatives of ReLU alone; the others are as PyTorch defines them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import ClassVar

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BUILT_IN", "SURROGATES", "Surrogate", "register_surrogate", "surrogate", "unit_scaled"]

SURROGATES: dict[str, type[Surrogate]] = {}
"""Every named surrogate: name -> class."""


class Surrogate(ABC):
    """A function f~ and its derivative f~'.

    ``value`` must be differentiable by autograd as often as the user differentiates SUGAR, and finite on
    ``reach``. ``derivative`` is the closed form of ``value``'s first derivative. Both take and return a
    floating point tensor of any shape and keep shape and dtype.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    #: Outside this interval f~' is ReLU's derivative: to the last bit of float64 where that is 1, to within 1e-45 (the
    #: smallest float32) where it is 0. x is clamped to it, because further out the products that make up a derivative
    #: overflow, of which only their limits are finite: with a large incoming gradient, in forward mode, at second order.
    reach: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """f~(x)."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """f~'(x)."""

    def __str__(self) -> str:
        """The name, then the parameters: ``nelu(a=0.05)``."""
        parameters = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))  # type: ignore[arg-type]
        return f"{self.name}({parameters})" if parameters else self.name


def register_surrogate(name: str) -> Callable[[type[Surrogate]], type[Surrogate]]:
    """Class decorator that enters a surrogate of your own under ``name``, which everything that takes a name then takes.

    ``undying.SUGAR("mine")`` and ``undying.surrogate("mine")`` do, and the lab, as ``sugar:mine:a=0.1``. All of that holds
    in processes that run the decorator. It has no native kernel: SUGAR's derivative is autograd's of ``value``.

    Args:
        name: a word.

    Raises:
        ValueError: the name is taken or no word, or the class is registered already.
        TypeError: what is decorated is no :class:`undying.Surrogate`, or no dataclass.

    >>> import undying
    >>> from dataclasses import dataclass
    >>> @undying.register_surrogate("parabola")
    ... @dataclass(frozen=True)
    ... class Parabola(undying.Surrogate):
    ...     a: float = 0.5
    ...     formula = "a x^2"
    ...     source = "an example"
    ...     def value(self, x):
    ...         return self.a * x * x
    ...     def derivative(self, x):
    ...         return 2 * self.a * x
    >>> undying.SUGAR(undying.surrogate("parabola", a=1.0))
    SUGAR(parabola(a=1.0))
    """

    def enter(cls: type[Surrogate]) -> type[Surrogate]:
        _check_new(name, cls)
        cls.name = name
        SURROGATES[name] = cls
        return cls

    return enter


def _check_new(name: object, cls: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"register_surrogate: name must be one word, not {name!r}")
    if name in SURROGATES:
        raise ValueError(f"surrogate {name!r} is already registered by {SURROGATES[name].__qualname__}")
    if not isinstance(cls, type) or not issubclass(cls, Surrogate):
        raise TypeError(f"register_surrogate: {cls!r} is no subclass of undying.Surrogate")
    if cls in SURROGATES.values():
        raise ValueError(f"register_surrogate: {cls.__qualname__} is already registered as {cls.name!r}")
    if not is_dataclass(cls):
        raise TypeError(f"register_surrogate: {cls.__qualname__} is no dataclass; put @dataclass(frozen=True) below it")


def surrogate(spec: str | Surrogate | Callable[[Tensor], Tensor], **parameters: float) -> Surrogate:
    """Return the surrogate that ``spec`` stands for.

    Args:
        spec: a registered name, a :class:`Surrogate`, or any callable on tensors whose derivative
            autograd can take (for example ``torch.nn.functional.softplus``).
        parameters: of a named surrogate, for example ``a=0.01`` for ``"nelu"``.

    Raises:
        ValueError: unknown name or a parameter out of range.
        TypeError: ``spec`` is none of the three, or a parameter that the surrogate does not have.

    >>> print(surrogate("nelu", a=0.01))
    nelu(a=0.01)
    >>> surrogate("nelu", a=0.01).derivative(torch.tensor([-1.0, 2.0]))
    tensor([-0.0050,  1.0000])
    """
    if isinstance(spec, str):
        if spec not in SURROGATES:
            raise ValueError(
                f"unknown surrogate {spec!r}; known: {', '.join(SURROGATES)}; pass a callable, or call "
                "undying.register_surrogate in this process first"
            )
        cls = SURROGATES[spec]
        for parameter in parameters:
            known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
            if parameter not in known:
                raise TypeError(
                    f"surrogate {spec!r} has no parameter {parameter!r}; it has: {', '.join(known) or 'none'}"
                )
        return cls(**parameters)
    if parameters:
        raise TypeError(f"parameters {sorted(parameters)} go with a surrogate's name, not with {spec!r}")
    if isinstance(spec, Surrogate):
        return spec
    if callable(spec) and not isinstance(spec, type):
        return Custom(spec)
    raise TypeError(f"surrogate must be a name ({', '.join(SURROGATES)}), a Surrogate or a callable, not {spec!r}")


def _finite(owner: str, name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be a finite number, not {value!r}")


@register_surrogate("bsilu")
@dataclass(frozen=True)
class BSiLU(Surrogate):
    a: float = 1.67

    formula = "(x + a) sigmoid(x) - a / 2"
    source = "Horuz et al. 2025, arXiv:2505.22074"
    reach = (-110.0, 110.0)

    def __post_init__(self) -> None:
        _finite("bsilu", "a", self.a)

    def value(self, x: Tensor) -> Tensor:
        return (x + self.a) * torch.sigmoid(x) - self.a / 2

    def derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s + (x + self.a) * s * (1 - s)


@register_surrogate("nelu")
@dataclass(frozen=True)
class NeLU(Surrogate):
    a: float = 0.05

    formula = "x for x > 0, a - a / (1 + x^2) otherwise"
    source = "Horuz et al. 2025, arXiv:2505.22074"
    reach = (-1e15, 1e15)

    def __post_init__(self) -> None:
        _finite("nelu", "a", self.a)

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.a - self.a / (1 + x * x))

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, 2 * self.a * x / (1 + x * x) ** 2)


@register_surrogate("leaky_relu")
@dataclass(frozen=True)
class LeakyReLU(Surrogate):
    slope: float = 0.01

    formula = "x for x > 0, slope x otherwise"
    source = "Maas et al. 2013; torch.nn.LeakyReLU"

    def __post_init__(self) -> None:
        _finite(self.name, "slope", self.slope)

    def value(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, torch.full_like(x, self.slope))


@register_surrogate("elu")
@dataclass(frozen=True)
class ELU(Surrogate):
    alpha: float = 1.0

    formula = "x for x > 0, alpha (exp(x) - 1) otherwise"
    source = "Clevert et al. 2016, arXiv:1511.07289; torch.nn.ELU"

    def __post_init__(self) -> None:
        _finite("elu", "alpha", self.alpha)

    def value(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 1.0, self.alpha * torch.exp(x))


@register_surrogate("selu")
@dataclass(frozen=True)
class SELU(Surrogate):
    formula = "scale x for x > 0, scale alpha (exp(x) - 1) otherwise; scale 1.0507, alpha 1.6733"
    source = "Klambauer et al. 2017, arXiv:1706.02515; torch.nn.SELU"

    _scale: ClassVar[float] = 1.0507009873554804934193349852946
    _alpha: ClassVar[float] = 1.6732632423543772848170429916717

    def value(self, x: Tensor) -> Tensor:
        return F.selu(x)

    def derivative(self, x: Tensor) -> Tensor:
        return self._scale * torch.where(x > 0, 1.0, self._alpha * torch.exp(x))


@register_surrogate("gelu")
@dataclass(frozen=True)
class GELU(Surrogate):
    formula = "x Phi(x), Phi the standard normal distribution function"
    source = "Hendrycks and Gimpel 2016, arXiv:1606.08415; torch.nn.GELU()"
    reach = (-40.0, 40.0)

    def value(self, x: Tensor) -> Tensor:
        return F.gelu(x)

    def derivative(self, x: Tensor) -> Tensor:
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return 0.5 * torch.erfc(-x / math.sqrt(2)) + x.clamp(*self.reach) * density


@register_surrogate("gelu_tanh")
@dataclass(frozen=True)
class GELUTanh(Surrogate):
    formula = "x (1 + tanh(u)) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3)"
    source = "Hendrycks and Gimpel 2016, arXiv:1606.08415; torch.nn.GELU('tanh')"
    reach = (-40.0, 40.0)

    def value(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    def derivative(self, x: Tensor) -> Tensor:
        c = x.clamp(*self.reach)
        k = math.sqrt(2 / math.pi)
        t = torch.tanh(k * (c + 0.044715 * c**3))
        return 0.5 * (1 + t) + 0.5 * c * (1 - t * t) * k * (1 + 3 * 0.044715 * c * c)


@register_surrogate("silu")
@dataclass(frozen=True)
class SiLU(Surrogate):
    formula = "x sigmoid(x)"
    source = "Elfwing et al. 2018, arXiv:1702.03118; torch.nn.SiLU"
    reach = (-110.0, 110.0)

    def value(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def derivative(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        return s + x * s * (1 - s)


@register_surrogate("mish")
@dataclass(frozen=True)
class Mish(Surrogate):
    formula = "x tanh(softplus(x))"
    source = "Misra 2020, arXiv:1908.08681; torch.nn.Mish"
    reach = (-110.0, 40.0)

    def value(self, x: Tensor) -> Tensor:
        return F.mish(x)

    def derivative(self, x: Tensor) -> Tensor:
        t = torch.tanh(F.softplus(x))
        return t + x * (1 - t * t) * torch.sigmoid(x)


@register_surrogate("helu")
@dataclass(frozen=True)
class HeLU(Surrogate):
    alpha: float = 0.05

    formula = "x + alpha for x > -alpha, 0 otherwise"
    source = "Kimhi et al. 2024, arXiv:2411.10573, and its authors' helu.py"

    def __post_init__(self) -> None:
        _finite("helu", "alpha", self.alpha)

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x > -self.alpha, x + self.alpha, 0.0)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x > -self.alpha, torch.ones_like(x), 0.0)


@register_surrogate("frigorelu")
@dataclass(frozen=True)
class FrigoReLU(Surrogate):
    alpha: float = 0.1

    formula = "x for x >= 0, alpha x otherwise"
    source = "FrigoRelu, r/MachineLearning 1jnalfy, 30 March 2025"

    def __post_init__(self) -> None:
        _finite("frigorelu", "alpha", self.alpha)

    def value(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, x, self.alpha * x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, 1.0, torch.full_like(x, self.alpha))


BUILT_IN = frozenset(SURROGATES.values())
"""The package's own, without those that are registered later."""


@dataclass(frozen=True)
class Custom(Surrogate):
    """A user's own callable; autograd takes its derivative."""

    function: Callable[[Tensor], Tensor]

    name = "custom"
    formula = "given by the user"
    source = "the user"

    def value(self, x: Tensor) -> Tensor:
        y = self.function(x)
        if not isinstance(y, Tensor) or y.shape != x.shape:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"surrogate {self.function!r} must return a tensor of its input's shape {tuple(x.shape)}, not {got}"
            )
        return y

    def derivative(self, x: Tensor) -> Tensor:
        slope: Tensor = torch.func.jvp(self.value, (x,), (torch.ones_like(x),))[1]
        return slope

    def __fx_create_arg__(self, tracer: torch.fx.Tracer) -> torch.fx.Node:
        """A traced graph may not hold a function, but it may hold an attribute of the traced module."""
        name = tracer.get_fresh_qualname("_surrogate")
        setattr(tracer.root, name, self)
        return tracer.create_node("get_attr", name, (), {})


@dataclass(frozen=True)
class Scaled(Surrogate):
    """Another surrogate times a positive constant."""

    base: Surrogate
    factor: float

    name = "scaled"
    formula = "a surrogate times a constant"
    source = "a control of this package"

    def __post_init__(self) -> None:
        _finite("scaled", "factor", self.factor)
        if self.factor <= 0:
            raise ValueError(f"scaled: factor must be above 0, not {self.factor!r}")

    def __str__(self) -> str:
        return f"{self.factor:.6g} * {self.base}"

    @property
    def reach(self) -> tuple[float, float]:  # type: ignore[override]
        """On the right the derivative tends to the factor, which is not ReLU's 1: it is never ReLU's there."""
        return self.base.reach[0], math.inf

    def value(self, x: Tensor) -> Tensor:
        # The base is asked within its own reach; to the right of it f~ goes on with slope 1.
        inside = x.clamp(*self.base.reach)
        return self.factor * (self.base.value(inside) + (torch.relu(x) - torch.relu(inside)))

    def derivative(self, x: Tensor) -> Tensor:
        return self.factor * self.base.derivative(x.clamp(*self.base.reach))


def unit_scaled(spec: str | Surrogate | Callable[[Tensor], Tensor]) -> Surrogate:
    """The surrogate divided by the mean of its derivative over the positive side, so that this mean is 1.

    The mean is that of f~'(x) over x > 0 under a standard normal density, 2 int_0^inf f~'(x) phi(x) dx, as if
    pre-activations were normal. SUGAR with it lets through units that are on, on average, what ReLU does, and what is left
    of a difference to ReLU does not come from larger steps.

    Args:
        spec: as in :func:`surrogate`.

    Raises:
        ValueError: unknown name, or a mean that is not above 0.

    >>> print(unit_scaled("bsilu"))
    0.864172 * bsilu(a=1.67)
    """
    base = surrogate(spec)
    mean = _positive_mean(base)
    if not mean > 0:
        raise ValueError(f"{base} has a mean derivative of {mean:.6g} over the positive side; it must be above 0")
    return Scaled(base, 1 / mean)


def _positive_mean(base: Surrogate) -> float:
    """2 int_0^inf f~'(x) phi(x) dx in float64, by the trapezoidal rule after x = exp(t - exp(-t)) (Takahasi & Mori 1974),
    which never asks at 0, where a derivative may jump."""
    step = 1 / 64
    t = torch.arange(-5, 4, step, dtype=torch.float64)
    x = torch.exp(t - torch.exp(-t))
    density = torch.exp(-x * x / 2) * math.sqrt(2 / math.pi)
    return float((base.derivative(x) * density * x * (1 + torch.exp(-t))).sum() * step)
