"""Watching a training: exact counts and norms, the same training, nothing left behind."""

import copy
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

import undying


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(16, 8), undying.SUGAR(),
        nn.Linear(8, 1),
    )  # fmt: skip


def batches(n, size=10):
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(size, 4, generator=generator) for _ in range(n)]


def train(net, optimizer, data, forward=None, after_step=lambda: None):
    for x in data:
        optimizer.zero_grad()
        (forward or net)(x).square().mean().backward()
        optimizer.step()
        after_step()


class Seen:
    """What reaches each activation module, noted by hooks of its own."""

    def __init__(self, net):
        self.inputs = {name: [] for name, m in net.named_modules() if isinstance(m, (nn.ReLU, undying.SUGAR))}
        for name in self.inputs:
            net.get_submodule(name).register_forward_pre_hook(
                lambda m, args, name=name: self.inputs[name].append(args[0].detach().clone()) if m.training else None
            )

    def fired(self, name, batches):
        return (torch.cat([self.inputs[name][b] for b in batches]) > 0).sum(0).tolist()


@pytest.mark.parametrize("every", [1, 3])
def test_counts_are_those_of_the_sampled_steps(every):
    net = network()
    seen, memory = Seen(net), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=every, sinks=[memory]):
        train(net, optimizer, batches(7))
    assert [record.step for record in memory] == list(range(0, 7, every))
    for record in memory:
        assert [site.name for site in record.census.sites] == ["2", "5"]
        for site in record.census.sites:
            assert site.samples == 10
            assert site.fired.tolist() == seen.fired(site.name, [record.step])


@pytest.mark.parametrize("probe", [None, torch.ones(3, 4)])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_training_goes_on_to_the_same_numbers(make, probe):
    def trained(watched):
        net = network()
        optimizer = make(net.parameters(), lr=0.05)
        torch.manual_seed(3)
        if watched:
            with undying.watch(net, optimizer, every=2, probe=probe):
                train(net, optimizer, batches(6))
        else:
            train(net, optimizer, batches(6))
        return net.state_dict(), torch.get_rng_state()

    (one, rng_one), (other, rng_other) = trained(True), trained(False)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(rng_one, rng_other)


def test_norms_of_gradients_and_updates():
    net = network()
    net[4].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    memory = undying.Memory()
    expected = []
    with undying.watch(net, optimizer, every=2, sinks=[memory]):
        for x in batches(5):
            before = {name: p.detach().double().clone() for name, p in net.named_parameters()}
            optimizer.zero_grad()
            net(x).square().mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.01)
            gradients = {name: p.grad.double().norm() for name, p in net.named_parameters() if p.grad is not None}
            optimizer.step()
            updates = {name: (p.detach().double() - before[name]).norm() for name, p in net.named_parameters()}
            expected.append((gradients, updates))
    for record in memory:
        gradients, updates = expected[record.step]
        assert set(record.gradient_norms) == set(gradients) == {n for n, _ in net.named_parameters()} - {"4.bias"}
        for name, norm in record.gradient_norms.items():
            assert norm == pytest.approx(float(gradients[name]), rel=1e-5)
            assert record.update_norms[name] == pytest.approx(float(updates[name]), rel=1e-4)
        assert record.gradient_norm == pytest.approx(sum(float(g) ** 2 for g in gradients.values()) ** 0.5, rel=1e-5)
        assert record.gradient_norm == pytest.approx(0.01, rel=1e-3)
        assert record.update_norm == pytest.approx(sum(float(u) ** 2 for u in updates.values()) ** 0.5, rel=1e-4)


