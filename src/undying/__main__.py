"""``undying`` and ``python -m undying``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; without the extra it needs, say so."""
    try:
        from undying import cli
    except ModuleNotFoundError as error:
        print(
            f"undying: the command line needs {error.name}, which is part of an extra: pip install 'undying[lab]'",
            file=sys.stderr,
        )
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
