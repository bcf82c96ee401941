"""Calls in a forward, functions held as attributes, and what must not be touched: on small networks of our own.

Each gradient is compared with that of the same network run with hand-written rules in the place of the activation.
"""

import copy
import functools
import json
import random
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import undying
from undying.treat import forwards


def rule(value, slope):
    """A function of one tensor with this value and, whatever that value's own is, this derivative."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return value(x)

        @staticmethod
        def backward(ctx, g):
            return g * slope(ctx.saved_tensors[0])

    return Rule.apply


def positive(x):
    return torch.where(x > 0, x, torch.zeros_like(x))


def bsilu_slope(x):
    s = 1 / (1 + torch.exp(-x))
    return s + (x + 1.67) * s * (1 - s)


relu = rule(positive, lambda x: (x > 0).to(x.dtype))
sugar = rule(positive, bsilu_slope)
leaky = rule(lambda x: torch.where(x > 0, x, 0.01 * x), lambda x: torch.where(x > 0, 1.0, 0.01).to(x.dtype))


class Net(nn.Module):
    """``body(self, x)`` is the forward, over the given children and attributes."""

    def __init__(self, body, **members):
        super().__init__()
        self.body = body
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *args, **kwargs):
        return self.body(self, *args, **kwargs)


def linear():
    return nn.Linear(4, 4)


def one_call(function, **members):
    """A network that calls ``function`` between two layers."""
    return Net(lambda self, x: self.b(function(self.a(x))), a=linear(), b=linear(), **members)


def data():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def gradients(model, x=None):
    """Of the input and of every parameter but those that an activation brought along."""
    x = (data() if x is None else x).requires_grad_()
    return torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])


def assert_same_gradients(model, truth, x=None):
    for got, expected in zip(gradients(model, x), gradients(truth, x), strict=True):
        torch.testing.assert_close(got, expected)


def truth_of(model, body):
    """The same layers under another forward."""
    other = copy.deepcopy(model)
    other.body = body
    return other


def traces(model):
    return [
        key
        for module in model.modules()
        for key, value in [("", type(module)), *vars(module).items(), *module._modules.items()]
        if "undying" in key or "undying" in (value if isinstance(value, type) else type(value)).__module__
    ]


def convert(model, activation=None, **kwargs):
    kwargs = {"example": data(), "functional": True} | kwargs
    return undying.convert_(model, activation or undying.SUGAR(), **kwargs)


def sites(report):
    return [(row.name, row.kind, row.old, row.calls, row.alias_of) for row in report.rows]


# Spellings


def ignored(x):
    x.relu_()
    return x


SPELLINGS = [
    ("F.relu", nn.ReLU, lambda x: F.relu(x)),
    ("F.relu", nn.ReLU, lambda x: F.relu(x, inplace=True)),
    ("F.relu", nn.ReLU, lambda x: F.relu(x, True)),
    ("F.relu", nn.ReLU, lambda x: F.relu(input=x)),
    ("F.relu", nn.ReLU, lambda x: F.relu(input=x, inplace=True)),
    ("torch.relu", nn.ReLU, lambda x: torch.relu(x)),
    ("torch.relu_", nn.ReLU, lambda x: torch.relu_(x)),
    ("torch.relu_", nn.ReLU, lambda x: F.relu_(x)),
    ("Tensor.relu", nn.ReLU, lambda x: x.relu()),
    ("Tensor.relu_", nn.ReLU, lambda x: x.relu_()),
    ("Tensor.relu_", nn.ReLU, ignored),
    ("F.gelu", nn.GELU, lambda x: F.gelu(x, approximate="tanh")),
    ("F.silu", nn.SiLU, lambda x: F.silu(x)),
    ("F.silu", nn.SiLU, lambda x: F.silu(x, inplace=True)),
    ("F.relu6", nn.ReLU6, lambda x: F.relu6(x)),
    ("F.leaky_relu", nn.LeakyReLU, lambda x: F.leaky_relu(x, 0.2)),
    ("F.leaky_relu", nn.LeakyReLU, lambda x: F.leaky_relu(x, 0.2, True)),
    ("F.leaky_relu_", nn.LeakyReLU, lambda x: F.leaky_relu_(x, 0.2)),
    ("F.hardswish", nn.Hardswish, lambda x: F.hardswish(x)),
]


def spelled_with(function, spelled, target):
    """A network that calls ``function``, converted, and one that calls the rule, with the same layers."""
    model = one_call(function)
    report = convert(model, targets=(target,))
    assert sites(report) == [("", "call", spelled, 1, None)]
    truth = truth_of(model, lambda self, x: self.b(sugar(self.a(x))))
    undying.revert_(truth, allow_change=True)
    return model, truth


@pytest.mark.parametrize(
    ("spelled", "target", "function"), SPELLINGS, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(SPELLINGS)]
)
def test_every_spelling_is_found_and_replaced(spelled, target, function):
    model, truth = spelled_with(function, spelled, target)
    assert_same_gradients(model, truth)
    undying.revert_(model, allow_change=True)
    assert traces(model) == []


def test_every_spelling_is_replaced_under_compile():
    """All in one graph, each network with an input of its own."""
    made = [spelled_with(function, spelled, target) for spelled, target, function in SPELLINGS]
    torch._dynamo.reset()

    @functools.partial(torch.compile, fullgraph=True, backend="aot_eager")
    def compiled(*inputs):
        return [model(x) for (model, _), x in zip(made, inputs, strict=True)]

    inputs = [data().requires_grad_() for _ in made]
    wanted = [tensor for (model, _), x in zip(made, inputs, strict=True) for tensor in (x, *model.parameters())]
    loss = sum(y.square().sum() for y in compiled(*inputs))
    got = iter(torch.autograd.grad(loss, wanted))
    for (model, truth), (spelled, _, _) in zip(made, SPELLINGS, strict=True):
        for expected in gradients(truth):
            torch.testing.assert_close(next(got), expected, msg=lambda m, of=spelled: f"{of}: {m}")
        undying.revert_(model, allow_change=True)
        assert traces(model) == []
    assert next(got, None) is None


def test_what_torch_compile_hides_raises_while_compiling_and_works_in_eager_mode(monkeypatch):
    """As with a torch that has not the private set any more."""
    monkeypatch.setattr(forwards, "show_to_compile", lambda _: False)
    model = one_call(lambda x: torch.relu_(x))
    truth = truth_of(model, lambda self, x: self.b(sugar(self.a(x))))
    convert(model)
    assert_same_gradients(model, truth)
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"Net calls torch.relu_, which cannot be replaced under torch\.compile"):
        torch.compile(model, fullgraph=True, backend="aot_eager")(data())


def test_a_call_in_place_changes_what_it_is_given():
    def body(self, x):
        h = self.a(x)
        kept = h.view(-1)
        F.relu(h, inplace=True)
        return kept

    model = Net(body, a=linear())
    convert(model)
    assert torch.equal(model(data()), positive(model.a(data())).view(-1))


def test_a_tanh_called_in_a_forward_is_not_silently_left():
    """strict promises that nothing is left, whatever the target."""
    with pytest.raises(ValueError, match=r"(?i)tanh"):
        convert(one_call(torch.tanh), targets=(nn.Tanh,), functional=False, strict=True)


# Several at once


def test_two_families_in_one_forward():
    model = Net(lambda self, x: F.gelu(self.b(F.relu(self.a(x)))), a=linear(), b=linear())
    report = convert(model, targets=(nn.ReLU, nn.GELU))
    truth = Net(lambda self, x: sugar(self.b(sugar(self.a(x)))), a=copy.deepcopy(model.a), b=copy.deepcopy(model.b))
    assert sites(report) == [("", "call", "F.relu", 1, None), ("", "call", "F.gelu", 1, None)]
    assert_same_gradients(model, truth)
    assert undying.revert_(model, allow_change=True) == 2
    assert traces(model) == []


def family(parent=F.relu, child=F.relu, module=None, grandchild=F.relu):
    """Three generations that each call, and a module in the middle one."""
    return Net(
        lambda self, x: parent(self.a(self.child(x))),
        a=linear(),
        child=Net(
            lambda self, x: child(self.b(self.act(self.grandchild(x)))),
            b=linear(),
            act=module or nn.ReLU(),
            grandchild=Net(lambda self, x: grandchild(self.c(x)), c=linear()),
        ),
    )


def family_truth(model, **functions):
    truth = family(**functions)
    truth.load_state_dict(model.state_dict(), strict=False)
    return truth


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = (function,)  # not an attribute that could be converted

    def forward(self, x):
        return self.function[0](x)


def all_of(function):
    return {"parent": function, "child": function, "module": Function(function), "grandchild": function}


def test_parents_and_children_that_call_and_hold_are_each_replaced_once():
    model = family()
    report = convert(model)
    assert sorted(sites(report)) == [
        ("", "call", "F.relu", 1, None),
        ("child", "call", "F.relu", 1, None),
        ("child.act", "module", "ReLU()", 1, None),
        ("child.grandchild", "call", "F.relu", 1, None),
    ]
    assert_same_gradients(model, family_truth(model, **all_of(sugar)))
    assert undying.revert_(model) == 4
    assert traces(model) == []


class Squared(nn.Module):
    """A user's own activation, which computes with relu."""

    def forward(self, x):
        return F.relu(x) ** 2


