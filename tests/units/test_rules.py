"""Unit axes as producers decide them, against axes known from each architecture and a count element by element."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Net(nn.Module):
    """A forward written in the test, with the modules that it uses; ``act`` is the site."""

    def __init__(self, forward, act=None, **modules):
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            setattr(self, name, module)
        self.act = act or nn.ReLU()

    def forward(self, *args):
        return self.run(self, *args)


def by_unit(x, axes):
    """{unit: its values}, one element at a time: a unit is told apart by its index along ``axes``."""
    units = {}
    for place in torch.cartesian_prod(*map(torch.arange, x.shape)).view(-1, x.dim()).tolist():
        units.setdefault(tuple(place[a] for a in axes), []).append(x[tuple(place)].item())
    return units


def seen_by(net, module, *x):
    """What reaches a module in a forward pass in eval mode, by a plain hook."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        net.eval()(*x)
    handle.remove()
    return seen


def assert_counted(net, x, axes, planted=None, split=None):
    """The census of ``net.act`` against the count by hand.

    Args:
        x: the arguments.
        axes: those that tell units apart at ``net.act``.
        planted: units that are silent because the test made them so.
        split: axes of x[...] to view the site's input by first: (N, C * H * W) as (N, C, H * W).
    """
    (pre,) = seen_by(net, net.act, *x)
    pre = pre if split is None else pre.view(split)
    units = by_unit(pre, axes)
    result = undying.census(net, [(x,)])
    site = next(s for s in result.sites if s.name == "act")
    assert site.units == len(units)
    assert site.values == pre.numel() // len(units)
    assert site.fired.tolist() == [sum(v > 0 for v in unit) for unit in units.values()]
    assert site.peak.tolist() == [max(unit) for unit in units.values()]
    assert site.silent.tolist() == [not any(v > 0 for v in unit) for unit in units.values()]
    if planted is not None:
        assert site.silent.nonzero().flatten().tolist() == sorted(planted)
    return site


def plant(bias, units):
    """Shift all units up so that each fires, but these."""
    with torch.no_grad():
        bias.fill_(3.0)
        bias[list(units)] = -1e6


# --- producers --------------------------------------------------------------------------------------------------------

MAP, FLAT, TOKENS = (4, 3, 5, 6), (40, 4), (4, 7, 6)

PRODUCERS = {
    "linear": (nn.Linear(4, 8), FLAT, 1),
    "linear on tokens": (nn.Linear(6, 8), TOKENS, 2),
    "linear on maps with channels last": (nn.Linear(6, 8), (2, 3, 4, 6), 3),
    "linear without a batch axis": (nn.Linear(4, 8), (4,), 0),
    "bilinear": (nn.Bilinear(4, 4, 8), FLAT, 1),
    "conv1d": (nn.Conv1d(7, 8, 3), TOKENS, 1),
    "conv2d": (nn.Conv2d(3, 8, 3), MAP, 1),
    "conv3d": (nn.Conv3d(2, 8, 2), (3, 2, 4, 3, 4), 1),
    "conv2d without a batch axis": (nn.Conv2d(3, 8, 3), (3, 5, 6), 0),
    "conv1d as wide as deep": (nn.Conv1d(8, 8, 3, padding=1), (4, 8, 8), 1),
    "conv2d to one place": (nn.Conv2d(3, 8, (5, 6)), MAP, 1),
    "grouped conv": (nn.Conv2d(4, 8, 3, groups=4), (4, 4, 5, 6), 1),
    "depthwise conv": (nn.Conv2d(8, 8, 3, groups=8), (4, 8, 5, 6), 1),
    "transposed conv1d": (nn.ConvTranspose1d(7, 8, 3), TOKENS, 1),
    "transposed conv2d": (nn.ConvTranspose2d(3, 8, 3, stride=2), MAP, 1),
    "transposed conv3d": (nn.ConvTranspose3d(2, 8, 2), (3, 2, 3, 3, 2), 1),
    "batch norm": (nn.BatchNorm2d(8), (4, 8, 5, 6), 1),
    "batch norm 1d": (nn.BatchNorm1d(8), (40, 8), 1),
    "batch norm of sequences": (nn.BatchNorm1d(8), (4, 8, 5), 1),
    "batch norm 3d": (nn.BatchNorm3d(8), (2, 8, 3, 2, 3), 1),
    "group norm": (nn.GroupNorm(2, 8), (4, 8, 5, 6), 1),
    "instance norm": (nn.InstanceNorm2d(8, affine=True), (4, 8, 5, 6), 1),
    "layer norm": (nn.LayerNorm(8), (4, 7, 8), 2),
    "layer norm of maps with channels last": (nn.LayerNorm(8), (2, 5, 6, 8), 3),
}


