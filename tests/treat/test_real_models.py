"""convert_ and revert_ over networks that nobody wrote for us, against an oracle that shares no code with undying.

The oracle is the original network run under a TorchFunctionMode that puts a hand-written rule (ReLU forward, the
derivative of B-SiLU backward) in the place of each call of the target, as F.relu or whatever it is spelled.

The table in ``docs/convert-models.md`` is made from the cases below; a row that is no longer true fails its test.
To write the page again: ``python tests/treat/test_real_models.py``.
"""

import contextlib
import copy
import functools
import importlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import undying

PAGE = Path(__file__).parents[2] / "docs" / "convert-models.md"


# The oracle


class Rule(torch.autograd.Function):
    """max(x, 0), with the derivative s + (x + 1.67) s (1 - s), s = sigmoid(x): B-SiLU's, arXiv:2505.22074."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, torch.zeros_like(x))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = 1 / (1 + torch.exp(-x))
        return g * (s + (x + 1.67) * s * (1 - s))


FUNCTIONS = {
    nn.ReLU: {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_},
    nn.ReLU6: {F.relu6, F.hardtanh},  # nn.ReLU6 is a Hardtanh; no network below has a Hardtanh of its own
    nn.GELU: {F.gelu},
}


class Oracle(TorchFunctionMode):
    """Runs ``Rule`` for every call of ``target`` and counts them; inside ``library`` modules calls stay as they are."""

    def __init__(self, model, target, library):
        super().__init__()
        self.functions, self.calls, self.inside = FUNCTIONS[target], 0, 0
        for module in model.modules():
            if isinstance(module, library):
                module.register_forward_pre_hook(lambda *_: self._step(1))
                module.register_forward_hook(lambda *_: self._step(-1))

    def _step(self, by):
        self.inside += by

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in self.functions or self.inside:
            return func(*args, **kwargs)
        self.calls += 1
        x = args[0] if args else kwargs["input"]
        if func.__name__ in ("relu_", "hardtanh_") or kwargs.get("inplace") or (func is F.relu and args[1:] == (True,)):
            return x.copy_(Rule.apply(x.clone()))
        return Rule.apply(x)


# The networks


@dataclass(frozen=True)
class Case:
    """``build()`` gives the network, ``example()`` its input as convert_ takes it, both of random numbers."""

    id: str
    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    target: type[nn.Module] = nn.ReLU
    train: bool = False
    """Gradients in training mode, where it runs more of the network than eval mode; dropout is off."""
    library: str = ""
    """Type, as module:name, of activations of the library's own that compute with the target."""
    dtype: torch.dtype = torch.float64

    def network(self):
        torch.manual_seed(0)
        model = self.build().to(self.dtype).train(self.train)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model

    def inputs(self):
        torch.manual_seed(1)
        return to(self.example(), self.dtype)

    def library_types(self):
        if not self.library:
            return ()
        module, _, name = self.library.partition(":")
        return (getattr(importlib.import_module(module), name),)


def image(size, channels=3):
    return lambda: torch.randn(2, channels, size, size)


