"""An activation of one's own is taken wherever torch's are, and what cannot be is refused."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function

import undying
from undying import cli
from undying._base.errors import UndyingError
from undying.activations import known
from undying.lab import models
from undying.lab.activations import build_activation
from undying.lab.recipe import Recipe


def ramp(x, inplace=False):
    if has_torch_function((x,)):
        return handle_torch_function(ramp, (x,), x, inplace=inplace)
    return F.hardtanh(x, 0.0, 1.0, inplace)


def ramp_(x):
    if has_torch_function((x,)):
        return handle_torch_function(ramp_, (x,), x)
    return x.clamp_(0, 1)


class Ramp(nn.Module):
    """max(x, 0) up to ``top``, and computed with torch's relu."""

    def __init__(self, top=1.0, inplace=False):
        super().__init__()
        self.top, self.inplace = top, inplace

    def forward(self, x):
        return self.top - F.relu(self.top - torch.relu(x))

    def extra_repr(self):
        return f"top={self.top}"


class Net(nn.Module):
    def __init__(self, body=None):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 8), Ramp(), nn.Linear(8, 3)
        self.body = body

    def forward(self, x):
        h = self.a(x)
        h = self.act(h) if self.body is None else self.body(h)
        return self.b(h)


def calls_ramp(h):
    return ramp(h)


def register(**facts):
    undying.register_activation(
        Ramp, **{"functions": (ramp,), "inplace": (ramp_,), "flat_below_zero": True, "ends": (-torch.inf, 1.0), **facts}
    )


def rows(report):
    return [(row.name, row.kind, row.old, row.calls, row.reason) for row in report.rows]


X = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))


# Census


def test_census_counts_the_module_and_nothing_of_what_it_computes_with():
    register()
    net = Net()
    with torch.no_grad():
        net.a.bias[:2] = torch.tensor([-100.0, 100.0])
    census = undying.census(net, X)
    (site,) = census.sites
    pre = net.a(X).detach()
    assert (site.name, site.kind, site.units) == ("act", "Ramp", 8)
    assert site.fired.tolist() == (pre > 0).sum(0).tolist()
    assert site.silent.tolist() == site.dead.tolist() == (pre <= 0).all(0).tolist()
    assert site.saturated.tolist() == (pre >= 1).all(0).tolist()
    assert site.silent[0]
    assert site.saturated[1]
    assert site.zero.tolist() == (net.act(pre) == 0).double().mean(0).tolist()


class Jump(nn.Module):
    """JumpReLU: x where it is above a threshold of each unit's own."""

    def __init__(self):
        super().__init__()
        self.threshold = nn.Parameter(torch.linspace(0, 3, 8))

    def forward(self, x):
        return x * (x > self.threshold)


def test_an_activation_with_a_threshold_is_named_until_it_is_registered_and_counted_then():
    net = Net(Jump())
    with torch.no_grad():
        net.a.bias[0] = -100.0
    with pytest.raises(ValueError, match=r"not recognised: body.mul \(mul, "):
        undying.census(net, X)
    undying.register_activation(Jump, flat_below_zero=True)
    counted = undying.census(net, X)
    site, pre = counted["body"], net.a(X).detach()
    assert counted.unrecognised == {}
    assert site.silent.tolist() == (pre <= 0).all(0).tolist()
    assert (site.zero == 1).tolist() == (net.body(pre) == 0).all(0).tolist() != site.silent.tolist()


