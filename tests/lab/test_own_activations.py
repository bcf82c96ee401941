"""Activations and surrogates by import path: what is read, built, counted and refused."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.activations import known
from undying.lab.activations import build_activation
from undying.lab.own_activations import FunctionActivation, path_of, source_sha256
from undying.lab.treatments import build_treatment, own_sources

SOURCE = """
from dataclasses import dataclass
import torch, undying
import torch.nn.functional as F
from torch import nn

class Bent(nn.Module):
    def __init__(self, alpha=0.1):
        super().__init__()
        self.alpha = alpha
        self.inner = nn.ReLU()

    def forward(self, x):
        return self.inner(x) + self.alpha * x

class Capped(nn.Module):
    def forward(self, x):
        return x.clamp(0, 1)

undying.register_activation(Capped, flat_below_zero=True, ends=(-torch.inf, 1.0))

class GELU(nn.Module):
    def forward(self, x):
        return x

def squared(x, power=2.0):
    return F.relu(x) ** power

def bump(x, width=1.0):
    return x * torch.sigmoid(x / width)

def step(x):
    return (x > 0).to(x.dtype)

def halves(x):
    return x[:2]

def factory(alpha=0.1):
    return Bent(alpha)

def broken(x):
    raise RuntimeError("a fault")

@dataclass(frozen=True)
class Line(undying.Surrogate):
    a: float = 0.5
    formula, source = "a x", "a test"
    def value(self, x):
        return self.a * x
    def derivative(self, x):
        return torch.full_like(x, self.a)

line = Line(0.25)
module = Bent()
number = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A file of the user's in the working directory; the process knows nothing of it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    tables = (known.FACTS, known.TYPE_OF, known.SPELLINGS, known.OPERATORS)
    before = [dict(table) for table in tables]
    (tmp_path / "mine.py").write_text(SOURCE)
    sys.modules.pop("mine", None)
    yield tmp_path / "mine.py"
    sys.modules.pop("mine", None)
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


X = torch.linspace(-2, 2, 9)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mine:Bent", F.relu(X) + 0.1 * X),
        ("mine:Bent:alpha=0.2", F.relu(X) + 0.2 * X),
        ("mine:Capped", X.clamp(0, 1)),
        ("mine:squared", F.relu(X) ** 2),
        ("mine:squared:power=3", F.relu(X) ** 3),
        ("torch.nn:Hardswish", F.hardswish(X)),
        ("torch.nn.functional:softplus", F.softplus(X)),
        ("torch.nn.functional:elu:alpha=0.5", F.elu(X, 0.5)),
    ],
)
def test_an_activation_computes_what_its_path_names(spec, expected):
    torch.testing.assert_close(build_activation(spec)(X), expected)


@pytest.mark.parametrize(
    ("spec", "f"),
    [
        ("sugar:mine:bump", lambda x: x * torch.sigmoid(x)),
        ("sugar:mine:bump:width=2", lambda x: x * torch.sigmoid(x / 2)),
        ("sugar:mine:Line", lambda x: 0.5 * x),
        ("sugar:mine:Line:a=0.75", lambda x: 0.75 * x),
        ("sugar:mine:line", lambda x: 0.25 * x),
        ("sugar:mine:bump:region=negative", None),
        ("sugar:torch.nn.functional:softplus", F.softplus),
    ],
)
def test_sugar_passes_on_the_derivative_of_the_surrogate(spec, f):
    x, own = X.clone().requires_grad_(), X.clone().requires_grad_()
    y = build_activation(spec)(x)
    torch.testing.assert_close(y, F.relu(X))
    y.sum().backward()
    (f or (lambda x: torch.where(x > 0, x, x * torch.sigmoid(x))))(own).sum().backward()
    torch.testing.assert_close(x.grad, own.grad)


