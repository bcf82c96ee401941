"""An activation that several networks share: converting one network converts no other without saying so."""

import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn

import undying


class Net(nn.Module):
    """With two places for its activation."""

    shared = nn.SiLU()

    def __init__(self, act=nn.ReLU()):  # noqa: B008, the fault that is tested
        super().__init__()
        self.a, self.act, self.b = nn.Linear(2, 2), act, nn.Sequential(nn.Linear(2, 2), act)

    def forward(self, x):
        return self.b(self.act(self.a(x)))


def types(net):
    return type(net.act), type(net.b[1])


def test_a_default_argument_is_converted_in_one_network_alone():
    before, net = Net(), Net()
    held = [net.act]
    report = undying.convert_(net, undying.SUGAR())
    assert types(net) == (undying.SUGAR,) * 2
    assert net.act is net.b[1] is not held[0]
    assert types(before) == types(Net()) == (nn.ReLU,) * 2
    assert [row.alias_of for row in report.rows] == [None, "act"]
    (note,) = report.notes
    assert note.startswith("act is shared with ")
    assert note.endswith(": it is converted here alone")
    names = [name for name, _ in net.b.named_children()]
    assert undying.revert_(net) == 1
    assert net.act is net.b[1] is before.act
    assert [name for name, _ in net.b.named_children()] == names


def test_the_only_network_so_far_leaves_the_default_to_the_next():
    net = Net()
    assert "Net.__init__(), as a default argument" in undying.convert_(net, undying.SUGAR()).notes[0]
    assert types(Net()) == (nn.ReLU,) * 2


def test_a_class_attribute_stays():
    """As in YOLO, where it is the activation of every network of the process."""
    net = Net(Net.shared)
    report = undying.convert_(net, undying.SUGAR(), targets=(nn.SiLU,))
    assert "the class Net, as an attribute" in report.notes[0]
    assert types(net) == (undying.SUGAR,) * 2
    assert type(Net.shared) is nn.SiLU


def test_an_argument_of_a_partial_stays():
    make = functools.partial(Net, act=nn.ReLU())
    net = make()
    assert "functools.partial" in undying.convert_(net, undying.SUGAR()).notes[0]
    assert types(make()) == (nn.ReLU,) * 2


def test_variables_lists_and_hooks_follow_the_network():
    act = nn.ReLU()
    net, held = Net(act), [act]
    act.register_forward_hook(lambda *_: held)
    report = undying.convert_(net, undying.SUGAR())
    assert report.notes == ()
    assert net.act is act is held[0]
    assert type(act) is undying.SUGAR


def test_a_part_that_another_network_is_made_of_too_is_named():
    class Block(nn.Linear):
        def forward(self, x):
            return F.relu(super().forward(x))

    whole = nn.Sequential(Block(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.ReLU(), nn.Linear(2, 2))
    body = nn.Sequential(*list(whole.children())[:3])
    report = undying.convert_(body, undying.SUGAR(), functional=True, example=torch.zeros(1, 2))
    assert [note.split(" is shared")[0] for note in report.notes] == ["0", "1", "2"]
    assert [note.endswith("converted there too") for note in report.notes] == [True, True, False]
    assert (type(whole[1][1]), type(whole[2]), type(body[2])) == (undying.SUGAR, nn.ReLU, undying.SUGAR)


def test_the_network_given_may_be_a_part_of_another():
    outer = nn.Sequential(Net(nn.ReLU()))
    assert undying.convert_(outer[0], undying.SUGAR()).notes == ()


def test_copies_of_what_was_shared_are_networks_of_their_own():
    first, net = Net(), Net()
    undying.convert_(net, undying.SUGAR())
    other = copy.deepcopy(net)
    assert undying.revert_(other) == 1
    assert types(other) == (nn.ReLU,) * 2
    assert types(net) == (undying.SUGAR,) * 2
    assert types(first) == (nn.ReLU,) * 2
