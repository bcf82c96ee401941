"""A network whose calls were replaced goes on to be what others take it for: by signature, tracing, wrapping, copying.

BAReLU with slope 0.3 takes the place of relu, so the truth is torch's own leaky_relu in the same layers.
"""

import copy
import functools
import inspect
import pickle
import typing

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import undying


class Net(nn.Module):
    """Calls relu itself and holds one that does."""

    def __init__(self, inner=None):
        super().__init__()
        self.a, self.b, self.inner = nn.Linear(4, 4), nn.Linear(4, 4), inner

    def forward(self, x: "torch.Tensor", labels: "Net | None" = None, *, scale: float = 1.0) -> torch.Tensor:
        h = self.b(torch.relu(self.a(x) * scale))
        return h if self.inner is None else self.inner(F.relu(h))


def truth(net, x):
    h = net.b(F.leaky_relu(net.a(x), 0.3))
    return h if net.inner is None else truth(net.inner, F.leaky_relu(h, 0.3))


def data():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def convert(net, activation=None, example=None):
    example = data() if example is None else example
    assert undying.convert_(net, activation or undying.BAReLU(0.3), functional=True, example=example).converted
    return net


def nested():
    return convert(Net(Net()))


def assert_true(got, net):
    torch.testing.assert_close(got, truth(net, data()))


# Looked at


def test_the_forward_looks_as_before():
    plain, net = Net(), convert(Net())
    assert inspect.signature(net.forward) == inspect.signature(plain.forward)
    assert inspect.getfullargspec(net.forward) == inspect.getfullargspec(plain.forward)
    assert typing.get_type_hints(net.forward) == typing.get_type_hints(plain.forward)
    shown = ("__name__", "__qualname__", "__module__", "__doc__")
    for got, expected in ((net.forward, plain.forward), (type(net), type(plain))):
        assert [getattr(got, key) for key in shown] == [getattr(expected, key) for key in shown]
    assert net.forward.__code__.co_varnames[:4] == ("self", "x", "labels", "scale")
    assert isinstance(net, Net)
    torch.testing.assert_close(net(data(), scale=2.0), net.b(F.leaky_relu(net.a(data()) * 2.0, 0.3)))


def test_every_kind_of_parameter_is_passed_on():
    class Many(nn.Linear):
        def forward(self, x, /, y, *rest, a, b=2, **more):
            return torch.relu(super().forward(x)), y, rest, a, b, more

    net = Many(4, 4)
    convert(Calling(net))
    y, *others = net(data(), 1, 2, 3, a=4, c=5)
    assert others == [1, (2, 3), 4, 2, {"c": 5}]
    assert torch.equal(y, F.leaky_relu(F.linear(data(), net.weight, net.bias), 0.3))


class Calling(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x, 1, a=2)


def test_a_decorated_forward_is_given_what_the_caller_gives():
    def decorate(function):
        @functools.wraps(function)
        def wrapper(self, *args, **kwargs):
            assert "x" in kwargs
            assert "scale" not in kwargs
            return function(self, *args, **kwargs)

        return wrapper

    class Decorated(Net):
        forward = decorate(Net.forward)

    net = convert(Decorated(), example={"x": data()})
    assert_true(net(x=data()), net)
    assert list(inspect.signature(net.forward).parameters) == ["x", "labels", "scale"]


def test_a_registry_of_subclasses_sees_no_new_one():
    made = []

    class Registered(Net):
        def __init_subclass__(cls):
            made.append(cls)

    first, second = convert(Registered()), convert(Registered())
    assert made == []
    assert type(first) is type(second), "torch.compile compiles once for each class"


# Traced and exported


def test_fx_keeps_what_was_replaced():
    net = nested()
    traced = torch.fx.symbolic_trace(net)
    assert_true(traced(data()), net)
    assert_true(copy.deepcopy(traced)(data()), net)


def test_feature_extractors_keep_what_was_replaced():
    from torchvision.models.feature_extraction import create_feature_extractor

    net = nested()
    assert_true(create_feature_extractor(net, ["inner.b"])(data())["inner.b"], net)


# torch's own, of torch.ao
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_preparing_for_quantisation_keeps_what_was_replaced():
    from torch.ao.quantization import QConfigMapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    net = nested().train()
    prepared = prepare_qat_fx(net, QConfigMapping(), (data(),))
    assert_true(prepared(data()), net)


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")  # a counter, which is put back
@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_what_was_replaced_and_the_names_of_inputs(strict):
    net = nested().eval()
    program = torch.export.export(net, (data(),), strict=strict)
    assert_true(program.module()(data()), net)
    assert program.graph_signature.user_inputs[0] == "x"


