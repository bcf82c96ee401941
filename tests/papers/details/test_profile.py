"""Firing of planted units with known answers."""

from dataclasses import replace

import torch

import planted
from undying.census.results import Census
from undying.census.site import Site
from undying.papers.details.profile import Profile
from undying.papers.plan import make_plan
from undying.papers.tables import TABLES
from undying.statistics.interval import Interval


class Counted:
    """A store in which unit j of a site of 4 fires at j of 200 values, under SUGAR at j + 1; seed 1 was never counted."""

    def census(self, config):
        if config.seed == 1:
            return None
        fired = torch.arange(4) + (config.activation == "sugar")
        none, no = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.bool)
        sites = [
            Site(name, "", 4, 50, 200, fired, fired, none, none, none, none, fired == 0, None, no) for name in "ba"
        ]
        return Census(sites, 0.025, None, None)


def test_a_profile_has_every_unit_of_every_site_in_its_order():
    plan = make_plan(TABLES["sugar-profile"].scales["smoke"], (4,))
    found = Profile.read(plan.scale.tasks[0], plan.scale, planted.results(plan, lambda run: 0.5), Counted())
    assert found.sites == ("b", "a")
    assert found.arms["relu"]["a"] == {seed: [0, 1 / 200, 2 / 200, 3 / 200] for seed in (0, 2, 3)}
    assert found.share("relu", "a", 0) == Interval(0.25, 0.25, 0.25, 3)
    assert found.share("sugar", "a", 0) == Interval(0, 0, 0, 3)
    assert found.share("relu", "b", 0.01) == Interval(0.75, 0.75, 0.75, 3)
    assert found.difference("sugar", "relu", "a", 0.01) == Interval(-0.25, -0.25, -0.25, 3)


def test_the_profile_is_of_the_runs_of_sugar_cifar10():
    """The same ids: nothing is trained twice."""
    scale = TABLES["sugar-profile"].scales["smoke"]
    assert {run.config for run in make_plan(scale).runs} <= {
        run.config for run in make_plan(TABLES["sugar-cifar10"].scales["smoke"]).runs
    }
    for name in ("small", "full"):
        theirs = {task.name: task for task in TABLES["sugar-cifar10"].scales[name].tasks}
        for task in TABLES["sugar-profile"].scales[name].tasks:
            assert replace(task, stages=(), lr=1.0) == replace(theirs[task.name], stages=(), lr=1.0)
            assert all(task.lr in theirs[task.name].rates(arm) for arm in task.arms)
            assert {"vgg16", "resnet18"} == theirs.keys()
