"""Which form is chosen, seen by the graph that it leaves; and asking for one by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import undying
from fresh import Run
from undying import _torch
from undying.ops import dispatch, native, triton_loader


def leaf(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(3, dtype=dtype, requires_grad=True)


class Subclass(Tensor):
    pass


def is_native(x: Tensor, **settings: object) -> bool:
    kernel = getattr(undying.sugar(x, **settings).grad_fn, "kernel", None)
    return isinstance(kernel, native.SlopeKernel)


def keeps_the_input_alone(x: Tensor, **settings: object) -> bool:
    return type(undying.sugar(x, **settings).grad_fn).__name__ == "EagerSUGARBackward"


def test_native_where_it_serves() -> None:
    here = native.missing() is None
    for dtype in native.DTYPES:
        assert is_native(leaf(dtype)) == here
    assert is_native(nn.Parameter(torch.ones(3))) == here
    assert is_native(leaf(), strength=0.5) == here
    for other in (leaf(torch.float64), leaf().as_subclass(Subclass), leaf().to("meta")):
        assert not is_native(other)
    assert not is_native(leaf(), surrogate=nn.functional.softplus)
    assert not is_native(leaf(), strength=torch.tensor(0.5))


def test_what_the_kernels_do_not_serve_keeps_its_input_alone_too() -> None:
    for x in (leaf(torch.float64), leaf().to("meta")):
        assert keeps_the_input_alone(x)
    assert not keeps_the_input_alone(leaf(), surrogate=nn.functional.softplus)
    assert not keeps_the_input_alone(leaf(), strength=torch.tensor(0.5))


@pytest.mark.parametrize("name", sorted(undying.SURROGATES))
@pytest.mark.parametrize("settings", [{}, {"region": "negative"}, {"strength": 0.3}])
def test_without_a_kernel_the_closed_form_is_the_composite_s_derivative(name: str, settings: dict[str, object]) -> None:
    special = [float("inf"), -float("inf"), float("nan"), 0.0, -0.0, 1e300, -1e300, 800.0, -800.0]
    values = torch.cat([torch.linspace(-30, 30, 2001, dtype=torch.float64), torch.tensor(special, dtype=torch.float64)])
    gradients = []
    for path in ("auto", "composite"):
        x = values.clone().requires_grad_()
        with undying.ops.using(path):
            (first,) = torch.autograd.grad(undying.sugar(x, name, **settings).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first[:2001].sum(), x)
            (alone,) = torch.autograd.grad(undying.sugar(x, name, **settings).sum(), x)
        gradients.append((first.detach(), second, alone))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13, equal_nan=True)


def test_not_under_modes_or_transforms() -> None:
    with torch.autograd.forward_ad.dual_level():
        assert not is_native(leaf())
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert not is_native(leaf())
    seen = []
    torch.func.grad(lambda x: (seen.append(dispatch.is_plain_eager(x)), undying.sugar(x).sum())[1])(torch.ones(3))
    assert seen == [False]


def test_a_surrogate_that_inherits_from_a_built_in_one_is_not_taken_for_it() -> None:
    class Twice(type(undying.surrogate("silu"))):  # type: ignore[misc]
        def value(self, x: Tensor) -> Tensor:
            return 2 * super().value(x)

    x = leaf()
    undying.sugar(x, Twice()).sum().backward()
    with undying.ops.using("composite"):
        y = leaf()
        undying.sugar(y, Twice()).sum().backward()
    assert torch.equal(x.grad, y.grad)


def test_without_a_gradient_to_take_it_is_one_relu() -> None:
    x = torch.randn(3)
    assert undying.sugar(x).grad_fn is None
    with torch.profiler.profile() as profile:
        undying.sugar(x)
    assert {event.key for event in profile.key_averages()} & {"aten::relu", "aten::sub", "aten::sigmoid"} == {
        "aten::relu"
    }


def test_a_compiler_gets_the_formula() -> None:
    def saved(path: str) -> list[str]:
        torch.compiler.reset()
        graphs = []

        def backend(graph: torch.fx.GraphModule, _: object) -> object:
            graphs.append(graph)
            return graph.forward

        with undying.ops.using(path):
            torch.compile(undying.SUGAR(), backend=backend, fullgraph=True)(leaf(torch.float64))
        return [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]

    assert any("autograd_function_apply" in target for target in saved("auto"))
    assert not any("autograd_function_apply" in target for target in saved("composite"))


def test_without_the_private_name_every_call_counts_as_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch, "_peek", None)
    assert not is_native(leaf())
    x = leaf(torch.float64)
    undying.sugar(x).sum().backward()
    assert x.grad[0].item() == pytest.approx(1.2560, abs=1e-4)


def test_asking_by_name() -> None:
    with undying.ops.using("reference"):
        assert dispatch.report()["path"] == "reference (UNDYING_PATH)"
        assert not is_native(leaf())
    assert dispatch.report()["path"] == "auto (UNDYING_PATH)"
    with (
        pytest.raises(ValueError, match="must be auto, native, triton or reference, not 'fast'"),
        undying.ops.using("fast"),
    ):
        pass


@pytest.mark.parametrize("path", ["native", "triton"])
def test_asking_for_what_is_not_there(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_missing", "they were not built")
    monkeypatch.setattr(triton_loader, "_load", lambda: "they were not built")
    with (
        pytest.raises(RuntimeError, match=f"the path '{path}' is not there: they were not built"),
        undying.ops.using(path),
    ):
        pass


@pytest.mark.parametrize(
    ("value", "said"),
    [("reference", "reference (UNDYING_PATH)"), ("composite", "reference (UNDYING_PATH)"), ("fast", "not 'fast'")],
)
def test_environment(value: str, said: str, fresh: Run) -> None:
    done = fresh("import undying; print(undying.ops.dispatch.report()['path'])", UNDYING_PATH=value)
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) == (value != "fast")
