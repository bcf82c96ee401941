"""Put an activation in the place of another throughout a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from undying._base.patterns import Skip
from undying._base.unwrap import check_module
from undying._torch import is_compiled_in_place
from undying.activations.barelu import BAReLU
from undying.activations.known import is_composed
from undying.activations.known import targets as known_targets
from undying.activations.sugar import SUGAR
from undying.census.batches import Method
from undying.treat.change import add_child, become, converted, is_converted, reroute, set_entry, swap_child
from undying.treat.forwards import CALLS, AsFunction, Call, Kept, Passing
from undying.treat.report import ConversionReport, Row
from undying.treat.sites import Site, find, unrecognised

__all__ = ["audit", "convert_", "refuse_wrapped"]

Factory = Callable[[nn.Module], nn.Module]


def convert_(
    model: nn.Module,
    activation: nn.Module | Factory,
    targets: Sequence[type[nn.Module]] = (nn.ReLU,),
    functional: bool = False,
    example: Any = None,
    strict: bool = False,
    skip: str | Sequence[str] = (),
    method: Method = None,
) -> ConversionReport:
    """Replace an activation everywhere in a network, in place.

    Args:
        model: the network; if it is itself a target it is converted too.
        activation: a module, deep-copied for each site it takes, or a callable that is given the old module (for a
            function: a new module of the type that computes the same) and returns the new one.
        targets: what to replace: modules of exactly these types, and attributes that hold their functional
            forms (``self.act = F.relu``). A subclass is left alone and reported, since its forward may differ.
        functional: also replace calls of these functions in a forward (``F.relu(x)``, ``x.relu_()``). Needs ``example``.
        example: input by which such calls are found and counted: a tensor, a tuple of positional arguments or a dict
            of keyword arguments. It is run in eval and in training mode; the model is left as it was.
        strict: raise, and change nothing, if any site would be left alone. Needs ``example``.
        skip: patterns (``fnmatch``) of site names to leave alone, as a report shows them.
        method: what is called with ``example`` where it is not the model: the name of one of its methods, such as
            ``"encode"``, or a function that calls it. Calls of functions in a method itself are named and stay.

    Names, state_dict keys, hooks, the training flag, aliases and sharing stay as they are. ``inplace=True`` is carried
    over to SUGAR and BAReLU. Fused inference paths that would run the old activation are switched off.

    Returns:
        a :class:`undying.ConversionReport`, one row a site.

    Raises:
        TypeError: an argument is not of these kinds.
        ValueError: the model is wrapped or compiled already; ``strict`` and a site would be left; no ``example``
            where one is needed; a pattern of ``skip`` that matches no site.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> print(undying.convert_(net, undying.SUGAR()))
    name  kind    old     new
    1     module  ReLU()  SUGAR(bsilu(a=1.67))
    >>> print(undying.revert_(net))
    name  kind    old                   new     forward
    1     module  SUGAR(bsilu(a=1.67))  ReLU()  same
    >>> net[1]
    ReLU()
    """
    make = _factory(activation)
    if example is None and (functional or strict):
        raise ValueError(f"{'functional' if functional else 'strict'}=True needs example=, by which calls are found")
    patterns = Skip(skip)
    sites, notes = _find(model, targets, example, patterns, method)
    patterns.check(site.name for site in sites)
    if not sites:
        notes = [*_why_nothing(model, example), *notes]
    if strict and (unknown := [t.__name__ for t in targets if t not in known_targets().values()]):
        functions = ", ".join(f"F.{name.lower()}" for name in unknown)
        raise ValueError(
            f"strict=True cannot vouch for {', '.join(unknown)}: calls such as {functions} are not looked for; "
            "undying.register_activation takes an activation of your own with its functions"
        )
    if not functional:
        for site in sites:
            if site.kind == "call" and site.reason is None:
                site.reason = "a call in a forward; functional=True converts it"
    left = [site for site in sites if site.reason is not None]
    if strict and left:
        listed = "\n".join(f"  {site.name or '(root)'} ({site.old}): {site.reason}" for site in left)
        raise ValueError(f"strict=True, and {len(left)} sites would be left alone; nothing was changed:\n{listed}")

    # Everything is made before anything is changed, so that an error leaves the network whole.
    new = {id(site): make(_old_module(site)) for site in sites if site.reason is None and site.alias_of is None}
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        for module in new.values():
            module.to(parameter.device, parameter.dtype)
    for site in sites:
        if id(site) in new:
            _convert(model, site, new[id(site)])
    if any(site.kind == "call" and site.reason is None for site in sites):
        _protect(model, left)
    _leave_fused_paths(model)
    return _report(sites, new, notes)


def audit(
    model: nn.Module,
    example: Any = None,
    targets: Sequence[type[nn.Module]] = (nn.ReLU,),
    skip: str | Sequence[str] = (),
    method: Method = None,
) -> ConversionReport:
    """What ``convert_(model, ..., functional=True)`` would find; nothing is changed.

    Args:
        model, example, targets, skip, method: as in :func:`undying.convert_`. Without ``example`` no calls are found.

    Returns:
        a :class:`undying.ConversionReport` in which ``new`` is None everywhere. Places that act as an activation and are
        none that is known, such as ``x.clamp(min=0)``, have rows of the kind ``"not recognised"``.

    >>> import torch, undying
    >>> print(undying.audit(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.zeros(1, 2)))
    name  kind    old     calls
    1     module  ReLU()  1
    """
    patterns = Skip(skip)
    sites, notes = _find(model, targets, example, patterns, method)
    report = _report(sites, {}, notes if sites else [*_why_nothing(model, example), *notes])
    places = {} if example is None else unrecognised(model, example, method)
    stays = {row.name for row in report.left}
    found = [
        Row(name, "not recognised", place.what, None, reason=place.line or "in a module of torch")
        for name, place in places.items()
        if patterns.reason_for(name, place.layer) is None and place.layer not in stays
    ]
    patterns.check([*(site.name for site in sites), *places])
    return replace(report, rows=(*report.rows, *found))


def _why_nothing(model: nn.Module, example: Any) -> list[str]:
    if done := dict(converted(model)):
        name, module = next(iter(done.items()))
        return [
            f"{len(done)} are converted already, such as {name or '(root)'}, {module!r}: undying.revert_ takes them out; "
            f"{type(module).__name__} in targets converts them once more"
        ]
    if example is None:
        return ["no target was found; calls in a forward, such as F.relu(x), take functional=True and example="]
    return []


def _find(
    model: nn.Module, targets: Sequence[type[nn.Module]], example: Any, skip: Skip, method: Method
) -> tuple[list[Site], list[str]]:
    if not isinstance(targets, (tuple, list)) or not all(
        isinstance(t, type) and issubclass(t, nn.Module) for t in targets
    ):
        raise TypeError(f"targets must be a tuple of module types such as (nn.ReLU,), not {targets!r}")
    refuse_wrapped(model, "convert_")
    return find(model, targets, example, skip, method)


def _factory(activation: nn.Module | Factory) -> Factory:
    if isinstance(activation, nn.Module):
        template = activation
        return lambda old: _with_inplace(copy.deepcopy(template), old)
    if isinstance(activation, type) or not callable(activation):
        raise TypeError(
            f"activation must be a module such as undying.SUGAR(), or a callable from the old module to the new one, not {activation!r}"
        )
    make = activation

    def made(old: nn.Module) -> nn.Module:
        new = make(old)
        if not isinstance(new, nn.Module) or new is old:
            raise TypeError(f"activation must return a new module for {old!r}, not {new!r}")
        return new

    return made


def _with_inplace(new: nn.Module, old: nn.Module) -> nn.Module:
    # Both honour it only where the backward pass does not need what is overwritten; torch's SiLU(inplace=True), for
    # one, fails there.
    if isinstance(new, (SUGAR, BAReLU)) and getattr(old, "inplace", False):
        new.inplace = True
    return new


def _old_module(site: Site) -> nn.Module:
    return site.module if site.kind == "module" else site.target()


def _convert(model: nn.Module, site: Site, new: nn.Module) -> None:
    if site.kind == "module":
        if site.shared is not None:
            site.module = _of_its_own(model, site.module)
        protection = vars(site.module).get("forward")
        become(site.module, new)
        if isinstance(protection, Passing):
            set_entry(site.module, "forward", type(protection)(site.module))
    elif site.attribute is not None:
        add_child(site.module, site.attribute, new)
        set_entry(new, "forward", AsFunction(new))
    else:
        kind = site.target.__name__
        child = f"undying_{kind.lower()}"
        add_child(site.module, child, new)
        reroute(site.module, Call(kind, child, site.hidden, site.method, site.in_functions))


def _of_its_own(model: nn.Module, shared: nn.Module) -> nn.Module:
    """Put a copy in every place of the network where a module stands that others hold too."""
    own = copy.copy(shared)
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is shared:
                swap_child(module, key, own)
    return own


def _report(sites: list[Site], new: dict[int, nn.Module], notes: list[str]) -> ConversionReport:
    """``new``: the activation that took each converted site, by the site's id."""
    rows: list[Row] = []
    by_name: dict[str, Row] = {}
    for site in sites:
        if site.alias_of is not None:
            rows.append(replace(by_name[site.alias_of], name=site.name, alias_of=site.alias_of))
            continue
        shown = repr(new[id(site)]) if id(site) in new else None
        row = Row(site.name, site.kind, site.old, shown, site.calls, site.reason)
        if site.kind == "module":
            by_name[site.name] = row
        rows.append(row)
    return ConversionReport(tuple(rows), tuple(notes))


