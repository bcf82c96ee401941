"""What optimizers remember of recycled units, against the parts of the weights written out by hand."""

import copy

import pytest
import torch

import undying
from recycling import expected_slices, mlp, same, state, stepped


class Lion(torch.optim.Optimizer):
    """Keeps its moments in a list in a dict, and a count that is a number."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("step", 1)
                moments = self.state[p].setdefault("ema", {"all": [torch.zeros_like(p), None]})["all"]
                moments[0].lerp_(p.grad, 0.1)


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "Adam fused": lambda p: torch.optim.Adam(p, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, 1e-4, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-4, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-4),
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-4),
    "Lion": lambda p: Lion(p, {}),
}


def remembered(value):
    """Every tensor in an optimizer's state of one parameter that is no number."""
    if isinstance(value, torch.Tensor):
        return [value] if value.dim() else []
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [tensor for v in values for tensor in remembered(v)]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_moments_of_what_changed_become_0_and_all_others_stay(make):
    net, x, planted = mlp()
    optimizer = make(net.parameters())
    stepped(net, optimizer)
    before = {name: [t.clone() for t in remembered(optimizer.state[p])] for name, p in net.named_parameters()}
    steps = [copy.deepcopy(optimizer.state[p].get("step")) for p in net.parameters()]
    weights = state(net)
    undying.recycle_(net, optimizer, probe=x, units=planted)
    where = expected_slices(net)
    for name, p in net.named_parameters():
        now = remembered(optimizer.state[p])
        assert len(now) == len(before[name]) > 0
        for old, new in zip(before[name], now, strict=True):
            assert torch.equal(new, old.masked_fill(where[name], 0))
        assert torch.equal(p.grad == 0, where[name])
        assert torch.equal(p != weights[name], where[name])
    assert [optimizer.state[p].get("step") for p in net.parameters()] == steps


def test_what_is_no_moment_becomes_what_it_was_at_the_start():
    net, x, planted = mlp()
    averaged, resilient = torch.optim.ASGD(net.parameters(), t0=0), torch.optim.Rprop(net.parameters(), lr=0.003)
    stepped(net, averaged, resilient)
    undying.recycle_(net, [averaged, resilient], probe=x, units=planted)
    for name, where in expected_slices(net).items():
        p = net.get_parameter(name)
        assert torch.equal(averaged.state[p]["ax"][where], p[where])
        assert (resilient.state[p]["step_size"][where] == 0.003).all()
        assert (resilient.state[p]["prev"][where] == 0).all()


def test_groups_of_several_optimizers_are_one_network():
    net, x, planted = mlp()
    first = torch.optim.Adam([{"params": net[0].parameters()}, {"params": net[4].parameters(), "lr": 0.1}])
    second = torch.optim.SGD(net[2].parameters(), 0.1, momentum=0.9)
    stepped(net, first, second)
    undying.recycle_(net, [first, second], probe=x, units=planted)
    where = expected_slices(net)
    assert torch.equal(first.state[net[4].weight]["exp_avg"] == 0, where["4.weight"])
    assert torch.equal(second.state[net[2].weight]["momentum_buffer"] == 0, where["2.weight"])


def test_an_optimizer_without_a_parameter_is_an_error_that_names_it():
    net, x, planted = mlp()
    optimizer, before = torch.optim.Adam(net[:3].parameters()), state(net)
    with pytest.raises(ValueError, match=r"does not hold '4.weight'"):
        undying.recycle_(net, optimizer, probe=x, units=planted)
    assert same(before, net.state_dict())
    net[4].requires_grad_(False)  # what is not trained needs no optimizer, and is not changed
    assert undying.recycle_(net, optimizer, probe=x, units=planted)["1"].recycled == (1, 4)
    with pytest.raises(TypeError, match="optimizer must be"):
        undying.recycle_(net, "adam", probe=x)


class Lookahead(torch.optim.Optimizer):
    """Pulls weights to slow copies, which the optimizer inside keeps, as timm's does."""

    def __init__(self, base):
        super().__init__(base.param_groups, {})
        self._base = base
        self.param_groups = base.param_groups

    def step(self):
        self._base.step()
        for p in (p for group in self.param_groups for p in group["params"]):
            slow = self._base.state[p].setdefault("lookahead_slow_buff", p.detach().clone())
            p.data.copy_(slow.lerp_(p.detach(), 0.5))


def test_an_optimizer_inside_another_is_looked_into():
    net, x, planted = mlp()
    inside = torch.optim.Adam(net.parameters())
    optimizer = Lookahead(inside)
    stepped(net, optimizer)
    undying.recycle_(net, optimizer, probe=x, units=planted)
    for name, where in expected_slices(net).items():
        p = net.get_parameter(name)
        assert torch.equal(inside.state[p]["exp_avg"] == 0, where)
        assert torch.equal(inside.state[p]["lookahead_slow_buff"][where], p[where])


def test_adagrads_sum_begins_where_it_is_told_to():
    net, x, planted = mlp()
    optimizer = torch.optim.Adagrad(net.parameters(), initial_accumulator_value=0.1)
    stepped(net, optimizer)
    undying.recycle_(net, optimizer, probe=x, units=planted)
    for name, where in expected_slices(net).items():
        total = optimizer.state[net.get_parameter(name)]["sum"]
        assert (total[where] == 0.1).all()
        assert (total[~where] > 0.1).all()


def test_what_a_factored_optimizer_keeps_by_row_is_left_alone_whatever_its_shape():
    net = torch.nn.Sequential(torch.nn.Linear(1, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1))
    optimizer = torch.optim.Adafactor(net.parameters())
    stepped(net, optimizer)
    before = {p: copy.deepcopy(optimizer.state[p]) for p in net.parameters()}
    report = undying.recycle_(net, optimizer, probe=torch.rand(9, 1), units={"1": [2]}, tolerance=9)
    assert report.recycled == 1
    for layer in (net[0], net[2]):
        for key in ("row_var", "col_var"):
            assert torch.equal(optimizer.state[layer.weight][key], before[layer.weight][key])
    assert optimizer.state[net[0].bias]["variance"][2] == 0


def test_directions_of_all_weights_together_are_refused():
    net, x, planted = mlp()
    weights = state(net)
    with pytest.raises(ValueError, match="LBFGS remembers directions of all weights together"):
        undying.recycle_(net, torch.optim.LBFGS(net.parameters()), probe=x, units=planted)
    assert same(weights, net.state_dict())


def test_copies_of_weights_under_unknown_names_become_0_as_moments_do():
    net, x, planted = mlp()
    optimizer = torch.optim.SGD(net.parameters())
    for p in net.parameters():
        optimizer.state[p]["my_copy"] = p.detach().clone()
    undying.recycle_(net, optimizer, probe=x, units=planted)
    for name, where in expected_slices(net).items():
        assert (optimizer.state[net.get_parameter(name)]["my_copy"][where] == 0).all()
