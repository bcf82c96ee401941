"""Certificates of a path that is not ``forward``, against the same path written as a network of its own."""

import pytest
import torch
from torch import nn

import undying


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        with torch.no_grad():
            for part in (self.critic, self.actor):
                part[0].bias[:3] = -10.0

    def get_value(self, x):
        return self.critic(2 * x - 1)

    def forward(self, x):
        return self.actor(x), self.critic(x)


class Valued(nn.Module):
    def __init__(self, critic):
        super().__init__()
        self.critic = critic

    def forward(self, x):
        return self.critic(2 * x - 1)


@pytest.fixture
def agent():
    torch.manual_seed(0)
    return Agent()


BOX = torch.zeros(1, 4), torch.ones(1, 4)


@pytest.mark.parametrize("by", ["name", "function", "function of the model"])
def test_a_method_is_bounded_as_a_network_of_its_own(agent, by):
    if by == "function of the model":
        found, alone = undying.certify(agent, BOX, method=lambda x: agent(2 * x - 1)[1]), None
        assert {site.name for site in found.sites} == {"actor.1", "critic.1"}
    else:
        found = undying.certify(agent, BOX, method="get_value" if by == "name" else agent.get_value)
        assert [site.name for site in found.sites] == ["critic.1"]
    alone = undying.certify(Valued(agent.critic), BOX)
    for end in ("upper", "lower"):
        assert torch.equal(getattr(found["critic.1"], end), getattr(alone["critic.1"], end))
    assert found["critic.1"].dead.sum() == 3
    x = torch.rand(1000, 4)
    with torch.no_grad():
        assert (agent.critic[0](2 * x - 1) <= found["critic.1"].upper).all()
    assert not torch.equal(found["critic.1"].upper, undying.certify(agent, BOX)["critic.1"].upper)


def test_the_model_is_left_as_it_was(agent):
    before = dict(vars(agent))
    undying.certify(agent, BOX, method="get_value")
    with pytest.raises(undying._base.errors.UndyingError):
        undying.certify(agent, BOX, method=lambda x: agent(x)[0] if x.sum() > 0 else x)
    assert vars(agent) == before
    assert len(agent(torch.rand(2, 4))) == 2


def test_there_is_no_such_method(agent):
    with pytest.raises(TypeError, match="name a method of Agent, not 'value'"):
        undying.certify(agent, BOX, method="value")


def test_what_would_change_every_path_refuses_it(agent):
    """Planted: a unit that never fires by get_value and does by forward."""
    with torch.no_grad():
        agent.critic[0].weight[5], agent.critic[0].bias[5] = 1.0, -3.9
    box = torch.zeros(1, 4), torch.full((1, 4), 0.9)
    certificate = undying.certify(agent, box, method="get_value")
    assert certificate["critic.1"].dead[5]
    assert certificate.model == "Agent.get_value"
    assert "to Agent.get_value in eval mode" in certificate.covers
    assert (agent.critic[0](torch.ones(1, 4)) > 0)[0, 5]
    with pytest.raises(ValueError, match=r"certificate is of a Agent\.get_value, and the network is a Agent"):
        undying.prune_(agent, certificate, example=torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"certificate is of a Agent\.get_value, and the network is a Agent"):
        undying.recycle_(agent, probe=torch.rand(8, 4), units=certificate)
