"""Readings of planted runs with known answers, and the activation that one of them asks for."""

import math
from dataclasses import replace

import pytest
import torch

import closed_forms
import planted
from undying.lab.activations import build_activation
from undying.lab.own_activations import source_sha256
from undying.papers.details.readings import PUBLISHED, Readings
from undying.papers.plan import make_plan
from undying.papers.roots import jumping
from undying.papers.tables import TABLES
from undying.papers.tables.barelu_gradients import FEWER, SHORTER

EPS = TABLES["barelu-eps"]
FIRST, THIRD, LARGE = "barelu:eps=0.001", "barelu:eps=0.003", "barelu:eps=0.01"
JUMPING, SLOPE = "undying.papers.roots:jumping:eps=0.01", "leaky_relu:negative_slope=0.2"


@pytest.fixture(scope="module")
def plan():
    return make_plan(EPS.scales["smoke"], (5,))


def lines(planned):
    """Under SGD an arm's norms are a power of eps times LeakyReLU's, which is the larger the larger the seed; the published
    pair in the last epoch of the jumping one; under Adam all are equal. At other rates than the table's all is wild. What is
    clipped at 1 has two steps, whose norms are 0.5 and 5 for LeakyReLU and half of that for others."""
    if planned.task == "sgd-clipped":
        size = 1 if planned.arm == "leaky_relu" else 0.5
        steps = {"weight": [0.3 * size, 3 * size, None], "bias": [0.4 * size, 4 * size, 1.0]}
        norms = {name: {"gradient": of} for name, of in steps.items()}
        whole = {"gradient_norm": 2.75 * size, "update_norm": size, "norms": norms}
        return [{"epoch": 0}, {"epoch": 1, **whole}, {"epoch": 2, **whole}]
    scale = (1 + planned.config.seed) * (1 if planned.config.lr in (0.01, 0.001) else 1e6)
    if planned.task == "adam":
        return [{"epoch": 0}, *({"epoch": e, "gradient_norm": scale, "update_norm": scale} for e in (1, 2))]
    jitter = 1 + 0.001 * (planned.config.seed % 3)
    gradient, update = {
        "leaky_relu": (1, 1),
        SLOPE: (2, 2),
        FIRST: (0.9, 0.8),
        THIRD: (0.9, 0.8),
        LARGE: (0.9**3, 0.8**3),
        JUMPING: (1, 1),
    }[planned.arm]
    wide = {"gradient_norm": scale * gradient * jitter, "update_norm": scale * update}
    last = {"gradient_norm": scale * 0.689 * jitter, "update_norm": scale * 0.617 * jitter}
    return [{"epoch": 0}, {"epoch": 1, **wide}, {"epoch": 2, **(last if planned.arm == JUMPING else wide)}]


@pytest.fixture(scope="module")
def found(plan):
    results = planted.results(plan, lambda run: 0.5, epochs=lines)
    return [Readings.read(task, plan.scale, results, None) for task in plan.scale.tasks]


def test_ratios_are_paired_by_seed(found):
    own = found[0].own
    ratio = own.ratio(LARGE, "leaky_relu", "update", "all of training")
    assert (ratio.n, ratio.value, ratio.low, ratio.high) == (5, *[pytest.approx(3 * math.log(0.8))] * 3)
    halved = own.ratio(LARGE, SLOPE, "update", "first epoch")
    assert halved.value == pytest.approx(3 * math.log(0.8) - math.log(2))
    assert own.ratio("barelu:eps=1", "leaky_relu", "update", "first epoch") is None


def test_the_reading_that_gives_the_pair_is_the_nearest(found):
    sgd, adam, _ = (section.own.readings() for section in found)
    assert (sgd[0].arm, sgd[0].against, sgd[0].when) == (JUMPING, "leaky_relu", "last epoch")
    assert [reading for reading in sgd if reading.gives_the_pair] == [sgd[0]]
    assert sgd[0].distance < 0.01
    assert (len(sgd), len(adam)) == (4 * 2 * 3, 3 * 2 * 3)  # arms, slopes, epochs
    assert not any(reading.gives_the_pair for reading in adam)
    assert [reading.distance for reading in adam] == pytest.approx([0.383] * len(adam))


