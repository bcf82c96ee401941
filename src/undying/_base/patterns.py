"""Names that the user leaves out by patterns: ``skip=`` of census, convert_ and audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

SKIPPED = "skipped"
"""How the reason for such a name begins."""
ROOT = "(root)"
"""What reports call the network itself, whose name is empty."""


class Skip:
    """Patterns (``fnmatch``) of names, and which of them have matched anything.

    >>> skip = Skip("head.*")
    >>> skip.reason_for("head.act"), skip.reason_for("body.act")
    ("skipped, as it matches 'head.*'", None)
    >>> skip.check(["head.act", "body.act"])
    """

    def __init__(self, patterns: str | Sequence[str]) -> None:
        self._patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        self._matched: set[str] = set()

    def reason_for(self, *names: str) -> str | None:
        """Why a site with these names is left out: the first pattern that matches; ``(root)`` is the network itself."""
        if not self._patterns:
            return None
        found = [p for p in self._patterns if any(name == p or fnmatchcase(name or ROOT, p) for name in names)]
        self._matched.update(found)
        return f"{SKIPPED}, as it matches {found[0]!r}" if found else None

    def check(self, names: Iterable[str]) -> None:
        """Once all sites are known.

        Raises:
            ValueError: a pattern has matched none of them.
        """
        for pattern in self._patterns:
            if pattern not in self._matched:
                sites = ", ".join(dict.fromkeys(name or ROOT for name in names)) or "none"
                raise ValueError(f"skip={pattern!r} matches no site; sites: {sites}")