class Bent(nn.Module):
    """ReLU and a line, by modules of its own, one of them below another."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(nn.Identity(), nn.ReLU())

    def forward(self, x):
        return self.parts(x) + 0.1 * F.relu(x)


def test_modules_within_a_registered_one_are_no_sites_of_their_own():
    undying.register_activation(Bent)
    net = Net(Bent())
    counted = undying.census(net, X)
    assert list(counted) == ["body"]
    assert counted["body"].fired.tolist() == (net.a(X) > 0).sum(0).tolist()
    assert counted.unrecognised == {}


def test_unregistered_its_arithmetic_is_what_is_counted():
    assert [site.kind for site in undying.census(Net(), X).sites] == ["ReLU", "ReLU"]


@pytest.mark.parametrize("call", [ramp, ramp_, lambda h: ramp(h, True)], ids=["ramp", "ramp_", "inplace"])
def test_census_counts_calls_of_its_functions(call):
    register()
    net = Net(call)
    (site,) = undying.census(net, X).sites
    assert (site.name, site.kind) == ("ramp", "Ramp")
    assert site.fired.tolist() == (net.a(X) > 0).sum(0).tolist()


def test_a_function_may_say_where_the_ends_are():
    register(functions=(), inplace=(), ends=lambda module, args, kwargs: (-torch.inf, module.top))
    net = Net()
    net.act.top = 0.3
    (site,) = undying.census(net, X).sites
    assert site.high.tolist() == (net.a(X) >= 0.3).sum(0).tolist()


def test_an_operator_is_a_functional_form_too():
    undying.register_activation(nn.LogSigmoid, functions=(F.logsigmoid,))
    (site,) = undying.census(Net(F.logsigmoid), X).sites
    assert (site.name, site.kind) == ("log_sigmoid", "LogSigmoid")
    assert undying.certify(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), undying.Box(-torch.ones(1, 4), torch.ones(1, 4)))
    assert known.OPERATORS["log_sigmoid"] == "LogSigmoid"
    assert "ramp" not in known.OPERATORS


def test_a_rectifier_needs_no_look_at_its_output():
    class Rectifier(nn.Module):
        def forward(self, x):
            return x.clamp(min=0)

    undying.register_activation(Rectifier, rectifier=True, flat_below_zero=True)
    net = nn.Sequential(nn.Linear(4, 8), Rectifier())
    (site,) = undying.census(net, X).sites
    assert site.zero.tolist() == (net(X) == 0).double().mean(0).tolist()
    torch.testing.assert_close(site.mean_abs, net(X).double().mean(0))


# Convert


def test_audit_and_convert_find_modules_attributes_and_calls():
    register()

    class All(Net):
        def __init__(self):
            super().__init__()
            self.held = ramp

        def forward(self, x):
            return self.b(ramp_(self.held(self.act(self.a(x)))))

    net = All()
    truth = net.b(torch.relu(torch.relu(torch.relu(net.a(X)))))
    expected = [
        ("act", "module", "Ramp(top=1.0)", 1, None),
        ("held", "attribute", "ramp", 1, None),
        ("", "call", "ramp_", 1, None),
    ]
    assert rows(undying.audit(net, X, (Ramp,))) == expected
    report = undying.convert_(net, undying.SUGAR(), (Ramp,), functional=True, example=X, strict=True)
    assert rows(report) == expected
    torch.testing.assert_close(net(X), truth, rtol=0, atol=0)
    again = pickle.loads(pickle.dumps(copy.deepcopy(net.state_dict())))
    assert again.keys() == net.state_dict().keys()
    assert undying.revert_(net, allow_change=True) == 3
    assert rows(undying.audit(net, X, (Ramp,))) == expected


def test_its_own_arithmetic_is_no_site_of_another_type():
    net = Net(F.relu)
    net.forward = lambda x, net=net: net.b(F.relu(net.act(net.a(x))))
    assert [row[0] for row in rows(undying.audit(Net(), X))] == ["act"]
    register()
    assert rows(undying.audit(Net(), X)) == []

    class Both(Net):
        def forward(self, x):
            return self.b(F.relu(self.act(self.a(x))))

    both = Both()
    before = both.act(torch.tensor([-1.0, 0.5, 2.0]))
    assert rows(undying.convert_(both, undying.BAReLU(), functional=True, example=X)) == [
        ("", "call", "F.relu", 1, None)
    ]
    assert torch.equal(both.act(torch.tensor([-1.0, 0.5, 2.0])), before)
    both.act.top = 0.5
    assert undying.audit(both, X).rows == ()


def test_strict_vouches_for_a_registered_type_and_for_no_unknown_one():
    unknown = r"strict=True cannot vouch for Ramp: .* undying.register_activation"
    with pytest.raises(ValueError, match=unknown):
        undying.convert_(Net(), undying.SUGAR(), (Ramp,), functional=True, example=X, strict=True)
    register(functions=(), inplace=())
    assert undying.convert_(Net(), undying.SUGAR(), (Ramp,), functional=True, example=X, strict=True).converted == 1


def test_compiled_calls_of_a_python_function_raise_rather_than_stay_what_they_are():
    """torch.compile looks into such a function and shows it to no mode."""
    register()
    net = Net(calls_ramp)
    undying.convert_(net, undying.SUGAR(), (Ramp,), functional=True, example=X)
    assert torch.equal(net(X), net.b(torch.relu(net.a(X))))
    torch.compiler.reset()
    with pytest.raises(
        Exception, match=r"Net calls ramp, which cannot be replaced under torch\.compile; use the module Ramp"
    ):
        torch.compile(net, backend="eager", fullgraph=True)(X)


def test_torchs_own_function_is_replaced_under_torch_compile():
    undying.register_activation(nn.LogSigmoid, functions=(F.logsigmoid,))
    net = Net(lambda h: F.logsigmoid(h))
    undying.convert_(net, undying.SUGAR(), (nn.LogSigmoid,), functional=True, example=X)
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), net.b(torch.relu(net.a(X))), rtol=0, atol=0)


def test_a_network_with_replaced_calls_needs_its_type_registered_where_it_is_loaded():
    register()
    net = Net(calls_ramp)
    undying.convert_(net, undying.SUGAR(), (Ramp,), functional=True, example=X)
    saved = pickle.dumps(net)
    assert torch.equal(pickle.loads(saved)(X), net(X))
    del known.FACTS[Ramp]
    with pytest.raises(
        RuntimeError, match=r"calls of Ramp, .* in this network; call undying.register_activation .* too"
    ):
        pickle.loads(saved)


# The lab


def test_the_lab_spells_it():
    with pytest.raises(
        UndyingError, match=r"unknown activation 'ramp' .* undying.register_activation .* worker process"
    ):
        build_activation("ramp:top=0.5")
    register()
    assert repr(build_activation("ramp:top=0.5")) == "Ramp(top=0.5)"
    with pytest.raises(UndyingError, match=r"activation 'ramp:bottom=1': .*bottom"):
        build_activation("ramp:bottom=1")


def test_it_may_have_another_name():
    register(name="clipped")
    assert repr(build_activation("clipped")) == "Ramp(top=1.0)"
    with pytest.raises(UndyingError, match="unknown activation 'ramp'"):
        build_activation("ramp")


def test_a_surrogate_that_is_not_there_is_named_with_the_way_out():
    with pytest.raises(UndyingError, match=r"'sugar:mine': unknown surrogate 'mine'; .* undying.register_surrogate"):
        build_activation("sugar:mine")


def test_a_comparisons_targets_take_it(tmp_path, monkeypatch):
    with pytest.raises(UndyingError, match=r"unknown --targets 'Ramp'; known: ReLU, .* undying.register_activation"):
        Recipe(targets=("Ramp",))
    register()
    assert Recipe(targets=("Ramp",)).targets == ("Ramp",)
    (tmp_path / "ramped.py").write_text(
        "import torch\nfrom torch import nn\nfrom undying.activations import known\n"
        "def net():\n    kind = known.targets()['Ramp']\n    return nn.Sequential(nn.Linear(4, 8), kind(), nn.Linear(8, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for targets in (("Ramp",), ()):  # by name, and as the only activation that the network has
        model = models.build("ramped:net", (4,), 3)
        models.put_in(model, "ramped:net", torch.zeros(2, 4), 3, undying.SUGAR(), targets)
        assert isinstance(model[1], undying.SUGAR)


def test_undying_audit_takes_what_the_networks_module_registers(tmp_path, monkeypatch, capsys):
    (tmp_path / "stepped.py").write_text(
        "import undying\nfrom torch import nn\nclass Stepped(nn.Module):\n    def forward(self, x):\n        return x.sign()\n"
        "undying.register_activation(Stepped)\ndef net():\n    return nn.Sequential(nn.Linear(2, 2), Stepped())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["audit", "stepped:net", "--example", "1,2", "--targets", "Stepped"]) == 0
    assert "Stepped()" in capsys.readouterr().out
    assert cli.main(["audit", "stepped:net", "--targets", "Nothing"]) == 2
    assert "unknown --targets 'Nothing'" in capsys.readouterr().err


# What is refused


def unseen(x):
    return x.clamp(0, 1)


class NeedsArguments(nn.Module):
    def __init__(self, top):
        super().__init__()


@pytest.mark.parametrize(
    ("kind", "facts", "error", "message"),
    [
        (ramp, {}, TypeError, "kind must be a type of module, a subclass of nn.Module, not <function ramp"),
        (Ramp(), {}, TypeError, r"kind must be a type of module, .* not Ramp\(top=1.0\)"),
        (nn.ReLU, {}, ValueError, "ReLU is known already; register each type once"),
        (undying.SUGAR, {}, ValueError, "SUGAR is known already"),
        (
            type("Gelu", (nn.Module,), {}),
            {},
            ValueError,
            "Gelu has the name of torch.nn.modules.activation.GELU, but for",
        ),
        (Ramp, {"name": "sugar"}, ValueError, "the name 'sugar' is taken; give Ramp another with name="),
        (Ramp, {"name": "gelu_tanh"}, ValueError, "the name 'gelu_tanh' is taken"),
        (Ramp, {"name": "a:b"}, ValueError, "name must be one word, not 'a:b'"),
        (Ramp, {"name": 3}, ValueError, "name must be one word, not 3"),
        (Ramp, {"functions": ramp}, TypeError, "functions must be a tuple of functions, not <function ramp"),
        (Ramp, {"functions": ("ramp",)}, TypeError, "'ramp' is no function"),
        (Ramp, {"functions": (F.relu,)}, ValueError, "relu is a functional form of ReLU already"),
        (Ramp, {"inplace": (torch.tanh_,)}, ValueError, "tanh_ is a functional form of Tanh already"),
        (Ramp, {"functions": (unseen,)}, ValueError, r"nobody sees calls of unseen, .* handle_torch_function\(unseen"),
        (
            NeedsArguments,
            {"functions": (ramp,)},
            TypeError,
            r"NeedsArguments\(\) must stand for its functions, but: .*top",
        ),
        (Ramp, {"flat_below_zero": 1}, TypeError, "flat_below_zero must be True or False, not 1"),
        (Ramp, {"rectifier": None}, TypeError, "rectifier must be True or False, not None"),
        (Ramp, {"ends": 6.0}, TypeError, r"ends must be a pair \(low, high\) or a function that gives one, not 6.0"),
        (Ramp, {"ends": (0.0, "6")}, TypeError, "the high end must be a number, not '6'"),
        (Ramp, {"ends": (0.0, float("nan"))}, ValueError, "the high end must be between -inf and inf, not nan"),
        (Ramp, {"ends": (1.0, 1.0)}, ValueError, "the first must be below the second"),
    ],
)
def test_what_cannot_be_registered(kind, facts, error, message):
    before = dict(known.FACTS), dict(known.TYPE_OF), dict(known.SPELLINGS)
    with pytest.raises(error, match=message):
        undying.register_activation(kind, **facts)
    assert before == (known.FACTS, known.TYPE_OF, known.SPELLINGS)


def test_a_type_is_registered_once():
    register()
    with pytest.raises(ValueError, match="Ramp is known already; register each type once"):
        register(name="again")