def narrow(layer, count):
    """``layer`` takes an eighth of the ``count`` widths that it is given first, but images keep their channels."""
    init = layer.__init__

    def build(self, *args, **kwargs):
        init(self, *[width if width <= 3 else -(-width // 8) for width in args[:count]], *args[count:], **kwargs)

    return build


@contextlib.contextmanager
def an_eighth_as_wide():
    """For networks whose library has no argument for it: they keep their activations in the same places, and run in a
    tenth of the time."""
    from torchvision.ops import FrozenBatchNorm2d

    widths = {nn.Conv2d: 2, nn.Linear: 2, nn.BatchNorm2d: 1, FrozenBatchNorm2d: 1, nn.LayerNorm: 1}
    with pytest.MonkeyPatch.context() as patch:
        for layer, count in widths.items():
            patch.setattr(layer, "__init__", narrow(layer, count))
        yield


def vision(name, size=64, target=nn.ReLU, train=False, thin=True, **kwargs):
    def build():
        import torchvision

        with an_eighth_as_wide() if thin else contextlib.nullcontext():
            return torchvision.models.get_model(name, weights=None, **kwargs)

    return Case(f"torchvision {name}", build, image(size), target, train)


def timm_model(name, size=64, target=nn.ReLU, **kwargs):
    def build():
        import timm

        return timm.create_model(name, pretrained=False, **kwargs)

    return Case(f"timm {name}", build, image(size), target)


def words(*names):
    """Token ids by argument name."""
    return lambda: {"use_cache": False, **{name: torch.randint(0, 50, (2, 7)) for name in names}}


def pixels(size):
    return lambda: {"pixel_values": torch.randn(2, 3, size, size)}


def transformer(family, example, library="", **config):
    def build():
        import transformers

        made = getattr(transformers, f"{family}Config")(**config)
        return getattr(transformers, f"{family}Model")(made)

    return Case(f"transformers {family}", build, example, library=library)


class FasterRCNNParts(nn.Module):
    """The backbone and both heads of torchvision's detector, without the boxes between them."""

    def __init__(self):
        super().__init__()
        from torchvision.models.detection import fasterrcnn_resnet50_fpn

        whole = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        self.backbone, self.rpn_head, self.box_head = whole.backbone, whole.rpn.head, whole.roi_heads.box_head

    def forward(self, images):
        features = self.backbone(images)
        boxes = self.box_head(F.adaptive_avg_pool2d(features["0"], 7))
        return [*self.rpn_head(list(features.values())), boxes]


def faster_rcnn():
    with an_eighth_as_wide():
        return FasterRCNNParts()


def convnext_tiny():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt(
        [CNBlockConfig(8, 16, 3), CNBlockConfig(16, 32, 3), CNBlockConfig(32, 64, 9), CNBlockConfig(64, None, 3)]
    )


def vit_b_16():
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, num_layers=12, num_heads=12, hidden_dim=96, mlp_dim=384)


def ppo_policy():
    from stable_baselines3 import PPO

    return PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"activation_fn": nn.ReLU}, device="cpu").policy


SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 50}
TORCH = {"d_model": 16, "nhead": 2, "dim_feedforward": 24, "batch_first": True, "dropout": 0.0}


def sequences(*lengths):
    return lambda: tuple(torch.randn(2, length, 16) for length in lengths)


CASES = [
    vision("resnet18"),
    vision("resnet50"),
    vision("vgg16_bn", size=32, init_weights=False),
    vision("densenet121"),
    # Training mode, since the auxiliary heads run there only; 299 is the least that inception's head accepts.
    vision("googlenet", train=True, init_weights=False, dropout=0.0, dropout_aux=0.0),
    vision("inception_v3", size=299, train=True, init_weights=False, dropout=0.0),
    vision("squeezenet1_0"),
    vision("shufflenet_v2_x1_0", thin=False),
    vision("regnet_y_400mf", thin=False),
    vision("mobilenet_v2", target=nn.ReLU6, thin=False, width_mult=0.25),
    vision("swin_t", target=nn.GELU),
    Case("torchvision convnext_tiny", convnext_tiny, image(64), nn.GELU),
    Case("torchvision vit_b_16", vit_b_16, image(64), nn.GELU),
    Case("torchvision fasterrcnn_resnet50_fpn", faster_rcnn, image(64)),
    timm_model("resnet18", channels=(8, 16, 32, 64)),
    timm_model("resnetv2_18", channels=(8, 16, 32, 64), stem_chs=8),
    timm_model("convnext_atto", target=nn.GELU, dims=(8, 16, 32, 64)),
    timm_model("swin_tiny_patch4_window7_224", size=56, target=nn.GELU, img_size=56, embed_dim=12),
    transformer("Bert", words("input_ids"), **SMALL, hidden_act="relu"),
    transformer(
        "OPT",
        words("input_ids"),
        num_hidden_layers=2,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=24,
        num_attention_heads=2,
        vocab_size=50,
        activation_function="relu",
    ),
    transformer(
        "T5",
        words("input_ids", "decoder_input_ids"),
        num_layers=2,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_heads=2,
        vocab_size=50,
        feed_forward_proj="relu",
    ),
    transformer(
        "Bart",
        words("input_ids", "decoder_input_ids"),
        encoder_layers=2,
        decoder_layers=2,
        d_model=16,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        vocab_size=50,
        activation_function="relu",
    ),
    transformer("ResNet", pixels(64), embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], hidden_act="relu"),
    transformer(
        "Swin",
        pixels(32),
        image_size=32,
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=4,
        hidden_act="relu",
    ),
    transformer(
        "Nemotron",
        words("input_ids"),
        library="transformers.activations:ReLUSquaredActivation",
        **SMALL,
        num_key_value_heads=2,
        hidden_act="relu2",
    ),
    Case(
        "nn.Transformer",
        lambda: nn.Transformer(num_encoder_layers=2, num_decoder_layers=2, **TORCH),
        sequences(5, 4),
    ),
    Case(
        "nn.TransformerEncoder",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**TORCH), num_layers=2),
        sequences(5),
    ),
    Case("nn.TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(**TORCH), sequences(5)),
    Case("nn.TransformerDecoderLayer", lambda: nn.TransformerDecoderLayer(**TORCH), sequences(5, 4)),
    Case(
        "stable-baselines3 MlpPolicy",
        ppo_policy,
        lambda: {"obs": torch.randn(4, 4), "deterministic": True},
        dtype=torch.float32,  # to which the policy itself casts observations
    ),
]
BY_ID = {case.id: case for case in CASES}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id.replace(" ", "-"))
def case(request):
    """Every network; the tests of one come one after the other."""
    return request.param


