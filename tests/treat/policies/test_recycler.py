"""What a Recycler does around its policy: refusals, records, steps of other kinds, and what it leaves behind."""

import contextlib
import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import undying
from recycling import CASES, Net, die, mlp, output, same, shared_module, state, stepped
from undying.treat.policies.recycler import Recycler

NOW = undying.ReDo(tau=0.0, every=1)


def recycler(net, x, policy=NOW, optimizer=None, **settings):
    return Recycler(net, optimizer, policy, probe=x, generator=torch.Generator().manual_seed(2), **settings)


def passed(net, x):
    """A forward pass of training in which batch norm uses its running statistics, as in the probe."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return net(x)


@pytest.mark.parametrize("case", [c for c in CASES if c is not shared_module], ids=lambda case: case.__name__)
def test_silent_units_are_recycled_and_the_outputs_stay_bit_for_bit(case):
    net, x, planted = case()
    before = output(net, x)
    weights = state(net)
    with recycler(net, x) as ours:
        passed(net, x)
        ours.step()
    assert torch.equal(output(net, x), before)
    assert ours.recycled >= sum(map(len, planted.values()))
    for name, units in planted.items():
        for maker in ours.sites[name].makers:
            places, _ = maker.part.places(units)
            old = next(
                weights[key]
                for key, value in net.state_dict().items()
                if value.data_ptr() == maker.part.target.data_ptr()
            )
            if maker.start is None:
                assert not (maker.part.take(maker.part.target, places) == maker.part.take(old, places)).any()


def test_only_the_slices_of_the_units_change_and_the_optimizer_forgets_them():
    from recycling import expected_slices

    net, x, planted = mlp()
    optimizer = torch.optim.Adam(net.parameters())
    stepped(net, optimizer)
    weights = state(net)
    with recycler(net, x, optimizer=optimizer) as ours:
        passed(net, x)
        ours.step()
    assert ours.recycled == sum(map(len, planted.values()))
    for name, where in expected_slices(net).items():
        p = net.get_parameter(name)
        assert torch.equal(p != weights[name], where)
        assert torch.equal(p.grad == 0, where)
        assert torch.equal(optimizer.state[p]["exp_avg"] == 0, where)
        assert torch.equal(optimizer.state[p]["exp_avg_sq"] == 0, where)


def test_kaiming_draws_have_its_variance_and_no_bias():
    net = nn.Sequential(nn.Conv2d(8, 64, 5), nn.ReLU(), nn.Conv2d(64, 2, 1))
    nn.init.zeros_(net[0].weight)
    nn.init.constant_(net[0].bias, -1.0)
    x = torch.randn(2, 8, 6, 6)
    with recycler(net, x, init="kaiming") as ours:
        net(x)
        ours.step()
    assert net[0].weight.var().item() == pytest.approx(2 / (8 * 25), rel=0.05)
    assert (net[0].bias == 0).all()


def test_default_draws_are_the_layers_own_reset():
    class Halves(nn.Linear):
        def reset_parameters(self):
            nn.init.constant_(self.weight, 0.5)
            nn.init.uniform_(self.bias, 2, 3)

    net = nn.Sequential(Halves(4, 6), nn.ReLU(), nn.ConvTranspose1d(6, 40, 3), nn.ReLU(), nn.Conv1d(40, 1, 1))
    net = Net(lambda n, x: n.body[1:](n.body[0](x)[:, :, None].expand(-1, -1, 5)), body=net)
    die(net.body[0].bias, 3)
    die(net.body[2].bias, *range(40))
    x, ahead = torch.rand(8, 4), torch.get_rng_state()
    with recycler(net, x) as ours:
        passed(net, x)
        ours.step()
    assert torch.equal(torch.get_rng_state(), ahead)
    assert (net.body[0].weight[3] == 0.5).all()
    assert 2 <= net.body[0].bias[3] <= 3
    drawn = net.body[2].weight.detach()  # torch takes the fan of a transposed convolution from its second axis
    assert 0.95 / (40 * 3) ** 0.5 < drawn.abs().max() <= 1 / (40 * 3) ** 0.5


# Refused


def test_units_that_one_cannot_recycle_alone_are_refused_by_name():
    net, x, _ = shared_module()
    with pytest.raises(ValueError, match=r"no unit of Net can be recycled: act: 6 of 6 units: .*also that of up"):
        recycler(net, x)

    def forward(net, x):
        h = F.relu(net.a(x))
        return net.c(h + F.relu(net.b(h)))

    net = Net(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 6), c=nn.Linear(6, 2))
    with pytest.raises(ValueError, match=r"relu#2: 6 of 6 units: Net \(add\) adds it to another"):
        recycler(net, torch.randn(5, 4))


def test_of_a_site_the_units_that_can_be_recycled_are():
    """One bias is added to units 0 and 1, so that neither can be recycled without the other."""

    def forward(net, x):
        return net.last(F.relu(net.first(x) + torch.cat([net.both.expand(2), net.rest])))

    def apart(net, x):
        h = net.first(x)
        return net.last(F.relu(torch.cat([h[:, :1], h[:, :1], h[:, 1:]], 1)))

    net = Net(apart, first=nn.Linear(4, 5), last=nn.Linear(6, 2))
    die(net.first.bias, 0, 3)
    x, before = torch.randn(20, 4), None
    with recycler(net, x) as ours:
        assert list(ours.refused) == ["relu"]
        assert "2 of 6 units: " in ours.refused["relu"]
        assert ours.sites["relu"].able.tolist() == [False, False, True, True, True, True]
        before = output(net, x)
        net.train()(x)
        ours.step()
    assert ours.recycled == 1
    assert net.first.bias[0] == -1e4
    assert torch.equal(output(net, x), before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"policy": "redo"}, TypeError, "policy must be one of undying's"),
        ({"policy": undying.ReDo}, TypeError, "policy must be one of undying's"),
        ({"init": "scaled"}, ValueError, "init must be one of default, kaiming"),
        ({"every": 0}, ValueError, "every must be a whole number of at least 1"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an optimizer"),
        ({"probe": []}, ValueError, "probe gave no batch"),
        ({"sinks": [3]}, TypeError, "is no sink"),
    ],
)
def test_wrong_uses_are_named_before_anything_changes(change, error, message):
    net, x, _ = mlp()
    settings = {"optimizer": None, "policy": NOW, "probe": x, **change}
    with pytest.raises(error, match=message):
        Recycler(net, **settings)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: undying.ReDo(tau=1.5), "tau must be at least 0 and below 1, not 1.5"),
        (lambda: undying.ReDo(every=0.5), "every must be a whole number"),
        (lambda: undying.GradientDormancy(tau=-1), "tau must be"),
        (lambda: undying.ContinualBackprop(replacement_rate=1.0), "replacement_rate must be"),
        (lambda: undying.ContinualBackprop(decay=1), "decay must be"),
        (lambda: undying.ContinualBackprop(maturity=-1), "maturity must be"),
        (lambda: undying.ContinualBackprop(utility="none"), "utility must be one of contribution, weight"),
        (lambda: undying.SelfNormalizedResets(percentile=98), "percentile must be between 0 and 1"),
        (lambda: undying.SelfNormalizedResets(window=0), "window must be"),
        (lambda: undying.SelfNormalizedResets(longest=True), "longest must be"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_optimizer_of_other_parameters_is_refused():
    net, x, _ = mlp()
    with pytest.raises(ValueError, match=r"optimizer does not hold '0\.weight'"):
        recycler(net, x, optimizer=torch.optim.Adam(net[4].parameters()))


def test_states_of_other_policies_and_networks_are_refused():
    net, x, _ = mlp()
    ours = recycler(net, x)
    other = recycler(net, x, undying.GradientDormancy())
    with pytest.raises(ValueError, match="the state is of the policy GradientDormancy, and this is ReDo"):
        ours.load_state_dict(other.state_dict())
    wider = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    with pytest.raises(ValueError, match=r"sites and units {'1': 9}; this one has {'1': 8, '3': 9}"):
        ours.load_state_dict(recycler(wider, x).state_dict())
    ours.close()
    with pytest.raises(RuntimeError, match="is closed"):
        ours.step()


def test_a_site_of_one_unit():
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    die(net[0].bias, 0)
    with recycler(net, torch.randn(5, 2), undying.ContinualBackprop(0.5, 0)) as ours:
        for _ in range(2):
            net(torch.randn(5, 2))
            ours.step()
    assert ours.recycled == 1


# Forward passes


def test_only_passes_that_record_gradients_count():
    net, x, planted = mlp()
    with recycler(net, x) as ours:
        with torch.no_grad():
            net(torch.full_like(x, 1e6))
        with pytest.warns(UserWarning, match="no forward pass of Sequential with gradients before step 1"):
            ours.step()
        assert ours.recycled == 0
        net(x)
        ours.step()
        assert ours.recycled == sum(map(len, planted.values()))


def test_a_look_waits_for_a_pass():
    net, x, _ = mlp()
    with recycler(net, x, undying.ReDo(tau=0.0, every=3)) as ours:
        for _ in range(2):
            ours.step()
        with pytest.warns(UserWarning, match="before step 3"):
            ours.step()
        net(x)
        ours.step()
        assert ours.recycled == 5


def test_the_passes_of_a_step_count_together():
    """Units 0 and 1 fire on one half of the step's samples each; one that fires on neither is recycled."""
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3))
        net[0].bias.zero_()
    with recycler(net, torch.zeros(2, 3)) as ours:
        net(torch.tensor([[1.0, -1.0, -1.0]]))
        net(torch.tensor([[-1.0, 1.0, -1.0]]))
        ours.step()
    assert ours.recycled == 1
    assert torch.equal(net[0].weight[:2], torch.eye(3)[:2])


