"""Places that act as a rectifier and are no known activation: found, with their layer and line, and nothing else is."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
]

X = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
ZERO = torch.tensor(0.0)
MASK = (torch.arange(16) % 3 > 0).float()


class Part(nn.Module):
    """A linear layer and what acts on it."""

    def __init__(self, run):
        super().__init__()
        self.lin, self.run = nn.Linear(8, 16), run

    def forward(self, x):
        return self.run(self.lin(x))


def census_of(part):
    return undying.census(nn.Sequential(part, nn.Linear(16, 4), nn.ReLU()), X)


class Clamped(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clamp(min=0)


class OutsideOfTorch(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return torch.from_numpy(x.detach().numpy().clip(0))


def scripted(x):
    return torch.jit.script(_relu)(x)


def _relu(x):
    return torch.relu(x)


def zeroed(x):
    x[x < 0] = 0
    return x


RECTIFIERS = {
    "clamp": lambda x: x.clamp(min=0),
    "clip": lambda x: torch.clip(x, 0),
    "clamp_min": lambda x: x.clamp_min_(0),
    "clamp both": lambda x: x.clamp(0, 1),
    "max": lambda x: torch.max(x, torch.zeros_like(x)),
    "maximum": lambda x: torch.maximum(torch.tensor(0.0), x),
    "fmax": lambda x: torch.fmax(x, ZERO),
    "where": lambda x: torch.where(x > 0, x, 0),
    "where turned": lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "mul": lambda x: x * (x > 0.1),
    "mul as numbers": lambda x: (x > 0.1).to(x.dtype) * x,
    "mul of both": lambda x: x * torch.logical_and(x > 0, x < 5),
    "mul of not": lambda x: x * (1 - (x < 0).float()),
    "mul of ranks": lambda x: x * (x >= x.topk(3).values[:, -1:]),
    "mul of steps": lambda x: x * torch.heaviside(x, ZERO),
    "mul of signs": lambda x: x * (torch.sign(x) + 1) / 2,
    "addcmul": lambda x: torch.addcmul(ZERO, x, (x > 0).float()),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "masked_fill in place": lambda x: x.masked_fill_(x < 0, 0),
    "setitem": zeroed,
    "add": lambda x: (x + x.abs()) / 2,
    "threshold": lambda x: F.threshold(x, 0, 0),
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "prelu": lambda x: F.prelu(x, ZERO),
    "rrelu": lambda x: F.rrelu(x, 0.0, 0.0),
    "relu": torch.ops.aten.relu.default,
    "clamp in a Function": Clamped.apply,
    "unseen": OutsideOfTorch.apply,
    "unseen script": scripted,
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_rectifier_that_is_not_counted_is_named(name):
    counted = census_of(Part(RECTIFIERS[name]))
    assert [site.name for site in counted.sites] == ["2"]
    (label,) = counted.unrecognised
    place = counted.unrecognised[label]
    assert (label, place.layer) == (f"0.{name.split()[0]}", "0")
    file, _, line = place.line.rpartition(":")
    assert file == str(Path(__file__))
    text = Path(file).read_text().splitlines()[int(line) - 1]
    called = "forward" if "unseen" in name else f'"{name}"'
    assert called in text or label.removeprefix("0.") in text or "self.run" in text or "x[x < 0]" in text


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.stack([x, 0 * x]).amax(0),
        lambda x: torch.lerp(0 * x, x, (x > 0).to(x.dtype)),
        lambda x: torch.einsum("ij,ij->ij", x, (x > 0.2).to(x.dtype)),
        lambda x: F.max_pool1d(torch.stack([x, 0 * x], -1), 2).squeeze(-1),
    ],
)
def test_a_part_of_ones_own_that_flattens_its_input_is_named_whatever_computes_it(run):
    class Own(nn.Module):
        def forward(self, x):
            return run(x)

    net = nn.Sequential(nn.Linear(8, 16), Own(), nn.Linear(16, 4), nn.ReLU())
    assert {place.layer for place in undying.census(net, X).unrecognised.values()} == {"1"}


@pytest.mark.parametrize("run", [lambda x: x * MASK, lambda x: x.flip(-1), lambda x: F.relu(x), lambda x: x.round()])
def test_a_part_of_ones_own_that_flattens_nothing_is_not(run):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", MASK)

        def forward(self, x):
            return run(x)

    net = nn.Sequential(nn.Linear(8, 16), Own(), nn.Linear(16, 4), nn.ReLU())
    assert undying.census(net, X).unrecognised == {}


def mean_of_squares(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    "run",
    [
        F.relu,
        nn.Tanh(),
        lambda x: x.clamp(-100, 100),  # nothing was beyond
        lambda x: x / x.abs().sum(-1, keepdim=True).clamp(min=1e-9),
        lambda x: x.softmax(-1).clamp(min=1e-30),
        lambda x: torch.maximum(x, -x.flip(-1)),  # the larger of two units
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x.masked_fill(x < 0, -torch.inf).softmax(-1),
        lambda x: x * torch.ones(40, 1),
        lambda x: x * (X[:, :1] > 0),  # a mask of the data
        lambda x: F.prelu(x, torch.tensor([0.2])),
        lambda x: x[:, torch.arange(16)] + torch.tensor([1.0] * 16),
        lambda x: torch.stack([row + 1 for row in x]),
        nn.Dropout(),
        mean_of_squares,
    ],
)
def test_nothing_else_is_named(run):
    assert census_of(Part(run)).unrecognised == {}


class Two(nn.Module):
    """A call of a module, and one of a function, on what no gradient reaches."""

    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Linear(8, 6).requires_grad_(False), nn.ReLU()

    def forward(self, x):
        return F.relu(self.act(self.lin(x)))


def test_activations_of_this_package_and_leaves_for_gradients_are_no_unseen_tensors():
    for activation in (nn.ReLU(), undying.SUGAR(), undying.BAReLU(), undying.NeLU()):
        net = Two()
        undying.convert_(net, activation, functional=True, example=X)
        counted = undying.census(net, [(X, torch.zeros(40, 6))], gradients=True, loss=F.mse_loss)
        assert (len(counted.sites), counted.unrecognised) == (2, {})


class Bell(nn.Module):
    def forward(self, x):
        return x * torch.exp(-x.square())


class Scale(nn.Module):
    def forward(self, x):
        return 2 * x + 1


class Squared(nn.Module):
    def forward(self, x):
        return F.relu(x) ** 2


def test_an_activation_module_that_is_not_registered_is_named():
    counted = census_of(Part(Bell()))
    assert str(counted.unrecognised["0.run"]).startswith("Bell is not known; undying.register_activation")
    assert counted.unrecognised["0.run"].layer == "0.run"
    for known in (Scale(), Squared()):  # no activation, and one that is counted by its relu
        assert census_of(Part(known)).unrecognised == {}


class Recurrent(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.rnn = make(8, 16, nonlinearity="relu")

    def forward(self, x):
        out = self.rnn(x)
        return out[0] if isinstance(out, tuple) else out


def test_recurrent_layers_of_relu_are_named():
    for make, name in ((nn.RNN, "rnn_relu"), (nn.RNNCell, "rnn_relu_cell")):
        assert list(census_of(Recurrent(make)).unrecognised) == [f"0.rnn.{name}"]


def test_traced_and_scripted_parts_are_looked_into():
    layer = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    for part in (torch.jit.trace(layer, X), torch.jit.script(layer)):
        counted = census_of(part)
        assert {name: place.what for name, place in counted.unrecognised.items()} == {
            "0": "relu in a traced or scripted part"
        }
    assert census_of(torch.jit.trace(nn.Linear(8, 16), X)).unrecognised == {}


class Ensemble(nn.Module):
    """Two networks at once, whose weights are stacked."""

    def __init__(self):
        super().__init__()
        self.weights, self.after, self.last = nn.Parameter(torch.randn(2, 6, 8)), nn.ReLU(), nn.Linear(6, 6)

    def forward(self, x):
        both = torch.vmap(lambda w: torch.relu(F.linear(x, w)))(self.weights)
        return self.after(self.last(both.mean(0)))


def test_what_runs_under_vmap_is_named():
    counted = undying.census(Ensemble(), X)
    assert [site.name for site in counted.sites] == ["after"]
    assert counted.unrecognised["relu"].what == "ReLU under torch.func"


def test_quantized_parts_are_named():
    quantization = torch.ao.quantization
    net = nn.Sequential(
        quantization.QuantStub(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU6(), quantization.DeQuantStub()
    ).eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    net = quantization.prepare(quantization.fuse_modules(net, [["1", "2"]]))
    net(X)
    whole = nn.Sequential(quantization.convert(net), nn.Linear(8, 3), nn.ReLU())
    assert list(undying.census(whole, X).unrecognised) == ["0.1.linear_relu", "0.4"]


def test_a_network_of_nothing_else_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"no activation that is known.*not recognised: clamp \(clamp, .*test_unseen.py:"
    ):
        undying.census(Part(lambda x: x.clamp(min=0)), X)


def test_a_second_call_has_a_number_and_batches_do_not():
    def twice(x):
        return x.clamp(min=0) + x.neg().clamp(min=0)

    net = nn.Sequential(Part(twice), nn.ReLU())
    assert list(undying.census(net, X.split(10)).unrecognised) == ["0.clamp", "0.clamp#2"]


class Graph:
    def __init__(self, x):
        self.x = x


def test_what_a_batch_holds_is_no_unseen_tensor():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.act, self.table = nn.Linear(8, 4), nn.ReLU(), [torch.randn(8)[None]]
            self.register_buffer("shift", torch.randn(1, 8))

        def forward(self, batch):
            return self.act(self.lin(batch.x - self.shift + self.table[0]))

    assert undying.census(Net(), [Graph(X)]).unrecognised == {}


def test_the_limits_are_as_the_docs_say():
    lost = Part(lambda x: x.unfold(1, 4, 4).flatten(1).clamp(min=0))  # after an operation that loses the units
    assert census_of(lost).unrecognised == {}
    assert census_of(Part(lambda x: x * torch.erf(x))).unrecognised == {}  # smooth, in a forward
    table = torch.zeros(40, 16)
    (listed,) = census_of(Part(lambda x: x + table)).unrecognised  # neither given nor held
    assert listed == "0.unseen"
    hinge = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3), Hinge(lambda h: h.sum(1).mean()))
    assert undying.census(hinge, X)["3.relu"].units == 3


class Hinge(nn.Module):
    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, score):
        return self.reduce(F.relu(1 - score))


def test_a_hinge_that_is_only_summed_is_a_term_of_a_loss():
    for reduce in (torch.mean, lambda h: h.square().sum(), lambda h: h.squeeze(1).mean() / 2):
        net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), Hinge(reduce))
        counted = undying.census(net, X.split(20))
        assert [site.name for site in counted.sites] == ["1"]
        assert counted.unrecognised["3.relu"].what.startswith("a term of a loss")
        assert counted.unrecognised["3.relu"].line.startswith(__file__)
    both = nn.Sequential(nn.Linear(8, 4), Hinge(lambda h: h * h.mean()))
    assert [site.name for site in undying.census(both, X).sites] == ["1.relu"]  # a penalty on what is used as well


@pytest.mark.parametrize(
    "look",
    [
        lambda net: undying.audit(net, X),
        lambda net: undying.convert_(net, undying.SUGAR(), functional=True, example=X),
        lambda net: undying.census(net, X),
    ],
    ids=["audit", "convert_", "census"],
)
def test_a_network_that_was_looked_at_is_held_by_nothing(look):
    """No cycle holds it until the garbage collector comes, which convert_ would take for another network's hold on it."""
    net = nn.Sequential(Part(F.relu), nn.Linear(16, 4), nn.ReLU())
    parts = [weakref.ref(module) for module in net.modules()]
    gc.disable()
    try:
        look(net)
        del net
        assert not [part for part in parts if part() is not None]
    finally:
        gc.enable()
