"""What lines of metrics.jsonl say of units."""

import pytest
import torch

from undying.lab.runs.lines import check_lines, packed, share, silent_units


def test_a_share_is_over_the_sites_where_it_is_known():
    sites = [
        {"name": "relu", "units": 30, "silent": 6, "dead": 3, "dormant": 9},
        {"name": "tanh", "units": 50, "silent": None, "dead": 7, "dormant": 1},
    ]
    line = {"sites": sites}
    assert share(line, "silent") == 6 / 30
    assert share(line, "dead") == 10 / 80
    assert share({"sites": sites[1:]}, "silent") is None
    assert share({"epoch": 3}, "dormant") is None


def test_which_units_are_silent_is_there_and_back():
    for units in (1, 7, 8, 9, 130):
        mask = torch.rand(units) > 0.5
        found = silent_units({"units": units, "silent_units": packed(mask)})
        assert found.tolist() == mask.tolist()
    assert silent_units({"units": 3}) is None


@pytest.mark.parametrize("mask", ["", "gY", "gYA=gYA=", "!!!=", 3, ["gYA="]])
def test_a_mask_that_is_none_is_an_error(mask):
    site = {"name": "a", "units": 9, "silent": 1, "dead": 0, "dormant": 0}
    check_lines([{"epoch": 0, "seconds": 1.0, "sites": [{**site, "silent_units": "gYA="}]}])
    with pytest.raises(ValueError, match="sites"):
        check_lines([{"epoch": 0, "seconds": 1.0, "sites": [{**site, "silent_units": mask}]}])
