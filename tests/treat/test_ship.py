"""Trained with SUGAR, reverted, pruned, exported: what runs elsewhere computes the same, with one Relu a site."""

from __future__ import annotations

import functools
import warnings
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock

import undying
from inductor import HAS_COMPILER

BATCH = 4


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip


def resnet():
    """resnet18 with half of its blocks, one of each kind."""
    return torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


def mobilenet_v3():
    """mobilenet_v3_small up to the first block with another activation; those before it are with and without squeezing."""
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 3, 72, 24, False, "RE", 2, 1, 1.0),
        InvertedResidualConfig(24, 3, 88, 24, False, "RE", 1, 1, 1.0),
        InvertedResidualConfig(24, 5, 96, 40, True, "HS", 2, 1, 1.0),
    ]
    return torchvision.models.MobileNetV3(blocks, 256, num_classes=10)


NETWORKS = {"small CNN": small_cnn, "resnet": resnet, "mobilenet_v3": mobilenet_v3}


def killed(net, share=0.3):
    """Some channels of every norm that a ReLU follows are dead, as after a spike of the learning rate."""
    for module in net.modules():
        for first, second in zip([*module.children()], [*module.children()][1:], strict=False):
            if isinstance(first, nn.BatchNorm2d) and isinstance(second, nn.ReLU):
                with torch.no_grad():
                    first.bias[: int(share * len(first.bias))] = -1e3


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def shipped(request):
    return ship(request.param)


@functools.cache
def ship(name):
    """(network, its input, what it gives, how many Relus it has), after training with SUGAR, revert_ and prune_."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    x = torch.randn(BATCH, 3, 40, 40)
    killed(net)
    undying.convert_(net, undying.SUGAR())
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.arange(BATCH)).backward()
        optimizer.step()
    undying.revert_(net)
    net.eval()
    with torch.no_grad():
        before = net(x)
    report = undying.prune_(net, undying.census(net, x), x, data=x)
    assert report.cut >= 4
    with torch.no_grad():
        after = net(x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))
    return net, x, after, sum(site.kind == "ReLU" for site in undying.census(net, x).sites)


def near(got, wanted, share=1e-4):
    assert np.abs(np.asarray(got) - wanted.numpy()).max() <= share * float(wanted.abs().max())


@pytest.fixture(scope="module")
def exported(shipped, tmp_path_factory):
    net, x, _, _ = shipped
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(net, (x,), path, dynamo=True, verbose=False, external_data=False)
    return path


def test_export_has_a_relu_a_site(shipped):
    net, x, wanted, sites = shipped
    program = torch.export.export(net, (x,))
    called = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    assert called["aten.relu.default"] + called["aten.relu_.default"] == sites
    assert not any("undying" in name or "where" in name for name in called)
    near(program.module()(x).detach(), wanted)


def test_onnx_has_a_relu_a_site_and_runs_without_torch(shipped, exported):
    _, x, wanted, sites = shipped
    kinds = Counter(node.op_type for node in onnx.load(exported).graph.node)
    assert kinds["Relu"] == sites
    session = onnxruntime.InferenceSession(exported)
    near(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], wanted)


class Batches(CalibrationDataReader):
    def __init__(self, name, x):
        self.left = iter([{name: x.numpy()}])

    def get_next(self):
        return next(self.left, None)


@pytest.mark.filterwarnings("ignore")
def test_int8_by_onnxruntime_stays_near(shipped, exported, tmp_path):
    _, x, wanted, _ = shipped
    session = onnxruntime.InferenceSession(exported)
    name = session.get_inputs()[0].name
    quantize_static(exported, tmp_path / "int8.onnx", Batches(name, x), per_channel=True)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert kinds["QuantizeLinear"] > 0
    got = onnxruntime.InferenceSession(tmp_path / "int8.onnx").run(None, {name: x.numpy()})[0]
    assert np.abs(got - wanted.numpy()).max() < 0.2 * float(wanted.abs().max() + 1e-3)


@pytest.mark.skipif(not HAS_COMPILER, reason="AOTInductor compiles C++, and there is no compiler")
def test_aot_inductor_gives_a_library_that_computes_the_same(tmp_path):
    net, x, wanted, _ = ship("small CNN")
    path = torch._inductor.aoti_compile_and_package(
        torch.export.export(net, (x,)), package_path=str(tmp_path / "n.pt2")
    )
    near(torch._inductor.aoti_load_package(path)(x), wanted)