@pytest.fixture(scope="module")
def network(case):
    """The network as it is built, to be copied."""
    return case.network()


@pytest.fixture(scope="module")
def unconverted(case, network):
    """Its outputs and parameter gradients."""
    with one_thread():
        return run(copy.deepcopy(network), case.inputs())


# Running them


@contextlib.contextmanager
def one_thread():
    """Workers share the cores, and sums in one order make bit for bit mean something."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def to(inputs, dtype):
    """The inputs with every floating point tensor in ``dtype``."""
    if isinstance(inputs, Tensor):
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    if isinstance(inputs, dict):
        return {key: to(value, dtype) for key, value in inputs.items()}
    return tuple(to(value, dtype) for value in inputs) if isinstance(inputs, tuple) else inputs


def call(model, inputs):
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def tensors(output):
    """Every floating point tensor in what a network returned, in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return tensors(list(output.values()))
    return [t for part in output for t in tensors(part)] if isinstance(output, Sequence) else []


def loss(output):
    """One number in which no two elements weigh the same, so that no gradient is zero by symmetry."""
    return sum((t * torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).reshape(t.shape)).sum() for t in tensors(output))


def run(model, inputs):
    """Outputs and parameter gradients; the gradients are None where a parameter is not used."""
    output = call(model, inputs)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(loss(output), parameters.values(), allow_unused=True)
    return [t.detach() for t in tensors(output)], dict(zip(parameters, grads, strict=True))


def convert(model, case):
    return undying.convert_(model, undying.SUGAR(), (case.target,), functional=True, example=case.inputs())


def assert_gradients_close(got, expected, dtype=torch.float64):
    """Equal but for rounding, on the scale of the whole gradient."""
    assert got.keys() == expected.keys()
    scale = max(g.abs().max().item() for g in expected.values() if g is not None)
    tolerance = torch.finfo(dtype).eps ** 0.5
    for name, grad in expected.items():
        assert (grad is None) == (got[name] is None), name
        if grad is not None:
            torch.testing.assert_close(
                got[name], grad, rtol=tolerance, atol=tolerance * 1e-2 * scale, msg=lambda m, n=name: f"{n}: {m}"
            )


def equal(got, expected):
    """Bit for bit, None where None; dicts in one order of keys."""
    if isinstance(expected, dict):
        return list(got) == list(expected) and equal(list(got.values()), list(expected.values()))
    return len(got) == len(expected) and all(
        a is b is None or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(got, expected, strict=True)
    )


def traces(model):
    """What undying left in a network."""
    return [
        (name, key)
        for name, module in model.named_modules()
        for key, value in [("type", type(module)), *vars(module).items(), *module._modules.items()]
        if "undying" in key or "undying" in (value if isinstance(value, type) else type(value)).__module__
    ]