@pytest.mark.parametrize("make", [undying.SUGAR, undying.BAReLU, undying.BSiLU, undying.NeLU])
def test_an_activation_of_ours_keeps_its_arithmetic_where_calls_around_it_are_replaced(make):
    model = Net(lambda self, x: F.relu(self.b(self.act(self.a(x)))), a=linear(), b=linear(), act=make())
    truth = truth_of(model, lambda self, x: sugar(self.b(self.act(self.a(x)))))
    convert(model)
    assert_same_gradients(model, truth)


@pytest.mark.parametrize("make", [Squared, lambda: nn.Sequential(nn.ReLU(), Squared())], ids=["module", "sequence"])
def test_the_activation_put_in_may_itself_call_relu(make):
    model = family()
    convert(model, make())
    assert_same_gradients(model, family_truth(model, **all_of(lambda x: make()(x))))


@pytest.mark.parametrize(
    ("second", "function"),
    [
        (undying.BAReLU(), leaky),
        (undying.SUGAR("leaky_relu"), rule(positive, lambda x: torch.where(x > 0, 1.0, 0.01))),
        (Squared(), lambda x: relu(x) ** 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_second_conversion_takes_the_place_of_the_first_and_one_revert_undoes_both(second, function):
    model = family()
    before = [vars(m).keys() for m in model.modules()]
    convert(model)
    report = undying.convert_(model, second, targets=(undying.SUGAR,))
    assert report.converted == 4
    assert_same_gradients(model, family_truth(model, **all_of(function)))
    undying.revert_(model, allow_change=True)
    assert traces(model) == []
    assert [vars(m).keys() for m in model.modules()] == before
    assert_same_gradients(model, family_truth(model))


def test_converting_first_one_part_and_then_the_rest_leaves_no_trace_after_revert():
    model = family()
    before = [vars(m).keys() for m in model.modules()]
    convert(model, skip="child.act")
    assert_same_gradients(model, family_truth(model, **all_of(sugar) | {"module": nn.ReLU()}))
    convert(model)
    assert_same_gradients(model, family_truth(model, **all_of(sugar)))
    undying.revert_(model)
    assert traces(model) == []
    assert [vars(m).keys() for m in model.modules()] == before


def test_parameters_of_an_activation_are_registered_moved_trained_and_gone_after_revert():
    model = one_call(F.relu).double()
    keys = list(model.state_dict())
    undying.convert_(model, nn.PReLU(), functional=True, example=data().double())
    (new,) = [p for name, p in model.named_parameters() if name.startswith("undying_relu")]
    model.to(torch.float32)
    model(data()).sum().backward()
    assert new.dtype == torch.float32
    assert new.grad.abs().sum() > 0
    undying.revert_(model, allow_change=True)
    assert list(model.state_dict()) == keys


def test_parameters_of_an_activation_take_the_networks_dtype():
    """The first step after a conversion must run: a float32 PReLU in a float64 network need not."""
    model = one_call(F.relu).double()
    undying.convert_(model, nn.PReLU(), functional=True, example=data().double())
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_threads_do_not_disturb_each_other():
    """One thread is inside an activation that is left alone while another calls what is replaced."""
    inside, done = threading.Event(), threading.Event()

    class Waiting(nn.ReLU):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert done.wait(60)
            return super().forward(x)

    model = Net(lambda self, x: F.relu(self.a(self.act(x))), a=linear(), act=Waiting())
    other = one_call(F.relu)
    truth = truth_of(other, lambda self, x: self.b(sugar(self.a(x))))
    convert(model)
    convert(other)
    thread = threading.Thread(target=model, args=(data(),))
    thread.start()
    try:
        assert inside.wait(60)
        # Entered while the other thread is inside, used when it has left.
        other.a.register_forward_hook(lambda *_: (done.set(), thread.join())[0])
        assert_same_gradients(other, truth)
    finally:
        done.set()
        thread.join()


# What is left alone


def test_an_activation_of_the_networks_own_is_left_until_its_type_is_named():
    model = Net(lambda self, x: F.relu(self.a(self.act(x))), a=linear(), act=Squared())
    report = convert(model)
    (left,) = report.left
    assert (left.name, left.kind, left.old) == ("act", "call", "F.relu")
    assert "Squared" in left.reason
    truth = Net(lambda self, x: sugar(self.a(relu(x) ** 2)), a=copy.deepcopy(model.a))
    assert_same_gradients(model, truth)
    undying.revert_(model)
    convert(model, targets=(nn.ReLU, Squared))
    truth.body = lambda self, x: sugar(self.a(sugar(x)))
    assert_same_gradients(model, truth)
    undying.revert_(model, allow_change=True)
    assert traces(model) == []


class Shifted(nn.ReLU):
    def forward(self, x):
        return super().forward(x - 0.1)


def test_a_subclass_that_is_left_computes_as_before_inside_a_parent_that_is_converted():
    model = Net(lambda self, x: F.relu(self.a(self.act(x))), a=linear(), act=Shifted())
    assert [row.name for row in convert(model).left] == ["act"]
    truth = Net(lambda self, x: sugar(self.a(relu(x - 0.1))), a=copy.deepcopy(model.a))
    assert_same_gradients(model, truth)


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        ("child.act", {"module"}),
        ("child", {"child"}),
        ("child*", {"child", "module", "grandchild"}),
        (["child.act", "*grandchild"], {"module", "grandchild"}),
        (("",), {"parent"}),
    ],
)
def test_skip_leaves_alone_what_it_names_and_only_that(skip, left):
    model = family()
    report = convert(model, skip=skip)
    names = {"parent": "", "child": "child", "module": "child.act", "grandchild": "child.grandchild"}
    assert {row.name for row in report.left} == {names[key] for key in left}
    assert all("skipped" in row.reason for row in report.left)
    truth = family_truth(model, **{k: v for k, v in all_of(sugar).items() if k not in left})
    assert_same_gradients(model, truth)


def test_skip_of_an_attribute_holds_beside_a_call_and_the_report_is_true():
    model = Net(lambda self, x: F.relu(self.b(self.act(self.a(x)))), a=linear(), b=linear(), act=F.relu)
    attribute, call = convert(model, skip="act").rows
    assert (attribute.name, call.name) == ("act", "")
    assert attribute.left
    # The call may be left too, if the two cannot be told apart.
    of_call = relu if call.left else sugar
    truth = Net(lambda self, x: of_call(self.b(relu(self.a(x)))), a=copy.deepcopy(model.a), b=copy.deepcopy(model.b))
    assert_same_gradients(model, truth)


def test_a_call_that_checkpoint_runs_again_is_left_with_the_reason():
    def body(self, x):
        return self.b(checkpoint(lambda h: F.relu(self.a(h)), x, use_reentrant=False))

    model = Net(body, a=linear(), b=linear())
    outer = Net(lambda self, x: F.relu(self.inner(x)), inner=model)
    report = convert(outer)
    assert [row.name for row in report.left] == ["inner"]
    assert "checkpoint" in report.left[0].reason
    truth = Net(lambda self, x: sugar(self.b(relu(self.a(x)))), a=copy.deepcopy(model.a), b=copy.deepcopy(model.b))
    assert_same_gradients(outer, truth)


def test_a_recurrent_kernels_relu_is_reported():
    model = nn.RNN(4, 4, nonlinearity="relu")
    (row,) = convert(model).rows
    assert "kernel" in row.reason


def test_strict_lists_what_is_left_and_changes_nothing():
    model = family(module=Shifted())
    before = [dict(vars(m)) for m in model.modules()]
    with pytest.raises(ValueError, match=r"(?s)2 sites.*child\.act.*subclass.*child\.grandchild.*skipped"):
        convert(model, strict=True, skip="child.grandchild")
    assert [dict(vars(m)) for m in model.modules()] == before
    with pytest.raises(ValueError, match="functional=True converts it"):
        convert(one_call(F.relu), functional=False, strict=True)
    assert convert(family(), strict=True).converted == 4


@pytest.mark.parametrize("flag", ["functional", "strict"])
def test_without_an_example_calls_cannot_be_found(flag):
    with pytest.raises(ValueError, match=f"{flag}=True needs example="):
        undying.convert_(one_call(F.relu), undying.SUGAR(), **{flag: True})


# The example


def test_calls_made_only_in_training_are_found():
    model = Net(lambda self, x: F.relu(self.a(x)) if self.training else self.a(x), a=linear())
    model.eval()
    assert sites(convert(model)) == [("", "call", "F.relu", 1, None)]
    assert not model.training
    model.train()
    assert_same_gradients(model, Net(lambda self, x: sugar(self.a(x)), a=copy.deepcopy(model.a)))


def test_calls_made_only_in_eval_are_found():
    model = Net(lambda self, x: self.a(x) if self.training else F.relu(self.a(x)), a=linear())
    assert sites(convert(model)) == [("", "call", "F.relu", 1, None)]


def test_an_example_that_fails_in_training_gives_a_note():
    model = Net(lambda self, x: F.relu(self.norm(x)), norm=nn.BatchNorm1d(4))
    report = convert(model, example=data()[:1])
    assert report.converted == 1
    assert "training" in report.notes[0]
    assert report.notes[0] in str(report)


@pytest.mark.parametrize("example", [data(), (data(),), [data()], {"x": data()}], ids=lambda e: type(e).__name__)
def test_an_example_is_a_tensor_positional_or_keyword_arguments(example):
    model = Net(lambda self, x: F.relu(self.a(x)), a=linear())
    assert convert(model, example=example).converted == 1


def test_an_example_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="example must be"):
        convert(one_call(F.relu), example=3.0)