def test_a_number_outside_of_its_interval_is_not_given(found):
    nearest = found[0].own.readings()[0]
    moved = {kind: replace(ratio, high=ratio.low) for kind, ratio in nearest.ratios.items()}
    alone = {kind: replace(ratio, low=None, high=None) for kind, ratio in nearest.ratios.items()}
    assert not replace(nearest, ratios=moved).gives_the_pair
    assert not replace(nearest, ratios=alone).gives_the_pair


def test_where_the_norms_have_fallen_as_far_as_published(found):
    """On the line from 0.9 at eps = 0.003 to 0.9^3 at 0.01, in logarithms of both; not at all under Adam."""
    way = (math.log(1 - 0.383) - math.log(0.8)) / (2 * math.log(0.8))
    assert found[0].own.crossing("update") == pytest.approx(0.003 * (0.01 / 0.003) ** way)
    assert found[0].own.crossing("gradient") is None  # 0.729 is not low enough
    assert found[1].own.crossing("update") is None


def test_clipping_cuts_each_step_and_not_their_mean(found):
    """Halved, the larger step is still cut to 1: (0.25 + 1) / (0.5 + 1). A step that was not finite has no part in it."""
    clipped = found[2].own
    ratio = clipped.ratio(THIRD, "leaky_relu", "gradient", "after clipping")
    assert math.exp(ratio.value) == pytest.approx(1.25 / 1.5)
    for kind, when in (("gradient", "all of training"), ("update", "after clipping")):
        assert math.exp(clipped.ratio(THIRD, "leaky_relu", kind, when).value) == pytest.approx(0.5)
    assert len(clipped.readings()) == 3 * 1 * 4
    assert found[0].own.ratio(THIRD, "leaky_relu", "gradient", "after clipping") is None


def test_one_figure_shows_every_task(found):
    drawn, *nothing = (section.figures("smoke") for section in found)
    assert nothing == [{}, {}]
    _, _, said = drawn["readings"]
    assert "update, sgd, offset taken off: −20.0 % at 0.001, −20.0 % at 0.003, −48.8 % at 0.01" in said
    assert "gradient, adam, offset left in: 0.0 % at 0.01" in said.replace("+0.0", "0.0")
    text = "\n".join(found[0].table())
    assert "Of 24 readings" in text
    assert "1 give it" in text


def test_the_published_pair_is_that_of_the_claims():
    said = {"gradient": FEWER, "update": SHORTER}
    found = {kind: float(text.removesuffix(" %").replace("−", "-")) / 100 for kind, text in said.items()}
    assert found == pytest.approx(PUBLISHED)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_jumping_root_is_the_smooth_one_raised_above_0(dtype):
    x = torch.linspace(-3, 3, 61, dtype=torch.float64).to(dtype).requires_grad_()
    form = closed_forms.barelu(eps=0.04)
    raised = torch.from_numpy(closed_forms.at(form.value, x.tolist())) + 0.2 * (x.double() > 0)
    slope = torch.from_numpy(closed_forms.at(form.slope, x.tolist()))
    y = jumping(x, eps=0.04)
    (actual,) = torch.autograd.grad(y.sum(), x)
    for mine, truth in ((y.detach(), raised.detach()), (actual, slope)):
        assert mine.dtype == dtype
        torch.testing.assert_close(
            mine.double(), truth, rtol=4 * torch.finfo(dtype).eps, atol=1e-3 if dtype == torch.bfloat16 else 1e-7
        )


def test_runs_of_an_activation_by_import_path_are_of_its_source(plan):
    """Changed, it is trained anew."""
    by_arm = {run.arm: run.config.activation_sha256 for run in plan.runs}
    assert by_arm[JUMPING] == source_sha256(JUMPING) != ""
    assert by_arm[FIRST] == by_arm[SLOPE] == ""
    assert build_activation(JUMPING)(torch.tensor([3.0])).item() == pytest.approx(math.sqrt(9.01))