@pytest.mark.parametrize("planted", [(), (0,), (1, 4, 7)])
@pytest.mark.parametrize("name", PRODUCERS)
def test_planted_units_are_found_and_no_other(name, planted):
    """A unit whose bias, or norm's shift, is -1e6, and none where nothing is wrong."""
    module, shape, axis = PRODUCERS[name]
    plant(module.bias, planted)
    x = (torch.randn(shape),) * (2 if isinstance(module, nn.Bilinear) else 1)
    assert_counted(Net(lambda m, *x: m.act(m.layer(*x)), layer=module), x, [axis], planted)


@pytest.mark.parametrize("planted", [(), (1, 4, 7)])
def test_rms_norm_and_embeddings(planted):
    """They have no bias: a unit of the norm is silenced by its scale, one of the embedding by its column."""
    norm = nn.RMSNorm(8)
    with torch.no_grad():
        norm.weight[list(planted)] = 0.0
    assert_counted(Net(lambda m, x: m.act(m.norm(x)), norm=norm), (torch.randn(6, 7, 8),), [2], planted)
    table = nn.Embedding(5, 8)
    with torch.no_grad():
        table.weight.abs_()[:, list(planted)] *= -1
    tokens = torch.randint(0, 5, (4, 7))
    assert_counted(Net(lambda m, x: m.act(m.table(x)), table=table), (tokens,), [2], planted)
    bags = nn.EmbeddingBag(5, 8, _weight=table.weight)
    assert_counted(Net(lambda m, x: m.act(m.bags(x)), bags=bags), (tokens,), [1], planted)


def test_a_layer_norm_over_whole_maps_does_not_make_their_width_the_units():
    """LayerNorm((C, H, W)) after a convolution: units are channels, though W comes last."""
    net = Net(
        lambda m, x: m.act(m.norm(m.conv(x)) + m.shift),
        conv=nn.Conv2d(3, 8, 3, padding=1),
        norm=nn.LayerNorm([8, 5, 6]),
    )
    net.shift = nn.Parameter(torch.zeros(8, 1, 1))
    plant(net.shift, (2, 5))
    assert_counted(net, (torch.randn(MAP),), [1], [2, 5])


