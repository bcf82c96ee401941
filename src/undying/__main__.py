"""``undying`` and ``python -m undying``."""

from __future__ import annotations

import sys

from undying.cli import main

if __name__ == "__main__":
    sys.exit(main())
