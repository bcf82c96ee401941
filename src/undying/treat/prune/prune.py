"""Cut units out of a network without changing what it computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undying._base.preserve_state import preserve_state
from undying._torch import has_hooks
from undying.census.batches import Inputs, batches_of
from undying.census.results import Census
from undying.certify.certificate import Certificate
from undying.treat.convert import refuse_wrapped
from undying.treat.edits import check_held, optimizers_in
from undying.treat.probe import Probe, Seen
from undying.treat.prune.evidence import Evidence, Shown, check_weights
from undying.treat.prune.follow import CutFlow
from undying.treat.prune.optimizers import Followed
from undying.treat.prune.peer import Output, Peer
from undying.treat.prune.plan import Plan, Planner
from undying.treat.prune.proof import Latency, Proof, arguments, coarsest, cost, latency
from undying.treat.prune.recipe import Cut, prepared, recipe_of, shapes_after
from undying.treat.prune.report import PrunedSite, PruneReport
from undying.treat.prune.structure import mismatch
from undying.treat.recycle import Optimizers

__all__ = ["prune_"]


def prune_(
    model: nn.Module,
    evidence: Census | Certificate,
    example: Any,
    *,
    data: Any = None,
    optimizer: Optimizers = None,
    tolerance: float = 1e-5,
    rounds: int = 0,
    inputs: Inputs | None = None,
    axes: Mapping[str, int] | None = None,
) -> PruneReport:
    """Cut units out of a network, in place, that are silent or always give the same. It computes what it did.

    A silent ReLU unit gives 0: its row goes, and the columns that weigh it. Of a unit that gives another constant, as one
    that is saturated or has no weights, the constant moves into the bias behind. A unit goes where everything that shares
    its place goes with it: all branches of a residual sum, both sides of a depthwise convolution. Every other one is
    refused by name and stays, and what the network returns always stays.

    Which parts make and read a unit is found by following the example. torch-pruning cuts a copy, and what it cut is
    compared with that, element by element. Then the copy is followed again and its outputs are compared; the network
    changes last.

    Args:
        model: the network; its flags stay. Wrap or compile it afterwards.
        evidence: who is silent or saturated, with the weights as they are now: an :func:`undying.census`, whose data the
            outputs stay the same on, or a certificate of :func:`undying.certify`, for every input of whose box they do.
        example: an input: a tensor, a tuple of positional or a dict of keyword arguments.
        data: the census's data, or other batches as it takes them: outputs are compared on them too. Where they are the
            census's, silent and saturated units of any activation go that give the same number on all of them, as a
            sigmoid that gives exactly 1.
        optimizer: what trains the network: one, several, or None. It goes on with the cut parameters and its memory of
            them. Without it, make a new optimizer afterwards: the parameters are other objects then.
        tolerance: largest change of an output that is rounding, as a share of the largest absolute value of that output,
            in float32 and float64; in bfloat16 and float16 at least four units of their rounding (3 %, 0.4 %).
        rounds: of measuring the time of a forward pass before and after, in turn; 0: it is not measured.
        inputs, axes: as in :func:`undying.census`.

    Returns:
        a :class:`undying.PruneReport`: a row a site, parameters, bytes, FLOPs, and the recipe by which
        :func:`undying.apply_recipe_` shapes a fresh network, so that it loads the pruned weights.

    Raises:
        ValueError: evidence of another network, of other weights or from before a conversion; a wrapped or compiled network; an optimizer
            that does not hold what would change, LBFGS, or one whose memory has no part a row; no batch. Nothing was
            changed.
        RuntimeError: the outputs would change beyond ``tolerance``, or the cut network fails on a batch of ``data``. Nothing
            was changed.
        TypeError: an argument is not of these kinds.
        UndyingError: torch-pruning is not installed.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(net[0].bias[:3], -100.0)
    >>> _ = nn.init.constant_(net[0].bias[3:], 1.0)
    >>> x = torch.rand(32, 4)
    >>> report = undying.prune_(net, undying.census(net, x), x)
    >>> report.cut, net[0], net[2]
    (3, Linear(in_features=4, out_features=5, bias=True), Linear(in_features=5, out_features=2, bias=True))
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, not {tolerance!r}")
    if rounds < 0:
        raise ValueError(f"rounds must be at least 0, not {rounds!r}")
    if example is None:
        raise TypeError("example must be an input: a tensor, a tuple of arguments or a dict of them, not None")
    refuse_wrapped(model, "prune_")
    check_weights(evidence, model)
    optimizers = optimizers_in(optimizer)
    batches = _Batches(data)
    pruning = _Pruning(model, example, axes or {})
    shown = None if data is None else Shown(model, batches, inputs, axes or {})
    found = Evidence(evidence, model, pruning.seen, shown)
    plan, trial = pruning.decide(found.known)
    recipe = recipe_of(plan, model)
    cut = prepared(model, recipe)
    recipe["shapes"] = shapes_after(model, cut)
    names = {id(p): name for name, p in model.named_parameters()}
    check_held(optimizers, _changed(cut), lambda t: names[id(t)])
    followed = Followed(optimizers, cut, lambda t: names[id(t)])

    proof = Proof(model, trial, axes or {})
    proof.run([example], lambda given: given, "the example")
    proof.run(batches, inputs, "batch {} of data")
    allowed = max(tolerance, 4 * coarsest(model.parameters()))
    if not proof.relative <= allowed:
        raise RuntimeError(
            f"without the {_count(plan)} units that could go an output would change by {proof.change:.3g}, {proof.relative:.3g} "
            f"of its largest value, and tolerance={tolerance} allows {allowed:.3g}: {_explained(model, trial, example, axes or {}, proof.relative)}; "
            "nothing was changed"
        )
    costs = cost(model, example), cost(trial, example)
    measured: Latency | None = latency(model, trial, example, rounds) if rounds else None
    hooked = [names[id(s.old)] for s in cut.slices if isinstance(s.old, nn.Parameter) and has_hooks(s.old)]
    cut.commit()
    _fold(model, plan)
    followed.commit()
    return PruneReport(
        tuple(_rows(plan, found, pruning.seen)),
        _holds(evidence, shown),
        recipe,
        plan.whole,
        *costs,
        change=proof.change,
        relative=proof.relative,
        batches=proof.batches,
        latency=measured,
        notes=tuple(_notes(evidence, shown, hooked)),
    )


