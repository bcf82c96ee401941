"""Each part on a plain training loop, against what its paper says it does."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying._base.errors import UndyingError
from undying.lab.activations import build_activation
from undying.lab.treatments import build_treatment
from undying.lab.treatments.part import Training

STEPS = 8


class Loop:
    """An MLP on random data, trained under a treatment."""

    def __init__(self, spec, *, kill=0, optimizer=torch.optim.Adam, average=False):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        self.x, self.y = torch.randn(64, 6), torch.randint(3, (64,))
        with torch.no_grad():
            self.model[0].bias[:kill] = -100
        self.treatment = build_treatment(spec)
        undying.convert_(self.model, build_activation(self.treatment.activation))
        self.probe = [(self.x, self.y)]
        self.owned = self.treatment.prepare(self.model, self.probe)
        self.optimizer = optimizer(self.model.parameters(), 0.05)
        self.average = copy.deepcopy(self.model) if average else None
        self.applied = self.treatment.start(self.model, self.optimizer, self.probe, STEPS, 0, self.average)

    def train(self, steps=STEPS):
        for _ in range(steps):
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.x), self.y).backward()
            self.applied.before_step()
            self.optimizer.step()
            self.applied.after_step()
        return self

    def weights(self):
        return [p.detach().clone() for p in self.model.parameters()]


def same(a, b):
    return all(map(torch.equal, a, b))


def test_an_activation_alone_changes_nothing():
    loop, plain = Loop("sugar:nelu"), Loop("sugar:nelu")
    loop.train()
    for _ in range(STEPS):
        plain.optimizer.zero_grad()
        F.cross_entropy(plain.model(plain.x), plain.y).backward()
        plain.optimizer.step()
    assert same(loop.weights(), plain.weights())
    assert (loop.applied.recycled, loop.applied.recycles) == (0, False)


@pytest.mark.parametrize(
    "spec", ["sugar:anneal=0.5", "barelu:alpha=0.2:eps=0.01:anneal=0.5", "sugar:strength=0.5:anneal=1"]
)
def test_annealing_ends_as_relu_which_revert_leaves_as_it_is(spec):
    loop = Loop(spec, average=True)
    first = repr(loop.model[1])
    loop.train(STEPS // 2)
    assert (repr(loop.model[1]) == first) == spec.endswith("=0.5")  # the first half is held
    loop.train(STEPS // 2)
    for model in (loop.model, loop.average):  # the average has activations of its own
        x = torch.randn(64, 6, requires_grad=True)
        out = model(x)
        gradient = torch.autograd.grad(out.sum(), x)[0]
        undying.revert_(model)
        assert type(model[1]) is nn.ReLU
        assert torch.equal(model(x), out)
        assert torch.equal(torch.autograd.grad(model(x).sum(), x)[0], gradient)


def test_l2init_is_the_gradient_of_the_papers_term():
    loop, plain = Loop("relu+l2init:0.3"), Loop("relu")
    first = plain.weights()
    loop.train(3)
    for _ in range(3):
        plain.optimizer.zero_grad()
        distance = sum((p - f).square().sum() for p, f in zip(plain.model.parameters(), first, strict=True))
        (F.cross_entropy(plain.model(plain.x), plain.y) + 0.3 * distance).backward()
        plain.optimizer.step()
    for a, b in zip(loop.weights(), plain.weights(), strict=True):
        torch.testing.assert_close(a, b)


def test_shrink_and_perturb_shrinks_and_adds_noise_of_its_size():
    loop = Loop("relu+shrink_perturb:shrink=0.1:noise=0.01", optimizer=lambda p, lr: torch.optim.SGD(p, 0.0))
    first = torch.cat([w.flatten() for w in loop.weights()])
    state = torch.get_rng_state()
    loop.train(1)
    noise = torch.cat([w.flatten() for w in loop.weights()]) - 0.9 * first
    assert len(noise) == 155
    assert 0.008 < noise.std() < 0.012
    assert abs(noise.mean()) < 0.003
    assert torch.equal(torch.get_rng_state(), state)
    loop.train(1)
    assert not torch.equal(torch.cat([w.flatten() for w in loop.weights()]), 0.9 * (0.9 * first + noise) + noise)


@pytest.mark.parametrize("at", [0, 0.5])
def test_recycling_happens_once_and_when_it_is_said(at):
    loop = Loop(f"relu+recycle:scaled:at={at}", kill=3)
    counts = [loop.applied.recycled]
    for _ in range(STEPS):
        loop.train(1)
        counts.append(loop.applied.recycled)
    due = int(at * STEPS)
    plain = Loop("relu", kill=3).train(due)
    silent = sum(int(site.silent.sum()) for site in undying.census(plain.model, plain.x).sites)
    assert silent >= 3
    assert counts == [0 if step < due else silent for step in range(STEPS + 1)]
    assert not undying.census(loop.model, loop.x)["1"].silent[:3].any()
    assert undying.census(Loop("relu", kill=3).train().model, loop.x)["1"].silent[:3].all()


def test_a_fresh_start_draws_every_layer_and_forgets_the_optimizers_state():
    loop = Loop("relu+fresh:at=0.5")
    loop.train(STEPS // 2 - 1)
    before, state = loop.weights(), torch.get_rng_state()
    loop.train(1)
    after = loop.weights()
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    # As nn.Linear draws: uniform within 1 / sqrt(fan_in).
    assert all(float(w.abs().max()) <= w[0].numel() ** -0.5 for w in after[::2])
    assert not loop.optimizer.state
    loop.train(1)
    assert {float(s["step"]) for s in loop.optimizer.state.values()} == {1.0}
    assert same(after, Loop("relu+fresh:at=0.5").train(STEPS // 2).weights())  # of the seed


def test_fresh_refuses_by_name_what_has_no_way_to_begin_anew():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return self.gain * x

    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), Scale())
    with pytest.raises(UndyingError, match="fresh cannot start '2' anew: Scale has weights and no reset_parameters"):
        build_treatment("relu+fresh:at=0.5").start(model, torch.optim.SGD(model.parameters()), [], 10, 0)


def test_recycling_of_what_is_never_silent_is_refused_at_the_start():
    with pytest.raises(UndyingError, match="recycle looks for silent units, which Tanh does not have"):
        Loop("tanh+recycle:at=0.5")


def test_layernorm_stands_before_each_activation_and_draws_nothing():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5), nn.ReLU())
    x, plain, state = torch.randn(4, 1, 8, 8), copy.deepcopy(model), torch.get_rng_state()
    owned = build_treatment("relu+layernorm").prepare(model, [x])
    assert owned == ["1.norm.weight", "1.norm.bias", "5.norm.weight", "5.norm.bias"]
    assert set(model.state_dict()) - set(plain.state_dict()) == set(owned)
    assert torch.equal(torch.get_rng_state(), state)
    # By hand: mean and variance over all units and places of a sample.
    h = plain[0](x)
    h = plain[2](F.relu(F.layer_norm(h, h.shape[1:]))).flatten(1)
    torch.testing.assert_close(model(x), F.relu(F.layer_norm(plain[4](h), (5,))))


def test_layernorm_on_tokens_is_of_each_token():
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6))
    x, plain = torch.randn(2, 6, 6), copy.deepcopy(model)
    build_treatment("gelu+layernorm").prepare(model, [x])
    torch.testing.assert_close(model(x), plain[2](F.gelu(F.layer_norm(plain[0](x), (6,)))))


def test_layernorm_refuses_an_activation_that_is_called_twice():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act)
    with pytest.raises(UndyingError, match="layernorm cannot stand before '1', which is called 2 times"):
        build_treatment("relu+layernorm").prepare(model, [torch.randn(4, 6)])
    with pytest.raises(UndyingError, match="calls no SUGAR module"):
        build_treatment("sugar+layernorm").prepare(model, [torch.randn(4, 6)])


class Policed(Loop):
    """The same loop with a Recycler of the library's own, under the generator that its treatment has."""

    def __init__(self, policy, seed):
        super().__init__("relu", kill=3)
        generator = torch.Generator().manual_seed(seed)
        self.recycler = undying.Recycler(self.model, self.optimizer, policy, probe=self.probe, generator=generator)

    def train(self, steps=STEPS):
        for _ in range(steps):
            super().train(1)
            self.recycler.step()
        return self


