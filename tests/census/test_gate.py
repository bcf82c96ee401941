"""Whether a census is within limits: planted units, and what cannot be judged."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import undying
from undying.census.gate import BASELINE, TOTAL, Limits, judge

DATA = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def net(first=(), second=()):
    """Two ReLU of 10 units each, all alive but these."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 2))
    with torch.no_grad():
        made[2].weight.abs_()
        for layer, dead in ((made[0], first), (made[2], second)):
            layer.bias.fill_(50.0)
            layer.bias[list(dead)] = -1e6
    return made


def counted(*dead, **settings):
    return undying.census(net(*dead), DATA, **settings)


def ended(census, *words, state="dead", **settings):
    verdict = judge(census, [Limits.read(state, words)] if words else [], **settings)
    return verdict.status, [(check.place, check.state) for check in verdict.checks]


@pytest.mark.parametrize("state", ["dead", "silent"])
def test_shares_of_all_and_of_each(state):
    census = counted((1, 2, 3), ())
    assert ended(census, "0.15", state=state) == (0, [(TOTAL, "passed")])  # exactly 3 of 20
    assert ended(census, "0.149", state=state) == (1, [(TOTAL, "failed")])
    assert ended(census, "0", state=state)[0] == 1
    assert ended(counted(), "0", state=state)[0] == 0
    assert ended(census, "*=0.3", state=state) == (0, [("1", "passed"), ("3", "passed")])
    assert ended(census, "0.15", "*=0.2", state=state) == (1, [(TOTAL, "passed"), ("1", "failed"), ("3", "passed")])
    assert ended(census, "1=0.2", "3=0", state=state) == (1, [("1", "failed"), ("3", "passed")])


def test_the_last_pattern_that_matches_counts_and_none_is_idle():
    census = counted((1, 2, 3), ())
    assert ended(census, "*=0", "1=0.5") == (0, [("3", "passed"), ("1", "passed")])
    assert ended(census, "1=0.5", "3=0", "?=0.2") == (
        2,
        [(TOTAL, "unjudged"), (TOTAL, "unjudged"), ("1", "failed"), ("3", "passed")],
    )


@pytest.mark.parametrize(
    "word", ["nan", "-0.1", "1.1", "5%", "", "inf", "1=", "1=nan", "1=2", "=0.5", "a=b", "0.1,0.2"]
)
def test_what_is_no_share_is_refused(word):
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Limits.read("dead", [word])


def test_no_share_and_two_are_refused():
    with pytest.raises(ValueError, match="needs a share"):
        Limits.read("dead", [])
    with pytest.raises(ValueError, match=r"two shares for all units, 0.1 and 0.2"):
        Limits.read("dead", ["0.1", "0.2"])


def test_a_pattern_of_no_site_is_not_passed():
    verdict = judge(counted(), [Limits.read("dead", ["0.5", "featurs.*=0.2"])])
    assert verdict.status == 2
    assert verdict.of("unjudged")[0].said == "--max-dead 'featurs.*=0.2' matches no counted site; sites: 1, 3"


def test_what_cannot_be_known_is_not_passed():
    smooth = undying.census(nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 4), nn.Tanh()), DATA)
    for words in (["1"], ["*=1"], ["3=1"]):
        assert ended(smooth, *words)[0] == 2
    assert ended(smooth, "1", state="silent") == (0, [(TOTAL, "passed"), (TOTAL, "noted")])
    assert ended(smooth, "*=1", state="silent") == (0, [("1", "passed")])
    assert ended(smooth, "3=1", state="silent") == (2, [("3", "unjudged")])
    tanh = undying.census(nn.Sequential(nn.Linear(6, 4), nn.Tanh()), DATA)
    assert ended(tanh, "1", state="silent") == (2, [(TOTAL, "unjudged")])


def test_a_network_that_computes_nothing_finite_is_not_alive():
    broken = net()
    with torch.no_grad():
        broken[2].weight[4] = torch.nan
    census = undying.census(broken, DATA)
    assert census.dead_fraction == 0
    status, checks = ended(census, "0.5")
    assert (status, checks[0]) == (2, ("3", "unjudged"))
    assert ended(undying.census(broken, DATA, skip="3"), "0.5") == (0, [("3", "skipped"), (TOTAL, "passed")])


def test_a_baseline_finds_what_died_since():
    old = counted((1, 2), (5,))
    assert ended(counted((1, 2), (5,)), baseline=old) == (0, [(BASELINE, "passed")])
    assert ended(counted((1,), ()), baseline=old) == (0, [(BASELINE, "passed")])  # some revived
    verdict = judge(counted((3, 4, 5, 7), (5,)), baseline=old)  # of which two revived
    assert [(check.place, check.state) for check in verdict.checks] == [("1", "failed")]
    assert verdict.checks[0].said == "1: 4 units are newly silent or dead: 3-5, 7"


def test_a_baseline_on_other_data_or_of_another_network_is_not_passed():
    old = counted()
    other = undying.census(net(), DATA[:60])
    assert ended(other, baseline=old) == (2, [(BASELINE, "unjudged")])
    assert ended(other, baseline=old, other_data=True) == (0, [(BASELINE, "noted"), (BASELINE, "passed")])
    unknown = replace(old, probe=None)
    assert ended(unknown, baseline=unknown)[0] == 2
    wider = undying.census(nn.Sequential(nn.Linear(6, 11), nn.ReLU()), DATA)
    assert ended(wider, baseline=old) == (2, [(BASELINE, "unjudged")])


def test_a_baseline_that_did_not_count_a_site_is_not_passed():
    left = undying.census(net(), DATA, skip="3")
    assert ended(counted((), (1,)), baseline=left)[0] == 2
    assert ended(left, baseline=counted())[0] == 0  # skipped now, which is said
    assert ended(left, baseline=counted())[1][0] == ("3", "skipped")


def test_dead_is_compared_only_where_both_decided_it_alike():
    def loss(output, _):
        return output.sum()

    plain, by_loss = counted((1,), ()), counted((1,), (), gradients=True, loss=loss)
    assert ended(by_loss, baseline=plain) == (0, [(BASELINE, "noted"), (BASELINE, "passed")])
    tanh = undying.census(nn.Sequential(nn.Linear(6, 4), nn.Tanh()), DATA)
    assert ended(tanh, baseline=tanh) == (2, [(BASELINE, "unjudged")])


def test_the_name_of_a_module_means_all_its_calls():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.act = nn.Linear(6, 10), nn.Linear(10, 10), nn.ReLU()
            nn.init.constant_(self.two.bias, -1e6)

        def forward(self, x):
            return self.act(self.two(self.act(self.one(x))))

    census = undying.census(Twice(), DATA)
    assert ended(census, "act=0.9") == (1, [("act", "passed"), ("act#2", "failed")])
    assert ended(census, "act=0.9", "act#2=1")[0] == 0
