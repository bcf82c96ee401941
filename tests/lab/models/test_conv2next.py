"""Conv2NeXt against its description: sizes, stages, and the parts written out another way."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undying.lab import models
from undying.lab.models.conv2next import Block, ChannelNorm, MixSACA


@pytest.mark.parametrize(
    ("name", "count"),
    [("conv2next_tiny", 3_261_288), ("conv2next_base", 7_360_976), ("conv2next_large", 37_994_205)],
)
def test_parameters_with_10_classes(name, count):
    with torch.device("meta"):
        model = models.build(name, (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == count


def test_one_down_sampling_between_stages_1_and_2():
    model = models.build("conv2next_tiny", (3, 32, 32), 10)
    x, sizes = torch.zeros(2, 3, 32, 32), {}
    for name, part in model.named_children():
        x = part(x)
        sizes[name] = tuple(x.shape[1:])
    assert sizes["stage0"] == sizes["stage1"] == (96, 32, 32)
    assert sizes["stage2"] == sizes["stage3"] == (192, 16, 16)
    assert sizes["head"] == (10,)


def test_a_block_is_its_formula():
    block = Block(6, 0.0).double().train()
    nn.init.normal_(block.gamma)
    x = torch.randn(4, 6, 5, 5, dtype=torch.double)

    def depthwise_and_norm(part, y):
        convolution = part[0]
        y = F.conv2d(y, convolution.weight, convolution.bias, padding=1, groups=6)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        return (y - mean) / (variance + 1e-5).sqrt()

    u = depthwise_and_norm(block.before, x)
    hidden = F.gelu(
        torch.einsum("nchw,dc->ndhw", u, block.expand.weight[:, :, 0, 0]) + block.expand.bias[:, None, None]
    )
    out = torch.einsum("nchw,dc->ndhw", hidden, block.contract.weight[:, :, 0, 0]) + block.contract.bias[:, None, None]
    v = u + block.gamma * out
    torch.testing.assert_close(block(x), x + depthwise_and_norm(block.after, v))


def test_the_attention_is_its_formula():
    mixed = MixSACA(8).double().eval()
    x = torch.randn(2, 8, 3, 5, dtype=torch.double)
    a, b = x[:, :4], x[:, 4:]
    conv, norm, _ = mixed.squeeze

    def squeezed(line):  # (N, C, L)
        y = torch.einsum("ncl,dc->ndl", line, conv.weight[:, :, 0, 0]) + conv.bias[:, None]
        y = y / (1 + norm.eps) ** 0.5
        return y * (y + 3).clamp(0, 6) / 6

    def gate(part, line):
        return (torch.einsum("ncl,dc->ndl", squeezed(line), part.weight[:, :, 0, 0]) + part.bias[:, None]).sigmoid()

    left = a * gate(mixed.rows, a.mean(3))[..., None] * gate(mixed.columns, a.mean(2))[:, :, None]
    seen = torch.stack([b.max(1).values, b.mean(1)], dim=1)
    right = b * F.conv2d(seen, mixed.spatial.weight, mixed.spatial.bias, padding=1).sigmoid()
    y = torch.cat([left, right], 1) + x
    shuffled = y[:, [0, 2, 4, 6, 1, 3, 5, 7]]  # c/2 = 4 groups of 2, one member of each at a time
    torch.testing.assert_close(mixed(x), shuffled)


def test_initial_weights_and_norms():
    torch.manual_seed(0)
    model = models.build("conv2next_tiny", (3, 32, 32), 10)
    block = model.stage2[0]
    assert block.expand.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not block.expand.bias.any()
    assert torch.equal(block.gamma, torch.full_like(block.gamma, 1e-6))
    norm = ChannelNorm(4)
    y = norm(torch.randn(2, 4, 3, 3))
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 3), atol=1e-6, rtol=0)