def test_a_pass_that_failed_does_not_count():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3))
        net[0].bias.zero_()
    with recycler(net, torch.zeros(2, 3), undying.ReDo(0.0, 1)) as ours:
        net(torch.tensor([[1.0, 1.0, -1.0]]))
        net[2], last = nn.Linear(9, 1), net[2]
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            net(torch.ones(1, 3))
        net[2] = last
        ours.step()
    assert ours.recycled == 1


@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_computes_again_does_not_count_again(reentrant):
    seen = []

    class Spy(undying.ReDo):
        def choose(self, look):
            seen.append(look.seen.size.clone())
            return super().choose(look)

    def forward(net, x):
        h = F.relu(net.a(x))
        return net.c(checkpoint(lambda y: F.relu(net.b(y)), h, use_reentrant=reentrant))

    net = Net(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 1))
    x = torch.randn(10, 4)
    with recycler(net, x, Spy(0.0, 1)) as ours:
        net(x).sum().backward()
        ours.step()
    h = F.relu(net.a(x)).mean(0)
    torch.testing.assert_close(seen[0], h.detach())
    torch.testing.assert_close(seen[1], F.relu(net.b(F.relu(net.a(x)))).mean(0).detach())


def test_a_site_of_which_nothing_was_measured_is_named():
    def forward(net, x):
        h = F.relu(net.a(x))
        return net.c(F.relu(net.b(h)) if len(x) > 2 else h)

    net = Net(forward, a=nn.Linear(4, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 1))
    with recycler(net, torch.randn(3, 4)) as ours:
        net(torch.randn(2, 4))
        with pytest.warns(UserWarning, match="nothing was measured at relu#2 in step 1"):
            ours.step()
        net(torch.randn(2, 4))
        ours.step()