def test_accumulated_batches_count_as_one_step():
    net = network()
    seen, memory = Seen(net), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=2, sinks=[memory]):
        for pair in zip(*[iter(batches(8))] * 2, strict=True):
            optimizer.zero_grad()
            for x in pair:
                net(x).square().mean().backward()
            optimizer.step()
    assert [record.step for record in memory] == [0, 2]
    for record, calls in zip(memory, ([0, 1], [4, 5]), strict=True):
        assert record.census["2"].samples == 20
        assert record.census["2"].fired.tolist() == seen.fired("2", calls)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_forward_that_checkpointing_computes_again_is_not_counted_twice(reentrant, whole):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))

        def forward(self, x):
            h = torch.relu(self.first(x))
            return self.inner(h) if whole else checkpoint(self.inner, h, use_reentrant=reentrant)

    net = Checkpointed()
    plain = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    memory = undying.Memory()

    def forward(x):
        x = x.clone().requires_grad_()
        return checkpoint(net, x, use_reentrant=reentrant) if whole else net(x)

    data = batches(3)
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        train(net, optimizer, data, forward)
    first = plain.first(data[0])
    second = plain.inner[0](first.relu())
    for site, (name, x) in zip(memory[0].census.sites, {"relu": first, "inner.1": second}.items(), strict=True):
        assert (site.name, site.samples) == (name, 10)
        assert site.fired.tolist() == (x > 0).sum(0).tolist()
    assert memory[0].gradient_norm > 0


def test_an_evaluation_between_steps_is_not_counted():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        for x in batches(2):
            train(net, optimizer, [x])
            net.eval()
            with torch.no_grad():
                net(torch.randn(100, 4))
            net.train()
    assert [record.census["2"].samples for record in memory] == [10, 10]


@pytest.mark.parametrize("fused", [False, True])
def test_mixed_precision_and_a_scaler(fused):
    def trained(scale):
        net = network()
        net[3].p = 0.0
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", enabled=scale, init_scale=1024.0)
        memory = undying.Memory()
        with undying.watch(net, optimizer, every=2, sinks=[memory]):
            for x in batches(5):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16):
                    loss = net(x).float().square().mean()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        return memory

    for scaled, plain in zip(trained(True), trained(False), strict=True):
        assert scaled.gradient_norm == pytest.approx(plain.gradient_norm, rel=0.02)
        assert scaled.update_norm == pytest.approx(plain.update_norm, rel=0.02)
        assert scaled.census["2"].samples == 10


