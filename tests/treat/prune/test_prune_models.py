"""prune_ over networks that nobody wrote for us, small ones of their kind, with deaths planted at every site."""

import copy
import re

import pytest
import torch
from torch import nn

import undying


def resnet18():
    from torchvision.models import ResNet
    from torchvision.models.resnet import BasicBlock

    return ResNet(BasicBlock, [2, 1, 1, 1], num_classes=5), norms


def resnet50():
    from torchvision.models import ResNet
    from torchvision.models.resnet import Bottleneck

    return ResNet(Bottleneck, [2, 1, 1, 1], num_classes=5, width_per_group=16), norms


def vgg16_bn():
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers([v if v == "M" else v // 8 for v in cfgs["D"]], batch_norm=True)
    head = [nn.Linear(64, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 5)]
    return nn.Sequential(features, nn.Flatten(), *head), lambda net: [*norms(net), net[2]]


def densenet121():
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 2), 16, num_classes=5), norms


def mobilenet_v2():
    import torchvision

    def before_relu6(net):
        from torchvision.ops import Conv2dNormActivation

        return [m[1] for m in net.modules() if isinstance(m, Conv2dNormActivation)]

    return torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.5), before_relu6


def regnet_y():
    from torchvision.models import RegNet
    from torchvision.models.regnet import BlockParams

    widths = BlockParams.from_init_params(depth=4, w_0=16, w_a=12, w_m=2, group_width=8, se_ratio=0.25)

    def squeezing_too(net):
        return [*norms(net), *(m.fc1 for name, m in net.named_modules() if name.endswith(".se"))]

    return RegNet(widths, num_classes=5, stem_width=16), squeezing_too


def googlenet():
    from torchvision.models.googlenet import BasicConv2d, Inception

    parts = [BasicConv2d(3, 8, kernel_size=3), *(Inception(i, 4, 4, 8, 4, 8, 4) for i in (8, 24))]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)), norms


def squeezenet():
    import torchvision

    def convolutions(net):
        return [m for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and name != "classifier.1"]

    net = torchvision.models.squeezenet1_1(num_classes=5)
    for module in convolutions(net):
        nn.init.constant_(module.bias, 0.5)  # without norms many units would be silent anyway
    return net, convolutions


def resnetv2():
    from timm.layers import BatchNormAct2d, create_conv2d
    from timm.models.resnetv2 import ResNetV2

    options = {"norm_layer": BatchNormAct2d, "conv_layer": create_conv2d}
    return ResNetV2(layers=(1, 2), channels=(16, 32), stem_chs=8, num_classes=5, **options), norms


def swin():
    from torchvision.models import SwinTransformer

    net = SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5)
    undying.convert_(net, nn.ReLU(), targets=(nn.GELU,))
    return net, lambda net: [m[0] for name, m in net.named_modules() if name.endswith(".mlp")]


def opt():
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=20, hidden_size=8, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=8,
        max_position_embeddings=16, activation_function="relu",
    )  # fmt: skip
    return OPTForCausalLM(config), lambda net: [layer.fc1 for layer in net.model.decoder.layers]


def norms(net):
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def example(make):
    if make is opt:
        return {"input_ids": torch.randint(20, (8, 9), generator=torch.Generator().manual_seed(1))}
    size = 64 if make is mobilenet_v2 else 32  # where the last norms see more than a batch of 8 numbers
    return torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))


def settled(make):
    """A network whose norms know its data, so that nothing is silent that was not planted."""
    net, where = make()
    x = example(make)
    for m in norms(net):
        m.momentum = None
    with torch.no_grad():
        net.train()(**x) if make is opt else net.train()(x)
    return net.eval(), where, x


def outputs(net, x):
    net.eval()
    with torch.no_grad():
        out = net(**x) if isinstance(x, dict) else net(x)
    return out if isinstance(out, torch.Tensor) else out.logits