def test_the_example_is_not_overwritten_by_a_network_that_works_in_place():
    example = data()
    undying.audit(nn.Sequential(nn.ReLU(inplace=True)), example)
    assert torch.equal(example, data())


# audit


def snapshot(model):
    """Everything that a look at a network might change."""
    return (
        [(type(m), dict(vars(m)), [len(v) for v in vars(m).values() if isinstance(v, dict)]) for m in model.modules()],
        [(name, t.detach().clone()) for name, t in [*model.named_parameters(), *model.named_buffers()]],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        torch.get_rng_state(),
        random.getstate(),
    )


def same(a, b):
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or a == b


def test_audit_changes_nothing_and_finds_what_convert_does():
    model = nn.Sequential(
        nn.BatchNorm1d(4),
        nn.Dropout(),
        family(),
        one_call(F.relu, act=F.relu),
        Net(lambda self, x: x + random.random()),
    )
    model[0].eval()
    model[2].a.weight.requires_grad_(False)
    handle = model[2].register_forward_hook(lambda *_: None)
    before = snapshot(model)
    report = undying.audit(model, data())
    assert same(snapshot(model), before)
    assert [row.new for row in report.rows] == [None] * len(report.rows)
    assert sites(report) == sites(convert(model))
    handle.remove()


# Attributes


