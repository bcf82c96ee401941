"""Bytes, against what the networks are known to keep."""

import pytest
import torch
from torch import nn

from undying._base.errors import UndyingError
from undying.bench import memory
from undying.bench.forms import FORMS
from undying.bench.networks import Workload, workload
from undying.bench.settings import NetworkSettings

FORM = {form.name: form for form in FORMS}


def test_bytes_kept_are_those_of_distinct_storages():
    x = torch.ones(1000, requires_grad=True)
    y = torch.ones(1000, requires_grad=True)
    assert memory.kept(lambda: x + y) == 0
    assert memory.kept(lambda: x * y) == 8000
    assert memory.kept(lambda: x[:10] * x[10:20]) == 4000  # two views keep the whole of one storage
    assert memory.kept(lambda: (x * y).exp()) == 12000
    assert memory.kept(lambda: (x * y).exp(), without=[x, y]) == 4000


@pytest.mark.parametrize(
    ("name", "tensors"), [("nn.ReLU inplace", 1), ("nn.ReLU", 1), ("nn.SiLU", 2), ("Function SUGAR", 2), ("BAReLU", 2)]
)
def test_an_mlp_keeps_the_images_the_log_probabilities_and_what_the_activations_need(name, tensors):
    """A linear layer keeps its input; ReLU keeps that same tensor, the others their own input too."""
    batch, side, width, classes = 3, 5, 1024, 10
    work = workload("mlp", FORM[name], batch, side, seed=0)
    found = memory.kept(work.loss, [*work.model.parameters(), work.labels])
    # The loss keeps the log-probabilities, and one number, the total weight.
    expected = 4 * (batch * side**2 + 4 * tensors * batch * width + batch * classes + 1)
    assert found == expected


def test_peak_is_that_of_a_step_whose_allocations_are_known():
    n = 2**20

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return (x @ self.weight[:, None]).exp()  # keeps its result

    work = Workload(Scale(), torch.zeros(n, 2), torch.zeros(n, dtype=torch.long), FORM["nn.ReLU"])
    # Alive at once: x @ w and its exp in the forward pass. Afterwards exp's result, the log-probabilities
    # (kept by the loss), their gradient and the gradient of the logits.
    assert memory.peak(work) == pytest.approx(4 * 4 * n, rel=0.01)


def test_forms_share_weights_and_batch():
    plain, ours = (workload("mlp", FORM[name], 4, 3, seed=1) for name in ("nn.ReLU", "SUGAR bsilu"))
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), ours.model.parameters(), strict=True))
    assert torch.equal(plain.loss(), ours.loss())
    assert sum("SUGAR" in type(module).__name__ for module in ours.model.modules()) == 4


def test_measures_the_forms_that_were_asked_for_and_the_baseline():
    told = []
    settings = NetworkSettings(models=("mlp",), batch=2, side=4, forms=("Function SUGAR",))
    found = list(memory.measure_memory(settings, told.append))
    assert [m.form for m in found] == ["nn.ReLU inplace", "Function SUGAR"]
    assert told == ["mlp, nn.ReLU inplace", "mlp, Function SUGAR"]
    assert found[1].kept - found[0].kept == 4 * 4 * 2 * 1024
    assert all(m.peak > m.kept for m in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("vgg",)}, "--models must be some of resnet18, mlp, not vgg"),
        ({"batch": 1}, "--batch must be at least 2"),
        ({"forms": ("nn.Relu",)}, "unknown --forms nn.Relu; known: nn.ReLU, "),
    ],
)
def test_settings_that_cannot_be_measured_are_named(change, message):
    with pytest.raises(UndyingError, match=message):
        list(memory.measure_memory(NetworkSettings(**change), print))
