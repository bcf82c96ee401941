"""How an activation is computed.

``reference`` is the definition: pure PyTorch, right under every transform. ``dispatch`` picks something faster where that
is right: the native kernels (``native``), Triton's on GPUs (``triton_loader``), or a formula that a compiler fuses better
(``autograd``).
"""

from undying.ops.dispatch import using

__all__ = ["using"]
