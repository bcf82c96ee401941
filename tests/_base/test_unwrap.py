"""What is no network is refused by every entry, with the networks that it holds."""

import pytest
import torch
from torch import nn

import undying


class Agent:
    def __init__(self):
        self.steps, self.policy, self.critic = 5, nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(4, 1)


X = torch.randn(9, 4)
ENTRIES = {
    "census": lambda agent: undying.census(agent, X),
    "watch": lambda agent: undying.watch(agent, None),
    "plasticity": lambda agent: undying.plasticity(agent, X),
    "audit": lambda agent: undying.audit(agent, X),
    "convert_": lambda agent: undying.convert_(agent, undying.SUGAR()),
    "revert_": undying.revert_,
    "recycle_": lambda agent: undying.recycle_(agent, None, probe=X),
    "Recycler": lambda agent: undying.Recycler(agent, None, undying.ReDo(), probe=X),
    "prune_": lambda agent: undying.prune_(agent, undying.census(agent.policy, X), X),
    "certify": lambda agent: undying.certify(agent, (torch.zeros(1, 4), torch.ones(1, 4))),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_what_holds_networks_is_refused_and_they_are_named(entry):
    with pytest.raises(TypeError, match=r"must be an nn.Module, not Agent; give what it holds: \.policy, \.critic"):
        entry(Agent())
    with pytest.raises(TypeError, match=r"must be an nn.Module, not function$"):
        undying.census(lambda x: x, X)
