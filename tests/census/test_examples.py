"""Examples against brute force: every sample alone through the network, in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import undying
from undying.census.examples import Examples
from undying.units.layout import Layout


def brute_force(peaks, number, sign):
    """``peaks`` (samples, units): by unit the numbers of the samples, sorted by value and then by place."""
    found = []
    for column in peaks.T.tolist():
        order = sorted((i for i, v in enumerate(column) if not math.isnan(v)), key=lambda i: (sign * column[i], i))
        found.append((order + [-1] * number)[:number])
    return found


def alone(net, x, name):
    """What reaches the module ``name`` as each sample goes through the network alone."""
    seen = []
    hook = net.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for sample in x:
            net(sample[None])
    hook.remove()
    return seen


def assert_exact(net, x, name, unit_axis, number=4, batch=7):
    found = undying.census(net.eval(), x.split(batch), examples=number).examples
    seen = alone(net, x, name)
    peaks = torch.stack([t.movedim(unit_axis, 0).flatten(1).amax(1) for t in seen])
    of = found[name]
    assert of.most.tolist() == brute_force(peaks, number, -1)
    assert of.least.tolist() == brute_force(peaks, number, 1)
    units = range(peaks.shape[1])
    for numbers, values in ((of.most, of.most_peak), (of.least, of.least_peak)):
        wanted = [[peaks[i, u].item() for i in numbers[u].tolist()] for u in units]
        torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def samples(*shape, n=40, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(net, seed=1):
    torch.manual_seed(seed)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return net.double()


def test_a_column_is_exact():
    net = built(nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 3), nn.Tanh()))
    assert_exact(net, samples(5), "1", 1)
    assert_exact(net, samples(5), "3", 1, number=9, batch=40)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_map_counts_its_peak_over_positions(channels_last):
    net = built(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.ReLU()))
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    assert_exact(net, samples(3, 6, 6), "1", 1)
    x = samples(3, 6, 6)
    flat = undying.census(net, x.split(9), examples=3).examples["3"]
    wanted = torch.stack([F.relu(net[0](s[None])).amax((0, 2, 3)) for s in x])
    assert flat.most.tolist() == brute_force(wanted, 3, -1)


class Block(nn.Module):
    """Calls ``act`` on what ``way`` makes of (N, T, C)."""

    def __init__(self, way, width=6):
        super().__init__()
        self.lin, self.act, self.way = nn.Linear(4, width), nn.ReLU(), way

    def forward(self, x):
        return self.act(self.way(self.lin(x)))


def heads(x):
    qkv = x.unflatten(2, (3, 2)).unsqueeze(3).permute(2, 0, 3, 1, 4)  # (3, N, 1, T, 2)
    q, k, v = qkv.unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


FOLLOWED = {
    "as it is": lambda x: x,
    "heads": heads,
    "time first": lambda x: x.transpose(0, 1),
    "there and back": lambda x: x.transpose(0, 1).relu().transpose(0, 1),
    "mean over time": lambda x: x.mean(1),
    "windows and back": lambda x: x.reshape(-1, 2, *x.shape[2:]).sigmoid().reshape(x.shape),
    "viewed as windows": lambda x: (
        x.view(x.shape[0], 2, 2, -1).transpose(1, 2).contiguous().view(-1, 2, 6).sin().view(x.shape)
    ),
    "flipped twice": lambda x: x.flip(0).flip(0),
    "flipped in time": lambda x: x.flip(1),
    "joined": lambda x: torch.cat([x, x.new_zeros(x.shape)], 1),
    "largest": lambda x: x.topk(2, dim=1).values,
    "one token": lambda x: x[:, 0],
    "padded": lambda x: F.pad(x, (0, 0, 1, 1)),
}


@pytest.mark.parametrize("way", FOLLOWED)
def test_samples_are_followed(way):
    assert_exact(built(Block(FOLLOWED[way])), samples(4, 4), "act", -1, batch=7)
    assert_exact(built(Block(FOLLOWED[way])), samples(4, 4, n=13), "act", -1, batch=4)  # as many samples as tokens


ORDER = torch.tensor([2, 0, 1, 3])
REFUSED = {
    "rolled": lambda x: x.roll(1, 0),
    "flipped": lambda x: x.flip(0),
    "chosen": lambda x: x[ORDER],
    "selected": lambda x: x.index_select(0, ORDER),
    "gathered": lambda x: x.gather(0, ORDER.view(-1, 1, 1).expand_as(x)),
    "sorted": lambda x: x.sort(0).values,
    "permuted by a matrix": lambda x: (torch.eye(4, dtype=x.dtype)[ORDER] @ x.flatten(1)).view(x.shape),
    "by einsum": lambda x: torch.einsum("mn,ntc->mtc", torch.eye(4, dtype=x.dtype)[ORDER], x),
    "written": lambda x: torch.zeros_like(x).index_copy(0, ORDER, x),
    "set": lambda x: _set(x),
    "mixed": lambda x: x + x.roll(1, 0),
    "over samples": lambda x: x.mean(0)[None].expand(4, -1, -1) + 0 * x,
    "chunked": lambda x: torch.cat([x[2:], x[:2]]),
    "stacked": lambda x: torch.stack([x[:, 0], x[:, 1], x[:, 2], x[:, 3]]),
    "tokens for samples": lambda x: x.transpose(0, 1).contiguous().view(4, 4, -1).clone().flip(1),
    "scattered": lambda x: torch.zeros_like(x).scatter(0, ORDER.view(-1, 1, 1).expand_as(x), x),
}


def _set(x):
    out = torch.zeros_like(x)
    out[ORDER] = x
    return out


@pytest.mark.parametrize("way", REFUSED)
def test_samples_that_change_places_are_never_taken_for_others(way):
    net = built(Block(REFUSED[way]))
    found = undying.census(net, samples(4, 4, n=8).split(4), examples=2)
    assert "act" not in found.examples
    if "act" in found:  # else nothing decides its units
        assert "act" in found.examples.left_out
        with pytest.raises(KeyError, match="site 'act' has no examples: the samples"):
            found.examples["act"]
        assert any(note.startswith("act: no examples, the samples") for note in found.notes)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 5), nn.Linear(5, 5), nn.ReLU()

    def forward(self, x):
        return self.relu(self.b(self.relu(self.a(x))))


def test_each_call_of_an_activation_has_its_own():
    net, x = built(Twice()), samples(4)
    found = undying.census(net, x.split(6), examples=5).examples
    first = net.a(x)
    assert found["relu"].most.tolist() == brute_force(first, 5, -1)
    assert found["relu#2"].most.tolist() == brute_force(net.b(first.relu()), 5, -1)


def test_ties_go_to_the_earlier_and_nan_to_nobody():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [torch.nan, 0.0], [3.0, 0.0], [-torch.inf, 0.0], [1.0, torch.inf]])
    for size in (1, 2, 4, 6):
        of = undying.census(nn.Sequential(nn.ReLU()), x.split(size), examples=4).examples["0"]
        assert of.most.tolist() == [[1, 3, 0, 5], [5, 0, 1, 2]]
        assert of.least.tolist() == [[4, 0, 5, 1], [0, 1, 2, 3]]
        assert of.least_peak[0].tolist() == [-math.inf, 1.0, 1.0, 3.0]
        assert of.most_peak[1].tolist() == [math.inf, 0.0, 0.0, 0.0]


def test_fewer_samples_than_examples():
    x = torch.tensor([[1.0], [torch.nan], [2.0]])
    of = undying.census(nn.Sequential(nn.ReLU()), x.split(2), examples=9).examples["0"]
    assert of.most.tolist() == [[2, 0] + [-1] * 7]
    assert of.least.tolist() == [[0, 2] + [-1] * 7]
    assert of.most_peak[0, 2:].isnan().all()


def test_masked_positions_do_not_count():
    net, x = built(Block(lambda x: x)), samples(4, 4, n=10)
    mask = torch.arange(4) < torch.randint(0, 5, (10, 1), generator=torch.Generator().manual_seed(3))
    assert (mask.sum(1) == 0).any()
    data = [(x[:3], mask[:3]), (x[3:4], mask[3:4]), (x[4:], mask[4:])]
    of = undying.census(net, data, mask=lambda batch: batch[1], inputs=lambda batch: batch[0], examples=10).examples
    peaks = torch.where(mask[..., None], net.lin(x), -torch.inf).amax(1)
    peaks[~mask.any(1)] = torch.nan
    assert of["act"].most.tolist() == brute_force(peaks, 10, -1)
    assert of["act"].least.tolist() == brute_force(peaks, 10, 1)


def test_gradients_and_outputs_change_nothing():
    net, x = built(Twice()), samples(4)
    with_target = [(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(9)]
    plain = undying.census(net, x.split(6), examples=3).examples
    more = undying.census(net, with_target, gradients=True, outputs=["b"], examples=3).examples
    for name in plain:
        assert plain[name].most.tolist() == more[name].most.tolist()
    assert more["b"].least.tolist() == brute_force(net.b(net.a(x).relu()), 3, 1)
    assert more["relu#2"].least.tolist() == more["b"].least.tolist()


def test_torchs_own_encoder_is_followed():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double().eval()
    x = samples(5, 8, n=12)
    found = undying.census(net, x.split(5), examples=3).examples
    with torch.no_grad():
        mixed = net.norm1(x + net._sa_block(x, None, None))
        wanted = net.linear1(mixed).amax(1)
    [name] = found
    assert found[name].most.tolist() == brute_force(wanted, 3, -1)


def test_what_holds_no_samples_is_refused_by_name():
    conv = nn.Sequential(nn.Conv1d(3, 3, 1), nn.ReLU())
    found = undying.census(conv, [torch.randn(3, 8)], examples=2)  # one sample, whose channels come first
    assert found.examples.left_out == {"1": "a layer shows that the first axis of the batch is not its samples"}
    packed = nn.utils.rnn.pack_sequence([torch.randn(1, 3), torch.randn(1, 3)])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.act = nn.Linear(3, 4), nn.ReLU()

        def forward(self, x):
            return self.act(self.lin(x.data))

    assert "cannot be followed" in undying.census(Net(), [packed], examples=2).examples.left_out["act"]

    class Of(nn.Module):
        def forward(self, x):
            return undying.Indexed(*x.topk(2), units=5)

    net = nn.Sequential(nn.Linear(3, 5), Of())
    left_out = undying.census(net, [torch.randn(4, 3)], outputs=["1"], examples=2).examples.left_out
    assert left_out == {"1": "of Indexed outputs none are kept"}
    for wrong in (-1, 2.0, True, "9"):
        with pytest.raises(ValueError, match="examples must be a number of samples"):
            undying.census(net, [torch.randn(4, 3)], examples=wrong)


def test_censuses_of_two_data_sets_add_and_number_on():
    net, x = built(Twice()), samples(4)
    batches = [x[:13].split(5), x[13:].split(5)]  # the same ones: how numbers round can hang on their size
    whole = undying.census(net, [*batches[0], *batches[1]], examples=4)
    parts = [undying.census(net, part, examples=4) for part in batches]
    both = parts[0] + parts[1]
    assert both.examples.to_dict() == whole.examples.to_dict()  # the fingerprint of the order too
    assert (parts[1] + parts[0]).examples.order != whole.examples.order
    assert (parts[1] + parts[0]).probe == whole.probe
    with pytest.raises(ValueError, match="the same number of examples, not 4 and 3"):
        parts[0] + undying.census(net, x, examples=3)
    with pytest.raises(ValueError, match="one of the two has none"):
        parts[0] + undying.census(net, x)


def test_a_file_keeps_them(tmp_path):
    x = torch.tensor([[1.0, -1.0], [torch.nan, torch.inf], [2.0, 0.5]])
    found = undying.census(nn.Sequential(nn.ReLU()), x.split(2), examples=4)
    found.save(tmp_path / "census.json")
    again = undying.Census.load(tmp_path / "census.json")
    assert again.examples.to_dict() == found.examples.to_dict()
    assert again.examples["0"].most.dtype == torch.int64
    content = found.to_dict()
    content["examples"]["sites"]["0"]["most"][0] = [0]
    with pytest.raises(ValueError, match="most does not hold"):
        undying.Census.from_dict(content)
    assert undying.census(nn.Sequential(nn.ReLU()), x).examples is None
    with pytest.raises(ValueError, match="this does not hold a census"):
        undying.Census.from_dict({**found.to_dict(), "examples": {"number": 3}})


def test_the_order_of_the_data_is_told_apart():
    x = samples(4)
    net = built(Twice())
    order = [undying.census(net, data, examples=1).examples.order for data in (x.split(7), x.split(40), x.flip(0))]
    assert order[0] == order[1] != order[2]


def test_peaks_of_a_layout_are_those_of_each_row():
    x = torch.randn(5, 6, 4, dtype=torch.float64)
    layout = Layout.along(1, (5, 6, 4)).reshaped((5, 2, 3, 4)).permuted((0, 3, 2, 1))
    moved = x.view(5, 2, 3, 4).permute(0, 3, 2, 1)
    assert torch.equal(layout.peaks(moved), x.amax(2))
    assert isinstance(undying.census(nn.Sequential(nn.ReLU()), x[:, :, 0], examples=1).examples, Examples)