def test_a_step_that_the_scaler_skips_goes_on_into_the_next():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        for factor in (float("inf"), 1.0):
            optimizer.zero_grad()
            scaler.scale(net(torch.ones(10, 4)).sum() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert [(record.step, record.census["2"].samples) for record in memory] == [(0, 20)]


@pytest.mark.parametrize("form", ["torch.compile", "in place", "train step"])
def test_a_compiled_model_is_compiled_once_and_has_no_graph_break(form):
    net, data = network(), batches(11)
    plain = copy.deepcopy(net)
    net[3].p = plain[3].p = 0.0
    counter = CompileCounter()
    memory, reference = undying.Memory(), undying.Memory()
    optimizer, other = (torch.optim.SGD(n.parameters(), lr=0.1) for n in (net, plain))
    with undying.watch(plain, other, every=5, sinks=[reference]):
        train(plain, other, data)

    if form == "train step":
        step = torch.compile(lambda x: net(x).square().mean(), backend=counter, fullgraph=True)
        with undying.watch(net, every=5, sinks=[memory]) as watching:
            for x in data:
                optimizer.zero_grad()
                step(x).backward()
                optimizer.step()
                watching.step()
    else:
        compiled = torch.compile(net, backend=counter, fullgraph=True)
        if form == "in place":
            net.compile(backend=counter, fullgraph=True)
            compiled = net
        with undying.watch(compiled, optimizer, every=5, probe=torch.ones(2, 4), sinks=[memory]):
            train(net, optimizer, data, compiled)
    assert counter.frame_count == 1
    assert [record.step for record in memory] == [0, 5, 10]
    for record, expected in zip(memory, reference, strict=True):
        for site in record.census.sites:
            assert site.fired.tolist() == expected.census[site.name].fired.tolist()
        assert record.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


@pytest.mark.parametrize(
    ("watched", "compiled_first"), [("network", True), ("network", False), ("compiled", True)], ids=str
)
def test_functional_activations_of_a_compiled_model_are_counted(watched, compiled_first):
    torch.manual_seed(0)
    net, data = Functional(), batches(7)
    compiled = torch.compile(net, backend="eager") if compiled_first else None
    memory, optimizer = undying.Memory(), torch.optim.SGD(net.parameters(), lr=0.1)
    truth = []
    with undying.watch(compiled if watched == "compiled" else net, optimizer, every=3, sinks=[memory]):
        compiled = torch.compile(net, backend="eager") if compiled is None else compiled
        for step, x in enumerate(data):
            if step % 3 == 0:
                with torch.no_grad():
                    first = torch.relu(torch.addmm(net.a.bias, x, net.a.weight.t()))
                    second = torch.relu(torch.addmm(net.b.bias, first, net.b.weight.t()))
                truth.append([(h > 0).sum(0).tolist() for h in (first, second)])
            optimizer.zero_grad()
            compiled(x).square().mean().backward()
            optimizer.step()
    assert [record.step for record in memory] == [0, 3, 6]
    assert [[site.fired.tolist() for site in record.census.sites] for record in memory] == truth


@pytest.mark.parametrize("part", ["optimizer.step", "whole step"])
def test_a_compiled_step_is_followed(part):
    net, data = small(), batches(5)
    memory, optimizer = undying.Memory(), torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    compiled = torch.compile(step if part == "whole step" else optimizer.step, backend="eager")
    truth = []
    with undying.watch(net, optimizer, every=2, sinks=[memory]):
        for number, x in enumerate(data):
            if number % 2 == 0:
                hidden = torch.addmm(net[0].bias, x, net[0].weight.t())
                truth.append((number, (hidden > 0).sum(0).tolist()))
            if part == "whole step":
                compiled(x)
            else:
                optimizer.zero_grad()
                net(x).square().mean().backward()
                compiled()
    assert [(record.step, record.census["1"].fired.tolist()) for record in memory] == truth


class Wrapper(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.loss = net, nn.MSELoss()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("wrapper", [Wrapper, lambda net: Wrapper(Wrapper(net))], ids=["one", "two"])
def test_evaluation_of_a_network_in_a_wrapper_is_not_counted(wrapper):
    """Only the network is told of it: the wrapper stays in training mode."""
    net = small()
    wrapped, memory, optimizer = wrapper(net), undying.Memory(), torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(wrapped, optimizer, every=1, sinks=[memory]):
        for x in batches(2):
            wrapped(x).square().mean().backward()
            net.eval()
            with torch.no_grad():
                wrapped(torch.ones(30, 4))
            net.train()
            with torch.no_grad():
                wrapped(x[:3])  # a rollout
            optimizer.step()
    assert [record.samples for record in memory] == [13, 13]


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))


def _watched(net, path, data):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=2, probe=torch.ones(5, 4), sinks=[undying.JSONL(path)]):
        train(net, optimizer, data)


def _rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    net = nn.parallel.DistributedDataParallel(small())
    _watched(net, folder / "ranks.jsonl", [x.chunk(2)[rank] for x in batches(4)])
    dist.destroy_process_group()


def test_counts_add_over_the_ranks_of_ddp(tmp_path):
    mp.start_processes(_rank, (tmp_path,), nprocs=2, start_method="forkserver")
    _watched(small(), tmp_path / "one.jsonl", batches(4))
    ranks, one = (undying.JSONL.read(tmp_path / f"{name}.jsonl") for name in ("ranks", "one"))
    assert [record["step"] for record in ranks] == [0, 2]
    for a, b in zip(ranks, one, strict=True):
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)
        for key in ("units", "samples", "values", "silent", "dead", "dormant", "rate"):
            assert a["sites"]["1"][key] == b["sites"]["1"][key], key


class Scripted(torch.optim.Optimizer):
    """Its steps do what they are told."""

    def __init__(self, parameters, actions):
        super().__init__(parameters, {})
        self.actions = iter(actions)

    @torch.no_grad()
    def step(self, closure=None):
        next(self.actions)()