@pytest.mark.parametrize("policy", [undying.GradientDormancy(0.0, 1), NOW])
def test_in_place_activations_and_autocast(policy):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    die(net[0].bias, 1, 6)
    x = torch.randn(30, 4)
    with recycler(net, x, policy) as ours:
        with torch.autocast("cpu", torch.bfloat16):
            net(x).float().square().sum().backward()
        ours.step()
    assert ours.recycled == 2
    assert (net[0].bias > -10).all()


def test_nothing_is_on_the_network_between_looks_and_training_is_what_it_is_without():
    nets = [mlp()[0]]
    nets.append(copy.deepcopy(nets[0]))
    call, x = nn.Module.__call__, torch.randn(20, 6)
    optimizers = [torch.optim.Adam(net.parameters(), 0.01) for net in nets]
    with recycler(nets[0], x, undying.ReDo(tau=0.0, every=10**6), optimizers[0]) as ours:
        for _ in range(5):
            assert nn.Module.__call__ is call
            for net, optimizer in zip(nets, optimizers, strict=True):
                optimizer.zero_grad()
                net(x).square().sum().backward()
                optimizer.step()
            ours.step()
    with recycler(nets[0], x, undying.ContinualBackprop(), optimizers[0]) as ours:
        for _ in range(5):
            for net, optimizer in zip(nets, optimizers, strict=True):
                optimizer.zero_grad()
                net(x).square().sum().backward()
                optimizer.step()
            ours.step()
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in nets[0].modules())
    assert nn.Module.__call__ is call
    assert same(*map(state, nets))