@pytest.mark.parametrize("n", [5, 6, 8])
def test_the_image_width_is_not_the_unit_axis(n):
    """Square maps, as wide as there are channels: only what produced them tells the axes apart."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(1), nn.Conv2d(8, 8, 1), nn.ReLU())
    plant(net[0].bias, (3,))
    plant(net[3].bias, (0, 7))
    first, second = undying.census(net, torch.randn(2, 3, n, n)).sites
    assert (first.units, first.values) == (second.units, second.values) == (8, 2 * n * n)
    assert first.silent.nonzero().flatten().tolist() == [3]
    assert {0, 7} <= set(second.silent.nonzero().flatten().tolist())


# --- where units go ---------------------------------------------------------------------------------------------------


def conv(width=8):
    layer = nn.Conv2d(3, width, 3, padding=1)
    plant(layer.bias, (1, 4))
    return layer


def tokens(width=8):
    layer = nn.Linear(6, width)
    plant(layer.bias, (1, 4))
    return layer


#: forward after a conv or linear layer, axes that tell units apart, how to split the site's input
MOVES = {
    "channels last": (conv, lambda m, x: m.layer(x).permute(0, 2, 3, 1), [3], None),
    "x.T": (tokens, lambda m, x: m.layer(x[:, 0]).T, [0], None),
    "x.mT": (conv, lambda m, x: m.layer(x).flatten(2).mT, [2], None),
    "movedim": (conv, lambda m, x: torch.movedim(m.layer(x), 1, -1), [3], None),
    "movedim of two": (conv, lambda m, x: m.layer(x).movedim((1, 2), (3, 1)), [3], None),
    "moveaxis": (conv, lambda m, x: torch.moveaxis(m.layer(x), 1, 0), [0], None),
    "flattened": (conv, lambda m, x: m.layer(x).flatten(1), [1], (4, 8, 30)),
    "flattened with channels last": (conv, lambda m, x: m.layer(x).permute(0, 2, 3, 1).flatten(1), [2], (4, 30, 8)),
    "tokens of a map": (conv, lambda m, x: m.layer(x).flatten(2).transpose(1, 2), [2], None),
    "tokens as rows": (tokens, lambda m, x: m.layer(x).view(-1, 8), [1], None),
    "heads": (tokens, lambda m, x: m.layer(x).view(4, 7, 2, 4).transpose(1, 2), [1, 3], None),
    "heads joined": (tokens, lambda m, x: m.layer(x).view(4, 7, 2, 4).transpose(1, 2).flatten(2), [1, 3], (4, 2, 7, 4)),
    "a new axis": (tokens, lambda m, x: m.layer(x)[..., None], [2], None),
    "x.data": (tokens, lambda m, x: m.layer(x).data * 1.0, [2], None),
    "last token": (tokens, lambda m, x: m.layer(x)[:, -1], [1], None),
    "patches": (conv, lambda m, x: m.layer(x).unflatten(3, (2, 3)).unflatten(2, (5, 1)).mean((3, 5)), [1], None),
    "gate": (conv, lambda m, x: m.layer(x) * m.layer(x).mean((2, 3))[:, :, None, None].sigmoid(), [1], None),
    "residual": (conv, lambda m, x: x.sum(1, keepdim=True) * 0 + m.layer(x), [1], None),
    "dense": (conv, lambda m, x: torch.cat([m.layer(x), m.layer(x) + 1], 1), [1], None),
    "atrous pyramid": (
        conv,
        lambda m, x: torch.cat([m.layer(x), F.interpolate(m.layer(x).mean((2, 3), keepdim=True), x.shape[2:])], 1),
        [1],
        None,
    ),
    "channel shuffle": (
        conv,
        lambda m, x: m.layer(x).view(4, 2, 4, 5, 6).transpose(1, 2).reshape(4, 8, 5, 6),
        [1],
        None,
    ),
    "heads last": (tokens, lambda m, x: m.layer(x).view(4, 7, 2, 4).mT, [2, 3], None),
    "nn.ChannelShuffle": (conv, lambda m, x: F.channel_shuffle(m.layer(x), 2), [1], None),
    "pixel shuffle": (conv, lambda m, x: F.pixel_shuffle(m.layer(x), 2), [1], None),
    "gated linear unit": (conv, lambda m, x: F.glu(m.layer(x), 1) + 0.1, [1], None),
    "padded": (conv, lambda m, x: F.pad(m.layer(x), (1, 2, 0, 1)), [1], None),
    "memory format": (conv, lambda m, x: m.layer(x.to(memory_format=torch.channels_last)), [1], None),
    "out of place and in": (conv, lambda m, x: m.layer(x).mul_(2).add_(0.5), [1], None),
    "left of the tensor": (tokens, lambda m, x: 2 - 3 * (1 + m.layer(x)), [2], None),
}


@pytest.mark.parametrize("name", MOVES)
def test_units_are_followed(name):
    make, forward, axes, split = MOVES[name]
    x = torch.randn(MAP if make is conv else TOKENS)
    assert_counted(Net(lambda m, x: m.act(forward(m, x)), layer=make()), (x,), axes, split=split)


class ByHand(nn.Module):
    """Multi-head attention as vision transformers write it, one projection for all three."""

    def __init__(self, fused):
        super().__init__()
        self.qkv, self.act, self.fused = nn.Linear(8, 24), nn.ReLU(), fused

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        out = F.scaled_dot_product_attention(q, k, v) if self.fused else scores @ v
        return self.act(out.transpose(1, 2).reshape(n, t, c) + 0.2)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_by_hand(fused):
    net = ByHand(fused)
    with torch.no_grad():
        net.qkv.bias[16:] = 3.0
        net.qkv.bias[[17, 22]] = -1e6  # values 1 and 6
    assert_counted(net, (torch.randn(3, 5, 8),), [2], [1, 6])


def test_attention_module_and_recurrent_layers():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    plant(attention.out_proj.bias, (2, 7))
    x = torch.randn(3, 5, 8)
    assert_counted(Net(lambda m, x: m.act(m.mix(x, x, x)[0]), mix=attention), (x,), [2], [2, 7])
    for layer in (nn.LSTM(8, 4, bidirectional=True), nn.GRU(8, 8, batch_first=True), nn.RNN(8, 8)):
        assert_counted(Net(lambda m, x: m.act(m.rnn(x)[0]), rnn=layer), (x,), [2])


class Weights(nn.Module):
    """Products with weights that are no layers."""

    def __init__(self, forward, *shape):
        super().__init__()
        self.w, self.act, self.run = nn.Parameter(torch.randn(*shape)), nn.ReLU(), forward

    def forward(self, x):
        return self.act(self.run(self.w, x))


@pytest.mark.parametrize(
    ("forward", "shape", "axes"),
    [
        (lambda w, x: x @ w, (6, 5), [2]),
        (lambda w, x: torch.matmul(x, w.t().t()), (6, 5), [2]),
        (lambda w, x: x[:, 0] @ w, (6, 5), [1]),
        (lambda w, x: torch.mm(x[:, 0], mat2=w), (6, 5), [1]),
        (lambda w, x: x.__rmatmul__(w), (5, 7), [1]),
        (lambda w, x: w @ x, (5, 7), [1]),
        (lambda w, x: w @ x[0], (5, 7), [0]),
        (lambda w, x: x @ w, (6,), []),  # one unit
        (lambda w, x: F.linear(x, w), (5, 6), [2]),
        (lambda w, x: F.conv1d(x, w), (5, 7, 2), [1]),
    ],
)
def test_products_with_parameters(forward, shape, axes):
    assert_counted(Weights(forward, *shape), (torch.randn(TOKENS),), axes)


def test_a_graph_convolution_keeps_the_units_of_its_features():
    net = Net(lambda m, adjacency, x: m.act(adjacency @ m.lin(x)), lin=tokens())
    assert_counted(net, (torch.rand(4, 7, 7), torch.randn(TOKENS)), [2], [1, 4])
    # features without a batch axis, the same for every graph
    net = Net(lambda m, adjacency, x: m.act((adjacency @ m.lin(x)).permute(0, 2, 1)), lin=tokens())
    assert_counted(net, (torch.rand(4, 7, 7), torch.randn(7, 6)), [1], [1, 4])


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: x,  # nothing made it
        lambda m, x: x * m.layer(x)[:, :1].reshape(4, 1, 5, 6),  # one unit, spread over channels that nothing made
        lambda m, x: torch.cat([m.layer(x)[:, :1].reshape(4, 1, 5, 6), x], 1),
        lambda m, x: torch.einsum("nchw->nhwc", m.layer(x)),
        lambda m, x: torch.stack([m.layer(x), m.layer(x).transpose(1, 1).mT.mT.flip(1)], 1).sum(2),  # over units
    ],
)
def test_what_nothing_decides_is_ambiguous(forward):
    net = Net(lambda m, x: m.last(m.act(forward(m, x)).mean((-2, -1)).flatten(1)[:, :3]), layer=conv(), last=nn.ReLU())
    net.eval()
    assert "act" in undying.census(net, torch.randn(MAP)).ambiguous


# --- activations, calls and wrappers ----------------------------------------------------------------------------------


def test_an_activation_called_by_keyword_counts_the_same():
    net = Net(lambda m, x: m.act(input=m.layer(x)), layer=conv())
    site = undying.census(net, torch.randn(MAP))["act"]
    assert site.silent.nonzero().flatten().tolist() == [1, 4]


def test_shared_weights_are_two_sites_with_the_same_fault():
    net = Net(lambda m, x: m.act(m.layer(m.act(m.layer(x)))), layer=nn.Linear(6, 6))
    with torch.no_grad():
        net.layer.weight.copy_(torch.eye(6))
    plant(net.layer.bias, (2, 3))
    result = undying.census(net, torch.randn(TOKENS).clamp(-2, 2))
    assert [s.name for s in result.sites] == ["act", "act#2"]
    assert [s.silent.nonzero().flatten().tolist() for s in result.sites] == [[2, 3], [2, 3]]


def test_an_activation_module_at_two_places_is_counted_at_each():
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(6, 3), act, nn.Linear(3, 5), act)
    assert [(s.name, s.units) for s in undying.census(net, torch.randn(9, 6)).sites] == [("1", 3), ("3", 5)]


@pytest.mark.parametrize("call", [F.relu, torch.relu, torch.Tensor.relu_, lambda x: F.relu(x, inplace=True)])
def test_functional_calls_read_what_they_overwrite(call):
    net = Net(lambda m, x: call(m.layer(x)), layer=conv())
    x = torch.randn(MAP)
    pre = net.layer(x).detach()
    (site,) = undying.census(net, x).sites
    assert (site.name, site.fired.tolist()) == ("relu", (pre > 0).sum((0, 2, 3)).tolist())
    assert site.peak.tolist() == pre.amax((0, 2, 3)).tolist()


def test_compiled_and_distributed_models_are_counted_by_the_network_inside():
    net = nn.Sequential(conv(), nn.ReLU())
    x = torch.randn(MAP)
    expected = undying.census(net, x).to_dict()
    assert undying.census(torch.compile(net, backend="eager"), x).to_dict() == expected
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert undying.census(nn.parallel.DistributedDataParallel(net), x).to_dict() == expected
    finally:
        torch.distributed.destroy_process_group()
    net.compile(backend="eager")
    assert undying.census(net, x).to_dict() == expected


def test_data_parallel_is_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(TypeError, match=r"the model is in nn.DataParallel; give its .module"):
        undying.census(nn.DataParallel(net), torch.randn(4, 3))
    with pytest.raises(TypeError, match=r"'0' is in nn\.DataParallel"):
        undying.census(nn.Sequential(nn.DataParallel(net)), torch.randn(4, 3))


def chosen(values, indices, dim, like):
    return torch.zeros_like(like).scatter_(dim, indices, values)


def kept_of_all(h):
    """The largest of all values, wherever they are."""
    flat = h.flatten()
    top = flat.topk(20)
    return torch.zeros_like(flat).scatter(-1, top.indices, top.values).reshape(h.shape)


@pytest.mark.parametrize(
    ("run", "axes"),
    [
        (lambda m, x: chosen(*m.lin(x).topk(3), -1, m.lin(x)), (2,)),
        (lambda m, x: chosen(*m.lin(x).transpose(1, 2).topk(3, 1), 1, m.lin(x).transpose(1, 2)), (1,)),
        (lambda m, x: chosen(*m.lin(x).sort(-1), -1, m.lin(x)), (2,)),
        (lambda m, x: m.lin(x).new_zeros(5, 7, 6).scatter(-1, m.lin(x).argsort(-1)[..., :2], 1.0), (2,)),
        (lambda m, x: kept_of_all(m.lin(x)), (2,)),
        (lambda m, x: m.lin(x).msort(), (2,)),
        (lambda m, x: m.lin(x).topk(2, 1).values, (2,)),
        (lambda m, x: torch.take_along_dim(m.lin(x), m.lin(x).argsort(1), 1), (2,)),
        (lambda m, x: m.lin(x).topk(3).values @ m.weight, (2,)),
        (lambda m, x: F.one_hot(m.lin(x).topk(2).indices, 6).sum(2).float(), (2,)),
        (lambda m, x: torch.fused_moving_avg_obs_fake_quant(m.lin(x), *m.observed), (2,)),
    ],
    ids=[
        "topk",
        "channels",
        "sort",
        "argsort",
        "batch",
        "msort",
        "samples",
        "along",
        "weighed",
        "one hot",
        "quantized",
    ],
)
def test_ranks_that_are_put_back_are_units_again(run, axes):
    torch.manual_seed(0)
    net = Net(run, lin=nn.Linear(4, 6))
    net.weight = nn.Parameter(torch.randn(3, 5))
    flags = [torch.tensor([on]) for on in (1, 1)]
    ends = [torch.tensor([-torch.inf]), torch.tensor([torch.inf])]
    net.observed = (*flags, *ends, torch.ones(1), torch.zeros(1, dtype=torch.int32), 0.01, 0, 255, -1)
    net.run = lambda m, x: m.act(run(m, x))
    assert_counted(net, [torch.randn(5, 7, 4)], axes)


@pytest.mark.parametrize(
    "run",
    [
        lambda h: h.kthvalue(2, -1, keepdim=True).values.expand(-1, -1, 3),
        lambda h: h.unflatten(-1, (2, 3)).sort(-1).values,  # of some units, at others
    ],
)
def test_what_is_neither_units_nor_ranks_is_ambiguous(run):
    net = Net(lambda m, x: m.act(run(m.lin(x))), lin=nn.Linear(4, 6))
    found = undying.census(net, torch.randn(5, 7, 4))
    assert (list(found), list(found.ambiguous)) == ([], ["act"])
    assert re.search(r"name the one that does, 0 to [23]: axes=\{.act.: AXIS\}", str(found))