@pytest.mark.parametrize(
    "function", [F.relu, torch.relu, functools.partial(F.relu, inplace=True)], ids=["F", "torch", "partial"]
)
def test_functions_held_as_attributes_are_replaced(function):
    model = Net(lambda self, x: self.b(self.act(self.a(x))), a=linear(), b=linear(), act=function)
    report = convert(model, functional=False)
    assert [(row.name, row.kind, row.calls) for row in report.rows] == [("act", "attribute", 1)]
    truth = truth_of(model, lambda self, x: self.b(sugar(self.a(x))))
    assert_same_gradients(model, truth)
    undying.revert_(model)
    assert model.act is function
    assert traces(model) == []


def test_an_attribute_may_be_called_with_the_functions_own_arguments():
    model = Net(lambda self, x: self.act(self.a(x), inplace=True), a=linear(), act=F.relu)
    (row,) = convert(model).rows
    # No module takes inplace= in its forward, so it may be left, with the reason.
    assert row.left == (row.new is None)
    function = relu if row.left else sugar
    assert_same_gradients(model, Net(lambda self, x: function(self.a(x)), a=copy.deepcopy(model.a)))


def encoder_layer(activation):
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, activation=activation).eval()


def fused_flags(model):
    return [
        (getattr(m, "activation_relu_or_gelu", None), getattr(m, "use_nested_tensor", None)) for m in model.modules()
    ]


