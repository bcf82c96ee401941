"""torchao quantises a reverted network as it does the original."""

import copy

import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import undying


def test_a_reverted_network_is_quantised_like_the_original():
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    original = copy.deepcopy(net)
    undying.convert_(net, undying.SUGAR())
    undying.revert_(net)
    x = torch.randn(4, 64)
    for network in (net, original):
        quantize_(network, Int8WeightOnlyConfig())
    assert type(net[0].weight) is type(original[0].weight) is not nn.Parameter
    assert torch.equal(net(x), original(x))
