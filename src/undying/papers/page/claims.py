"""The claims of a table with their verdicts, and how a verdict comes about."""

from __future__ import annotations

from collections import Counter

from undying._base.text import markdown
from undying.papers.analysis import Analysis, ClaimAnalysis
from undying.papers.page.cells import bullets, difference, logarithms
from undying.papers.table import Claim
from undying.papers.verdicts import FEWEST, LEVEL, MARGIN
from undying.report.words import signed


def claims(analysis: Analysis) -> str:
    """A row a claim, after what is needed to read them."""
    rows = [("claim", "where", "published", "ours, points (95 % interval)", "n", "verdict")]
    rows += [
        (
            found.claim.text,
            found.claim.task,
            _claimed(analysis, found.claim),
            difference(found.difference, found.claim.metric),
            str(found.difference.n) if found.difference else "0",
            f"**{found.verdict}**",
        )
        for found in analysis.claims
    ]
    count = Counter(found.verdict for found in analysis.claims)
    said = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    reasons = [_by_construction(found) for found in analysis.claims if found.claim.by_construction]
    reasons += [
        f"{found.claim.text}, {found.claim.task}: cannot be told, since `{found.claim.against}` itself has less than one "
        "point, which leaves nothing to lower."
        for found in analysis.claims
        if found.nothing_to_lower and not found.claim.by_construction
    ]
    intro = (
        f"{len(analysis.claims)} claim{'s' * (len(analysis.claims) > 1)}: {said}. A difference is arm minus the other, "
        "paired by seed, in percentage points of the metric, both at the table's learning rate (the published one, or ours "
        "where none is) unless the claim says otherwise."
    )
    if logarithms(analysis.table):
        intro += " Of a norm or a curvature it is in per cent of the other's; a point is then 1 %."
    missing = {found.claim.task for found in analysis.claims} - analysis.tasks.keys()
    if analysis.table.points:
        intro += f" {analysis.table.points}"
    if missing:
        intro += f" Not run at {analysis.scale_name} scale: {', '.join(sorted(missing))}."
    return "\n\n".join([intro, markdown(rows), *([bullets(reasons)] if reasons else [])])


def _claimed(analysis: Analysis, claim: Claim) -> str:
    stated = analysis.table.difference(claim)
    return claim.published or "no number" if stated is None else f"{signed(100 * stated)} points"


def _by_construction(found: ClaimAnalysis) -> str:
    told = f"{found.claim.text}: true by construction, since {found.claim.by_construction}."
    if found.difference and found.same_weights:
        told += f" {found.same_weights} of {found.difference.n} pairs ended with the same weights to the last bit."
    return told


def rules(analysis: Analysis) -> str:
    """What a verdict stands for."""
    if not analysis.plan.scale.answers:
        return f"At {analysis.scale_name} scale no claim is judged."
    points = f"{100 * MARGIN:g} point{'' if MARGIN == 0.01 else 's'}"
    return (
        f"Differences are paired by seed. *Supported*: shown to lie on the claimed side (of 0 for higher and lower; of "
        f"-{points} for competitive; below +{points} for gains nothing). *Not supported*: shown to fall short of it by the "
        f"smallest difference that matters, {points}, or to lie on the other side. Shown is p of at most {LEVEL:g} in a "
        f"one-sided paired t-test, after Holm's correction over the claims of the page that are not true by construction "
        f"(once over what supports them, once over what refutes them), with {FEWEST} pairs or more. *Cannot "
        "tell* is everything else, and a claim of fewer where the other arm has less than a point itself. *True by construction* is declared by the table, with the reason. The t-test assumes that "
        "differences over seeds are about normal; the lab's exact test, which does not, cannot come below p = 0.0625 with "
        f"5 seeds. A run that diverged counts with {analysis.table.diverged}."
    )