class NoWaiting(TorchDispatchMode):
    """What would wait for a device raises."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select"), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "policy",
    [undying.ReDo(), undying.GradientDormancy(), undying.ContinualBackprop(1e-3, 5), undying.SelfNormalizedResets()],
    ids=lambda policy: type(policy).__name__,
)
def test_a_step_in_which_nothing_is_due_waits_for_no_device(policy):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 2),
    )
    x = torch.randn(8, 2, 6, 6)
    with recycler(net, x, policy) as ours:
        for step in range(30):
            with NoWaiting() if step else contextlib.nullcontext():  # the first makes tables
                net(x).sum().backward()
                ours.step()
        assert ours.recycled == 0


def test_compiled_networks_are_changed_inside_and_every_step_uncompiled_is_said():
    net, x, _ = mlp()
    compiled = torch.compile(net, backend="eager")
    with recycler(compiled, x, undying.ReDo(tau=0.0, every=2)) as ours:
        for _ in range(2):
            compiled(x)
            ours.step()
    assert ours.recycled == 5
    with pytest.warns(UserWarning, match="ContinualBackprop looks at every step"):
        recycler(compiled, x, undying.ContinualBackprop()).close()
    with pytest.raises(TypeError, match=r"is in nn\.DataParallel"):
        recycler(nn.DataParallel(net), x)


def test_other_lengths_and_batches_than_those_of_the_probe():
    net = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 1))
    die(net[0].bias, 2)
    with recycler(net, torch.randn(1, 2, 3)) as ours:
        net(torch.randn(7, 2, 11))
        ours.step()
    assert ours.recycled == 1
    with (
        recycler(net, torch.randn(3, 2, 5)) as ours,
        pytest.raises(ValueError, match=r"site '1' gave \(5, 9\) in training"),
    ):
        net[:2](torch.randn(2, 11))


# Continual backprop


@pytest.mark.parametrize("behind", ["bias", "norm", "nothing", "norm between"])
def test_the_mean_moves_into_what_is_behind(behind):
    """Unit 1 gives 2 always, and of all units is of least use: what reads it is given 2 in its bias or running mean."""
    last = nn.Linear(4, 3, bias=behind in ("bias", "norm between"))
    between = [nn.BatchNorm1d(4)] if behind == "norm between" else []
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), *between, last, *([nn.BatchNorm1d(3)] if behind == "norm" else []))
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0.0, 2.0
        net[0].bias[[0, 2, 3]] = 5.0
        last.weight[:, 1] = 0.01
    x = torch.randn(50, 3)
    before = output(net, x)
    with recycler(net, x, undying.ContinualBackprop(replacement_rate=0.3, maturity=0)) as ours:
        net.eval()(x)
        ours.step()
    assert ours.recycled == 1
    assert (last.weight[:, 1] == 0).all()
    moved = output(net, x) - before
    assert (moved.abs().max() < 1e-5) == (behind in ("bias", "norm"))


@pytest.mark.parametrize("layer", ["depthwise", "grouped", "transposed", "by hand"])
def test_the_mean_moves_behind_weights_of_every_layout(layer):
    behind = {
        "depthwise": lambda: nn.Conv1d(4, 4, 2, groups=4),
        "grouped": lambda: nn.Conv1d(4, 6, 2, groups=2),
        "transposed": lambda: nn.ConvTranspose1d(4, 4, 2, 2, groups=4),
        "by hand": lambda: nn.Linear(4, 4),
    }[layer]()
    first = nn.Conv1d(3, 4, 1)

    def forward(net, x):
        h = F.relu(net.first(x))
        return net.behind(h) if layer != "by hand" else F.linear(h.mT, net.behind.weight.t(), net.behind.bias)

    net = Net(forward, first=first, behind=behind)
    with torch.no_grad():
        first.weight[1], first.bias[1] = 0.0, 2.0
        first.bias[[0, 2, 3]] = 5.0
        behind.weight.fill_(1.0)
        behind.weight[(slice(3), 1) if layer == "grouped" else 1] = 0.01
    x = torch.randn(50, 3, 5)
    before = output(net, x)
    with recycler(net, x, undying.ContinualBackprop(replacement_rate=0.3, maturity=0)) as ours:
        net(x)
        ours.step()
    assert ours.recycled == 1
    assert (first.weight[1] != 0).any()
    torch.testing.assert_close(output(net, x), before)


def test_weight_utility_is_of_the_outgoing_weights_alone():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    nn.init.constant_(net[2].weight, 1.0)
    net[2].weight.data[:, 2] = 0.1
    net[0].bias.data[2] = 100.0
    with recycler(net, torch.randn(9, 3), undying.ContinualBackprop(0.3, 0, "weight")) as ours:
        net(torch.randn(9, 3))
        ours.step()
    assert (ours.recycled, (net[2].weight[:, 2] == 0).all()) == (1, True)


# Records


def test_records_say_who_was_recycled_revived_and_died_again(tmp_path):
    net, x, _ = mlp()
    memory = undying.Memory()

    class Full:
        def write(self, record):
            raise OSError("no space")

        def close(self):
            pass

    path = tmp_path / "recycled.jsonl"
    with recycler(net, x, undying.ReDo(tau=0.0, every=2), sinks=[memory, path, Full()], every=2) as ours:
        for step in range(8):
            if step == 4:
                assert memory[0].recycled == {"1": [1, 4], "3": [0, 5, 8]}
                die(net[0].bias, 4)
            net(x)
            if step == 1:
                with pytest.warns(UserWarning, match="Full takes no records of it any more: OSError: no space"):
                    ours.step()
            else:
                ours.step()
    first, second, third, fourth = memory
    assert [record.step for record in memory] == [1, 3, 5, 7]
    assert not first.revived
    assert 4 in second.revived["1"]
    assert third.died_again["1"] == third.recycled["1"] == [4]
    assert 4 in fourth.revived["1"]
    lines = undying.JSONL.read(path)
    assert [line["recycled"] for line in lines] == [record.recycled for record in memory]
    assert fourth.scalars()["recycle/total"] == ours.recycled
    assert ours.recycled == sum(len(units) for record in memory for units in record.recycled.values())


def _rank(other, rank, folder):
    rank += other
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    torch.manual_seed(0)
    net, x, _ = mlp()
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    torch.manual_seed(rank)  # the ranks draw and see what they like
    memory = undying.Memory()
    policies = [
        NOW,
        undying.ContinualBackprop(0.02, 3),
        undying.SelfNormalizedResets(0.9, 5, 4),
        undying.GradientDormancy(0.1, 3),
    ]
    for policy in policies:
        with Recycler(model, optimizer, policy, probe=x, sinks=memory, every=3) as ours:
            for _ in range(6):
                optimizer.zero_grad()
                model(torch.randn(9, 6)).square().mean().backward()
                optimizer.step()
                ours.step()
    torch.save((state(net), ours.state_dict(), len(memory)), folder / str(rank))
    torch.distributed.destroy_process_group()


def test_every_rank_recycles_the_same(tmp_path):
    child = torch.multiprocessing.start_processes(_rank, (1, tmp_path), join=False, start_method="forkserver")
    _rank(0, 0, tmp_path)
    while not child.join():
        pass
    (net, ours, written), (other, theirs, none) = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert same(net, other)
    assert torch.equal(ours["random"], theirs["random"])
    assert ours["recycled"] == theirs["recycled"]
    assert (written, none) == (8, 0)


def test_one_that_is_dropped_unclosed_leaves_no_module_followed_and_the_compiler_on():
    gc.collect()  # of other tests
    original, graphs = nn.Module.__call__, []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def train():
        net, x, _ = mlp()
        own = undying.Recycler(net, None, undying.ContinualBackprop(), probe=x)  # it listens at every step
        assert nn.Module.__call__ is not original
        net(x).sum().backward()
        own.step()

    gc.disable()
    try:
        train()
    finally:
        gc.enable()
    assert nn.Module.__call__ is original
    torch.compile(nn.ReLU(), backend=backend, fullgraph=True)(torch.ones(3))
    assert len(graphs) == 1
