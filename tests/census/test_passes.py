"""Forward passes that watch follows: however they end, and with nothing on the model that a copy would carry along."""

import copy
import io
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.proxy_tensor import make_fx

import undying

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
CALL = nn.Module.__call__


def network(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), *more, nn.Linear(8, 1))


def modes():
    return torch.overrides._get_current_function_mode_stack()


def hooks(net):
    return [h for m in net.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


def seen(memory):
    return [[(site.name, site.samples) for site in record.census.sites] for record in memory]


class Raising(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return x


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, RuntimeError])
def test_a_pass_that_is_broken_off_leaves_nothing(error):
    net, memory = network(Raising(error)), undying.Memory()
    with undying.watch(net, every=1, sinks=memory) as watching:
        with (
            pytest.raises(error),
            torch.device("meta"),
        ):  # which takes off the innermost mode as it ends, whatever that is
            net(X)
        assert (modes(), hooks(net)) == ([], [])
        net(X)
        watching.step()
    assert seen(memory) == [[("1", 16)]]  # what was broken off is not counted
    with pytest.raises(error), undying.watch(network(Raising(error))):
        network(Raising(error))(X)
    assert (modes(), nn.Module.__call__) == ([], CALL)


class Meanwhile(nn.Module):
    """Does something in another thread while its forward runs."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        if self.what is not None:
            what, self.what = self.what, None
            thread = threading.Thread(target=what)
            thread.start()
            thread.join()
        return x


@pytest.mark.parametrize("outer", ["training", "evaluation"])
def test_what_another_thread_evaluates_is_not_counted_nor_in_the_way(outer):
    @torch.no_grad()
    def evaluate():
        net(torch.rand(100, 4))

    def step():
        net.train()(X).sum().backward()

    net, memory = network(Meanwhile(lambda: (step if outer == "evaluation" else evaluate)())), undying.Memory()
    with undying.watch(net, every=1, sinks=memory) as watching:
        if outer == "evaluation":
            net.eval()
            evaluate()
        else:
            step()
        watching.step()
    assert seen(memory) == [[("1", 16)]]


def test_a_users_hook_that_fails_leaves_nothing():
    net = network()
    handle = net.register_forward_hook(lambda *_: 1 / 0)
    with undying.watch(net, every=1) as watching:
        with pytest.raises(ZeroDivisionError):
            net(X)
        assert modes() == []
        handle.remove()
        net(X)
        watching.step()


def test_copies_and_pickles_within_a_sampled_step_are_clean(tmp_path):
    net = network()
    with undying.watch(net, sinks=[undying.JSONL(tmp_path / "watch.jsonl")], every=1) as watching:
        net(X)
        copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.optim.swa_utils.AveragedModel(net)]
        torch.save(net, file := io.BytesIO())
        file.seek(0)
        copies.append(torch.load(file, weights_only=False))
        for twin in copies:
            assert hooks(twin) == []
            twin(X)
        watching.step()
    assert watching.last.census["1"].samples == 16


def test_a_copy_made_within_a_forward_counts_nothing():
    class WithTarget(nn.Module):
        """Copies a part of itself when it is first called, as BYOL does."""

        def __init__(self):
            super().__init__()
            self.online = network()

        def forward(self, x):
            y = self.online(x)
            self.__dict__.setdefault("targets", [copy.deepcopy(self.online), pickle.dumps(self.online)])
            return y

    net, memory = WithTarget(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory) as watching:
        net(X)
        target, other = net.targets[0], pickle.loads(net.targets[1])
        assert torch.equal(target(X), net.online(X))
        other(X)
        copy.deepcopy(target)
        watching.step()
    assert seen(memory) == [[("online.1", 32)]]


@pytest.mark.filterwarnings("ignore:`torch.jit.(trace|script|trace_method)` is (deprecated|not supported)")
def test_exports_within_a_sampled_step_are_not_counted_and_hold_no_counting():
    net, memory = network(), undying.Memory()
    nodes = [len(list(make_fx(net)(X).graph.nodes)), len(list(torch.export.export(net, (X,)).graph.nodes))]
    with undying.watch(net, every=1, sinks=memory) as watching:
        assert [len(list(make_fx(net)(X).graph.nodes)), len(list(torch.export.export(net, (X,)).graph.nodes))] == nodes
        traced = torch.jit.trace(net, X, check_trace=False)
        torch.jit.script(net)
        torch.fx.symbolic_trace(net)
        net(X)
        watching.step()
    assert seen(memory) == [[("1", 16)]]
    assert torch.equal(traced(X), net(X))


def test_passes_in_transforms_are_named():
    net, memory = network(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory) as watching:
        with pytest.warns(UserWarning, match="within transforms of torch.func are not counted"):
            torch.func.vmap(net)(X)
        torch.func.functional_call(net, dict(net.named_parameters()), (X,))
        watching.step()
    assert seen(memory) == [[("1", 16)]]


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)

    def loss(self, x):
        return self.b(self.act(F.relu(self.a(x)))).square().mean()

    def later(self, x):
        yield self.loss(x)


class Inheriting(Parts):
    pass


@pytest.mark.parametrize("kind", [Parts, Inheriting])
def test_a_method_that_is_called_in_place_of_the_model(kind):
    net, other = kind(), kind()
    memory, others = undying.Memory(), undying.Memory()
    before = dict(vars(kind))
    watching = undying.watch(net, every=1, sinks=memory, method="loss")
    beside = undying.watch(other, every=1, sinks=others, method="loss")
    net.loss(X).backward()
    watching.step()
    watching.close()
    other.loss(X).backward()
    beside.step()
    beside.close()
    assert seen(memory) == seen(others) == [[("relu", 16), ("act", 16)]]
    assert dict(vars(kind)) == before


def test_parts_that_are_called_are_counted_and_named():
    net, memory = Parts(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory) as watching:
        with pytest.warns(UserWarning, match=r"calls parts of Parts, such as 'a' and 'b'; .* method='training_step'"):
            net.loss(X).backward()
        watching.step()
    assert seen(memory) == [[("act", 16)]]


def test_a_method_that_cannot_be_followed_is_refused():
    net = Parts()
    net.own = lambda x: x
    for method in ("nothing", "own", "training"):
        with pytest.raises(ValueError, match=f"method='{method}': Parts has no such method in its class"):
            undying.watch(net, method=method)
    with pytest.raises(ValueError, match="method='later' of Parts does not run when it is called"):
        undying.watch(net, method="later")


def test_who_replaced_the_call_meanwhile_keeps_it():
    net, calls = network(), []
    watching = undying.watch(net, every=1)
    ours = nn.Module.__call__

    def theirs(self, *args, **kwargs):
        calls.append(self)
        return ours(self, *args, **kwargs)

    nn.Module.__call__ = theirs
    try:
        watching.close()
        assert nn.Module.__call__ is theirs
        net(X)
        assert calls[0] is net
    finally:
        nn.Module.__call__ = CALL


def test_two_watches_of_one_model_in_any_order():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.GELU())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    often, seldom = undying.Memory(), undying.Memory()
    first = undying.watch(net, optimizer, every=1, sinks=often)
    second = undying.watch(net, optimizer, every=2, sinks=seldom, probe=X)
    for step in range(4):
        optimizer.zero_grad()
        net(X).square().mean().backward()
        optimizer.step()
        if step == 2:
            first.close()
    second.close()
    assert ([record.step for record in often], [record.step for record in seldom]) == ([0, 1, 2], [0, 2])
    for one, other in zip(often[::2], seldom, strict=True):
        assert one.update_norm == other.update_norm
        for a, b in zip(one.census.sites, other.census.sites, strict=True):
            assert (a.name, a.samples, a.fired.tolist()) == (b.name, b.samples, b.fired.tolist())


def test_compiled_code_is_on_again_after_the_last_of_two_watches():
    counter = CompileCounter()
    nets = [torch.compile(network(), backend=counter) for _ in range(2)]
    watches = [undying.watch(net, every=2) for net in nets]
    for net, watching in zip(nets, watches, strict=True):
        net(X)
        watching.step()
        watching.close()
    assert counter.frame_count == 0
    nets[0](X)
    assert counter.frame_count == 1
