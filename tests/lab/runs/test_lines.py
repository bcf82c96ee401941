"""What lines of metrics.jsonl say of units."""

from undying.lab.runs.lines import share


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
