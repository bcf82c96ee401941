"""Censuses of shares, of two moments and from files."""

import copy
import inspect
import json

import matplotlib.pyplot
import pytest
import torch
from torch import nn

import undying


def network():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 7), undying.SUGAR()
    )
    net.extend([nn.Linear(7, 6), nn.ReLU6(), nn.Linear(6, 3)])
    with torch.no_grad():
        net[0].bias[1] = net[5].bias[0] = net[7].bias[2] = -1e6
        net[2].bias[3] = net[7].bias[4] = 1e6
        net[2].bias[0] = -1e6
        net[9].weight[:, 5] = 0
    return net


def batch():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(30, 2, 6, 6, generator=generator)
    x[4, 0, 0, 0] = torch.inf
    return x, torch.randint(0, 3, (30,), generator=generator)


def share(rank):
    """Of unlike sizes, in unlike batches."""
    part = slice(0, 21) if rank == 0 else slice(21, 30)
    return [(x, y) for x, y in zip(*(t[part].split(4 + rank) for t in batch()), strict=True)]


def run_rank(rank, directory):
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{directory}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    net = nn.parallel.DistributedDataParallel(network())
    undying.census(net, share(rank), gradients=True).all_reduce().save(f"{directory}/{rank}.json")
    torch.distributed.destroy_process_group()


def assert_same(a, b, exact=False):
    a, b = a.to_dict(), b.to_dict()
    sites = zip(a.pop("sites"), b.pop("sites"), strict=True)
    inputs = [census.pop("inputs") for census in (a, b)]
    assert inputs[0] == inputs[1] or not exact
    assert [list(each) for each in inputs] == [list(inputs[0])] * 2
    assert a == b
    for one, other in sites:
        assert one.keys() == other.keys()
        for key, values in one.items():
            if key in ("mean_abs", "score", "zero") and not exact:
                values, others = ([float(v) for v in column] for column in (values, other[key]))
                assert values == pytest.approx(others, rel=1e-12, nan_ok=True), key
            else:
                assert values == other[key], (one["name"], key)


