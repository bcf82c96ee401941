"""Speed and memory: ``undying bench``. ``timing`` is the harness; what is compared stands in ``forms``."""
