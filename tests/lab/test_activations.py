"""Every name gives the module it says, with its arguments."""

import pytest
import torch
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.activations.known import SPELLINGS
from undying.lab.activations import build_activation


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("relu", "ReLU()"),
        ("leaky_relu", "LeakyReLU(negative_slope=0.01)"),
        ("gelu", "GELU(approximate='none')"),
        ("gelu_tanh", "GELU(approximate='tanh')"),
        ("barelu", "BAReLU(alpha=0.01)"),
        ("barelu:eps=0.01:alpha=0.1", "BAReLU(alpha=0.1, eps=0.01)"),
        ("sugar", "SUGAR(bsilu(a=1.67))"),
        ("sugar:nelu", "SUGAR(nelu(a=0.05))"),
        ("sugar:nelu:a=0.1:region=negative", "SUGAR(nelu(a=0.1), region='negative')"),
        ("sugar:strength=0.5", "SUGAR(bsilu(a=1.67), strength=0.5)"),
        ("sugar:scale=unit", "SUGAR(0.864172 * bsilu(a=1.67))"),
        ("sugar:leaky_relu:scale=unit:strength=0.5", "SUGAR(1 * leaky_relu(slope=0.01), strength=0.5)"),
        ("elu:alpha=0.5", "ELU(alpha=0.5)"),
    ],
)
def test_specs(spec, shown):
    assert repr(build_activation(spec)) == shown


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_name_is_an_activation(name):
    module = build_activation(name)
    assert isinstance(module, nn.Module)
    assert module(torch.randn(3)).shape == (3,)


@pytest.mark.parametrize("surrogate", undying.SURROGATES)
def test_every_surrogate_can_be_named_and_is_an_activation_too(surrogate):
    """But for those that were published as derivatives of ReLU alone."""
    assert build_activation(f"sugar:{surrogate}").surrogate.name == surrogate
    assert (surrogate in SPELLINGS) == (surrogate not in ("helu", "frigorelu"))


@pytest.mark.parametrize(
    "spec",
    ["", "nope", "relu:nelu", "sugar:bsilu:nelu", "sugar:a=x", "relu:slope=1", "sugar:strength=2", "sugar:scale=2"],
)
def test_wrong_specs_are_named(spec):
    with pytest.raises(UndyingError, match=spec or "''"):
        build_activation(spec)
