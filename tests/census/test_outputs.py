"""Units of what parts and methods return, against a count by hand over the same batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Autoencoder(nn.Module):
    """Encode, keep some, decode; ``keep`` gives what ``encode`` returns."""

    def __init__(self, keep, latents=48, silent=12):
        super().__init__()
        self.encoder, self.keep, self.decoder = nn.Linear(8, latents), keep, nn.Linear(latents, 8)
        with torch.no_grad():
            self.encoder.bias[:silent] = -100.0

    def encode(self, x):
        return self.keep(self.encoder(x))

    def forward(self, x):
        return self.decoder(self.encode(x))


class TopK(nn.Module):
    def forward(self, x):
        top = torch.topk(x, 5, dim=-1)
        return torch.zeros_like(x).scatter_(-1, top.indices, F.relu(top.values))


class BatchTopK(nn.Module):
    def forward(self, x):
        flat = F.relu(x).flatten()
        top = torch.topk(flat, 5 * len(x))
        return torch.zeros_like(flat).scatter(-1, top.indices, top.values).reshape(x.shape)


class JumpReLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.threshold = nn.Parameter(torch.full((48,), 0.3))

    def forward(self, x):
        return x * (x > self.threshold)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(48)), nn.Parameter(torch.randn(48))

    def forward(self, x):
        return (x + self.shift > 0).to(x.dtype) * F.relu(x * self.scale.exp() - 0.1)


class FakeQuantized(nn.Module):
    def forward(self, x):
        return torch.fake_quantize_per_tensor_affine(F.relu(x), 0.5, 0, 0, 255)


KEPT = {"topk": TopK, "batch topk": BatchTopK, "jump": JumpReLU, "gated": Gated, "fake": FakeQuantized, "relu": nn.ReLU}


def batches():
    torch.manual_seed(1)
    return [torch.randn(size, 8) for size in (40, 7, 33)]


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_latents_are_counted_as_by_hand(keep):
    torch.manual_seed(0)
    net, data = Autoencoder(keep()), batches()
    with torch.no_grad():
        latents = torch.cat([net.encode(x) for x in data])
    for outputs in ("encode", ["encode"], *([["keep"]] if keep is not nn.ReLU else [])):
        found = undying.census(net, data, outputs=outputs)
        site = found[outputs if isinstance(outputs, str) else outputs[0]]
        assert (site.units, site.samples, site.values) == (48, 80, 80)
        assert torch.equal(site.fired, (latents > 0).sum(0))
        assert torch.equal(site.silent, ~(latents > 0).any(0))
        assert site.silent[:12].all()
        assert torch.equal(site.peak, latents.amax(0).double())
        torch.testing.assert_close(site.mean_abs, latents.double().abs().mean(0))
        torch.testing.assert_close(site.zero, (latents == 0).double().mean(0))
        assert site.dead is None
    assert "encode" not in vars(net)
    assert not found.unrecognised or keep is not JumpReLU


def test_the_entry_itself_may_be_among_them():
    net, data = Autoencoder(TopK()), batches()
    whole = undying.census(net, data, outputs="encode")["encode"]
    alone = undying.census(net, data, method="encode", outputs="encode")["encode"]
    assert torch.equal(whole.fired, alone.fired)


class Sparse(Autoencoder):
    """Returns only what is kept."""

    def encode(self, x):
        return torch.topk(F.relu(self.encoder(x)), 5)

    def forward(self, x):
        values, indices = self.encode(x)
        return F.linear(torch.zeros(*x.shape[:-1], 48).scatter(-1, indices, values), self.decoder.weight)


def indexed(out):
    return undying.Indexed(*out, units=48)


def test_values_and_indices_are_counted_as_the_whole():
    torch.manual_seed(0)
    net, data = Sparse(nn.Identity()), batches()
    found = undying.census(net, data, outputs={"encode": indexed})["encode"]
    with torch.no_grad():
        latents = torch.cat([indexed(net.encode(x)).dense() for x in data])
    assert torch.equal(found.fired, (latents > 0).sum(0))
    assert torch.equal(found.peak, latents.amax(0).double())
    torch.testing.assert_close(found.mean_abs, latents.double().abs().mean(0))
    torch.testing.assert_close(found.zero, (latents == 0).double().mean(0))
    assert found.samples == found.values == 80


def test_negative_values_and_positions_that_all_have_a_unit():
    values, indices = torch.tensor([[-2.0, 3.0], [-1.0, float("nan")]]), torch.tensor([[0, 1], [0, 2]])

    class Router(nn.Module):
        def forward(self, x):
            return values[: len(x)], indices[: len(x)]

    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Router())
    site = undying.census(net, torch.randn(2, 2), outputs={"2": lambda out: undying.Indexed(*out, units=4)})["2"]
    assert site.fired.tolist() == [0, 1, 0, 0]
    assert site.peak[:2].tolist() == [-1.0, 3.0]
    assert site.peak[3] == 0
    assert site.nonfinite.tolist() == [0, 0, 1, 0]
    assert site.silent.tolist() == [True, False, False, True]


@pytest.mark.parametrize("sparse", [False, True])
def test_dead_takes_the_gradient_that_reaches_the_output(sparse):
    torch.manual_seed(0)
    net = Sparse(nn.Identity()) if sparse else Autoencoder(TopK())
    data = [(x, x) for x in batches()]
    site = undying.census(net, data, outputs={"encode": indexed} if sparse else "encode", gradients=True)["encode"]
    largest = torch.zeros(48)
    for x, y in data:
        if sparse:
            values, indices = net.encode(x)
            latents = torch.zeros(len(x), 48).scatter(-1, indices, values).detach().requires_grad_()
            chosen = torch.zeros(len(x), 48).scatter(-1, indices, 1.0)
            (g,) = torch.autograd.grad(F.mse_loss(F.linear(latents, net.decoder.weight), y), latents)
            g = g * chosen
        else:
            latents = net.encode(x).detach().requires_grad_()
            (g,) = torch.autograd.grad(F.mse_loss(net.decoder(latents), y), latents)
        largest = torch.maximum(largest, g.abs().amax(0))
    assert torch.equal(site.dead, site.silent & (largest == 0))
    assert bool(site.dead.any()) == sparse


def test_padding_is_left_out():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lin = nn.Embedding(10, 6), nn.Linear(6, 16)

        def encode(self, ids):
            return torch.topk(self.lin(self.embed(ids)), 3)

        def forward(self, ids, mask):
            return F.relu(self.encode(ids).values.sum(-1, keepdim=True) * self.lin.weight[:, 0]).sum(1)

    torch.manual_seed(0)
    net = Tokens()
    ids = torch.randint(0, 10, (5, 7))
    mask = torch.arange(7) < torch.tensor([[7], [3], [0], [5], [2]])
    pick = lambda out: undying.Indexed(*out, units=16)  # noqa: E731
    found = undying.census(net, {"ids": ids, "mask": mask}, mask="mask", outputs={"encode": pick}, axes={"relu": -1})
    kept = pick(net.encode(ids)).dense()[mask]
    assert torch.equal(found["encode"].fired, (kept > 0).sum(0))
    assert (found["encode"].values, found["encode"].samples) == (17, 4)


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ("decode", "no submodule of Net nor a method beside forward"),
        ("forward", "no submodule of Net nor a method beside forward"),
        ("act", "an activation, which the census counts anyway"),
        ("unused", "gave nothing: no pass over the data called it"),
        ("pair", r"gave a tuple of 2; name a function that takes the units out of it"),
        ("indices", r"of torch.int64.*dense tensors of float16, bfloat16, float32 or float64"),
        ("sparse", "torch.sparse_coo.*undying.Indexed"),
        ("ranks", "picked by a sort, topk or max, and a rank is no unit"),
        ({"pair": lambda out: undying.Indexed(out[0], out[1], 3)}, "with indices from"),
        ({"pair": lambda out: undying.Indexed(out[0], out[0], 30)}, "integers as indices"),
        ({"pair": lambda out: out}, "gave a tuple of 2"),
        ({"pair": lambda out: undying.Indexed(out[0], out[1], 30.0)}, "must be an int of at least 1, not 30.0"),
        ({"pair": lambda out: out[0].add_(1)}, "changes in place what it is given"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(outputs, error):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.act, self.unused = nn.Linear(4, 16), nn.ReLU(), nn.Linear(2, 2)

        def pair(self, x):
            return torch.topk(x, 4)[0], torch.topk(x, 4)[1]

        def indices(self, x):
            return x.argsort()

        def sparse(self, x):
            return x.to_sparse()

        def ranks(self, x):
            return x.sort(-1).values

        def forward(self, x):
            h = self.act(self.lin(x))
            self.pair(h), self.indices(h), self.sparse(h), self.ranks(h)
            return h

    torch.manual_seed(0)
    net = Net()
    with pytest.raises(ValueError, match=error):
        undying.census(net, torch.randn(30, 4), outputs=outputs)
    assert not {"pair", "indices", "sparse", "ranks"} & set(vars(net))


def test_a_channel_is_a_unit_of_a_map_and_calls_are_numbered():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    twice = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(6, 3, 1), conv, nn.ReLU())
    found = undying.census(twice, x := torch.randn(4, 3, 9, 9), outputs="0")
    assert list(found) == ["0", "1", "0#2", "4"]
    with torch.no_grad():
        maps = twice.eval()[0](x)
    assert torch.equal(found["0"].fired, (maps > 0).sum((0, 2, 3)))
    assert found["0"].values == 4 * 49


@pytest.mark.parametrize("outputs", [5, None, [5], b"encode", {"encode": 5}])
def test_outputs_of_another_type_are_refused(outputs):
    with pytest.raises(TypeError, match="outputs must"):
        undying.census(Autoencoder(TopK()), batches(), outputs=outputs)
