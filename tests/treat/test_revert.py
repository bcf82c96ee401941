"""revert_ says where the forward pass changes, refuses that, and measures it."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class Calling(nn.Module):
    """A network that calls ``function`` and holds ``act`` as an attribute and ``module`` as a module."""

    def __init__(self, function=F.relu, act=F.relu, module=None):
        super().__init__()
        self.linear = nn.Linear(4, 8)
        self.function = [function]
        self.act = act
        self.module = module or nn.ReLU()

    def forward(self, x):
        return self.module(self.act(self.function[0](self.linear(x))))


def converted(net, activation, targets=(nn.ReLU,)):
    undying.convert_(net, activation, targets, functional=True, example=torch.randn(2, 4))
    return net


# ---------------------------------------------------------------------------------------------------------------------
# Which rows change


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (nn.ReLU(), undying.SUGAR(), False),
        (nn.ReLU(), undying.SUGAR("nelu", region="negative", strength=0.0), False),
        (nn.ReLU(), undying.BAReLU(0.0), False),
        (nn.ReLU(), undying.BAReLU(), True),
        (nn.ReLU(), undying.BAReLU(0.0, eps=1e-30), True),
        (nn.ReLU(), nn.LeakyReLU(1e-300), True),
        (nn.ReLU(), nn.GELU(), True),
        (nn.ReLU(), nn.ReLU(inplace=True), False),
        (nn.ReLU(), nn.Hardtanh(0, torch.finfo(torch.float64).max), True),
        (nn.ReLU(), nn.RReLU(0.0, 0.1), True),
        (nn.LeakyReLU(0.2), undying.SUGAR(), True),
        (nn.LeakyReLU(0.2), undying.BAReLU(0.2), False),
        (nn.LeakyReLU(0.2), undying.BAReLU(0.3), True),
        (nn.RReLU(0.0, 0.2), nn.LeakyReLU(0.1), True),  # the same in eval mode alone
        (nn.GELU(), nn.GELU("tanh"), True),
        (nn.GELU(), nn.GELU(), False),
        (nn.PReLU(8), nn.ReLU(), True),
    ],
    ids=str,
)
def test_each_row_says_whether_the_forward_changes(old, new, changes):
    net = nn.Sequential(nn.Linear(4, 8), copy.deepcopy(old))  # one that nobody holds: who does is searched for
    undying.convert_(net, new, (type(old),))
    expected = str(net), str(old)
    if changes:
        before = pickle.dumps(net)
        with pytest.raises(ValueError, match=r"at 1 of 1 activations; nothing was changed(.|\n)*allow_change=True"):
            undying.revert_(net)
        assert str(net) == expected[0]
        assert pickle.dumps(net) == before
    report = undying.revert_(net, allow_change=changes)
    assert [row.changes for row in report.rows] == [changes]
    assert (report.rows[0].name, report.rows[0].kind, report == 1) == ("1", "module", True)
    assert len(report.changed) == changes
    assert str(net[1]) == report.rows[0].new


@pytest.mark.parametrize(
    ("function", "kind", "activation", "changes"),
    [
        (F.relu, nn.ReLU, undying.SUGAR(), [False] * 2),
        (F.relu, nn.ReLU, undying.BAReLU(), [True] * 2),
        (torch.tanh, nn.Tanh, nn.Tanh(), [False] * 2),
        # Its calls may say another slope than a module of this type would have: undying does not know.
        (lambda x: F.leaky_relu(x, 0.2), nn.LeakyReLU, undying.BAReLU(0.01), [True]),
        (F.leaky_relu, nn.LeakyReLU, nn.LeakyReLU(), [True] * 2),
    ],
)
def test_functions_have_a_row_too_and_their_arguments_are_not_guessed(function, kind, activation, changes):
    net = converted(Calling(function, function), activation, (kind,))
    report = undying.revert_(net, allow_change=True)
    rows = [row for row in report.rows if row.kind in ("call", "attribute")]
    assert {row.kind for row in rows} >= {"call"}
    assert all(row.changes == changes[0] for row in rows)
    assert len(rows) >= len(changes)
    assert net.act is function


def test_one_that_changes_is_named_among_those_that_do_not():
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    undying.convert_(net, undying.SUGAR(), skip="1")
    undying.convert_(net, undying.BAReLU(0.5))
    with pytest.raises(ValueError, match="1 of 2") as error:
        undying.revert_(net)
    assert "BAReLU(alpha=0.5)" in str(error.value)
    assert "SUGAR(bsilu" not in str(error.value)
    assert "undying.StrengthSchedule" in str(error.value)


def test_a_class_of_somebody_elses_is_compared_and_left_alone():
    class Counting(nn.Module):
        calls = 0

        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x.clamp(min=0)

    class OfSomeShape(nn.Module):
        def forward(self, x):
            return x.relu().view(-1, 8)

    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    undying.convert_(net, Counting(), skip="1")
    undying.convert_(net, OfSomeShape())
    with pytest.raises(ValueError, match=r"1 of 2 .*\n.*\n1 +module +OfSomeShape"):
        undying.revert_(net)
    assert net[0].seen == 0


def test_the_report_is_the_number_and_survives():
    net = converted(Calling(), undying.SUGAR())
    report = undying.revert_(net, check=torch.randn(3, 4))
    for again in (report, copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert again == 3
        assert again.rows == report.rows
        assert again.effect == report.effect
    assert report.to_dict()["reverted"] == 3
    assert str(undying.revert_(net)) == "nothing to revert"


# ---------------------------------------------------------------------------------------------------------------------
# Annealed


def test_a_trained_network_that_was_annealed_ends_as_the_same_network_bit_for_bit():
    torch.manual_seed(0)
    net = converted(Calling(), undying.BAReLU(0.2, eps=0.1))
    x, y = torch.randn(64, 4), torch.randint(8, (64,))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = undying.StrengthSchedule(net, 20, hold=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        schedule.step()

    def outcome():
        leaf = x.clone().requires_grad_()
        out = net(leaf)
        return [out, *torch.autograd.grad(F.cross_entropy(out, y), [leaf, *net.parameters()])]

    annealed = outcome()
    with undying.lean():
        lean = outcome()
    report = undying.revert_(net, check=[(x, y)])
    assert not report.changed
    assert report.effect.largest_change == 0
    assert not any(isinstance(module, undying.BAReLU) for module in net.modules())
    for a, b, c in zip(annealed, lean, outcome(), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)


# ---------------------------------------------------------------------------------------------------------------------
# check


def classifier(alpha=0.5):
    """Three classes that are told apart by what is below 0."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    with torch.no_grad():
        for layer, weight, bias in ((net[0], [[1.0]], [0.0]), (net[2], [[1.0], [-1.0], [0.0]], [0.0, 0.0, 0.25])):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    undying.convert_(net, undying.BAReLU(alpha))
    return net.train()