class _Batches:
    """Data that can be gone through again."""

    def __init__(self, data: Any) -> None:
        self._data = [] if data is None else list(batches_of(data)) if hasattr(data, "__next__") else data
        if data is not None and next(iter(self), None) is None:
            raise ValueError("data gave no batch")

    def __iter__(self) -> Iterator[Any]:
        return iter(batches_of(self._data))


class _Pruning:
    """Decides what goes, until torch-pruning and a run of the cut network agree."""

    def __init__(self, model: nn.Module, example: Any, axes: Mapping[str, int]) -> None:
        self._model, self._example, self._axes = model, example, axes
        self.seen = self._look(model)
        self._trains = self._fails_in_training(model) is None

    def decide(self, known: Mapping[str, Tensor]) -> tuple[Plan, nn.Module]:
        """(what goes, a copy of the network without it)."""
        assert isinstance(self.seen.flow, CutFlow)
        planner = Planner(self._model, self.seen.flow, known)
        while True:
            plan = planner.plan()
            disagreements, peer = self._asked(plan)
            if not disagreements:
                trial, problem = self._tried(plan)
                if problem is None and peer is not None:
                    disagreements = self._cut_alike(plan, *peer)
                elif problem is not None:
                    disagreements = self._blamed(planner, plan, problem)
            if not disagreements:
                return plan, trial
            for output, why in disagreements.items():
                planner.refuse([output], why)

    def _look(self, model: nn.Module) -> Seen:
        return Probe(model, [self._example], lambda given: given, self._axes, CutFlow).look()

    def _asked(self, plan: Plan) -> tuple[dict[Output, str], tuple[Peer, nn.Module] | None]:
        """What torch-pruning would cut otherwise; nothing to ask without units."""
        if not plan.roots:
            return {}, None
        model = _copied(self._model)
        peer = Peer(model, *arguments(model, self._example))
        if peer.problem is not None:
            return {(name, int(unit)): peer.problem for name, units in plan.roots.items() for unit in units}, None
        return peer.disagreements(plan), (peer, model)

    def _tried(self, plan: Plan) -> tuple[nn.Module, str | None]:
        """(a copy without the units, what is wrong with it)."""
        trial = _copied(self._model)
        if not plan.kept:
            return trial, None
        prepared(trial, recipe_of(plan, trial)).commit()
        _fold(trial, plan)
        try:
            flow = self._look(trial).flow
        except Exception as error:
            return trial, f"without it the network fails: {_first_line(error)}"
        assert isinstance(flow, CutFlow)
        assert isinstance(self.seen.flow, CutFlow)
        if (other := mismatch(self.seen.flow, plan.goes, flow)) is not None:
            return trial, f"without it {other}"
        if self._trains and (problem := self._fails_in_training(trial)) is not None:
            return trial, f"without it the network fails in training mode: {problem}"
        return trial, None

    def _fails_in_training(self, model: nn.Module) -> str | None:
        args, kwargs = arguments(model, copy.deepcopy(self._example))
        with preserve_state(model), torch.no_grad():
            model.train()
            try:
                model(*args, **kwargs)
            except Exception as error:
                return _first_line(error)
        return None

    def _blamed(self, planner: Planner, plan: Plan, problem: str) -> dict[Output, str]:
        """The layers whose units alone cannot go; all where none is wrong by itself."""
        found: dict[Output, str] = {}
        for name, units in plan.roots.items():
            _, why = self._tried(planner.plan(only={(name, int(unit)) for unit in units}))
            if why is not None:
                found |= {(name, int(unit)): why for unit in units}
        return found or {(name, int(unit)): problem for name, units in plan.roots.items() for unit in units}

    def _cut_alike(self, plan: Plan, peer: Peer, model: nn.Module) -> dict[Output, str]:
        """Units of layers of which torch-pruning, cutting its copy, leaves other rows."""
        try:
            peer.cut(plan)
        except Exception as error:
            why = f"torch-pruning fails: {_first_line(error)}"
            return {(name, int(unit)): why for name, units in plan.roots.items() for unit in units}
        ours, theirs = _copied(self._model), model.state_dict()
        prepared(ours, recipe_of(plan, ours)).commit()
        added = {f"{fold.layer}.bias" for fold in plan.folds if fold.added}
        wrong = {
            key.rpartition(".")[0]
            for key, value in ours.state_dict().items()
            if key not in added and isinstance(value, Tensor) and not _equal(value, theirs.get(key))
        }
        if not wrong:
            return {}
        why = f"torch-pruning leaves other rows of {min(wrong)} than those that were to stay"
        found = {output for output, parts in plan.parts.items() if wrong & {layer for layer, _ in parts}}
        return dict.fromkeys(found or plan.parts, why)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ValueError(
            f"prune_ works on a copy first, and {type(model).__name__} cannot be copied ({_first_line(error)}): give it a "
            "__deepcopy__, or take off what holds it; nothing was changed"
        ) from error


