"""What a function takes out of an output: its units against a count by hand, or a refusal with the way out."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying.census.outputs import OutputsError

UNITS = 12
X = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Gives the same units in many ways."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.conv = nn.Linear(8, UNITS), nn.Conv2d(1, UNITS, 3)
        self.decoder, self.calls = nn.Linear(UNITS, 8), 0
        with torch.no_grad():
            self.encoder.bias[:3] = -100.0
            self.conv.bias[:3] = -100.0

    def units(self, x):
        return F.relu(self.encoder(x))

    def held(self, x):
        return {"z": self.units(x), "word": "more"}

    def transposed(self, x):
        return {"z": F.relu(self.encoder.weight @ x.T + self.encoder.bias[:, None])}

    def maps(self, x):
        return (F.relu(self.conv(x[:, None, None, :].expand(-1, 1, 8, -1))), 1)

    def topk(self, x):
        return torch.topk(self.units(x), 4)

    def pair(self, x):
        top = self.topk(x)
        return top.values, top.indices

    def sorted(self, x):
        return self.units(x).sort(-1).values

    def squeezed(self, x):
        return self.units(x).max(-1)

    def tokens(self, x):
        return self.units(x).unflatten(0, (-1, 2)).max(-1)

    def channels(self, x):
        return self.maps(x)[0].topk(2, 1)

    def outside(self, x):
        values, indices = self.units(x).detach().numpy(), self.units(x).detach().numpy().argsort(-1)
        return torch.from_numpy(values), torch.from_numpy(indices)

    def alone(self, x):
        return (self.outside(x)[0],)

    def forward(self, x):
        for name in (
            "held",
            "transposed",
            "maps",
            "topk",
            "pair",
            "sorted",
            "squeezed",
            "tokens",
            "channels",
            "outside",
            "alone",
        ):
            getattr(self, name)(x)
        return self.decoder(self.units(x))


def truth(net, name, take):
    """(units, values): the units first, whatever the layout; ``take`` does it by hand."""
    with torch.no_grad():
        return take(getattr(net, name)(X))


def dense(top, units=UNITS):
    return torch.zeros(len(X), units).scatter(1, top[1], top[0])


def by_channel(out):
    return out[0].transpose(0, 1).flatten(1)


TAKEN = {
    "held": ("held", lambda out: out["z"], lambda out: out["z"].T),
    "detached": ("held", lambda out: out["z"].detach(), lambda out: out["z"].T),
    "scaled": ("held", lambda out: 2 * out["z"].double(), lambda out: 2 * out["z"].T),
    "indicator": ("held", lambda out: (out["z"] > 0.2).float(), lambda out: (out["z"] > 0.2).float().T),
    "gated": ("held", lambda out: out["z"] * (out["z"] > 0.2), lambda out: (out["z"] * (out["z"] > 0.2)).T),
    "some of them": ("held", lambda out: out["z"][:, 2:9], lambda out: out["z"].T[2:9]),
    "stacked": ("held", lambda out: torch.stack([out["z"], out["z"]]), lambda out: torch.cat([out["z"], out["z"]]).T),
    "transposed": ("transposed", lambda out: out["z"], lambda out: out["z"]),
    "transposed relu": ("transposed", lambda out: out["z"].relu(), lambda out: out["z"]),
    "transposed back": ("transposed", lambda out: out["z"].T.clone(), lambda out: out["z"]),
    "maps": ("maps", lambda out: out[0], by_channel),
    "flattened maps": ("maps", lambda out: out[0].flatten(1), by_channel),
    "pooled maps": ("maps", lambda out: out[0].amax((2, 3)), lambda out: out[0].amax((2, 3)).T),
    "last maps": ("maps", lambda out: out[0].permute(0, 2, 3, 1).reshape(-1, UNITS), by_channel),
    "scattered": (
        "pair",
        lambda out: torch.zeros(len(out[0]), UNITS).scatter(1, out[1], out[0]),
        lambda out: dense(out).T,
    ),
    "scattered across": (
        "pair",
        lambda out: torch.zeros(UNITS, len(out[0])).scatter(0, out[1].T, out[0].T),
        lambda out: dense(out).T,
    ),
    "indexed": ("topk", lambda out: undying.Indexed(*out, UNITS), lambda out: dense(out).T),
    "indexed, detached": (
        "pair",
        lambda out: undying.Indexed(out[0].detach(), out[1], UNITS),
        lambda out: dense(out).T,
    ),
    "indexed top 1": (
        "squeezed",
        lambda out: undying.Indexed(out.values[:, None], out.indices[:, None], UNITS),
        lambda out: dense((out.values[:, None], out.indices[:, None])).T,
    ),
    "one hot": (
        "topk",
        lambda out: F.one_hot(out.indices, UNITS).sum(1).float(),
        lambda out: torch.zeros(len(X), UNITS).scatter(1, out.indices, 1.0).T,
    ),
    "one hot of the largest": (
        "squeezed",
        lambda out: F.one_hot(out.indices, UNITS) * out.values[:, None],
        lambda out: dense((out.values[:, None], out.indices[:, None])).T,
    ),
    "indexed top 1 of tokens": (
        "tokens",
        lambda out: undying.Indexed(out.values[..., None], out.indices[..., None], UNITS),
        lambda out: torch.zeros(20, 2, UNITS).scatter(2, out.indices[..., None], out.values[..., None]).flatten(0, 1).T,
    ),
    "indexed channels": (
        "channels",
        lambda out: undying.Indexed(out.values.movedim(1, -1), out.indices.movedim(1, -1), UNITS),
        lambda out: (
            torch.zeros(len(X), UNITS, *out.values.shape[2:]).scatter(1, out[1], out[0]).transpose(0, 1).flatten(1)
        ),
    ),
    "made outside": ("alone", lambda out: out[0] * 1, lambda out: out[0].T),
}


@pytest.mark.parametrize("case", TAKEN.values(), ids=TAKEN)
def test_what_a_function_takes_is_counted_as_by_hand(case):
    name, take, by_hand = case
    net = Net()
    values = truth(net, name, by_hand)
    site = undying.census(net, X.split(24), outputs={name: take})[name]
    assert (site.units, site.values) == values.shape
    assert torch.equal(site.fired, (values > 0).sum(1))
    assert torch.equal(site.silent, ~(values > 0).any(1))
    assert torch.equal(site.peak, values.amax(1).double())
    torch.testing.assert_close(site.mean_abs, values.double().abs().mean(1))
    torch.testing.assert_close(site.zero, (values == 0).double().mean(1))
    assert site.silent.any()


RANKS = "picked by a sort, topk or max, and a rank is no unit"
REFUSED = {
    "ranks": ("pair", lambda out: out[0], RANKS),
    "ranks detached": ("pair", lambda out: out[0].detach(), RANKS),
    "ranks cloned": ("pair", lambda out: out[0].clone(), RANKS),
    "ranks through relu": ("topk", lambda out: out.values.relu(), RANKS),
    "ranks through softmax": ("topk", lambda out: out.values.softmax(-1), RANKS),
    "ranks normalized": ("topk", lambda out: out.values / out.values.sum(-1, keepdim=True), RANKS),
    "ranks flattened": ("topk", lambda out: out.values.reshape(-1, 2, 2), RANKS),
    "ranks transposed": ("topk", lambda out: out.values.T, RANKS),
    "ranks gathered": (
        "pair",
        lambda out: torch.gather(torch.zeros(len(out[0]), UNITS) + out[0][:, :1], 1, out[1]),
        "AXIS|ranks",
    ),
    "places of ranks": ("pair", lambda out: out[1].double(), RANKS),
    "compared": ("topk", lambda out: (out.values > 0).float(), RANKS),
    "all sorted": ("sorted", lambda out: out, RANKS),
    "through NumPy": ("held", lambda out: torch.from_numpy(out["z"].numpy()), "AXIS"),
    "by an operation without a rule": ("held", lambda out: torch.rot90(out["z"]), "AXIS"),
    "by a reshape across units": ("held", lambda out: out["z"].reshape(UNITS, -1), "AXIS"),
    "a mean over samples": ("held", lambda out: out["z"].mean(0), "if its one axis does, and not the samples"),
    "out of nothing": ("held", lambda out: torch.ones(4, 5), "AXIS"),
    "beside integers": ("outside", lambda out: out[0], r"with integers of the same shape.*Indexed\(out\[0\], out\[1\]"),
    "top 1 squeezed": ("squeezed", lambda out: undying.Indexed(*out, UNITS), r"\[..., None\] makes it"),
    "top 1 of the model": ("squeezed", lambda out: out.values[:, None], RANKS),
    "top 1 of tokens": (
        "tokens",
        lambda out: undying.Indexed(out.values, out.indices, UNITS),
        r"movedim takes it there, or \[..., None\] makes it",
    ),
    "channels not last": ("channels", lambda out: undying.Indexed(*out, UNITS), "movedim takes it there"),
    "a unit twice": (
        "topk",
        lambda out: undying.Indexed(out.values + 1, out.indices // 4, UNITS),
        r"has unit \d more than once.*dense\(\)",
    ),
    "a pair": ("pair", lambda out: out, r"lambda out: undying.Indexed\(out\[0\], out\[1\], units=...\)"),
    "a mapping": ("held", lambda out: out, r"lambda out: out\['z'\]"),
    "fp8": ("held", lambda out: out["z"].to(torch.float8_e4m3fn), "float16, bfloat16, float32 or float64"),
    "meta": ("held", lambda out: out["z"].to("meta"), "dense tensors"),
    "nested": ("held", lambda out: torch.nested.nested_tensor([out["z"][:3], out["z"][3:]]), "dense tensors"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused_with_the_way_out(case):
    name, take, error = case
    with pytest.raises(OutputsError, match=error) as raised:
        undying.census(Net(), X, outputs={name: take})
    assert f"outputs {name!r}" in str(raised.value)
    assert "-1" not in str(raised.value)  # no axis is put forward


@pytest.mark.parametrize("case", [REFUSED[name] for name in REFUSED if REFUSED[name][2] is RANKS])
def test_no_axis_makes_units_of_ranks(case):
    name, take, _ = case
    with pytest.raises(OutputsError, match=RANKS):
        undying.census(Net(), X, outputs={name: take}, axes={name: -1})


def test_an_axis_that_is_said_holds_where_nothing_else_decides():
    net = Net()
    for name, take in (
        ("held", lambda out: torch.from_numpy(out["z"].numpy())),
        ("topk", lambda out: undying.Indexed(*out, UNITS).dense()),
        ("outside", lambda out: out[0]),
    ):
        found = undying.census(net, X, outputs={name: take}, axes={name: -1})[name]
        values = dense(net.topk(X)).T if name == "topk" else net.units(X).T
        assert torch.equal(found.fired, (values > 0).sum(1))


def test_values_of_0_may_name_any_unit():
    values = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 0.0, float("nan")], [-1.0, -0.0, 0.0]])
    indices = torch.tensor([[3, 3, 3], [1, 1, 0], [1, 0, 0]])

    class Padded(nn.Module):
        def forward(self, x):
            return undying.Indexed(values, indices, 4)

    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Padded())
    site = undying.census(net, torch.randn(3, 2), outputs={"2": lambda out: out})["2"]
    whole = undying.Indexed(values, indices, 4).dense()
    assert site.fired.tolist() == (whole > 0).sum(0).tolist() == [0, 0, 0, 1]
    assert site.nonfinite.tolist() == [1, 0, 0, 0]
    assert site.zero.tolist() == [2 / 3, 1 / 3, 1, 2 / 3]


def test_values_of_one_unit_add_up_in_the_dense_form():
    pair = undying.Indexed(torch.tensor([[1.0, -2.0, 5.0]]), torch.tensor([[3, 3, 0]]), 4)
    assert pair.dense().tolist() == [[5.0, 0.0, 0.0, -1.0]]


class Tokens(nn.Module):
    """Gives what its function makes of (N, T, units)."""

    def __init__(self, give):
        super().__init__()
        torch.manual_seed(0)
        self.lin, self.give = nn.Linear(8, UNITS), give

    def encode(self, x):
        return self.give(F.relu(self.lin(x)))

    def forward(self, x):
        self.encode(x)
        return F.relu(self.lin(x))


@pytest.mark.parametrize("times", [7, 20])
def test_a_mask_fits_values_and_indices_as_it_does_whole_ones(times):
    x = torch.randn(20, times, 8)
    mask = torch.arange(times) < torch.randint(1, times, (20, 1))
    pick = lambda out: undying.Indexed(*out, UNITS)  # noqa: E731
    for give, take in (
        (lambda z: z.transpose(0, 1).topk(4), pick),
        (lambda z: (z.transpose(0, 1),), lambda out: (out[0] > 0).float()),
    ):
        net = Tokens(give)
        with pytest.raises(ValueError, match="mask"):
            undying.census(net, x, outputs={"encode": take}, mask=lambda _: mask)
    for give in (lambda z: z.topk(4), lambda z: z.transpose(0, 1).contiguous().transpose(0, 1).topk(4)):
        net = Tokens(give)
        site = undying.census(net, x, outputs={"encode": pick}, mask=lambda _: mask)["encode"]
        kept = undying.Indexed(*net.encode(x), UNITS).dense()[mask]
        assert torch.equal(site.fired, (kept > 0).sum(0))
        assert (site.values, site.samples) == (len(kept), 20)


def test_a_mask_of_samples_and_one_value_a_sample():
    net, x = Tokens(lambda z: z.mean(1).topk(3)), torch.randn(20, 7, 8)
    mask = torch.ones(20, 7, dtype=torch.bool)
    mask[:, 3:] = False
    site = undying.census(net, x, outputs={"encode": lambda o: undying.Indexed(*o, UNITS)}, mask=lambda _: mask)[
        "encode"
    ]
    assert torch.equal(site.fired, (undying.Indexed(*net.encode(x), UNITS).dense() > 0).sum(0))


class Jump(nn.Module):
    def forward(self, x):
        return x * (x > 1.0)


def test_a_function_with_the_name_of_an_output_is_another_site():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.lin, self.relu = nn.Linear(8, UNITS), Jump()

        def gelu(self, x):
            return F.gelu(self.relu(F.relu(self.lin(x)) - 0.4))

        def forward(self, x):
            return self.gelu(x)

    net = Named()
    found = undying.census(net, X, outputs=["relu", "gelu"])
    assert [(site.name, site.kind) for site in found.sites] == [
        ("relu()", "ReLU"),
        ("relu", "Jump"),
        ("gelu()", "GELU"),
        ("gelu", "Method"),
    ]
    jumped = net.relu(F.relu(net.lin(X)) - 0.4)
    assert torch.equal(found["relu"].fired, (jumped > 0).sum(0))
    assert torch.equal(found["relu()"].fired, (net.lin(X) > 0).sum(0))
    assert torch.equal(found["gelu"].fired, (F.gelu(jumped) > 0).sum(0))
    assert list(undying.census(net, X).unrecognised) == ["relu.mul"]
    assert "relu" in undying.census(net, X)  # without a claim on the name it is as it was


def test_a_bound_method_is_the_one_of_its_name():
    net = Net()
    for method in (net.held, "held", lambda x: net.held(x)):
        site = undying.census(net, X, method=method, outputs={"held": lambda out: out["z"]})["held"]
        assert torch.equal(site.fired, (net.units(X) > 0).sum(0))
    other = Net()
    with pytest.raises(ValueError, match="'held', which gave nothing: no pass over the data called it by this name"):
        undying.census(net, X, method=other.held, outputs={"held": lambda out: out["z"]})


@pytest.mark.parametrize("how", ["kept", "alias", "class"])
def test_a_call_that_is_not_noticed_is_not_denied(how):
    class Called(Net):
        def __init__(self):
            super().__init__()
            self.__dict__["kept"] = self.units

        def forward(self, x):
            return Net.units(self, x) if how == "class" else (self.kept(x) if how == "kept" else self.alias(x))

    Called.alias = Net.units
    with pytest.raises(
        ValueError, match=r"by this name on its module.*bound method that was kept, another name.*Class\.method"
    ):
        undying.census(Called(), X, outputs="units")


def test_one_model_is_counted_in_several_threads():
    net, found = Net(), {}
    expected = (net.units(X) > 0).sum(0).tolist()

    def count(k):
        try:
            found[k] = [undying.census(net, X, outputs="units")["units"].fired.tolist() for _ in range(3)]
        except Exception as error:
            found[k] = error

    threads = [threading.Thread(target=count, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [expected] * 3 for k in range(3)}
    assert "units" not in vars(net)


@pytest.mark.parametrize("where", ["around", "within", "data"])
def test_outputs_are_counted_in_inference_mode(where):
    class Inner(Net):
        def forward(self, x):
            with torch.inference_mode():
                return super().forward(x)

    net = Inner() if where == "within" else Net()
    fired = (net.units(X) > 0).sum(0).tolist()
    with torch.inference_mode(where != "within"):
        x = X + 0 if where == "data" else X
        found = undying.census(
            net, x, outputs={"held": lambda out: out["z"], "topk": lambda o: undying.Indexed(*o, UNITS)}
        )
        assert found["held"].fired.tolist() == fired
        with pytest.raises(OutputsError, match="changes in place what it is given"):
            undying.census(net, x, outputs={"held": lambda out: out["z"].add_(1)})
        undying.census(net, x, outputs={"held": lambda out: out["z"] * float("nan")})


def test_within_vmap_it_is_refused():
    net = Net()
    for outputs in ("units", {"units": lambda z: undying.Indexed(*z.topk(3), UNITS)}):
        with pytest.raises(OutputsError, match=r"within a transform of torch.func, such as vmap"):
            undying.census(net, X, method=lambda x: torch.vmap(net.units)(x), outputs=outputs)


def test_a_gradient_reaches_only_what_the_network_returned():
    net = Net()
    with pytest.raises(OutputsError, match="no gradient of the network reaches"):
        undying.census(net, [(X, X)], outputs={"units": lambda z: 2 * z}, gradients=True)
    site = undying.census(net, [(X, X)], outputs={"units": lambda z: z}, gradients=True)["units"]
    assert site.dead.tolist() == site.silent.tolist()  # relu: where it is silent no weight of it ever matters


def test_the_function_may_call_the_network_and_activations_uncounted():
    net = Net()
    plain = undying.census(net, X, outputs="units")
    found = undying.census(net, X, outputs={"units": lambda z: F.relu(net.units(X) * 0 + z)})
    assert list(found) == list(plain)
    assert found["units"].fired.tolist() == plain["units"].fired.tolist()


class Keeping(nn.Module):
    def __init__(self, encode):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.lin, self.out = nn.Linear(8, 8), nn.Linear(8, UNITS), nn.Linear(UNITS, 2)
        self.jump, self.how, self.passes = Jump(), encode, 0

    def encode(self, x):
        return self.how(self, x)

    def forward(self, x):
        self.passes += 1
        return self.out(self.encode(x))


def clamped(net, x):
    top = net.lin(net.hidden(x).clamp(min=0)).topk(3)
    return torch.zeros(len(x), UNITS).scatter(1, top.indices, F.relu(top.values))


def places(found):
    return [*found.ambiguous, *found.left_out, *found.unrecognised]


def test_places_whose_units_are_those_of_an_output_are_not_listed():
    jumping = Keeping(lambda net, x: net.jump(net.lin(x)))
    with pytest.raises(ValueError, match=r"not recognised: jump\.mul"):
        undying.census(jumping, X)
    assert places(undying.census(jumping, X, outputs="encode")) == []
    assert places(undying.census(Keeping(clamped), X, outputs="encode")) == ["clamp"]  # a layer is in between
    counted = undying.census(Keeping(lambda net, x: net.lin(net.jump(net.hidden(x)))), X, outputs="encode")
    assert places(counted) == ["jump.mul"]

    class Elsewhere(Keeping):
        def forward(self, x):
            self.passes += 1
            return self.out(self.encode(x) if self.passes > 1 else self.jump(self.lin(x)) + self.encode(x) * 0)

    twice = undying.census(Elsewhere(lambda net, x: net.jump(net.lin(x))), X, outputs="encode")
    assert places(twice) == ["jump.mul"]  # the first of the first pass led to no output