def unheard(net, x):
    """How many numbers in parameters have a gradient of 0, whatever is asked of the output: nothing depends on them."""
    net = copy.deepcopy(net).double()  # in which rounding hides none
    out = net(**x).logits if isinstance(x, dict) else net(x.double())
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype))
    return sum(p.numel() if p.grad is None else int((p.grad.abs() < 1e-15).sum()) for p in net.parameters())


NETWORKS = [
    (resnet18, 11, ""), (resnet50, 16, ""), (vgg16_bn, 14, ""), (densenet121, 11, ""), (mobilenet_v2, 35, ""),
    (regnet_y, 21, r"\.f\.[ab]\.2"), (googlenet, 13, ""), (squeezenet, 26, r"classifier\.2"), (resnetv2, 10, ""),
    (swin, 2, ""), (opt, 2, ""),
]  # fmt: skip
"""How many sites, and the names of those whose units stay."""

REASONS = {
    regnet_y: r"f\.b\.0 is a convolution in [248] groups, out of which torch-pruning cannot cut",
    squeezenet: "the network returns it",
}


@pytest.mark.parametrize(("make", "sites", "stay"), NETWORKS, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_units_go_with_all_that_is_theirs(make, sites, stay):
    net, where, x = settled(make)
    with torch.no_grad():
        for module in where(net):
            module.bias[1] = -1e3
    before, unheard_before = outputs(net, x), unheard(net, x)
    counted = undying.census(net, [x])
    assert len(counted.sites) == sites
    dead = {site.name for site in counted.sites if site.silent is not None and site.silent[1]}
    assert len(dead) >= sites - (4 if make is regnet_y else 1 if make is squeezenet else 0)  # sigmoids, and the classes
    report = undying.prune_(net, counted, x, data=[x])
    assert float((outputs(net, x) - before).abs().max()) <= 1e-5 * float(before.abs().max())
    refused = {row.name for row in report.rows if row.refused}
    assert all(re.search(f"{stay}$", name) for name in refused) if stay else not refused
    assert {name for name in dead if not re.search(f"{stay}$", name) or not stay} <= {
        row.name for row in report.rows if 1 in row.cut
    }
    assert all(re.search(REASONS[make], why) for row in report.rows for why in row.refused.values())
    # What went is what nothing depended on: as many numbers, and of those that are left as many as there were.
    gone = report.before.parameters - sum(p.numel() for p in net.parameters())
    assert gone == unheard_before - unheard(net, x) > 0
    left = undying.census(net, [x])
    assert sum(int(site.silent.sum()) for site in left.sites if site.silent is not None) == report.refused


def test_another_process_loads_recipes_and_weights(tmp_path, fresh):
    from safetensors.torch import save_file

    counts = []
    for make in (mobilenet_v2, vgg16_bn):
        net, where, x = settled(make)
        with torch.no_grad():
            for module in where(net):
                module.bias[1] = -1e3
        folder = tmp_path / make.__name__
        folder.mkdir()
        report = undying.prune_(net, undying.census(net, [x]), x)
        report.save_recipe(folder / "recipe.json")
        save_file(net.state_dict(), folder / "weights.safetensors")
        save_file({"x": x, "y": outputs(net, x)}, folder / "pair.safetensors")
        counts.append(report.after.parameters)
    ran = fresh(
        f"""
import importlib.util, sys, torch, undying
from pathlib import Path
from safetensors.torch import load_file
spec = importlib.util.spec_from_file_location("networks", {__file__!r})
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)
torch.manual_seed(5)
for name in ("mobilenet_v2", "vgg16_bn"):
    folder = Path({str(tmp_path)!r}) / name
    net, _ = getattr(networks, name)()
    undying.apply_recipe_(net, folder / "recipe.json")
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    pair = load_file(folder / "pair.safetensors")
    y = networks.outputs(net, pair["x"])
    assert torch.allclose(y, pair["y"], rtol=0, atol=1e-6 * float(pair["y"].abs().max()))
    print(sum(p.numel() for p in net.parameters()))
assert "torch_pruning" not in sys.modules
"""
    )
    assert ran.returncode == 0, ran.stderr
    assert [int(line) for line in ran.stdout.split()] == counts