@pytest.mark.parametrize(
    ("part", "policy"),
    [
        ("redo:0.1:every=3", undying.ReDo(tau=0.1, every=3)),
        ("cbp:rate=0.05:maturity=2:utility=weight:decay=0.5", undying.ContinualBackprop(0.05, 2, "weight", 0.5)),
        ("snr:percentile=0.5:window=4:longest=3", undying.SelfNormalizedResets(0.5, 4, 3)),
        ("grama:0.2:every=2", undying.GradientDormancy(tau=0.2, every=2)),
    ],
)
def test_policies_do_what_a_recycler_of_the_library_does(part, policy):
    loop = Loop(f"relu+{part}", kill=3)
    [kind] = loop.treatment.parts
    assert kind.policy() == policy
    seed = Training(loop.model, loop.optimizer, [], STEPS, 0).seed_of(kind)
    own, recycler = loop.train(), Policed(policy, seed).train()
    assert same(own.weights(), recycler.weights())
    assert own.applied.recycled == recycler.recycler.recycled > 0
    assert build_treatment(f"relu+{kind.name}").parts[0].policy() == type(policy)()  # the paper's defaults


def test_a_census_between_steps_is_no_pass_of_the_training():
    plain, counted = Loop("relu+snr:longest=3+cbp:0.05:maturity=2"), Loop("relu+snr:longest=3+cbp:0.05:maturity=2")
    plain.train()
    for _ in range(STEPS):
        undying.census(counted.model, [(10 * counted.x, counted.y)], gradients=True, loss=F.cross_entropy)
        counted.train(1)
    assert same(plain.weights(), counted.weights())


