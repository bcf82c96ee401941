"""recycle_ over networks that nobody wrote for us, small ones of their kind, with deaths planted wherever a bias allows."""

import pytest
import torch
from torch import nn

import undying


def resnet():
    import torchvision

    return torchvision.models.resnet18(num_classes=3), torch.randn(4, 3, 32, 32)


def vgg():
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers([v if v == "M" else v // 8 for v in cfgs["A"]], batch_norm=True)
    return nn.Sequential(features, nn.Flatten(), nn.Linear(64, 3)), torch.randn(4, 3, 32, 32)


def densenet():
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 2), 16, num_classes=3), torch.randn(4, 3, 32, 32)


def mobilenet():
    import torchvision

    return torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.5), torch.randn(4, 3, 32, 32)


def googlenet():
    from torchvision.models.googlenet import BasicConv2d, Inception

    parts = [BasicConv2d(3, 8, kernel_size=3), *(Inception(i, 4, 4, 8, 4, 8, 4) for i in (8, 24))]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3)), torch.randn(4, 3, 16, 16)


def swin():
    from torchvision.models import SwinTransformer

    net = SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=3)
    undying.convert_(net, nn.ReLU(), targets=(nn.GELU,))
    return net, torch.randn(4, 3, 32, 32)


def resnetv2():
    from timm.layers import BatchNormAct2d, create_conv2d
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2(
        layers=(1, 2), channels=(16, 32), stem_chs=8, num_classes=3, norm_layer=BatchNormAct2d, conv_layer=create_conv2d
    ), torch.randn(4, 3, 32, 32)


def opt():
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=20, hidden_size=8, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=8,
        max_position_embeddings=16, activation_function="relu",
    )  # fmt: skip
    return OPTForCausalLM(config), {"input_ids": torch.randint(20, (4, 9))}


def policy():
    from stable_baselines3 import PPO

    return PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"activation_fn": nn.ReLU}, device="cpu").policy, torch.randn(
        9, 4
    )


READ_BY_NORMS = {"features.relu0"}
"""In densenet norms of several layers read it, and their activations: unit 1 is 0 to them, so that their own cannot fire."""

BEHIND = {
    "features.denseblock1.denselayer1.relu1",
    "features.denseblock1.denselayer2.relu1",
    "features.transition1.relu",
}

ADDED = {"relu", "layer1.0.relu#2", "layer2.0.relu#2", "layer3.0.relu#2", "layer4.0.relu#2"}
"""In resnet18 these are added to what the next block gives; where the next block begins with a convolution, they are not."""

NETWORKS = [
    (resnet, 17, ADDED), (vgg, 8, set()), (densenet, 11, READ_BY_NORMS), (mobilenet, 35, set()), (googlenet, 13, set()),
    (swin, 2, set()), (resnetv2, 10, set()), (opt, 2, set()), (policy, 4, set()),
]  # fmt: skip


def plant(net):
    """Unit 1 of every norm, or of every layer where there is none, has a bias that makes it dead if a ReLU is behind."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    layers = [m for name, m in net.named_modules() if isinstance(m, nn.Linear) and "attn" not in name]
    with torch.no_grad():
        for module in norms or layers:
            if module.bias is not None and len(module.bias) > 3:
                module.bias[1] = -1e6


def outputs(net, batch):
    net.eval()
    torch.manual_seed(1)  # the policy draws its actions
    with torch.no_grad():
        out = net(**batch) if isinstance(batch, dict) else net(batch)
    values = out if isinstance(out, tuple) else out.values() if isinstance(out, dict) else [out]
    return [value.clone() for value in values if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize(("make", "sites", "refused"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_units_are_recycled_wherever_they_can_be(make, sites, refused):
    net, batch = make()
    plant(net)
    optimizer = torch.optim.Adam(net.parameters(), 1e-6)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    counted = undying.census(net, batch)
    dead = {site.name: [1] for site in counted.sites if site.silent[1]}
    assert (len(counted.sites), len(dead)) == (sites, sites)
    before, weights = outputs(net, batch), [p.detach().clone() for p in net.parameters()]
    report = undying.recycle_(net, optimizer, counted, probe=[batch], units=dead)
    assert all(torch.equal(a, b) for a, b in zip(outputs(net, batch), before, strict=True))
    assert {row.name for row in report.rows if row.refused} == refused, str(report)
    counted = undying.census(net, batch)
    silent = {row.name for row in report.rows if row.recycled and counted[row.name].silent[1]}
    assert silent == {row.name for row in report.rows if row.silent} == (BEHIND if make is densenet else set())
    for p, old in zip(net.parameters(), weights, strict=True):
        for moment in ("exp_avg", "exp_avg_sq"):
            assert (optimizer.state[p][moment][p != old] == 0).all()
        # Of the others none is 0, as every gradient was a draw; a weight that is 0 again did not change.
        assert (optimizer.state[p]["exp_avg"][(p == old) & (p != 0) & (p != 1)] != 0).all()
