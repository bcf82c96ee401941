"""Batches of every kind, and masks, against counts over the values that they leave."""

import dataclasses
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import Dataset

import undying


class Two(nn.Module):
    """Takes two inputs by position or by name."""

    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, a, b=None):
        return self.act(self.lin(a) + (0 if b is None else b))


Pair = namedtuple("Pair", "a b")


def test_nested_inputs_are_arguments():
    net, a, b, y = Two(), torch.randn(8, 4), torch.randn(8, 6), torch.zeros(8, 6)
    expected = ((net.lin(a) + b) > 0).sum(0).tolist()
    batches = [
        ((a, b),),
        ((a, b), y),
        [[a, b], y],
        (Pair(a, b), y),
        ({"a": a, "b": b}, y),
        {"a": a, "b": b},
    ]
    for batch in batches:
        assert undying.census(net, [batch])["act"].fired.tolist() == expected
    assert undying.census(net, {"a": a, "b": b})["act"].fired.tolist() == expected
    assert undying.census(net, [(Pair(a, b), y)], gradients=True).loss == "mse_loss"
    by_name = undying.census(net, [{"a": a, "b": b}], gradients=True, loss=lambda out, batch: (out - batch["b"]).sum())
    assert by_name["act"].dead is not None


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.lin, self.act = nn.LSTM(4, 8), nn.Linear(8, 6), nn.ReLU()

    def forward(self, packed):
        return self.act(self.lin(self.rnn(packed)[0].data))


def test_a_packed_sequence_is_one_input():
    net, packed = Tagger(), pack_sequence([torch.randn(5, 4), torch.randn(3, 4), torch.randn(2, 4)])
    fired = (net(packed) > 0).sum(0).tolist()
    for data in (packed, [packed], [(packed, torch.zeros(3))]):
        assert undying.census(net, data)["act"].fired.tolist() == fired


class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.act = nn.Embedding(128, 8), nn.ReLU()

    def forward(self, texts):
        return self.act(torch.stack([self.table(torch.tensor(list(map(ord, text)))).mean(0) for text in texts]))


def test_a_list_of_texts_is_one_input():
    net, texts = Texts(), ["hello there", "good bye", "cat"]
    fired = (net(texts) > 0).sum(0).tolist()
    for data in ([texts], [(texts, torch.zeros(3))], [texts[:1], texts[1:]]):
        counted = undying.census(net, data)
        assert counted["act"].fired.tolist() == fired
        assert counted["act"].samples == 3
    assert undying.census(net, [texts]).probe == undying.census(net, [texts[:1], texts[1:]]).probe


class Images(nn.Module):
    """Takes a list of images of different sizes and nothing else, as detection networks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 1), nn.ReLU()

    def forward(self, images):
        if isinstance(images, torch.Tensor):
            raise ValueError("images must be a list")
        return [self.act(self.conv(image[None])) for image in images]


def test_a_batch_that_only_the_model_understands_is_given_whole():
    net, images = Images(), [torch.randn(3, 4, 5), torch.randn(3, 2, 6), torch.randn(3, 3, 3)]
    fired = [int((y > 0).sum()) for y in net(images)]
    for data in ([images], [images, images]):
        counted = undying.census(net, data)
        assert [int(site.fired.sum()) for site in counted.sites] == [len(data) * count for count in fired]
    with pytest.raises(ValueError, match="must be a list"):  # an error of the model's own is told as it is
        undying.census(net, [torch.randn(1, 3, 4, 5)])


@dataclasses.dataclass
class Graph:
    x: torch.Tensor
    y: torch.Tensor


class OnGraphs(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, graph):
        return self.act(self.lin(graph.x))


class Opaque:
    def __init__(self, x):
        self.x = x


def test_objects_are_one_input_and_refused_by_since_where_their_content_is_not_known():
    net, x = OnGraphs(), torch.randn(7, 4)
    fired = (net(Graph(x, x)) > 0).sum(0).tolist()
    known = undying.census(net, [Graph(x, x)])
    assert known["act"].fired.tolist() == fired
    assert known.since(known)["act"].died.sum() == 0
    unknown = undying.census(net, [Opaque(x)])
    assert unknown["act"].fired.tolist() == fired
    assert unknown.probe is None
    with pytest.raises(ValueError, match="not fingerprinted"):
        unknown.since(unknown)


def test_inputs_says_what_the_input_is():
    net, x, y = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(7, 4), torch.zeros(7).long()
    graph = Graph(x, y)
    counted = undying.census(
        net, [graph], inputs=lambda g: g.x, gradients=True, loss=lambda out, g: nn.functional.cross_entropy(out, g.y)
    )
    assert counted["1"].fired.tolist() == (net(x) > 0).sum(0).tolist()
    two = Two()
    assert undying.census(two, [Graph(x, torch.ones(7, 6))], inputs=lambda g: (g.x, g.y))["act"].fired.tolist() == (
        (two.lin(x) + 1 > 0).sum(0).tolist()
    )


class Endless(Dataset):
    """As many of PyTorch's users write one: it raises no IndexError."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.full((4,), float(i)), 0


