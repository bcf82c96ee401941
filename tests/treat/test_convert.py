"""convert_ and revert_: what is replaced, what is kept, and that nothing remains."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying


class OwnForward(nn.ReLU):
    def forward(self, x):
        return super().forward(x) + 1


class Block(nn.Module):
    """As torchvision's ResNet block: one ReLU called twice, in place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.conv2(y) + self.down(x))


def relu_with_slope(x, f):
    """ReLU's value with f's derivative, by a rule of its own: the oracle for a converted network."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            s = torch.sigmoid(x)
            return g * (s + (x + 1.67) * s * (1 - s)) if f == "bsilu" else g * torch.where(x > 0, 1.0, 0.01)

    return Rule.apply(x)


def test_gradients_of_a_converted_network_are_those_of_a_hand_written_rule(monkeypatch):
    torch.manual_seed(0)
    net = Block()
    x = torch.randn(2, 3, 8, 8)
    oracle = copy.deepcopy(net)
    monkeypatch.setattr(oracle.relu, "forward", lambda x: relu_with_slope(x, "bsilu"))
    undying.convert_(net, undying.SUGAR())
    for network in (net, oracle):
        network(x).square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, name=name: f"{name}: {m}")


def test_every_module_gets_its_own_copy():
    net = nn.Sequential(
        nn.ReLU(), nn.Sequential(nn.ReLU()), nn.ModuleList([nn.ReLU()]), nn.ModuleDict({"a": nn.ReLU()})
    )
    template = undying.SUGAR()
    report = undying.convert_(net, template)
    found = [m for m in net.modules() if isinstance(m, undying.SUGAR)]
    assert report.converted == len(found) == 4
    assert template not in found
    found[0].strength = 0.5
    assert {m.strength for m in found[1:]} == {1.0}


def test_the_root_itself_is_converted():
    net = nn.ReLU()
    undying.convert_(net, undying.BAReLU(alpha=0.5))
    assert type(net) is undying.BAReLU
    assert net(torch.tensor(-2.0)).item() == -1.0
    undying.revert_(net)
    assert type(net) is nn.ReLU


def test_aliases_sharing_and_plain_references_stay_shared():
    shared = nn.ReLU()
    net = nn.Module()
    net.a = shared
    net.b = shared
    net.child = nn.Sequential(shared, nn.ReLU())
    net.plain = [shared]
    report = undying.convert_(net, undying.SUGAR())
    assert net.a is net.b is net.child[0] is net.plain[0]
    assert type(net.a) is undying.SUGAR
    assert net.child[1] is not net.a
    assert report.converted == 2
    assert [(row.name, row.alias_of) for row in report.rows] == [
        ("a", None),
        ("b", "a"),
        ("child.0", "a"),
        ("child.1", None),
    ]


def test_exact_types_only_and_what_is_left_is_reported():
    net = nn.Sequential(OwnForward(), nn.ReLU6(), nn.ReLU())
    report = undying.convert_(net, undying.SUGAR())
    assert [type(m) for m in net] == [OwnForward, nn.ReLU6, undying.SUGAR]
    left = [row for row in report.rows if row.new is None]
    assert [row.name for row in left] == ["0"]
    assert "subclass of ReLU" in left[0].reason
    assert undying.convert_(net, undying.SUGAR(), targets=(nn.ReLU6, OwnForward)).converted == 2


def test_hooks_flags_and_handles_survive_both_ways():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval()
    calls = []
    handle = net[1].register_forward_hook(lambda m, a, o: calls.append(type(m)))
    back = net[1].register_full_backward_hook(lambda m, gi, go: calls.append("backward"))
    undying.convert_(net, undying.SUGAR())
    assert not net[1].training
    net(torch.randn(1, 2)).sum().backward()
    undying.revert_(net)
    net(torch.randn(1, 2)).sum().backward()
    assert calls == [undying.SUGAR, "backward", nn.ReLU, "backward"]
    handle.remove()
    back.remove()
    assert not net[1]._forward_hooks
    assert not net[1]._backward_hooks


def test_a_hook_added_while_converted_can_be_removed_after_revert():
    net = nn.Sequential(nn.ReLU())
    undying.convert_(net, undying.SUGAR())
    handle = net[0].register_forward_hook(lambda *_: None)
    net.train()
    undying.revert_(net)
    assert net[0].training
    assert len(net[0]._forward_hooks) == 1
    handle.remove()
    assert not net[0]._forward_hooks


def test_round_trip_is_exact():
    torch.manual_seed(0)
    net = Block()
    before = copy.deepcopy(net)
    x = torch.randn(2, 3, 8, 8)
    undying.convert_(net, undying.BAReLU())
    undying.convert_(net, undying.SUGAR(), targets=(undying.BAReLU,))
    assert type(net.relu) is undying.SUGAR
    assert undying.revert_(net) == 1
    assert undying.revert_(net) == 0
    assert type(net.relu) is nn.ReLU
    assert net.relu.inplace
    assert vars(net.relu).keys() == vars(before.relu).keys()
    results = []
    for network in (net, before):
        y = network(x)
        y.sum().backward()
        results.append([y, *(p.grad for p in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert list(net.state_dict()) == list(before.state_dict())


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m.to(torch.float64)]
)
def test_a_converted_network_survives(through):
    net = Block()
    undying.convert_(net, undying.SUGAR("nelu"))
    again = through(net)
    assert str(again.relu) == "SUGAR(nelu(a=0.05), inplace=True)"
    assert undying.revert_(again) == 1
    assert type(again.relu) is nn.ReLU


def test_checkpoints_load_at_every_stage():
    net = Block()
    original = copy.deepcopy(net.state_dict())
    undying.convert_(net, undying.SUGAR())
    assert list(net.state_dict()) == list(original)
    net.load_state_dict(original)
    converted = copy.deepcopy(net.state_dict())
    undying.revert_(net)
    net.load_state_dict(converted)


def test_a_factory_sees_the_old_module():
    net = nn.Sequential(nn.LeakyReLU(0.2), nn.LeakyReLU(0.3))
    undying.convert_(net, lambda old: undying.BAReLU(old.negative_slope), targets=(nn.LeakyReLU,))
    assert [m.alpha for m in net] == [0.2, 0.3]


def test_an_activation_with_parameters_is_trained_and_moved():
    net = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.ReLU(), nn.ReLU())
    undying.convert_(net, nn.PReLU())
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert len(list(net.parameters())) == 4
    undying.revert_(net)
    assert len(list(net.parameters())) == 2


def test_nothing_to_convert_says_so():
    report = undying.convert_(nn.Sequential(nn.Linear(1, 1)), undying.SUGAR())
    assert report.converted == 0
    assert "nothing to convert" in str(report)
    assert report.to_dict() == {"converted": 0, "rows": [], "notes": []}


@pytest.mark.parametrize(
    ("activation", "targets", "message"),
    [
        (undying.SUGAR, (nn.ReLU,), "undying.SUGAR()"),
        ("sugar", (nn.ReLU,), "'sugar'"),
        (lambda old: old, (nn.ReLU,), "new module"),
        (lambda old: F.relu, (nn.ReLU,), "new module"),
        (undying.SUGAR(), nn.ReLU, "tuple"),
        (undying.SUGAR(), ("ReLU",), "tuple"),
    ],
)
def test_wrong_arguments_are_named_and_change_nothing(activation, targets, message):
    net = nn.Sequential(nn.ReLU())
    with pytest.raises(TypeError, match=message.replace("(", r"\(").replace(")", r"\)")):
        undying.convert_(net, activation, targets)
    assert type(net[0]) is nn.ReLU


def test_compiled_after_conversion_it_still_trains_with_the_surrogate():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    undying.convert_(net, undying.SUGAR())
    x = torch.randn(4, 3)
    eager = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for a, b in zip(eager, torch.autograd.grad(compiled(x).sum(), list(net.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def test_an_audit_lists_what_acts_as_an_activation_and_is_none_that_is_known():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.rnn = nn.Linear(4, 6), nn.ReLU(), nn.RNN(6, 6, nonlinearity="relu")

        def forward(self, x):
            return self.rnn(self.act(self.first(x.clone())).clamp(max=0.1))[0]

    net, x = Net(), torch.randn(5, 4)
    rows = undying.audit(net, x).rows
    assert [(row.name, row.kind) for row in rows] == [("act", "module"), ("rnn", "module"), ("clamp", "not recognised")]
    assert rows[-1].left
    assert rows[-1].reason.startswith(__file__)
    assert [row.name for row in undying.audit(net, x, skip="clamp").rows] == ["act", "rnn"]
    assert [row.name for row in undying.audit(net).rows] == ["act", "rnn"]