def test_two_ranks_count_as_one(tmp_path):
    torch.multiprocessing.start_processes(run_rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
    whole = undying.census(network(), [batch()], gradients=True)
    one, other = (undying.Census.load(tmp_path / f"{rank}.json") for rank in range(2))
    assert_same(one, other, exact=True)
    assert_same(one, whole)
    assert one["1"].nonfinite.any()
    assert one["3"].low.any()
    assert one["3"].high.any()
    assert one["8"].unused.nonzero().flatten().tolist() == [5]


def test_a_census_is_a_mapping_from_names_to_sites():
    census = undying.census(network(), [batch()])
    assert (list(census), len(census)) == (["1", "3", "6", "8"], 4)
    assert ("1" in census, "nope" in census, census.get("nope")) == (True, False, None)
    assert [site.kind for site in census.values()] == ["ReLU", "Tanh", "SUGAR", "ReLU6"]
    assert all(census[name] is site for name, site in census.items())
    only_ambiguous = undying.Census([], 0.025, None, None, {"odd": (3, 4, 5)})
    assert "odd" not in only_ambiguous
    with pytest.raises(KeyError, match="not counted"):
        _ = only_ambiguous["odd"]
    shares = [getattr(only_ambiguous, f"{state}_fraction") for state in ("silent", "dead", "dormant", "saturated")]
    assert (shares, only_ambiguous.sparsity) == ([None] * 4, None)


def test_censuses_of_other_networks_do_not_add():
    net, (x, y) = network(), batch()
    first = undying.census(net, [(x, y)])
    net[1] = nn.SiLU()
    with pytest.raises(ValueError, match="same sites"):
        _ = first + undying.census(net, [(x, y)])


def test_an_infinite_unit_does_not_make_the_others_dormant():
    """Their scores are shares of an infinite average: unknown, not 0."""
    (site,) = undying.census(nn.Sequential(nn.ReLU()), torch.tensor([[1.0, torch.inf], [2.0, 1.0]])).sites
    assert site.score.isnan().all()
    assert not site.dormant.any()
    assert site.nonfinite.tolist() == [0, 1]
    added = undying.census(nn.Sequential(nn.ReLU()), torch.ones(2, 2))
    assert not (added + undying.census(nn.Sequential(nn.ReLU()), torch.full((1, 2), torch.inf))).sites[0].dormant.any()


def test_silent_from_the_start_died_and_revived():
    net, x = network(), torch.randn(30, 2, 6, 6)
    start = undying.census(net, x)
    with torch.no_grad():
        net[0].bias[1], net[0].bias[4] = 1e6, -1e6
    changes = undying.census(net, x).since(start)
    assert "3" not in changes  # of tanh silent is not said
    assert changes["1"].revived.nonzero().flatten().tolist() == [1]
    assert changes["1"].died.nonzero().flatten().tolist() == [4]
    assert changes["6"].still[0]
    assert not changes["1"].still.any()


# --- files ------------------------------------------------------------------------------------------------------------

#: As the first release that wrote files did.
FORMAT_1 = """{"format": 1, "tau": 0.025, "loss": "cross_entropy", "probe": "00ff00ff00ff00ff", "sites": [{"name": "1",
"kind": "ReLU", "units": 3, "samples": 40, "fired": [0, 40, 7], "nonfinite": [0, 0, 1], "peak": [-0.5, 2.25, "inf"],
"mean_abs": [0.0, 1.5, "inf"], "zero": [1.0, 0.0, 0.825], "score": [0.0, 0.0, "nan"], "silent": [true, false, false],
"dead": null, "dormant": [true, true, false]}]}"""


def test_a_file_of_format_1_still_loads(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(FORMAT_1)
    census = undying.Census.load(path)
    (site,) = census.sites
    assert (census.tau, census.loss, census.probe, census.ambiguous) == (0.025, "cross_entropy", "00ff00ff00ff00ff", {})
    assert (site.name, site.units, site.samples, site.values) == ("1", 3, None, 40)
    assert (site.fired.tolist(), site.firing_rate_bound) == ([0, 40, 7], None)
    assert site.peak.tolist() == [-0.5, 2.25, torch.inf]
    assert site.silent.tolist() == [True, False, False]
    assert site.dead is site.low is site.high is site.saturated is site.unused is None
    assert census.silent_fraction == pytest.approx(1 / 3)
    assert "unused" not in census.table()
    census.save(path)  # in today's format
    assert_same(undying.Census.load(path), census, exact=True)


def test_everything_that_is_said_comes_back(tmp_path):
    net = network()
    net.append(nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.ReLU()))
    census = undying.census(net, [batch()], gradients=True, loss=lambda h, y: h.mean())
    census = undying.Census(census.sites, census.tau, census.loss, census.probe, {"odd": (3, 4, 5)})
    census.save(tmp_path / "census.json")
    assert_same(undying.Census.load(tmp_path / "census.json"), census, exact=True)


def damaged(change):
    content = json.loads(FORMAT_1)
    change(content)
    return json.dumps(content)


def to(key, value):
    return lambda content: content["sites"][0].__setitem__(key, value)


HOSTILE = {
    "a string": '"census"',
    "null": "null",
    "nothing": "",
    "too deep": "[" * 100_000,
    "a format in words": damaged(lambda c: c.__setitem__("format", "2")),
    "no sites": damaged(lambda c: c.__delitem__("sites")),
    "sites that are numbers": damaged(lambda c: c.__setitem__("sites", [1, 2])),
    "no counts": damaged(lambda c: c["sites"][0].__delitem__("fired")),
    "counts that are null": damaged(to("fired", None)),
    "too few counts": damaged(to("fired", [1, 2])),
    "counts in words": damaged(to("fired", ["1", "2", "3"])),
    "counts with fractions": damaged(to("fired", [1.5, 2, 3])),
    "counts beyond 64 bits": damaged(to("fired", [10**30, 2, 3])),
    "counts in lists": damaged(to("fired", [[1], [2], [3]])),
    "a peak in words": damaged(to("peak", ["high", 1, 2])),
    "states that are numbers": damaged(to("silent", [0, 1, 2])),
    "units in words": damaged(to("units", "3")),
    "a name that is none": damaged(to("name", 7)),
    "a layer that is none": damaged(to("layer", 7)),
    "tau in lists": damaged(lambda c: c.__setitem__("tau", [1])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_files_are_refused_by_name(tmp_path, name):
    path = tmp_path / "census.json"
    path.write_text(HOSTILE[name])
    with pytest.raises(ValueError, match=r"census\.json"):
        undying.Census.load(path)


def test_a_file_of_bytes_is_refused(tmp_path):
    path = tmp_path / "census.json"
    path.write_bytes(b"\x80\x04\x95cposix\nsystem\n")  # a pickle is never read as one
    with pytest.raises(ValueError, match="does not hold a census"):
        undying.Census.load(path)


def test_loading_changes_nothing_that_was_given():
    content = json.loads(FORMAT_1)
    before = copy.deepcopy(content)
    undying.Census.from_dict(content)
    assert content == before


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.act, self.out = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.out(self.act(self.lin(x))))


def test_a_site_names_the_line_that_calls_it_and_its_units():
    net = Named()
    with torch.no_grad():
        net.lin.bias.fill_(50.0)
        net.lin.bias[[0, 2, 3, 4]] = -100.0
    found = undying.census(net, torch.rand(10, 4))
    line = inspect.getsourcelines(Named.forward)[1] + 1
    assert [site.line for site in found.sites] == [f"{__file__}:{line}"] * 2
    assert str(found["act"]).splitlines()[0] == f"lin -> act: ReLU, 8 units, N = 10, {__file__}:{line}"
    assert "silent 4: 0, 2-4" in str(found["act"])
    assert len(found["act"]) == 8
    assert undying.Census.from_dict(found.to_dict())["act"].line == f"{__file__}:{line}"
    assert f"all 2 sites: 16 units, {100 * found.silent_fraction:.1f} % silent" in str(found)
    assert "silent 4: 0, 2-4" in found["act"]._repr_html_()


def test_data_frames_hold_what_was_counted():
    found = undying.census(Named(), torch.rand(30, 4))
    sites = found.to_pandas()
    assert list(sites.index) == list(found)
    assert sites["silent"].tolist() == [int(site.silent.sum()) for site in found.sites]
    assert sites["saturated"].isna().all()
    units = found["act"].to_pandas()
    assert units["fired"].tolist() == found["act"].fired.tolist()
    assert units["silent"].tolist() == found["act"].silent.tolist()
    assert "saturated" not in units


def test_figures_show_shares_and_firing_rates():
    found = undying.census(Named(), torch.rand(30, 4))
    bars = found.plot()
    silent = [float(patch.get_width()) for patch in bars.patches[:2]]
    assert silent == pytest.approx([100 * float(site.silent.double().mean()) for site in found.sites])
    line = found["act"].plot().lines[0]
    assert list(line.get_ydata()) == pytest.approx(sorted((100 * found["act"].firing_rate).tolist()))
    own = bars.figure.add_subplot()
    assert found["act"].plot(own) is own
    matplotlib.pyplot.close("all")


def test_what_nobody_asked_for_in_full_fits_a_screen():
    """A census of 1,000 layers was 3,797 lines in a notebook, a table of as many rows and a figure of 281 inches."""
    layers = [layer for _ in range(200) for layer in (nn.Linear(4, 4), nn.ReLU())]
    net = nn.Sequential(*layers)
    worst = [20, 21, 150]
    with torch.no_grad():
        for number in worst:
            layers[2 * number].bias.fill_(-1e6)
        for number in (21, 22, 151):  # what follows them gets zeros, and fires
            layers[2 * number].bias.fill_(1.0 if number != 21 else -1e6)
    found = undying.census(net, torch.randn(32, 4))
    names = [str(2 * number + 1) for number in worst]
    share = {site.name: (site.dead.double().mean().item(), site.silent.double().mean().item()) for site in found.sites}
    best_shown = sorted(share.values(), reverse=True)[49]
    said = repr(found).splitlines()
    assert len(said) < 60
    assert "the worst 50 of 200 sites; print() and to_pandas() have all of them" in said
    assert len(str(found).splitlines()) > 200
    page = found._repr_html_()
    assert page.count("<tr>") == 51
    for name in names:
        assert f"-&gt; {name}</td>" in page
        assert any(f"-> {name} " in line for line in said)
    drawn = [label.get_text().rpartition(" ")[2] for label in found.plot().get_yticklabels()]
    assert len(drawn) == 50
    assert drawn == sorted(drawn, key=int)  # in the order of the calls
    assert min(share[name] for name in drawn) == best_shown
    assert set(names) <= set(drawn)
    few = undying.census(Named(), torch.rand(30, 4))
    assert len(few.plot().get_yticklabels()) == 2
    assert "worst" not in repr(few)
    matplotlib.pyplot.close("all")


def test_the_axis_of_a_silent_site_begins_at_0():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    with torch.no_grad():
        net[0].bias.fill_(-1e6)
    low, high = undying.census(net, torch.rand(10, 4))["1"].plot().get_ylim()
    assert low == 0 < high
    matplotlib.pyplot.close("all")


def test_a_census_writes_its_page(tmp_path):
    net = Named()
    before = undying.census(net, torch.ones(10, 4))
    with torch.no_grad():
        net.lin.bias.fill_(-100.0)
    path = tmp_path / "page.html"
    now = undying.census(net, torch.ones(10, 4))
    now.save_html(path, model="my <net>", beside=before)
    page = path.read_text(encoding="utf-8")
    assert "Which units of my &lt;net&gt; fire?" in page
    changes = now.since(before).values()
    died, revived = (
        sum(int(each.sum()) for each in of) for of in zip(*((c.died, c.revived) for c in changes), strict=True)
    )
    assert f"{died} units died and {revived} revived" in page
    assert died > 0
    with pytest.raises(ValueError, match="the censuses saw different data"):
        now.save_html(tmp_path / "other.html", beside=undying.census(net, torch.zeros(10, 4)))
    with pytest.raises(OSError, match="No such file"):
        now.save_html(tmp_path / "none" / "page.html")
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