def test_sites_that_cannot_be_recycled_are_named():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.one, self.two = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.c(self.two(self.b(x + self.one(self.a(x)))))

    model = Residual()
    optimizer = torch.optim.Adam(model.parameters())
    applied = build_treatment("relu+redo").start(model, optimizer, [torch.randn(9, 6)], 10, 0)
    assert list(applied.refused) == ["one"]
    with torch.no_grad():
        model.a.bias[0] = -100
    applied = build_treatment("relu+recycle").start(model, optimizer, [torch.randn(9, 6)], 10, 0)
    assert list(applied.refused) == ["one"]


ALL = (
    "relu+redo:every=3+cbp:0.05:maturity=2+snr:longest=3+grama:every=2",
    "sugar:anneal=0.9+recycle:kaiming:at=0.25+l2init+shrink_perturb:noise=0.01",
    "barelu:anneal=0.9+fresh:at=0.25+shrink_perturb:noise=0.01",
    "relu+layernorm+recycle:at=0.75",
)


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("after", [1, 5])
def test_a_training_goes_on_from_its_state_bit_for_bit(spec, after):
    whole, first, second = Loop(spec, kill=3).train(), Loop(spec, kill=3).train(after), Loop(spec, kill=3)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    kept = io.BytesIO()
    torch.save(first.applied.state_dict(), kept)  # read as a checkpoint is
    second.applied.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    second.train(STEPS - after)
    assert same(whole.weights(), second.weights())
    assert whole.applied.recycled == second.applied.recycled
    with pytest.raises(ValueError, match="the state is of a treatment with the parts"):
        Loop("relu").applied.load_state_dict(whole.applied.state_dict())


def test_annealing_goes_back_to_a_state_on_the_network_that_has_gone_on():
    net = nn.Sequential(nn.Linear(2, 2), undying.SUGAR())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def begun():
        return build_treatment("sugar:anneal=1").start(net, optimizer, [torch.randn(4, 2)], 10, 0)

    applied, strengths = begun(), []
    for step in range(10):
        if step == 4:
            state = applied.state_dict()
        applied.after_step()
        strengths.append(net[1].strength)
    again = begun()
    again.load_state_dict(state)
    for step in range(4, 10):
        again.after_step()
        assert net[1].strength == strengths[step]
