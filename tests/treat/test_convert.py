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
    undying.revert_(net, allow_change=True)
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
    undying.revert_(net, allow_change=True)
    assert len(list(net.parameters())) == 2


def test_nothing_to_convert_says_so():
    net, x = nn.Sequential(nn.Linear(1, 1)), torch.zeros(1, 1)
    report = undying.convert_(net, undying.SUGAR(), functional=True, example=x)
    assert report.converted == 0
    assert str(report) == "nothing to convert: no target was found"
    assert report.to_dict() == {"converted": 0, "rows": [], "notes": []}
    assert "functional=True and example=" in str(undying.convert_(net, undying.SUGAR()))


def test_what_is_converted_already_is_not_told_as_not_found():
    class Calling(nn.Sequential):
        def forward(self, x):
            return F.relu(super().forward(x))

    net, x = Calling(nn.Linear(1, 1), nn.ReLU()), torch.zeros(1, 1)
    for _ in range(2):
        said = str(undying.convert_(net, undying.SUGAR(), functional=True, example=x))
    assert said.startswith(
        "nothing to convert: 2 are converted already, such as 1, SUGAR(bsilu(a=1.67)): undying.revert_"
    )
    assert "2 are converted already" in str(undying.audit(net))


# What others wrote on a module, and put around it


def test_attributes_stay_in_both_directions():
    net = nn.Sequential(nn.ReLU())
    net[0].name_for_hooks, net[0].gone_later, net[0].surrogate = "first", 1, "of the network's own"
    undying.convert_(net, undying.SUGAR())
    assert (net[0].name_for_hooks, net[0].gone_later, str(net[0].surrogate)) == ("first", 1, "bsilu(a=1.67)")
    net[0].set_while_converted = 2
    del net[0].gone_later
    undying.revert_(net)
    assert (net[0].name_for_hooks, net[0].set_while_converted, net[0].surrogate) == ("first", 2, "of the network's own")
    assert not hasattr(net[0], "gone_later")


def test_an_attribute_does_not_stand_before_a_method_of_the_new_class():
    class Other(nn.ReLU):
        def scale(self):
            return 2.0

        def forward(self, x):
            return super().forward(x) * self.scale()

    net = nn.Sequential(nn.ReLU())
    net[0].scale = 3.0
    undying.convert_(net, Other())
    assert net(torch.ones(1)).item() == 2.0
    undying.revert_(net, allow_change=True)
    assert net[0].scale == 3.0


def test_hooks_of_the_activation_that_was_put_in_go_with_it():
    net, new = nn.Sequential(nn.ReLU()), undying.SUGAR()
    new.register_forward_hook(lambda *_: None)
    undying.convert_(net, new)
    assert len(net[0]._forward_hooks) == 1
    undying.revert_(net)
    assert not net[0]._forward_hooks


def test_a_forward_on_the_module_itself_is_left_and_goes_on_to_run():
    net, calls = nn.Sequential(nn.ReLU()), []
    inner = net[0].forward
    net[0].forward = lambda x: (calls.append(x), inner(x))[1]
    (row,) = undying.convert_(net, undying.BAReLU()).rows
    assert "a forward was put on this module itself" in row.reason
    assert net(-torch.ones(1)).item() == 0
    assert len(calls) == 1


def test_revert_refuses_a_forward_that_was_put_on_an_activation_since():
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    undying.convert_(net, undying.BAReLU())
    inner = net[1].forward
    net[1].forward = lambda x: inner(x)
    with pytest.raises(ValueError, match="cannot change 1, a BAReLU: a forward was put on the module itself"):
        undying.revert_(net)
    assert type(net[0]) is undying.BAReLU, "nothing was changed"
    del net[1].forward
    assert undying.revert_(net, allow_change=True) == 2


def test_what_the_user_changed_since_stays():
    net = nn.Module()
    net.act = F.relu
    undying.convert_(net, undying.SUGAR())
    net.act = nn.Tanh()
    assert undying.revert_(net) == 0
    assert type(net.act) is nn.Tanh


class PassingOn(nn.Module):
    """As wrappers of environments and policies are: what it does not have is its module's."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getattr__(self, name):
        return super().__getattr__(name) if name == "module" else getattr(self.module, name)

    def forward(self, x):
        return F.relu(self.module(x))


def test_a_wrapper_that_passes_attributes_on_is_not_what_it_wraps():
    for inner in (nn.RNN(2, 2, nonlinearity="relu"), nn.TransformerEncoderLayer(2, 1, 2, activation=F.relu)):
        net = PassingOn(inner)
        before = set(vars(net))
        assert [row.name.split(".")[0] for row in undying.convert_(net, undying.SUGAR()).rows] == ["module"]
        assert set(vars(net)) == before
    net, x = PassingOn(PassingOn(nn.Linear(2, 2))), torch.randn(3, 2)
    undying.convert_(net, lambda _: undying.BAReLU(0.5), functional=True, example=x)
    net._modules["undying_relu"].alpha = 0.25
    linear = net.module.module
    assert torch.equal(net(x), F.leaky_relu(F.leaky_relu(linear(x), 0.5), 0.25))


def test_an_attribute_named_nonlinearity_is_no_recurrent_kernel():
    net = nn.Sequential(nn.ReLU())
    net.nonlinearity = "relu"
    assert [row.name for row in undying.convert_(net, undying.SUGAR(), strict=True, example=torch.ones(1)).rows] == [
        "0"
    ]
    assert "kernel" in undying.audit(nn.RNNCell(2, 2, nonlinearity="relu")).left[0].reason


def test_revert_refuses_what_was_built_so_with_the_way():
    net = nn.Sequential(undying.SUGAR())
    with pytest.raises(
        ValueError, match=r"built with 1 SUGAR, the first being 0; undying\.convert_\(model, nn\.ReLU\(\)"
    ):
        undying.revert_(net)
    undying.convert_(net, undying.BAReLU(), targets=(undying.SUGAR,))
    assert undying.revert_(net, allow_change=True) == 1
    assert type(net[0]) is undying.SUGAR


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