def test_what_died_and_revived_on_the_probe():
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU())

    def bias(unit, value):
        return lambda: net[0].bias.__setitem__(unit, value)

    with torch.no_grad():
        net[0].bias[4] = -100.0
    optimizer = Scripted(net.parameters(), [bias(1, -100.0), bias(2, -100.0), bias(1, 100.0), lambda: None])
    memory = undying.Memory()
    probe = torch.cat([torch.eye(3), -torch.eye(3)]) * 10
    with undying.watch(net, optimizer, every=1, probe=probe, sinks=[memory]) as watching:
        assert watching.initial["1"].silent.tolist() == [False, False, False, False, True]
        train(net, optimizer, batches_of(3, 4))
    assert [(record.died, record.revived) for record in memory] == [
        ({"1": [1]}, {}),
        ({"1": [2]}, {}),
        ({}, {"1": [1]}),
        ({}, {}),
    ]
    assert memory[3].changes["1"].still.nonzero().flatten().tolist() == [2, 4]
    assert memory[2].scalars()["probe/revived"] == 1.0


def batches_of(features, n):
    return [torch.randn(6, features) for _ in range(n)]


def test_a_closure_computes_the_gradient_within_the_step():
    net = network()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=1)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=1, sinks=[memory]):
        for x in batches(2):

            def closure(x=x):
                optimizer.zero_grad()
                loss = net(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
    assert [record.census["2"].samples for record in memory] == [10, 10]
    for record in memory:
        assert record.gradient_norm > 0
        assert record.update_norm > 0


def hooks_of(net, optimizer):
    return (
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()),
        len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks),
    )


def test_nothing_is_left_behind_nor_there_between_samples():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = batches(2)
    call = nn.Module.__call__
    watching = undying.watch(net, optimizer, every=2)
    assert nn.Module.__call__ is not call
    train(net, optimizer, [x])
    assert nn.Module.__call__ is call
    train(net, optimizer, [y])
    assert nn.Module.__call__ is not call
    assert hooks_of(net, optimizer) == (0, 2)
    watching.close()
    assert hooks_of(net, optimizer) == (0, 0)
    assert nn.Module.__call__ is call
    watching.close()
    with pytest.raises(RuntimeError, match="mat1"), undying.watch(net, optimizer):
        net(torch.randn(3, 5))
    assert hooks_of(net, optimizer) == (0, 0)
    assert nn.Module.__call__ is call
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_forward_that_fails_and_is_caught_does_not_end_the_watch():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    memory = undying.Memory()
    with undying.watch(net, optimizer, sinks=[memory]):
        with pytest.raises(RuntimeError, match="mat1"):
            net(torch.randn(3, 5))
        train(net, optimizer, batches(1))
    assert memory[0].census["2"].samples == 10


def test_errors_name_the_way_out():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for every in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="every must be a whole number"):
            undying.watch(net, optimizer, every=every)
    with pytest.raises(TypeError, match="DataParallel"):
        undying.watch(nn.DataParallel(net), optimizer)
    with undying.watch(net, optimizer) as watching, pytest.raises(RuntimeError, match="only without one"):
        watching.step()
    with undying.watch(net) as watching, pytest.warns(UserWarning, match="no activation of Sequential in step 0"):
        watching.step()


def test_what_is_not_recognised_is_said_once_and_recorded():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Threshold(0, 0), nn.Linear(6, 1))
    optimizer, memory = torch.optim.SGD(net.parameters(), 0.1), undying.Memory()

    def train():
        for _ in range(3):
            net(torch.randn(8, 4)).mean().backward()
            optimizer.step()

    said = pytest.warns(UserWarning, match="watch: not recognised, so not counted: 3.threshold: threshold")
    with undying.watch(net, optimizer, every=1, sinks=[memory]), said as warned:
        train()
    assert len(warned) == 1
    assert [record.to_dict()["unrecognised"] for record in memory] == [["3.threshold"]] * 3


