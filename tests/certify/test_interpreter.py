"""The walk over the graph: names, axes, places where it ends, what it leaves behind."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import undying
from certify.attack import Ends, Twice, bias_at, scatter_biases
from undying import Box, Certificate, certify
from undying._base.errors import UndyingError


def test_names_are_those_of_the_census():
    for net in (Twice(), nn.Sequential(Twice(), nn.Flatten()), nn.ReLU()):
        certificate = certify(net, Box(torch.zeros(1, 3), torch.ones(1, 3)))
        counted = undying.census(net, torch.rand(9, 3))
        assert [(s.name, s.kind, s.units) for s in certificate.sites] == [
            (s.name, s.kind, s.units) for s in counted.sites
        ]


def test_units_on_the_last_axis_and_moved_ones():
    class Moved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lin = bias_at(nn.Conv2d(2, 4, 1), 3), bias_at(nn.Linear(4, 6), 2)
            self.act, self.act2, self.act3, self.act4 = (nn.ReLU() for _ in range(4))

        def forward(self, x):
            x = self.act(self.conv(x).permute(0, 2, 3, 1))  # units last
            tokens = self.lin(x).flatten(1, 2)
            return self.act2(tokens), self.act3(tokens.transpose(1, 2)), self.act4(tokens.unsqueeze(0)[..., 1:4])

    certificate = certify(Moved(), Box(torch.zeros(1, 2, 3, 5), torch.ones(1, 2, 3, 5)))
    assert [site.units for site in certificate.sites] == [4, 6, 6, 3]
    assert [site.dead.nonzero().flatten().tolist() for site in certificate.sites] == [[3], [2], [2], [1]]


class Forward(nn.Module):
    """A forward written in the test, after a layer with units 1 and 4 that cannot fire; ``act`` is the site."""

    def __init__(self, layer, forward):
        super().__init__()
        self.layer, self.run, self.act = bias_at(layer, 1, 4), forward, nn.ReLU()

    def forward(self, x):
        return self.run(self, x)


SHAPES = {
    "flattened": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).flatten(1)), [1, 4]),
    "flattened, channels last": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(m.layer(x).permute(0, 2, 3, 1).flatten(1)),
        [1, 4],
    ),
    "tokens of a map": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).flatten(2).transpose(1, 2)), [1, 4]),
    "transposed": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).mT), [1, 4]),
    "heads": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).unflatten(-1, (2, 3)).transpose(1, 2)), [1, 4]),
    "heads last": (nn.Linear(6, 6), lambda m, x: m.act(m.layer(x).unflatten(-1, (2, 3)).mT), [2, 3]),
    "channel shuffle": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(m.layer(x).unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)),
        [2, 3],
    ),
    "half of the channels": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x).chunk(2, 1)[1]), [1]),
    "joined": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(torch.cat([x[:, :, 1:-1, 1:-1], m.layer(x)], 1)), [3, 6]),
    "pooled and flattened": (
        nn.Conv2d(2, 6, 3),
        lambda m, x: m.act(F.avg_pool2d(m.layer(x), 2).flatten(1)),
        [1, 4],
    ),
    "one place": (nn.Conv2d(2, 6, 3), lambda m, x: m.act(m.layer(x)[:, :, 0, 1]), [1, 4]),
}


def test_a_parameter_on_the_left_has_its_units_before_the_last_axis():
    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.act = nn.Parameter(torch.randn(4, 5)), nn.ReLU()

        def forward(self, x):
            return self.act(self.w @ x)

    for shape in ((1, 5, 7), (5, 7)):
        (site,) = certify(Left(), Box(-torch.ones(shape), torch.ones(shape))).sites
        assert site.units == undying.census(Left(), torch.randn(shape)).sites[0].units == 4


@pytest.mark.parametrize("name", SHAPES)
def test_its_units_are_those_of_the_census(name):
    layer, forward, planted = SHAPES[name]
    net = Forward(layer, forward).eval()
    box = Box(-torch.ones(1, 2, 6, 6), torch.ones(1, 2, 6, 6))
    x = torch.rand(50, 2, 6, 6) * 2 - 1
    (site,), (counted,) = certify(net, box).sites, undying.census(net, x).sites
    assert site.units == counted.units
    assert site.dead.nonzero().flatten().tolist() == planted
    assert counted.silent[planted].all()
    assert not (site.dead & (counted.fired > 0)).any()
    assert (site.upper >= counted.peak).all()


def test_ambiguous_axes_are_refused_and_can_be_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x.unflatten(1, (2, 3)))

    box = Box(torch.zeros(1, 6), torch.ones(1, 6))
    with pytest.raises(ValueError, match=r"'act'.*axes="):
        certify(Odd(), box)
    assert certify(Odd(), box, axes={"act": 1})["act"].units == 2
    with pytest.raises(ValueError, match="axes gives 7"):
        certify(Odd(), box, axes={"act": 7})
    with pytest.raises(ValueError, match=r"axes names \['nope'\].*sites: act"):
        certify(Odd(), box, axes={"act": 1, "nope": 0})


NUMBER = "of a number that the forward pass reads of a tensor"


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x[None], x[None], x[None])[0]


@pytest.mark.parametrize(
    ("step", "stopped"),
    [
        (lambda x: torch.sort(x)[0], "Ends (sort)"),
        (Attention(), "step (scaled_dot_product_attention)"),
        (lambda x: x.softmax(-1), "Ends (softmax)"),
        (nn.LayerNorm(4), "step (layer_norm)"),
        (nn.BatchNorm1d(4, track_running_stats=False), "step (batch_norm)"),
        (lambda x: x @ x.t() @ x, "Ends (matmul)"),
        (lambda x: x + torch.rand(4), "Ends (rand)"),
        (lambda x: F.dropout(x, 0.5, True), "Ends (dropout)"),
        (lambda x: x + x.argmax(-1, keepdim=True), "Ends (add)"),
        (lambda x: x * x.sum().tolist(), f"Ends (mul {NUMBER})"),
        (lambda x: x + torch.tensor(x[0].tolist()), f"Ends (scalar_tensor {NUMBER})"),
    ],
)
def test_an_operation_without_a_rule_ends_it_and_is_named(step, stopped):
    net = Ends(step)
    bias_at(net.a, 2)
    bias_at(net.b, 1)
    certificate = certify(net, Box(torch.zeros(2, 4), torch.ones(2, 4)))
    assert certificate.stopped == [stopped]
    assert certificate["act"].dead.nonzero().flatten().tolist() == [2]
    last = certificate["act2"]
    assert (last.reached, last.units, last.upper, last.lower, last.dead, last.always_on) == (False, *[None] * 5)
    assert "not reached" in certificate.table()
    assert stopped in certificate.covers


def test_writing_in_place_is_followed_or_ends_it():
    """The value before the ReLU is gone from every name of it; through another view it is not followed."""
    same = Ends(lambda x: (x.sub_(10.0), F.relu_(x), x)[-1])
    net_box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    with torch.no_grad():
        same.a.weight.abs_(), same.a.bias.fill_(3.0), same.b.weight.fill_(1.0), same.b.bias.fill_(-0.001)
    assert certify(same, net_box)["act2"].dead.all()

    class Through(Ends):
        def forward(self, x):
            x = self.act(self.a(x))
            x.view(-1).add_(100.0)
            return self.act2(self.b(x))

    through = Through(None)
    certificate = certify(through, net_box)
    assert certificate.stopped == ["Through (add_ through a view)"]
    assert not certificate["act2"].reached

    class Counting(Ends):
        def __init__(self):
            super().__init__(None)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.act(self.a(x) - self.calls)

    assert not certify(Counting(), net_box)["act"].reached


def test_what_cannot_be_traced_is_refused_with_a_way_out():
    class Decides(nn.Module):
        def forward(self, x):
            return F.relu(x) if x.sum() > 0 else x

    class Arrays(nn.Module):
        def forward(self, x):
            return F.relu(x + torch.from_numpy(x.detach().numpy()))

    class Two(nn.Module):
        def forward(self, x, y):
            return F.relu(x + y)

    box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises(UndyingError, match=r"cannot trace Decides.*torch\.where.*certify\(model\.features, box\)"):
        certify(Decides(), box)
    with pytest.raises(UndyingError, match=r"certify cannot trace Arrays.*numpy"):
        certify(Arrays(), box)
    with pytest.raises(UndyingError, match=r"cannot trace Two.*one input"):
        certify(Two(), box)
    with pytest.raises(UndyingError, match=r"\(1, 4\)"):
        certify(nn.Linear(5, 2), box)


def test_a_batch_of_any_size_is_covered():
    torch.manual_seed(0)
    net = scatter_biases(nn.Sequential(nn.Linear(3, 40), nn.ReLU()), torch.Generator().manual_seed(0))
    one = certify(net, Box(torch.zeros(1, 3), torch.ones(1, 3)))
    four = certify(net, Box(torch.zeros(4, 3), torch.ones(4, 3)))
    assert torch.equal(one["1"].upper, four["1"].upper)


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout(), nn.Flatten(), nn.Linear(144, 3)
    ).train()
    net[3].eval()
    before, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    net[0].weight.grad = torch.ones_like(net[0].weight)
    state, py_state = torch.get_rng_state(), random.getstate()
    certify(net, Box(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)))
    assert torch.equal(state, torch.get_rng_state())
    assert py_state == random.getstate()
    assert flags == [m.training for m in net.modules()]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert torch.is_grad_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    with pytest.raises(UndyingError):
        certify(net, Box(torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8)))
    assert flags == [m.training for m in net.modules()]


@pytest.mark.parametrize(("name", "sites"), [("resnet18", 17), ("vgg16_bn", 15)])
def test_torchvision_networks_are_reached_to_the_end(name, sites):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(weights=None)
        if name == "vgg16_bn":  # its two wide layers are 120 of its 138 million parameters
            net.classifier[0], net.classifier[3], net.classifier[6] = (
                nn.Linear(25088, 9),
                nn.Linear(9, 9),
                nn.Linear(9, 9),
            )
    torch.manual_seed(0)
    for module in net.to_empty(device="cpu").eval().modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        net.get_submodule("bn1" if name == "resnet18" else "features.1").bias[[3, 60]] = -1e4
    certificate = certify(net, Box.of(x))
    assert certificate.stopped == []
    assert len(certificate.sites) == sites
    assert certificate.sites[0].dead.nonzero().flatten().tolist() == [3, 60]
    counted = undying.census(net, x)
    for site, seen in zip(certificate.sites, counted.sites, strict=True):
        assert (site.name, site.units) == (seen.name, seen.units)
        assert (seen.peak.double() <= site.upper).all()
        assert seen.silent[site.dead].all()


def test_what_acts_as_an_activation_and_is_no_site_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x):
            h = self.first(x)
            h = (h * (h > 0)).clamp(min=0)
            return torch.where(self.last(self.act(h)) > 0, 1.0, 0.0)

    certificate = certify(Net(), Box(torch.zeros(1, 4), torch.ones(1, 4)))
    assert certificate.unrecognised == ["mul", "clamp"]
    assert "Not recognised, so without a line: mul, clamp; their units are not certified." in str(certificate)
    assert Certificate.from_dict(certificate.to_dict()).unrecognised == ["mul", "clamp"]
    old = {key: value for key, value in certificate.to_dict().items() if key != "unrecognised"}
    assert Certificate.from_dict(old).unrecognised == []


def test_progress_counts_every_operation():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    told = []
    found = certify(net, (torch.zeros(1, 4), torch.ones(1, 4)), progress=lambda *said: told.append(said))
    every = told[-1][1]
    assert told == [(done, every) for done in range(1, every + 1)]
    assert every > 3
    assert found["1"].units == 3