@pytest.mark.filterwarnings("ignore:`torch.jit..*` is deprecated")
def test_script_refuses_and_trace_keeps_what_was_replaced():
    net = nested().eval()
    for model in (net, nn.Sequential(net)):
        with pytest.raises(RuntimeError, match=r"source of Net\.forward.*revert_, or trace"):
            torch.jit.script(model)
    assert_true(torch.jit.trace(net, data())(data()), net)


def test_fx_refuses_methods_which_it_shows_to_nobody():
    class Method(Net):
        def forward(self, x):
            return self.b(self.a(x).relu())

    net = convert(Method())
    assert_true(net(data()), net)
    with pytest.raises(RuntimeError, match=r"Method calls Tensor\.relu, .* call torch\.relu\(x\) there"):
        torch.fx.symbolic_trace(net)


def test_a_traced_graph_is_left_with_the_reason():
    graph = torch.fx.symbolic_trace(Net())
    report = undying.convert_(graph, undying.SUGAR(), functional=True, example=data())
    assert "then trace it" in report.left[0].reason
    assert report.converted == 0


# Wrapped


def test_what_is_put_around_later_stays_when_it_is_reverted():
    net, calls = convert(Net()), []
    inner = net.forward

    def around(x):
        calls.append(x)
        return inner(x)

    net.forward = around
    assert_true(net(data()), net)
    assert undying.revert_(net, allow_change=True) == 1
    assert type(net) is Net
    assert torch.equal(net(data()), net.b(torch.relu(net.a(data()))))
    assert len(calls) == 2


def test_a_forward_that_was_on_the_instance_runs_and_comes_back():
    """Twice each, with another one put around in between."""
    net, calls = Net(), []
    inner = net.forward
    first = net.forward = lambda x: (calls.append("first"), inner(x))[1]
    convert(net)
    assert_true(net(data()), net)
    assert_true(copy.deepcopy(net)(data()), net)
    undying.revert_(net, allow_change=True)
    assert net.forward is first

    middle = convert(net).forward
    second = net.forward = lambda x: (calls.append("second"), middle(x))[1]
    for _ in range(2):
        assert_true(net(data()), net)
        undying.revert_(net, allow_change=True)
        calls.clear()
        assert torch.equal(net(data()), net.b(torch.relu(net.a(data()))))
        assert calls == ["second", "first"]
        assert net.forward is second
        convert(net)


def test_a_parametrization_upon_it_works_and_is_taken_off_first():
    from torch.nn.utils import parametrizations, parametrize

    class Calling(nn.Linear):
        def forward(self, x):
            return torch.relu(super().forward(x))

    net = convert(Calling(4, 4))
    parametrizations.weight_norm(net)
    expected = F.leaky_relu(F.linear(data(), net.weight, net.bias), 0.3)
    assert torch.equal(net(data()), expected)
    assert torch.equal(copy.deepcopy(net)(data()), expected)
    with pytest.raises(ValueError, match="the network, a ParametrizedCalling: its class was changed since"):
        undying.revert_(net)
    parametrize.remove_parametrizations(net, "weight")
    torch.testing.assert_close(net(data()), expected)
    undying.revert_(net, allow_change=True)
    assert type(net) is Calling


def test_accelerate_takes_off_what_it_put_around():
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(
        reset_partial_state=True
    )  # whatever was made here before has settings
    net, accelerator = convert(Net()), accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare(net)
    prepared(data())
    plain = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    assert_true(plain(data()), net)


# Copied


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copy.copy, torch.optim.swa_utils.AveragedModel]
)
def test_copies_have_activations_of_their_own(through):
    net = nested()
    other = through(net)
    if through is not copy.copy:
        net.inner.undying_relu.alpha = 0.9
    other = getattr(other, "module", other)
    assert_true(other(data()), other)
    assert undying.revert_(other, allow_change=True) == 2
    assert type(other) is type(other.inner) is Net


def test_a_network_that_copies_itself_in_its_own_way_says_what_it_lost():
    class Own(Net):
        def __deepcopy__(self, memo):
            return type(self)()

    with pytest.raises(RuntimeError, match=r"copy that Own made in its own way.*before undying\.convert_"):
        copy.deepcopy(convert(Own()))(data())


# Run again in the backward pass


class Saving(Net):
    """Checkpoints a function of its own when it is told to."""

    reentrant = None

    def block(self, x):
        return self.b(torch.relu(self.a(x)))

    def forward(self, x):
        return self.block(x) if self.reentrant is None else checkpoint(self.block, x, use_reentrant=self.reentrant)