def test_a_resumed_training_counts_on():
    net = small()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=4, sinks=memory, first=6):
        train(net, optimizer, batches(7))
    assert [record.step for record in memory] == [8, 12]
    for first in (-1, 1.0, True):
        with pytest.raises(ValueError, match="first must be a whole number of at least 0"):
            undying.watch(net, first=first)


def test_what_fails_on_the_way_ends_no_training(monkeypatch):
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Tanh())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=1, sinks=memory, axes={"1": 5}):
        net(torch.ones(10, 4)).sum().backward()
        with pytest.warns(UserWarning, match="left out: 1: site '1': axes gives 5"):
            optimizer.step()
    assert [site.name for site in memory[0].census.sites] == ["3"]
    with undying.watch(net, optimizer, every=1, sinks=memory, probe=torch.ones(2, 4)):
        monkeypatch.setattr(torch.linalg, "vector_norm", lambda *_, **__: 1 / 0)
        monkeypatch.setattr(sys.modules[undying.watch.__module__], "census", lambda *_, **__: 1 / 0)
        with pytest.warns(UserWarning, match="watch") as said:
            train(net, optimizer, batches(1))
    texts = "\n".join(str(warning.message) for warning in said)
    for what in ("norms of gradients could not be taken", "norm of the update could not", "probe could not be counted"):
        assert what in texts
    assert (memory[1].step, memory[1].gradient_norm, memory[1].probe) == (0, None, None)
    assert memory[1].census["1"].samples == 10


class Routed(nn.Module):
    """Rank 1 leaves one part out, has other units in another, and in step 1 has no batch."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.linear, self.all, self.some, self.odd = rank, nn.Linear(4, 8), nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        h = self.all(self.linear(x))
        self.odd(h[:, : 4 + self.rank])
        return h if self.rank else self.some(h)


def _unlike_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    net = Routed(rank)
    with undying.watch(net, every=1, sinks=folder / "ranks.jsonl", distributed=True) as watching:
        for step in range(2):
            if not (rank and step):
                net(torch.rand(6, 4))
            watching.step()
    dist.destroy_process_group()


def test_ranks_that_see_other_sites_do_not_wait_for_each_other(tmp_path):
    mp.start_processes(_unlike_rank, (tmp_path,), nprocs=2, start_method="forkserver")
    first, second = undying.JSONL.read(tmp_path / "ranks.jsonl")
    assert {name: site["samples"] for name, site in first["sites"].items()} == {"all": 12, "some": 6}
    assert first["left_out"] == {"odd": "its units differ between ranks"}
    assert {name: site["samples"] for name, site in second["sites"].items()} == {"all": 6, "some": 6, "odd": 6}


def test_modules_that_are_replaced_while_it_watches_are_counted():
    net, x, memory = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)), torch.randn(64, 4), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with undying.watch(net, optimizer, every=1, sinks=memory):
        for new in (nn.GELU(), nn.Sequential(nn.Linear(6, 6), nn.ReLU()), None):
            net(x).mean().backward()
            optimizer.step()
            net[1] = new or net[1]
    assert [list(record.census) for record in memory] == [["1"], ["1"], ["1.1"]]
    assert [record.census.sites[0].kind for record in memory] == ["ReLU", "GELU", "ReLU"]


def test_a_forward_pass_that_failed_is_not_counted_when_it_is_tried_again():
    class Failing(nn.Module):
        tries = 0

        def __init__(self):
            super().__init__()
            self.a, self.first, self.b, self.second = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()

        def forward(self, x):
            h = self.b(self.first(self.a(x)))
            self.tries += 1
            if self.tries == 1:
                raise RuntimeError("out of memory")
            return self.second(h)

    net, x, memory = Failing(), torch.randn(64, 4), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with undying.watch(net, optimizer, every=1, sinks=memory):
        with pytest.raises(RuntimeError, match="out of memory"):
            net(x)
        net(x).mean().backward()
        optimizer.step()
    assert [(site.samples, site.values) for site in memory[0].census.sites] == [(64, 64), (64, 64)]