def test_a_dataset_ends_at_its_length():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    x = torch.stack([Endless()[i][0] for i in range(10)])
    assert undying.census(net, Endless())["1"].fired.tolist() == (net(x) > 0).sum(0).tolist()


def test_a_pair_is_not_taken_for_two_batches():
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(8, 4)
    for y in (torch.zeros(8).long(), torch.randn(8, 2)):
        with pytest.raises(ValueError, match=r"give \[\(x, y\)\]"):
            undying.census(net, (x, y))
    assert undying.census(net, x.split(4))["1"].samples == 8


class Lists(nn.Module):
    """Takes a dict of a list of tensors, as detection networks do."""

    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, given):
        return {"h": [self.act(self.lin(x)) for x in given["x"]]}


def test_inputs_deep_in_lists_and_dicts_are_moved_and_given():
    net, x = Lists(), [torch.randn(5, 4), torch.randn(3, 4)]
    result = undying.census(net, [(({"x": x},), None)], device="cpu")
    assert [s.fired.tolist() for s in result.sites] == [(net.lin(part) > 0).sum(0).tolist() for part in x]


def test_empty_batches_count_nothing():
    net, x, y = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(8, 4), torch.randn(8, 2)
    for gradients in (False, True):
        parts = [(x[:0], y[:0]), (x[:5], y[:5]), (x[:0], y[:0]), (x[5:], y[5:])]
        with_empty, whole = (undying.census(net, data, gradients=gradients) for data in (parts, [(x, y)]))
        assert with_empty["1"].fired.tolist() == whole["1"].fired.tolist()
        assert (with_empty["1"].samples, with_empty.probe) == (8, whole.probe)
    with pytest.raises(ValueError, match="only on empty batches"):
        undying.census(net, x[:0])


# --- masks ------------------------------------------------------------------------------------------------------------