def _equal(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


@torch.no_grad()
def _fold(model: nn.Module, plan: Plan) -> None:
    """Add the constants that are given no more to what a cut network adds anyway."""
    modules = dict(model.named_modules())
    for fold in plan.folds:
        kept = plan.kept.get(fold.layer, (slice(None), None))[0]
        amount = fold.amount[kept]
        if fold.norm is not None:
            mean = modules[fold.norm].get_buffer("running_mean")
            mean.copy_(mean.double() - amount.to(mean.device))
        else:
            bias = modules[fold.layer].get_parameter("bias")
            bias.copy_(bias.double() + amount.to(bias.device))


def _explained(model: nn.Module, trial: nn.Module, example: Any, axes: Mapping[str, int], change: float) -> str:
    """Whether a change is rounding, in words: in float64 it is less than a hundredth then."""
    other = "the evidence is not of these weights or data, or something reads the units that cannot be followed"
    try:
        proof = Proof(_copied(model).double(), _copied(trial).double(), axes)
        proof.run([_doubled(example)], lambda given: given, "the example")
    except Exception:
        return other
    # A constant that was folded is itself rounded.
    if proof.relative > change / 100:
        return other
    return f"it is rounding, as in float64 the example shows {proof.relative:.1g}, so a larger tolerance loses nothing"


def _doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _doubled(v) for key, v in value.items()}
    return type(value)(_doubled(v) for v in value) if type(value) in (list, tuple) else value


def _changed(cut: Cut) -> list[Tensor]:
    """The parameters that optimizers hold of what is cut, and the weights beside biases that are added."""
    return [s.module._parameters["weight"] if s.old is None else s.old for s in cut.slices]  # type: ignore[misc]


def _rows(plan: Plan, found: Evidence, seen: Seen) -> Iterator[PrunedSite]:
    for name, cut in plan.units.items():
        refused = plan.refused[name] | found.refused.get(name, {})
        if cut.any() or refused:
            numbers = tuple(cut.nonzero().flatten().tolist()), tuple(plan.folded[name].nonzero().flatten().tolist())
            yield PrunedSite(name, seen.kinds[name], len(cut), *numbers, dict(sorted(refused.items())))


def _count(plan: Plan) -> int:
    return sum(int(units.sum()) for units in plan.units.values())


def _holds(evidence: Census | Certificate, shown: Shown | None) -> str:
    if isinstance(evidence, Certificate):
        return f"The outputs stay the same for every finite input of {evidence.box}, but for rounding."
    if shown is None:
        return (
            "The outputs stay the same on the example, but for rounding. No other input was compared: what the network does "
            "was followed on the example, and where its forward pass depends on the data, data= compares it."
        )
    which = "of the census" if _are_counted(evidence, shown) else "that were given"
    return f"The outputs stay the same on the data {which}, but for rounding."


def _notes(evidence: Census | Certificate, shown: Shown | None, hooked: list[str]) -> Iterator[str]:
    what = "census" if isinstance(evidence, Census) else "certificate"
    if evidence.weights is None:
        yield f"the {what} does not say of which weights it is: nothing tells whether the network has them still"
    if isinstance(evidence, Census) and shown is not None and not _are_counted(evidence, shown):
        yield "the data are not those of the census, or it has no fingerprint"
    if hooked:
        yield f"hooks on parameters that were cut are gone, register them again: {', '.join(hooked)}"


def _are_counted(census: Census, shown: Shown) -> bool:
    return census.probe is not None and census.probe == shown.fingerprint


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