def test_a_surrogate_of_ones_own_is_scaled_and_annealed_as_others_are():
    scaled = build_activation("sugar:mine:Line:a=0.25:scale=unit")
    torch.testing.assert_close(scaled.surrogate.derivative(X), torch.ones(9))
    assert [part.name for part in build_treatment("sugar:mine:bump:anneal=0.5+l2init:1e-3").parts] == [
        "l2init",
        "anneal",
    ]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("mine:Bent:alpha=0.2", "mine:Bent"),
        ("a.b.c:act", "a.b.c:act"),
        ("sugar:mine:bump:width=2:strength=0.5", "mine:bump"),
        *((spec, "") for spec in ("relu", "relu:slope", "sugar", "sugar:nelu", "sugar:nelu:a=0.1", "sugar:nelu:bump")),
        *((spec, "") for spec in ("sugar:strength=0.5", "barelu:eps=0.01", "mine", "mine:", "", "x:a=1", "sugar:mine")),
    ],
)
def test_what_has_a_name_keeps_its_meaning(spec, path):
    assert path_of(spec) == path


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mine:Missing", ["'mine:Missing'", "Missing"]),
        ("mien:Bent", ["'mien:Bent'", "No module named 'mien'", "none of", "leaky_relu"]),
        ("sugar:mien:bump", ["'mien:bump'", "No module", "nelu"]),
        ("mine:Bent:beta=1", ["'mine:Bent:beta=1'", "beta"]),
        ("mine:squared:x=1", ["'mine:squared:x=1'", "'x'"]),
        ("mine:Bent:twice", ["'twice'", "key=value"]),
        ("mine:Bent:alpha=x", ["alpha=x", "number"]),
        ("mine:module", ["a Bent", "neither a class of modules nor a function"]),
        ("mine:number", ["a int"]),
        ("mine:dataclass", ["'mine:dataclass'"]),
        ("mine:halves", ["shape (2, 12)", "(4, 12)"]),
        ("mine:factory", ["'mine:factory'", "a Bent"]),
        ("mine:broken", ["RuntimeError: a fault", "mine.py, line"]),
        ("mine:GELU", ["has the name of", "GELU"]),
        ("sugar:mine:step", ["derivative 0 everywhere", "not that derivative"]),
        ("sugar:mine:Bent", ["'mine:Bent'", "no undying.Surrogate"]),
        ("sugar:mine:broken", ["a fault"]),
        ("sugar:mine", ["unknown surrogate 'mine'", "package.module:name"]),
        ("relu:Bent", ["'Bent'", "package.relu:Bent"]),
        ("sugar:nelu:bump", ["one surrogate", "package.nelu:bump"]),
    ],
)
def test_what_cannot_be_used_is_named(spec, words):
    with pytest.raises(UndyingError) as refused:
        build_activation(spec)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize("spec", ["mine:Bent", "mine:squared", "mine:Capped"])
def test_a_census_counts_it_as_one_site_and_nothing_within(spec):
    net = nn.Sequential(nn.Linear(4, 6), build_activation(spec), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([-1.0, -1.0, 1.0, 1.0, 2.0, 2.0]))
    counted = undying.census(net, torch.randn(32, 4))
    assert list(counted) == ["1"]
    assert counted["1"].silent.tolist() == [True, True, False, False, False, False]
    assert not counted.unrecognised
    if spec == "mine:Capped":  # as it was registered
        assert counted["1"].saturated.tolist() == [False, False, True, True, True, True]


def test_a_function_is_shown_by_its_path():
    module = build_activation("mine:squared:power=3")
    assert isinstance(module, FunctionActivation)
    assert repr(module) == "FunctionActivation(mine:squared, power=3.0)"


def test_the_file_is_hashed_and_not_imported_to_read_a_treatment(mine):
    import hashlib

    specs = ("relu", "mine:Bent:alpha=0.2+redo:every=20", "sugar:mine:bump")
    assert "mine" not in sys.modules
    assert str(build_treatment(specs[1])).startswith("mine:Bent:alpha=0.2, Redo(")
    assert "mine" not in sys.modules
    sha = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert own_sources(specs) == dict.fromkeys(specs[1:], sha)
    assert source_sha256("relu") == ""
