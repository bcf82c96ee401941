"""The reference implementations: plain PyTorch operations, the definition of every activation in this package.

SUGAR is written as *forward gradient injection around ReLU*. With the excess e(x) = f~(x) - relu(x),

    y = relu(x) - strength * (stop(e(x)) - e(x))

has the value relu(x), since the bracket is exactly 0, and the derivative
relu'(x) + strength * (f~'(x) - relu'(x)), at every order and under every transform, because nothing here is
a custom autograd rule. Two details carry weight:

* The bracket is *subtracted*: -0.0 - 0.0 is -0.0, so the forward is ReLU's bit for bit.
* e is taken at a clamped x. At +-inf the bracket would be inf - inf = NaN; outside the clamp the derivative
  is ReLU's own. That is the surrogate's there too (``Surrogate.reach``), except for LeakyReLU on the left and SELU on
  the right, whose clamp is at a quarter of the largest number.

float16 and bfloat16 compute in float32 inside and round once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from undying._torch import in_dual_level, in_functorch
from undying.surrogates import Surrogate

_HALF = (torch.float16, torch.bfloat16)


def sugar(x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """ReLU's value with the derivative of ``surrogate``; see the module's docstring."""
    if not _differentiating():
        return torch.relu(x)
    wide = _widen(x)
    e = _excess(wide, surrogate, negative_only=region == "negative")
    bracket = e.detach() - e
    if isinstance(strength, Tensor) or strength != 1:
        bracket = strength * bracket
    return (torch.relu(wide) - bracket).to(x.dtype)


def slope(x: Tensor, surrogate: Surrogate, region: str, strength: float | Tensor) -> Tensor:
    """The derivative that :func:`sugar` has, as a closed form, in the type that x is computed in.

    Faster than autograd's way through the injected form; for the first derivative only, and where nothing transforms it.
    """
    wide = _widen(x)
    low, high = limits(wide.dtype, surrogate, region)
    relu = torch.where(wide <= 0, 0.0, torch.ones_like(wide))
    smooth = surrogate.derivative(wide.clamp(low, high))
    if isinstance(strength, Tensor) or strength != 1:
        smooth = relu + strength * (smooth - relu)
    if wide.dtype == torch.float32 and (low, high) == surrogate.reach:
        return smooth  # at the ends of its reach, where x is held, it is ReLU's to the last bit of float32
    return torch.where((wide >= low) & (wide <= high), smooth, relu)


def limits(dtype: torch.dtype, surrogate: Surrogate, region: str) -> tuple[float, float]:
    """Where the derivative is the surrogate's; ReLU's elsewhere. ``dtype`` is the one that is computed in."""
    big = torch.finfo(dtype).max / 4
    low, high = surrogate.reach
    return max(low, -big), min(high, 0.0 if region == "negative" else big)


def ordinary(x: Tensor, surrogate: Surrogate) -> Tensor:
    """``surrogate`` as an ordinary activation: f~(x) = relu(x) + e(x), right at +-inf too."""
    wide = _widen(x)
    return (torch.relu(wide) + _excess(wide, surrogate, negative_only=False)).to(x.dtype)


def barelu(x: Tensor, alpha: float, eps: float, inplace: bool) -> Tensor:
    """Identity above 0 (a smooth root within about sqrt(eps) of the origin), slope ``alpha`` below."""
    if eps == 0:
        return _leaky(x, alpha, inplace)
    wide = _widen(x)
    r = eps**0.5
    # Above the bound sqrt(x^2 + eps) - r rounds to x, and x^2 would overflow further up.
    rooted = (wide > 0) & (wide < torch.finfo(wide.dtype).max ** 0.5 / 4)
    c = torch.where(rooted, wide, 1.0)
    # sqrt(c^2 + eps) - r without its cancellation near 0.
    root = c * (c / (torch.sqrt(c * c + eps) + r))
    return torch.where(rooted, root, _leaky(wide, alpha)).to(x.dtype)


def _leaky(x: Tensor, alpha: float, inplace: bool = False) -> Tensor:
    if alpha == 0:
        return F.relu(x, inplace)  # leaky_relu gives -0.0 below 0, and NaN at -inf
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        # A slope that changes between steps is an input of the graph here; leaky_relu's is compiled anew for each.
        y = torch.where(x > 0, x, alpha * x)
        return x.copy_(y) if inplace else y
    return F.leaky_relu(x, alpha, inplace)


def _excess(x: Tensor, surrogate: Surrogate, *, negative_only: bool) -> Tensor:
    """e(x) = f~(x) - relu(x) at x clamped to where f~ and its derivatives stay finite."""
    big = torch.finfo(x.dtype).max / 4
    low, high = surrogate.reach
    c = x.clamp(max(low, -big), min(high, big))
    if negative_only:
        c = torch.where(c > 0, 0.0, c)
        return surrogate.value(c)
    return surrogate.value(c) - torch.relu(c)


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _HALF else x


def _differentiating() -> bool:
    """Whether anyone can ask for this call's derivative. If not, SUGAR is one plain relu."""
    if torch.compiler.is_exporting():
        return False
    # What is compiled outside of a forward-mode level may be called within one, where gradients may be disabled too.
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return True
    # Forward-mode AD and functorch work with gradients disabled too.
    return in_functorch() or in_dual_level()