def test_gradients_forward_and_number_of_calls_are_the_oracles(case, network, unconverted):
    model, watched = copy.deepcopy(network), copy.deepcopy(network)
    inputs = case.inputs()

    outputs, before = unconverted
    oracle = Oracle(watched, case.target, case.library_types())
    with oracle:
        oracle_outputs, expected = run(watched, inputs)
    report = convert(model, case)
    converted_outputs, got = run(model, inputs)

    calls = sum(row.calls for row in report.rows if row.new is not None and row.alias_of is None)
    assert calls == oracle.calls, report
    assert_gradients_close(got, expected, case.dtype)
    if case.target is nn.ReLU:
        assert equal(converted_outputs, outputs)
    else:
        assert all(torch.allclose(a, b) for a, b in zip(converted_outputs, oracle_outputs, strict=True))
    # Without this the test would pass on a network in which nothing happens.
    assert equal(got, before) == bool(case.library)
    assert not report.notes
    assert summary(case, report) in PAGE.read_text(encoding="utf-8"), (
        "the page is out of date; see the module's docstring"
    )


def test_round_trip_is_exact_and_checkpoints_load_at_every_stage(case, network, unconverted):
    original, model = copy.deepcopy(network), copy.deepcopy(network)
    inputs = case.inputs()
    before = copy.deepcopy(original.state_dict())

    report = convert(model, case)
    assert equal(dict(model.state_dict()), dict(before)), "looking for calls changed the state"
    assert bool(traces(model)) == (not case.library)
    model.load_state_dict(before)
    original.load_state_dict(copy.deepcopy(model.state_dict()))

    assert undying.revert_(model, allow_change=True) == report.converted
    assert traces(model) == []
    assert [(n, type(m), m.training) for n, m in model.named_modules()] == [
        (n, type(m), m.training) for n, m in original.named_modules()
    ]
    assert [vars(m).keys() for m in model.modules()] == [vars(m).keys() for m in original.modules()]
    assert equal(dict(model.state_dict()), dict(before))
    assert equal(dict(original.state_dict()), dict(before))
    (outputs, grads), (outputs_before, grads_before) = run(model, inputs), unconverted
    assert equal(outputs, outputs_before)
    assert equal(grads, grads_before)


def test_a_library_activation_is_left_and_the_reason_given():
    case = BY_ID["transformers Nemotron"]
    report = convert(case.network(), case)
    assert [(row.name, row.old, row.calls) for row in report.left] == [
        (f"layers.{i}.mlp.act_fn", "F.relu", 1) for i in range(2)
    ]
    assert all("ReLUSquared" in row.reason for row in report.left)


# What people do with a network that they have converted


def through_compile(model, inputs, part):
    torch.compiler.reset()
    model.get_submodule(part).compile(fullgraph=True, backend="aot_eager")
    return run(model, inputs)[1]


def through_func_grad(model, inputs, part):
    args, kwargs = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return torch.func.grad(lambda p: loss(torch.func.functional_call(model, p, args, kwargs)))(parameters)


def through_checkpoint(model, inputs, part):
    inner = model.get_submodule(part)
    forward = inner.forward
    inner.forward = lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return run(model, inputs)[1]


WAYS = {
    "deepcopy": lambda model, inputs, part: run(copy.deepcopy(model), inputs)[1],
    "pickle": lambda model, inputs, part: run(pickle.loads(pickle.dumps(model)), inputs)[1],
    "compile": through_compile,
    "func_grad": through_func_grad,
    "checkpoint": through_checkpoint,
}


@functools.cache
def with_the_oracles_gradients(name):
    """(case, its network in eval mode, since func.grad would update batch norm's statistics, what the oracle gives)"""
    case = BY_ID[name]
    model = case.network().eval()
    watched = copy.deepcopy(model)
    with Oracle(watched, case.target, ()):
        return case, model, run(watched, case.inputs())[1]


# Dynamo's look at an input that is no leaf: torch hides its own warning, but not from a filter that makes it an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("torchvision googlenet", "inception3a.branch2"),
        ("torchvision densenet121", "features.denseblock1"),
        ("nn.TransformerEncoderLayer", ""),
    ],
)
def test_a_converted_network_goes_on_giving_the_oracles_gradients(name, part, way):
    case, original, expected = with_the_oracles_gradients(name)
    model = copy.deepcopy(original)
    convert(model, case)
    got = WAYS[way](model, case.inputs(), part)
    used = {name for name, grad in expected.items() if grad is not None}
    assert_gradients_close({n: got[n] for n in got if n in used}, {n: expected[n] for n in expected if n in used})


# What other tools make of a network that was converted and reverted


