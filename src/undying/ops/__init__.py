"""How an activation is computed.

``composite`` is the definition: pure PyTorch, right under every transform. ``paths`` picks something faster where that
is right: the native kernels (``native``), Triton's on GPUs (``triton_loader``), or a formula that a compiler fuses better
(``functions``).
"""

from undying.ops.dispatch import using

__all__ = ["using"]