@pytest.mark.parametrize("activation", [F.relu, nn.ReLU()], ids=["function", "module"])
@pytest.mark.parametrize("stacked", [False, True], ids=["layer", "encoder"])
def test_the_fused_inference_path_does_not_run_the_old_activation(activation, stacked):
    """torch's kernel for inference computes relu whatever the attribute says."""
    model, arguments = encoder_layer(activation), {}
    rows = slice(None)
    if stacked:
        model = nn.TransformerEncoder(model, 2).eval()
        mask = torch.zeros(3, 5, dtype=torch.bool)
        mask[1:, 3:] = True
        arguments, rows = {"src_key_padding_mask": mask}, ~mask
    flags = fused_flags(model)
    x = torch.randn(3, 5, 4)
    slow = copy.deepcopy(model)
    for layer in slow.layers if stacked else [slow]:
        layer.activation, layer.activation_relu_or_gelu = Function(leaky), 0
    slow.use_nested_tensor = False
    expected = slow(x, **arguments)  # with gradients, for which the kernel does not serve
    undying.convert_(model, undying.BAReLU())
    with torch.no_grad():
        torch.testing.assert_close(model(x, **arguments)[rows], expected[rows].detach())
    undying.revert_(model, allow_change=True)
    assert fused_flags(model) == flags
    assert traces(model) == []