def gradient(net):
    (found,) = torch.autograd.grad(net(data().requires_grad_()).square().sum(), net.a.weight)
    return found


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_that_is_switched_on_later(reentrant):
    """In eager mode no mode reaches what is run again, so it refuses; compiled, it is right."""
    net = convert(Saving(), undying.SUGAR())
    expected, value = gradient(net), net(data())
    net.reentrant = reentrant
    with pytest.raises(RuntimeError, match=r"Saving calls relu inside of torch\.utils\.checkpoint.*whole modules"):
        net(data().requires_grad_())
    with torch.no_grad():
        assert torch.equal(net(data()), value)
    if not reentrant:
        torch._dynamo.reset()
        compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(gradient(compiled), expected)
    undying.revert_(net)
    assert undying.convert_(net, undying.SUGAR(), functional=True, example=data().requires_grad_()).left


class OwnRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


class Mixed(Net):
    """Calls relu where no gradient passes, and where one does if it is told to."""

    def __init__(self, blind, beside):
        super().__init__()
        self.blind, self.beside = (blind,), beside

    def forward(self, x):
        y = self.blind[0](self.a(x))
        return self.b(y + torch.relu(self.a(x)) if self.beside else y)


def without_gradient(x):
    with torch.no_grad():
        return torch.relu(x)


@pytest.mark.parametrize("blind", [OwnRelu.apply, without_gradient], ids=["function", "no_grad"])
def test_calls_that_a_conversion_cannot_change_are_left(blind):
    net = Mixed(blind, beside=False)
    report = undying.convert_(net, undying.SUGAR(), functional=True, example=data())
    assert report.converted == 0
    assert "no gradient passes" in report.left[0].reason


class NewStyleRelu(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.relu(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


@pytest.mark.parametrize("function", [OwnRelu, NewStyleRelu])
def test_a_call_in_an_autograd_function_stays_beside_one_that_is_replaced(function):
    """Its backward is made for it."""
    net = Mixed(function.apply, beside=True)
    report = undying.convert_(net, undying.BAReLU(0.3), functional=True, example=data())
    assert [(row.calls, row.left) for row in report.rows] == [(1, False)]
    assert report.notes == ("(root) calls torch.relu in an autograd Function of its own too: that stays",)
    h = net.a(data())
    expected = net.b(h.relu() + F.leaky_relu(h, 0.3))
    torch.testing.assert_close(net(data()), expected)
    with torch.no_grad():
        torch.testing.assert_close(net(data()), expected)
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"cannot be replaced under torch\.compile"):
        torch.compile(net, backend="eager", fullgraph=True)(data())


def test_an_autograd_function_that_comes_later_is_refused():
    """As the checkpointing of other libraries is made."""
    net = convert(Mixed(torch.relu, beside=False))
    net.blind = (OwnRelu.apply,)
    with pytest.raises(RuntimeError, match="Mixed calls relu inside of an autograd Function"):
        net(data())


def test_a_call_that_the_example_does_not_make_takes_the_activation_around_it():
    class Later(nn.Linear):
        switched = False

        def forward(self, x):
            y = super().forward(x)
            return torch.relu(y) if self.switched else y

    net = convert(Net(Later(4, 4)))
    net.inner.switched = True
    h = F.leaky_relu(net.b(F.leaky_relu(net.a(data()), 0.3)), 0.3)
    assert torch.equal(net(data()), F.leaky_relu(F.linear(h, net.inner.weight, net.inner.bias), 0.3))


# Whole numbers


@pytest.mark.parametrize("backend", [None, "eager"])
def test_whole_numbers_are_clamped_as_before(backend):
    class Index(Net):
        def forward(self, x):
            return F.relu(self.a(x))[:, F.relu(torch.tensor([-1, 2]))]

    net = Index()
    (row,) = undying.convert_(net, undying.BAReLU(0.3), functional=True, example=data()).rows
    assert row.calls == 1
    torch._dynamo.reset()
    run = torch.compile(net, backend=backend, fullgraph=True) if backend else net
    assert torch.equal(run(data()), F.leaky_relu(net.a(data()), 0.3)[:, [0, 2]])


@pytest.mark.parametrize("act", [nn.ReLU(), F.relu], ids=["module", "attribute"])
def test_a_module_for_whole_numbers_is_left(act):
    class Index(Net):
        def forward(self, x):
            return self.a(x)[:, self.inner(torch.tensor([-1, 2]))]

    net = Index(act)
    (row,) = undying.convert_(net, undying.SUGAR(), example=data()).rows
    assert "whole numbers" in row.reason
    assert net(data()).shape == (6, 2)