def _protect(model: nn.Module, left: list[Site]) -> None:
    """Keep replaced calls out of the arithmetic of activations and of what is left alone."""
    for site in left:
        if site.attribute is not None:
            set_entry(site.module, site.attribute, Kept(vars(site.module)[site.attribute]))
        elif site.kind == "call":
            calls = vars(site.module).get(CALLS)
            # Beside replaced calls of another kind these stay; alone, the whole forward does.
            reroute(site.module, *([Call(site.target.__name__, None)] if calls else []))
    alone = {site.module for site in left if site.kind == "module"}
    for module in model.modules():
        ours = is_converted(module) or is_composed(module)
        if (ours or module in alone) and not isinstance(vars(module).get("forward"), Passing):
            set_entry(module, "forward", Passing(module))


def _leave_fused_paths(model: nn.Module) -> None:
    """nn.TransformerEncoderLayer notes at construction that its activation is relu or gelu and then runs that one in a
    fused kernel; nn.TransformerEncoder feeds such layers nested tensors, which only that kernel takes."""
    changed = set()
    for module in model.modules():
        held = module._modules.get("activation")
        if vars(module).get("activation_relu_or_gelu") and held is not None and type(held) not in (nn.ReLU, nn.GELU):
            set_entry(module, "activation_relu_or_gelu", 0)
            changed.add(module)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and changed.intersection(module.layers):
            set_entry(module, "use_nested_tensor", False)


# By name, since importing them would cost every user of the core what only some have loaded.
_WRAPPERS = {
    "DataParallel": "wrap it in DistributedDataParallel",
    "DistributedDataParallel": "wrap it",
    "FullyShardedDataParallel": "shard it",
    "FSDPModule": "shard it",
    "OptimizedModule": "compile it",
    "ScriptModule": "script or trace it",
}


def refuse_wrapped(model: nn.Module, what: str) -> None:
    """Raises ValueError where a wrapper stands around the network or a part, with the order that works for ``what``."""
    check_module(model)
    for name, module in model.named_modules():
        bases = [base.__name__ for base in type(module).__mro__ if base.__module__.split(".")[0] == "torch"]
        wrapper = next((base for base in bases if base in _WRAPPERS), None)
        if wrapper is None and is_compiled_in_place(module):
            wrapper, afterwards = "compiled module", "compile it"
        elif wrapper is not None:
            afterwards = _WRAPPERS[wrapper]
        else:
            continue
        raise ValueError(
            f"{what} cannot change {name or 'the network'}, a {wrapper}: first {what[:-1]} the network itself, then {afterwards}"
        )