# Wrappers


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


@pytest.fixture
def process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def sharded(model):
    from torch.distributed.fsdp import fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    return fully_shard(model, mesh=mesh)


WRAPPERS = [
    ("DataParallel", nn.DataParallel, "wrap it"),
    ("DistributedDataParallel", nn.parallel.DistributedDataParallel, "wrap it"),
    ("FSDPModule", sharded, "shard it"),
    ("OptimizedModule", torch.compile, "compile it"),
    ("compiled", compiled_in_place, "compile it"),
    ("ScriptModule", torch.jit.script, "script or trace it"),
    ("ScriptModule", lambda model: torch.jit.trace(model, data()), "script or trace it"),
]


# The category depends on the torch version.
@pytest.mark.filterwarnings("ignore:`torch.jit..*` is deprecated")
@pytest.mark.parametrize(("name", "wrap", "afterwards"), WRAPPERS, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRAPPERS)])
@pytest.mark.parametrize("inside", [False, True], ids=["root", "inside"])
def test_wrapped_networks_are_refused_with_the_right_order(name, wrap, afterwards, inside, process_group):
    wrapped = wrap(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = nn.Sequential(wrapped) if inside else wrapped
    for change in (lambda: undying.convert_(model, undying.SUGAR()), lambda: undying.revert_(model)):
        with pytest.raises(ValueError, match=f"(?s){name}.*first .*, then {afterwards}"):
            change()


# The report


def test_a_report_prints_as_text_html_and_json():
    model = Net(lambda self, x: F.relu(self.get_submodule("<b>")(x)))
    model.add_module("<b>", nn.ReLU())
    report = convert(model, skip="<b>")
    text = str(report).splitlines()
    assert [line.split()[:2] for line in text] == [["name", "kind"], ["<b>", "module"], ["(root)", "call"]]
    page = report._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["converted"] == 1
    assert [row["name"] for row in plain["rows"]] == ["<b>", ""]
    assert plain["rows"][0]["reason"] == report.left[0].reason


class Encoder(nn.Module):
    """Used by its methods; a forward it has not."""

    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Linear(4, 4), nn.ReLU()
        self.block = Block()

    def encode(self, x):
        return self.block(self.act(self.lin(x)))

    def gate(self, x):
        return F.relu(self.encode(x))


class Block(nn.Module):
    def forward(self, x):
        return F.relu(x - 1)


def test_a_method_is_what_the_example_is_given_to():
    net, x = Encoder(), torch.randn(8, 4)
    rows = {row.name: (row.kind, row.calls) for row in undying.audit(net, x, method="encode").rows}
    assert rows == {"act": ("module", 1), "block": ("call", 1)}
    undying.convert_(net, undying.SUGAR(), functional=True, example=x, method="encode")
    x.requires_grad_()
    (g,) = torch.autograd.grad(net.encode(x).sum(), x)
    h = net.lin(x)
    s = undying.SUGAR()
    (wanted,) = torch.autograd.grad(s(s(h) - 1).sum(), x)
    torch.testing.assert_close(g, wanted)
    with pytest.raises(TypeError, match="not 'decode'"):
        undying.audit(net, x, method="decode")


def test_calls_in_a_method_that_is_no_forward_are_named_and_stay():
    net, x = Encoder(), torch.randn(8, 4)
    report = undying.convert_(net, undying.SUGAR(), functional=True, example=x, method="gate")
    [left] = report.left
    assert (left.name, left.kind, left.calls) == ("", "call", 1)
    assert "no forward" in left.reason
    with pytest.raises(ValueError, match="no forward"):
        undying.convert_(Encoder(), undying.SUGAR(), functional=True, example=x, method="gate", strict=True)
