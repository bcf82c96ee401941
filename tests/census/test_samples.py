"""How many samples a census has seen, and that its bound on silent units holds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import undying


@pytest.mark.parametrize("chance", [0.02, 0.065])  # below the bound, and just above it
def test_the_bound_holds_for_images_whose_positions_are_alike(chance):
    """An image makes the unit fire at all positions or at none: 256 positions are no 256 draws."""
    generator, net = torch.Generator().manual_seed(0), nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    wrong, draws = 0, 300
    for _ in range(draws):
        fires = torch.rand(50, 1, 1, 1, generator=generator) < chance
        (site,) = undying.census(net, torch.where(fires, 1.0, -1.0).expand(50, 1, 16, 16)).sites
        wrong += bool(site.silent[0]) and site.firing_rate_bound < chance
    assert wrong / draws <= 0.05


def test_the_bound_is_as_wide_as_it_must_be_and_no_wider():
    """At the bound itself no firing in N samples has a chance of 5 %."""
    (site,) = undying.census(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()), torch.randn(30, 1, 8, 8)).sites
    assert (site.samples, site.values) == (30, 30 * 64)
    assert (1 - site.firing_rate_bound) ** 30 == pytest.approx(0.05, rel=1e-12)


class Encoder(nn.Module):
    """An activation before and after what says which axis is time."""

    def __init__(self, inner, *, turned=False):
        super().__init__()
        self.lin, self.inner, self.act, self.turned = nn.Linear(4, 8), inner, nn.ReLU(), turned

    def forward(self, x):
        x = F.relu(self.lin(x))
        x = x.transpose(0, 1) if self.turned else x
        x = self.inner(x) if not isinstance(self.inner, nn.MultiheadAttention) else self.inner(x, x, x)
        return self.act(x[0] if isinstance(x, tuple) else x)


TIME, SAMPLES = 9, 5
ATTENTION = {
    "attention": lambda first: nn.MultiheadAttention(8, 2, batch_first=first),
    "lstm": lambda first: nn.LSTM(8, 8, batch_first=first),
    "gru": lambda first: nn.GRU(8, 8, batch_first=first),
    "layer": lambda first: nn.TransformerEncoderLayer(8, 2, 8, batch_first=first),
}


@pytest.mark.parametrize("inner", ATTENTION)
def test_time_is_not_taken_for_samples(inner):
    make = ATTENTION[inner]
    for net, shape, samples in (
        (Encoder(make(False)), (TIME, SAMPLES, 4), SAMPLES),
        (Encoder(make(False)), (SAMPLES, TIME, 4), SAMPLES),  # time first and shorter: never more than there are
        (Encoder(make(True)), (SAMPLES, TIME, 4), SAMPLES),
        (Encoder(make(True)), (TIME, SAMPLES, 4), TIME),
        (Encoder(make(True)), (TIME, TIME, 4), TIME),
        (Encoder(make(False), turned=True), (SAMPLES, TIME, 4), SAMPLES),
        (Encoder(make(False), turned=True), (TIME, SAMPLES, 4), TIME),
        (Encoder(make(False)), (TIME, 4), 1),  # one sample without a batch axis
        (Encoder(make(True)), (TIME, 4), 1),
    ):
        counted = undying.census(net, [torch.randn(shape), torch.randn(shape)])
        assert {site.samples for site in counted.sites} == {2 * samples}, (shape, samples)
        assert counted["relu"].values == 2 * torch.Size(shape[:-1]).numel()


def test_time_first_without_anything_that_shows_it():
    counted = undying.census(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.randn(TIME, SAMPLES, 4))
    assert counted["1"].samples == TIME


class Videos(nn.Module):
    """Frames are samples of the convolution only."""

    def __init__(self):
        super().__init__()
        self.conv, self.lin, self.act = nn.Conv2d(1, 6, 3), nn.Linear(6, 6), nn.ReLU()

    def forward(self, x):
        n, t = x.shape[:2]
        maps = self.act(self.conv(x.flatten(0, 1)))
        return self.act(self.lin(maps.mean((2, 3)))).view(n, t, -1).mean(1)


def test_merged_axes_and_modules_called_twice():
    counted = undying.census(Videos(), torch.randn(3, 4, 1, 5, 5).split(2))
    assert [(s.name, s.samples, s.values) for s in counted.sites] == [("act", 3, 3 * 4 * 9), ("act#2", 3, 3 * 4)]


def test_no_more_samples_than_targets_or_values():
    class Averaged(nn.Sequential):
        def forward(self, x):
            return F.relu(super().forward(x).mean(0, keepdim=True))

    net, axes = Averaged(nn.Linear(4, 6), nn.ReLU()), {"relu": 1}
    counted = undying.census(net, [(torch.randn(20, 4), torch.tensor([1]))], axes=axes)  # 20 nodes of one graph
    assert [site.samples for site in counted.sites] == [1, 1]
    counted = undying.census(net, torch.randn(20, 4), axes=axes)
    assert [site.samples for site in counted.sites] == [20, 1]  # over all samples one value


class Takes(nn.Module):
    """What gives the tensor is up to the batch."""

    def __init__(self, take):
        super().__init__()
        self.take, self.lin, self.act = take, nn.Linear(4, 6), nn.ReLU()

    def forward(self, x):
        return self.act(self.lin(self.take(x)))


class Graph:
    def __init__(self):
        self.nodes = torch.randn(7, 4)


def test_batches_that_are_no_tensors():
    images = [torch.randn(3, 4), torch.randn(2, 4), torch.randn(5, 4), torch.randn(4, 4)]
    for batch, take, samples, values in (
        (pack_sequence(images, enforce_sorted=False), lambda x: x.data, 4, 14),
        (images, torch.cat, 4, 14),
        ({"x": {"here": torch.randn(5, 3, 4)}}, lambda x: x["here"], 5, 15),
        (["a text", "another"], lambda x: torch.ones(len(x), 3, 4), 2, 6),
        (Graph(), lambda x: x.nodes, None, 7),
    ):
        (site,) = undying.census(Takes(take), [batch]).sites
        assert (site.samples, site.values) == (samples, values)
    counted = undying.census(Takes(lambda x: x.nodes), [Graph(), Graph()])
    assert counted["act"].firing_rate_bound is None
    assert "ReLU      6  -" in counted.table()
    assert (counted + counted)["act"].samples is None
    assert undying.Census.from_dict(counted.to_dict())["act"].samples is None


def test_a_training_step_counts_the_samples_of_its_forward_passes():
    net, memory = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        for n in (3, 4):
            net(torch.randn(n, 1, 5, 5)).sum().backward()
        optimizer.step()
    assert (memory[0].census["1"].samples, memory[0].census["1"].values) == (7, 7 * 9)
    assert memory[0].to_dict()["sites"]["1"].items() >= {"samples": 7, "values": 63}.items()


@pytest.mark.parametrize("kind", [tuple, list])  # a DataLoader gives lists
def test_a_batch_with_its_targets_that_is_given_whole(kind):
    for x, y, samples in (
        (torch.randn(50, 4), torch.randint(3, (50,)), 50),
        (torch.randn(50, 4), torch.randn(50, 1), 50),
        (torch.randn(50, 9, 4), torch.randn(50, 1), 50),
        (torch.randn(50, 4), torch.randn(50, 4), None),  # two inputs of 50 samples, or two of 50 tokens each
    ):
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        (site,) = undying.census(
            net, [kind((x, y))] * 2, method=lambda batch, net=net: net(batch[0]), inputs=lambda b: (b,)
        ).sites
        assert site.samples == (samples and 2 * samples)
        assert site.values == 2 * x[..., 0].numel()


@pytest.mark.parametrize("kind", [tuple, list])
def test_images_are_no_batch_with_targets(kind):
    for sizes in ([(3, 5, 4)] * 7, [(3, 5, 4), (3, 2, 4), (3, 6, 4), (3, 1, 4)]):
        images = kind([torch.randn(size) for size in sizes])
        net = Takes(lambda given: torch.cat([image.flatten(0, 1) for image in given]))
        (site,) = undying.census(net, [images], method=lambda batch, net=net: net(batch)).sites
        assert site.samples <= len(images)