def reverted(model, example, activation=None):
    undying.convert_(model, activation or undying.SUGAR(), functional=True, example=example)
    undying.revert_(model, allow_change=activation is not None)
    return model


@pytest.fixture
def resnet():
    """resnet18 as it came, and one that was converted and reverted, in eval mode, with an input."""
    case = BY_ID["torchvision resnet18"]
    original = case.network()
    inputs = case.inputs()
    return original, reverted(copy.deepcopy(original), inputs), inputs


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_jit_script_takes_a_reverted_network(resnet):
    original, again, x = resnet
    assert torch.equal(torch.jit.script(again)(x), original(x))


def test_fx_traces_a_reverted_network_as_before(resnet):
    codes = [torch.fx.symbolic_trace(model).code for model in resnet[:2]]
    assert codes[0] == codes[1]


def test_export_gives_the_same_graph_as_before(resnet):
    codes = [torch.export.export(model, (resnet[2],)).graph_module.code for model in resnet[:2]]
    assert codes[0] == codes[1]
    assert "aten.relu" in codes[0]


class ConvBnRelu(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        return F.relu(self.relu(self.bn(self.conv(x))) - 0.5)


def test_fuse_modules_fuses_a_reverted_network():
    from torch.ao.nn.intrinsic import ConvReLU2d
    from torch.ao.quantization import fuse_modules

    x = torch.randn(2, 3, 8, 8)
    model = reverted(ConvBnRelu(), x).eval()
    fused = fuse_modules(model, [["conv", "bn", "relu"]])
    assert type(fused.conv) is ConvReLU2d
    torch.testing.assert_close(fused(x), model(x))


def test_onnx_export_of_a_reverted_network_has_relu_nodes():
    x = torch.randn(2, 3, 8, 8)
    model = reverted(ConvBnRelu(), x, undying.BAReLU()).eval()
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    kinds = [node.op_type for node in program.model.graph]
    assert kinds.count("Relu") == 2
    assert "LeakyRelu" not in kinds


# The page

HEADER = """\
# Where real networks keep their activations

What `undying.convert_(model, undying.SUGAR(), targets, functional=True, example=x)` finds in networks of other
libraries. In each of them the gradients after conversion equal those of an independent oracle, and `revert_` gives the
original back bit for bit: `tests/treat/test_real_models.py`, which also made this table
(`python tests/treat/test_real_models.py`) and fails if a row is no longer true. Versions: {versions}.

- **modules**: distinct modules; in brackets how often one forward pass calls them, where that is another number.
- **attributes**: functions held as one, such as `self.activation = F.relu`.
- **calls**: of a function inside a forward, such as `F.relu(x)`. They need `functional=True`.

Faster R-CNN is its backbone and its two heads. The auxiliary heads of googlenet and inception_v3 are counted; they run in
training mode only. Networks of torchvision and timm are built as deep as they are, but most of them narrower. Networks of
transformers, nn.Transformer and its layers are built small, two layers each. The policy is PPO's on CartPole with
`activation_fn=nn.ReLU`.

| model | target | modules | attributes | calls | left, and why |
| --- | --- | --- | --- | --- | --- |
"""


def summary(case, report):
    """The case's row of the table."""
    done = [row for row in report.rows if row.new is not None and row.alias_of is None]
    called = {kind: sum(row.calls for row in done if row.kind == kind) for kind in ("module", "attribute", "call")}
    modules = sum(row.kind == "module" for row in done)
    reasons: dict[str, list[str]] = {}
    for row in report.left:
        reasons.setdefault(row.reason, []).append(row.name)
    cells = [
        case.id,
        f"nn.{case.target.__name__}",
        f"{modules}" if modules == called["module"] else f"{modules} ({called['module']} calls)",
        sum(row.kind == "attribute" for row in done),
        called["call"],
        "; ".join(f"`{', '.join(names)}`: {reason}" for reason, names in reasons.items()) or "–",
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def main():
    from importlib.metadata import version

    torch.set_num_threads(1)
    names = ("torch", "torchvision", "timm", "transformers", "stable-baselines3")
    rows = "".join(summary(case, convert(case.network(), case)) for case in CASES)
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    PAGE.write_text(HEADER.format(versions=versions) + rows, encoding="utf-8")


if __name__ == "__main__":
    main()