class Text(nn.Module):
    """Sites at (N, T, C), (N, C, T), (N * T, C), (N, heads, T, d) and, pooled, (N, C)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lin, self.conv, self.head = nn.Linear(8, 8), nn.Conv1d(8, 8, 3, padding=1), nn.Linear(8, 3)
        for name in ("tokens", "channels", "rows", "heads"):
            setattr(self, name, nn.ReLU())
        self.pooled = nn.GELU()

    def forward(self, ids, attention_mask=None):
        n, t = ids.shape
        h = self.tokens(self.lin(self.embed(ids)))
        h = self.channels(self.conv(h.mT)).mT
        h = self.rows(self.lin(h).reshape(n * t, 8) - 0.1).view(n, t, 8)
        h = self.heads((self.lin(h) - 0.1).view(n, t, 2, 4).transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.head(self.pooled(self.lin(h.mean(1))))


def tokens_of(site, x, n, t):
    """The pre-activations as (N, T, units)."""
    return {
        "tokens": lambda: x,
        "channels": lambda: x.mT,
        "rows": lambda: x.view(n, t, 8),
        "heads": lambda: x.transpose(1, 2).flatten(2),
    }[site]()


@pytest.mark.parametrize("shape", [(5, 7), (4, 4), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("by", ["name", "function", "floats"])
@pytest.mark.parametrize("gradients", [False, True])
def test_masked_tokens_do_not_count(shape, by, gradients):
    net, (n, t) = Text().eval(), shape
    ids, mask = torch.randint(0, 20, shape), torch.rand(shape) < 0.6
    mask[0, 0] = True
    seen, gradient = {}, {}

    def hook(module, args, h):
        seen[module] = (args[0].detach(), h.detach())
        args[0].register_hook(lambda g: gradient.__setitem__(module, g))

    handles = [m.register_forward_hook(hook) for m in net.children() if isinstance(m, nn.ReLU | nn.GELU)]
    net(ids).square().sum().backward()
    for handle in handles:
        handle.remove()
    given = {"name": "attention_mask", "function": lambda batch: batch["attention_mask"], "floats": "attention_mask"}[
        by
    ]
    batch = {"ids": ids, "attention_mask": mask.float() if by == "floats" else mask}
    loss = {"loss": lambda out, _: out.square().sum()} if gradients else {}
    result = undying.census(net, [batch], mask=given, gradients=gradients, **loss)
    for site in result.sites[:4]:
        module = getattr(net, site.name)
        x, h = (tokens_of(site.name, v, n, t)[mask] for v in seen[module])
        assert (site.units, site.samples, site.values) == (8, int(mask.any(1).sum()), int(mask.sum()))
        assert site.fired.tolist() == (x > 0).sum(0).tolist()
        assert site.peak.tolist() == x.amax(0).tolist()
        assert site.silent.tolist() == (x <= 0).all(0).tolist()
        torch.testing.assert_close(site.mean_abs, h.double().abs().mean(0))
        torch.testing.assert_close(site.zero, (h == 0).double().mean(0))
        if gradients:
            g = tokens_of(site.name, gradient[module], n, t)[mask]
            assert site.dead.tolist() == ((x <= 0).all(0) & (g == 0).all(0)).tolist()
    pooled = result["pooled"]
    counted = mask[:, 0] if t == 1 else torch.ones(n, dtype=torch.bool)  # with one token a sample, they are one
    x, h = (v[counted] for v in seen[net.pooled])
    assert (pooled.samples, pooled.fired.tolist()) == (int(counted.sum()), (x > 0).sum(0).tolist())
    torch.testing.assert_close(pooled.mean_abs, h.double().abs().mean(0))


def test_a_mask_of_samples_leaves_out_whole_ones():
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(9, 4)
    keep = torch.arange(9) % 3 > 0
    (site,) = undying.census(net, [(x, keep)], mask=lambda batch: batch[1]).sites
    assert (site.samples, site.fired.tolist()) == (6, (net[0](x[keep]) > 0).sum(0).tolist())
    (site,) = undying.census(net, [(x[None].expand(2, 9, 4), torch.tensor([True, False]))], mask=lambda b: b[1]).sites
    assert (site.samples, site.values) == (1, 9)


@pytest.mark.parametrize("act", [nn.ReLU6(), nn.Hardtanh(-0.1, 0.1), nn.ReLU()])
def test_padding_is_neither_infinite_nor_at_an_end(act):
    net, x = nn.Sequential(nn.Linear(4, 6), act), torch.randn(3, 5, 4)
    x[0, 0], x[1, 1] = torch.inf, torch.nan
    keep = torch.rand(3, 5) < 0.5
    keep[0, 0], keep[1, 1] = True, False
    (site,) = undying.census(net, [(x, keep)], mask=lambda batch: batch[1]).sites
    pre = net[0](x)[keep]
    assert site.nonfinite.tolist() == (~pre.isfinite()).sum(0).tolist()
    if site.low is not None:
        low, high = (0.0 if isinstance(act, nn.ReLU6) else -0.1), (6.0 if isinstance(act, nn.ReLU6) else 0.1)
        assert site.high.tolist() == (pre >= high).sum(0).tolist()
        if not isinstance(act, nn.ReLU6):
            assert site.low.tolist() == (pre <= low).sum(0).tolist()


def test_masks_that_do_not_fit_are_named():
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(3, 5, 4)
    mask = torch.ones(3, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"site '1', input \(3, 5, 6\): a mask of shape \(5, 3\) does not fit"):
        undying.census(net, [(x, mask.T)], mask=lambda batch: batch[1])
    with pytest.raises(ValueError, match=r"a mask of shape \(3, 4\) does not fit values at \(3, 5\) positions"):
        undying.census(net, [(x, mask[:, 1:])], mask=lambda batch: batch[1])
    with pytest.raises(ValueError, match="mask='nope', but the batch has 'input'"):
        undying.census(net, [{"input": x}], mask="nope")
    with pytest.raises(ValueError, match="mask='nope', but the batch has no names"):
        undying.census(net, x, mask="nope")
    for found in (None, torch.tensor(True)):
        with pytest.raises(ValueError, match=r"tensor of shape \(N,\) or \(N, T\), not"):
            undying.census(net, x, mask=lambda _, found=found: found)
    with pytest.raises(ValueError, match="the mask leaves no value of site '1'"):
        undying.census(net, [(x, mask)], mask=lambda batch: ~batch[1])


@pytest.mark.parametrize("layer", [nn.ReLU(inplace=True), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(inplace=True))])
def test_a_network_that_works_in_place_on_its_input_leaves_the_data_as_they_are(layer):
    net = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)) if isinstance(layer, nn.ReLU) else layer
    x = torch.randn(6, 4)
    y, kept = torch.randn(6, 4), x.clone()
    for data in (x, [x], [(x, y)], [{"input": x}]):
        first = undying.census(net, data)
        assert torch.equal(x, kept)
        again = undying.census(net, data)
        assert torch.equal(first.sites[-1].fired, again.sites[-1].fired)


def test_inputs_and_targets_in_the_place_of_batches_are_refused_though_alike():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        net[0].weight[0], net[0].bias[0] = torch.tensor([1.0, 0, 0, 0]), -5.0
    noisy, clean = torch.randn(50, 4).clamp(-2, 2), 9 * torch.randn(50, 4)
    both, columns = torch.stack([noisy, clean]), torch.cat([noisy, clean], 1)
    for data in (
        (noisy, clean),
        (noisy, clean, noisy),
        Pair(noisy, clean),
        (both[0], both[1]),
        both.unbind(),
        (columns[:, :4], columns[:, 4:]),
        [noisy, clean, torch.ones(50)],
        [noisy.int(), clean],
    ):
        with pytest.raises(ValueError, match=r"of 50 samples each: give \[\(x, y\)\] for one batch"):
            undying.census(net, data)
    site = undying.census(net, [(noisy, clean)])["1"]
    assert (site.samples, bool(site.silent[0])) == (50, True)


def test_parts_of_one_tensor_and_lists_are_batches():
    net, x = Two(), torch.randn(40, 4)
    fired = (net(x) > 0).sum(0).tolist()
    for data in (
        x.split(20),
        x.chunk(4),
        x.T.contiguous().T.split(10),
        [x[:20], x[20:]],
        [x[:20].clone(), x[20:].clone()],
    ):
        site = undying.census(net, data)["act"]
        assert (site.samples, site.fired.tolist()) == (40, fired)