X, Y = torch.tensor([[-4.0], [-2.0], [2.0], [0.1]]), torch.tensor([1, 1, 0, 2])


@pytest.mark.parametrize("batches", [lambda: [(X, Y)], lambda: ((X[i : i + 1], Y[i : i + 1]) for i in range(4))])
def test_check_measures_the_output_and_the_accuracy(batches):
    net = classifier()
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=r"changes by 2 at most, accuracy from 100.0 % to 50.0 % \(n = 4\)"):
        undying.revert_(net, check=batches())
    assert type(net[1]) is undying.BAReLU
    assert net.training
    effect = undying.revert_(net, allow_change=True, check=batches()).effect
    # -4 and -2 were scored by -2 and -1; both are 0 now, where the bias of the third class wins. Batch norm in eval mode
    # divides by sqrt(1 + 1e-5).
    assert effect.largest_change == pytest.approx(2.0, rel=1e-4)
    assert (effect.accuracy, effect.labels) == ((1.0, 0.5), 4)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), state.values(), strict=True))


def test_no_change_on_the_data_is_no_change():
    net = classifier()
    report = undying.revert_(net, check=[X[2:]])
    assert (report.effect.largest_change, report.effect.accuracy) == (0, None)
    assert [row.changes for row in report.rows] == [True], "elsewhere it may be"


