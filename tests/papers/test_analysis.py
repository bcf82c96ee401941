"""Analysis of planted runs are what was planted."""

from dataclasses import replace

import pytest

import planted
from undying.lab.recipe import Recipe
from undying.papers.analysis import analyze
from undying.papers.plan import make_plan
from undying.papers.table import Claim, Gain, Scale, Stage, Table, Task
from undying.papers.verdicts import BY_CONSTRUCTION, CANNOT_TELL, NOT_SUPPORTED, NOT_YET, SUPPORTED

# Accuracy at rates 0.1 (published) and 0.3, by arm: SUGAR's gain of 10 points shrinks to 2 at own rates.
PLANTED = {
    ("relu", 0.1): 0.50,
    ("relu", 0.3): 0.60,
    ("sugar", 0.1): 0.60,
    ("sugar", 0.3): 0.55,
    ("sugar:region=negative", 0.1): 0.54,
}
SEEDS = (0, 1, 2, 3, 4)


def jitter(seed, arm):
    """A share of a thousandth or less, so that differences vary a little; its mean over the seeds is 0."""
    return (seed - 2) * {"relu": 1e-3, "sugar": 5e-4}.get(arm, -1e-3)


def accuracy(run):
    return PLANTED[run.arm, run.config.lr] + jitter(run.config.seed, run.arm)


def validation(run):
    """Held-out data prefer another rate than the test data would: the choice must be by these."""
    best = {"relu": 0.3, "sugar": 0.3, "sugar:region=negative": 0.1}[run.arm]
    return 0.9 if run.config.lr == best else 0.1


CLAIMS = (
    Claim("more accurate", "t", "sugar", "relu"),
    Claim("more accurate at own rates", "t", "sugar", "relu", own_rates=True),
    Claim("fewer silent", "t", "sugar", "relu", "lower", "silent"),
    Claim("of what is not run", "elsewhere", "sugar", "relu"),
    Claim("known before", "t", "sugar", "relu", by_construction="so it is"),
)
GAINS = (Gain("t", "sugar", "relu", {"sugar:region=negative": "the left side alone"}), Gain("elsewhere", "a", "b"))


@pytest.fixture(scope="module")
def plan():
    stages = (Stage(("relu", "sugar", "sugar:region=negative"), (0.1,)), Stage(("relu", "sugar"), (0.3,)))
    return make_plan(Scale((Task("t", "digits", "mlp", stages, SEEDS, 1, 0.1, "sgd", 16, Recipe(validation=0.1)),)))


def found(plan, **more):
    table = Table("name", "says", "source", {"small": plan.scale}, (), (), (), CLAIMS, GAINS)
    more.setdefault("silent", lambda run: 0.2 - (0.1 if run.arm == "sugar" else 0) + jitter(run.config.seed, run.arm))
    return analyze(table, "small", plan, planted.results(plan, accuracy, **{"validation": validation, **more}))


def test_differences_are_paired_and_at_the_rate_that_is_asked_for(plan):
    task = found(plan).tasks["t"]
    published = task.difference("sugar", "relu")
    assert (published.value, published.n) == (pytest.approx(0.1), len(SEEDS))
    assert task.differences("sugar", "relu") == pytest.approx(
        [0.1 + jitter(s, "sugar") - jitter(s, "relu") for s in SEEDS]
    )
    assert task.arms["relu"].own_rate == task.arms["sugar"].own_rate == 0.3  # by validation, not by test
    assert task.difference("sugar", "relu", own_rates=True).value == pytest.approx(-0.05)
    assert task.difference("sugar", "gelu") is None


def test_verdicts(plan):
    claims = found(plan).claims
    assert [c.verdict for c in claims] == [SUPPORTED, NOT_SUPPORTED, SUPPORTED, CANNOT_TELL, BY_CONSTRUCTION]
    assert claims[3].difference is None


def test_what_remains_of_the_gain(plan):
    [gain] = found(plan).gains
    assert [(row.arm, row.own_rates) for row in gain.rows] == [
        ("sugar", False),
        ("sugar:region=negative", False),
        ("sugar", True),
    ]
    assert [row.share for row in gain.rows] == pytest.approx([1.0, 0.4, -0.5])


def test_no_share_of_a_gain_that_may_be_none(plan):
    table = Table("name", "says", "source", {"small": plan.scale}, (), (), (), CLAIMS, GAINS)
    results = planted.results(plan, lambda run: 0.5 + jitter(run.config.seed, run.arm))
    [gain] = analyze(table, "small", plan, results).gains
    assert {row.share for row in gain.rows} == {None}


def test_a_partial_table_has_what_is_there(plan):
    kept = found(plan, keep=lambda run: run.config.seed < 3 and run.config.lr == 0.1)
    task = kept.tasks["t"]
    assert len(kept.results) == 9
    assert task.difference("sugar", "relu").n == 3
    assert task.arms["relu"].own_rate is None
    assert task.difference("sugar", "relu", own_rates=True) is None
    assert kept.claims[1].verdict == NOT_YET
    nothing = found(plan, keep=lambda run: False).claims
    assert [c.verdict for c in nothing] == [*[NOT_YET] * 3, CANNOT_TELL, BY_CONSTRUCTION]


def test_pairs_are_of_the_same_seed(plan):
    """relu lacks seed 0, sugar seed 4."""
    lacking = {("relu", 0), ("sugar", 4)}
    task = found(plan, keep=lambda run: (run.arm, run.config.seed) not in lacking).tasks["t"]
    assert task.differences("sugar", "relu") == pytest.approx(
        [0.1 + jitter(s, "sugar") - jitter(s, "relu") for s in (1, 2, 3)]
    )


def test_where_there_is_nothing_to_lower_it_cannot_be_told(plan):
    none = found(plan, silent=lambda run: 0.0)
    assert none.claims[2].verdict == CANNOT_TELL  # and not "not supported", though all differences are exactly 0
    assert [c.nothing_to_lower for c in none.claims] == [False, False, True, False, False]
    alike = found(plan, silent=lambda run: 0.02)
    assert alike.claims[2].verdict == NOT_SUPPORTED
    assert not alike.claims[2].nothing_to_lower


def test_pairs_with_the_same_weights_are_counted(plan):
    same = found(plan, weights=lambda run: "w" if run.config.seed < 2 else run.config.id)
    assert [c.same_weights for c in same.claims] == [2, 2, 2, 0, 2]


def test_a_scale_that_answers_nothing_judges_nothing(plan):
    silent = replace(plan, scale=replace(plan.scale, answers=False))
    assert [c.verdict for c in found(silent).claims] == [*[CANNOT_TELL] * 4, BY_CONSTRUCTION]
