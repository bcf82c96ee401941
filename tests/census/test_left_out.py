"""Sites that are not counted, by wish or because they hold no units, and that it is said."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying.report.census import census_page


class Detector(nn.Module):
    """Scores one number an anchor, of which larger images have more."""

    def __init__(self):
        super().__init__()
        self.body, self.act, self.head = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 1, 1)

    def forward(self, x):
        x = F.silu(self.act(self.body(x)))
        return torch.sigmoid(torch.nonzero(self.head(x) > -torch.inf).float().sum(1).view(len(x), -1))


SIZES = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 8, 8)]


def test_a_site_whose_number_of_units_changes_leaves_by_itself():
    counted, whole = undying.census(Detector(), SIZES), undying.census(Detector(), SIZES[:1])
    reason = "its input had 36 units in one batch and 42 in another"
    assert (list(whole), list(counted)) == (["act", "silu", "sigmoid"], ["act", "silu"])
    assert counted.left_out == {"sigmoid": reason}
    assert counted["act"].values == 36 * 2 + 42 * 2 + 36 * 2
    assert f"sigmoid: left out, {reason}" in counted.table()
    assert f"Left out: sigmoid, {reason}." in census_page(counted, "net", [])
    with pytest.raises(KeyError, match="36 units"):
        _ = counted["sigmoid"]
    assert undying.Census.from_dict(counted.to_dict()).left_out == counted.left_out


def test_what_either_left_out_is_in_no_sum_and_no_difference():
    net = Detector()
    uneven, whole = undying.census(net, SIZES), undying.census(net, SIZES[:1])
    for both in (uneven + whole, whole + uneven):
        assert (list(both), both.left_out) == (["act", "silu"], uneven.left_out)
        assert both["act"].fired.tolist() == (uneven["act"].fired + whole["act"].fired).tolist()
    assert list(whole.since(uneven, other_probe=True)) == ["act", "silu"]
    with pytest.raises(ValueError, match="same sites"):  # not both at once
        _ = whole + undying.census(net, SIZES[1:2])


def test_a_training_goes_on_where_the_number_of_units_changes():
    net, memory = Detector(), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        for x in SIZES:
            net(x)
        with pytest.warns(UserWarning, match="sigmoid: its input had 36 units in one batch and 42 in another"):
            optimizer.step()
    assert set(memory[0].census) == {"act", "silu"}


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.block = nn.Linear(4, 6), nn.ReLU(), Block()

    def forward(self, x):
        return F.gelu(self.block(self.act(self.block.lin(self.act(self.a(x))))))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(6, 6)

    def forward(self, x):
        return F.relu(self.lin(F.relu(x)))


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        ((), ["act", "act#2", "block.relu", "block.relu#2", "gelu"]),
        ("act", ["block.relu", "block.relu#2", "gelu"]),
        ("act#2", ["act", "block.relu", "block.relu#2", "gelu"]),
        ("block.*", ["act", "act#2", "gelu"]),
        ("block", ["act", "act#2", "gelu"]),
        ("(root)", ["act", "act#2", "block.relu", "block.relu#2"]),
        (("(root)", "act*"), ["block.relu", "block.relu#2"]),
    ],
)
def test_sites_are_skipped_as_convert_and_audit_skip_them(skip, left):
    x = torch.randn(3, 4)
    counted = undying.census(Blocks(), x, skip=skip)
    assert list(counted) == left
    assert all(reason.startswith("skipped, as it matches ") for reason in counted.left_out.values())
    assert [site.fired.shape for site in counted.sites] == [(6,)] * len(left)
    if skip not in ((), "act#2", "block.*"):  # an audit has one row for the calls of a kind in a module
        rows = undying.audit(Blocks(), x, targets=(nn.ReLU, nn.GELU), skip=skip).rows
        assert {row.name or "(root)" for row in rows if row.reason is not None} == {
            {"act": "act", "act#2": "act", "gelu": "(root)"}.get(name, "block") for name in counted.left_out
        }


def test_a_skipped_site_changes_nothing_for_the_others():
    torch.manual_seed(0)
    net, x = Blocks(), [(torch.randn(5, 4), torch.randn(5, 6))]
    whole, part = (undying.census(net, x, gradients=True, skip=skip) for skip in ((), "act"))
    for name, site in part.items():
        assert torch.equal(site.fired, whole[name].fired)
        assert torch.equal(site.dead, whole[name].dead)
        assert site.layer == whole[name].layer


@pytest.mark.parametrize("skip", ["layer9.*", ("act", "ACT"), ""])
def test_a_pattern_that_matches_nothing_is_an_error(skip):
    for run in (undying.census, undying.audit, lambda net, x, skip: undying.convert_(net, undying.SUGAR(), skip=skip)):
        net = nn.Sequential(nn.Linear(4, 6))
        net.act = nn.ReLU()
        with pytest.raises(ValueError, match="matches no site; sites: act"):
            run(net, torch.randn(3, 4), skip=skip)
        assert type(net.act) is nn.ReLU


def test_nothing_left_to_count_is_an_error():
    with pytest.raises(ValueError, match="no site of Sequential is left to count: 1: skipped"):
        undying.census(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(3, 4), skip="*")


class Calls(nn.Module):
    def __init__(self, act=F.leaky_relu):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 6), nn.Linear(6, 6), act

    def forward(self, x):
        return F.relu(x + self.act(self.b(F.relu(self.a(x))).mul(1.0))[:, :4])


def test_since_compares_across_convert():
    """Whose replaced calls have other names."""
    torch.manual_seed(0)
    net, x = nn.Sequential(Calls(), nn.Linear(4, 4), Calls()), torch.randn(50, 4)
    with torch.no_grad():
        net[0].a.bias[2] = -100.0
    before = undying.census(net, x)
    undying.convert_(net, undying.SUGAR(), targets=(nn.ReLU, nn.LeakyReLU), functional=True, example=x)
    after = undying.census(net, x)
    assert not set(before) & set(after)
    changes = after.since(before)
    assert list(changes) == list(after)
    assert changes[next(iter(after))].still.nonzero().flatten().tolist() == [2]
    with torch.no_grad():
        net[0].a.bias[3] = -100.0
    assert undying.census(net, x).since(before)[next(iter(after))].died.nonzero().flatten().tolist() == [3]


def test_since_refuses_networks_that_only_look_alike():
    class Other(Calls):
        def forward(self, x):
            return F.relu(x + self.act(self.a(F.gelu(self.b(F.pad(x, (0, 2))))[:, :4]))[:, :4])

    x = torch.randn(5, 4)
    with pytest.raises(ValueError, match="different sites"):
        undying.census(Other(), x).since(undying.census(Calls(), x))


class WithHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.act = nn.Linear(8, 8), nn.ReLU()
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Threshold(0, 0))

    def forward(self, x):
        return self.head(self.act(self.body(x)))


@pytest.mark.parametrize("pattern", ["head.1.threshold", "head.*", "head.1"])
def test_places_that_are_not_recognised_are_left_out_by_name(pattern):
    torch.manual_seed(0)
    net, x = WithHead(), torch.randn(20, 8)
    assert list(undying.census(net, x).unrecognised) == ["head.1.threshold"]
    counted = undying.census(net, x, skip=pattern)
    assert (list(counted), counted.unrecognised) == (["act"], {})
    assert counted.left_out == {"head.1.threshold": f"skipped, as it matches {pattern!r}"}
    assert "not recognised" in str(undying.audit(net, x))
    assert [row.name for row in undying.audit(net, x, skip=pattern).rows] == ["act"]


def test_watch_leaves_them_out_and_does_not_warn_of_them(recwarn):
    net, memory = WithHead(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory, skip="head.*") as watching:
        net(torch.randn(20, 8))
        watching.step()
    assert memory[0].to_dict()["unrecognised"] == []
    assert list(memory[0].left_out) == ["head.1.threshold"]
    assert not [w for w in recwarn if "watch" in str(w.message)]


def test_a_pattern_for_nothing_names_them_too():
    with pytest.raises(ValueError, match=r"skip='tail' matches no site; sites: act, head\.1\.threshold"):
        undying.census(WithHead(), torch.randn(20, 8), skip="tail")
    with pytest.raises(ValueError, match=r"skip='tail' matches no site; sites: act, head\.1\.threshold"):
        undying.audit(WithHead(), torch.randn(20, 8), skip="tail")