def test_outputs_in_dicts_tokens_that_do_not_count_and_random_numbers_in_eval_mode():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, ids, labels=None):
            x = torch.stack([ids, -ids, ids * 0 + 0.5], -1)  # (N, T, C)
            return {"logits": self.act(x) + F.dropout(torch.zeros_like(x)), "twice": (ids, [2 * ids])}

    class Output(dict):
        @property
        def logits(self):
            return self["logits"]

    class Model(Tagger):
        def forward(self, ids, labels=None):
            return Output(super().forward(ids) | {"noise": torch.rand(3)})

    net = Model()
    undying.convert_(net, undying.BAReLU(0.5))
    batch = {"ids": torch.tensor([[1.0, -3.0], [0.1, 2.0]]), "labels": torch.tensor([[0, 0], [2, -100]])}
    effect = undying.revert_(net, allow_change=True, check=batch).effect
    assert effect.largest_change == 1.5
    assert (effect.accuracy, effect.labels) == ((2 / 3, 2 / 3), 3)


@pytest.mark.parametrize("data", [[], [torch.empty(0, 1)]])
def test_no_data_is_not_taken_for_no_change(data):
    net = classifier()
    with pytest.raises(ValueError, match="check: the data gave no batch"):
        undying.revert_(net, check=data)
    assert type(net[1]) is undying.BAReLU


def test_a_failure_in_the_middle_leaves_the_network_converted():
    class Picky(Calling):
        picky = False

        def forward(self, x):
            if self.picky and type(self.module) is nn.ReLU:
                raise RuntimeError("of the network's own")
            return super().forward(x)

    net = converted(Picky(), undying.SUGAR())
    handle = net.module.register_forward_hook(lambda *_: None)
    before, net.picky = str(net), True
    with pytest.raises(RuntimeError, match="of the network's own"):
        undying.revert_(net, check=torch.randn(2, 4))
    assert str(net) == before
    handle.remove()
    assert not net.module._forward_hooks
    assert net(torch.randn(2, 4)).grad_fn.name().startswith("EagerSUGAR")
    assert undying.revert_(net) == 3


def test_shared_activations_and_hooks_are_as_before_after_a_check():
    shared = nn.ReLU()
    other, net = nn.Sequential(shared), nn.Sequential(nn.Linear(4, 4), shared, nn.Sequential(shared))
    undying.convert_(net, undying.BAReLU(0.5))
    before = str(net)
    with pytest.raises(ValueError, match="changes by"):
        undying.revert_(net, check=torch.randn(8, 4))
    assert str(net) == before
    assert net[1] is net[2][0] is not shared
    assert undying.revert_(net, allow_change=True) == 1
    assert net[1] is net[2][0] is shared is other[0]


def test_forwards_that_others_put_there_run_before_and_after_a_check():
    net, calls = nn.Sequential(nn.Linear(4, 4)), []
    inner = net.forward
    net.forward = lambda x: (calls.append("first"), F.relu(inner(x)))[1]
    undying.convert_(net, undying.BAReLU(0.5), functional=True, example=torch.randn(2, 4))
    middle = net.forward
    net.forward = lambda x: (calls.append("second"), middle(x))[1]
    x = torch.randn(8, 4)
    expected = net(x)
    calls.clear()
    with pytest.raises(ValueError, match="changes by"):
        undying.revert_(net, check=x)
    assert calls == ["second", "first"] * 2
    assert torch.equal(net(x), expected)
    assert undying.revert_(net, allow_change=True, check=x).effect.largest_change > 0
    assert torch.equal(net(x), F.relu(F.linear(x, net[0].weight, net[0].bias)))
