"""Which outputs and inputs of which layers are left: plain data, by which a fresh network takes the shape of a pruned one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short  # what is damaged may be nested without end
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from undying.treat.prune.layers import CONVOLUTIONS, NORMS, WEIGHING, axes_of
from undying.treat.prune.plan import Plan

_KIND, _FORMAT = "undying.Recipe", 2


def recipe_of(plan: Plan, model: nn.Module) -> dict[str, Any]:
    """Plain data, ready for JSON, but for the shapes; runs of numbers are pairs (first, one beyond the last)."""
    added = {fold.layer for fold in plan.folds if fold.added}
    modules: dict[str, Any] = {}
    for name in [name for name, _ in model.named_modules() if name in plan.kept or name in added]:
        entry: dict[str, Any] = {}
        for side, kept in zip(("outputs", "inputs"), plan.kept.get(name, (None, None)), strict=True):
            if kept is not None and not kept.all():
                entry[side] = {"of": len(kept), "kept": _runs(kept)}
        if name in added:
            entry["bias"] = "added"
        modules[name] = entry
    return {"kind": _KIND, "format": _FORMAT, "model": type(model).__name__, "modules": modules}


def shapes_after(model: nn.Module, cut: Cut) -> dict[str, list[int] | None]:
    """By name: the shape of each parameter and buffer of a network when it is cut; None of one without a shape yet."""
    changed = {(s.module, s.key): s.new for s in cut.slices}
    shapes: dict[str, list[int] | None] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for key, old in {**module._parameters, **module._buffers}.items():
            tensor = changed.get((module, key), old)
            if tensor is not None:
                shapes[f"{path}.{key}" if path else key] = None if is_lazy(tensor) else list(tensor.shape)
    return shapes


def apply_recipe_(model: nn.Module, recipe: Mapping[str, Any] | str | os.PathLike[str]) -> None:
    """Cut a fresh network to the shape of a pruned one, in place, so that it loads its weights. torch-pruning is not needed.

    The values are those of the rows that are left; ``load_state_dict`` brings the pruned network's. Recipes of a network
    that was pruned several times are applied one after the other. All parameters and buffers must then have the shapes of
    the pruned network's. Hooks on parameters that are cut are lost.

    Args:
        model: the network as it was built before :func:`undying.prune_`, on any device, "meta" too.
        recipe: ``report.recipe``, or the path of its file.

    Raises:
        ValueError: it is no recipe, one of a newer version, or of another network. Nothing was changed then.
        OSError: no such file.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> undying.apply_recipe_(net, {
    ...     "kind": "undying.Recipe", "format": 2, "model": "Sequential", "modules": {
    ...         "0": {"outputs": {"of": 8, "kept": [[0, 3], [5, 8]]}}, "2": {"inputs": {"of": 8, "kept": [[0, 3], [5, 8]]}}},
    ...     "shapes": {"0.weight": [6, 4], "0.bias": [6], "2.weight": [2, 6], "2.bias": [2]}})
    >>> net[0].weight.shape, net[2].weight.shape
    (torch.Size([6, 4]), torch.Size([2, 6]))
    """
    content = _read(recipe)
    cut = prepared(model, content)
    _check_shapes(shapes_after(model, cut), content.get("shapes"))
    cut.commit()


def _check_shapes(ours: Mapping[str, list[int] | None], given: Any) -> None:
    if not isinstance(given, Mapping) or not all(isinstance(shape, list) for shape in given.values()):
        raise ValueError(f"damaged recipe: shapes is {short(given)}")
    for name in {**ours, **given}:
        if ours.get(name) != given.get(name):
            would, has = (shapes.get(name, "none of this name") for shapes in (ours, given))
            raise ValueError(
                f"{name!r} would have the shape {would}, and the recipe's network has {short(has)}: build the network with the "
                "same layers and options, or the recipe is damaged; nothing was changed"
            )


@dataclass
class Slice:
    """A tensor of a layer, as it was and as it will be."""

    module: nn.Module
    key: str
    old: Tensor | None
    """None for a bias that is added."""
    new: Tensor
    kept: dict[int, Tensor] = field(default_factory=dict)
    """int64, by axis: what is left."""

    def of(self, tensor: Tensor) -> Tensor:
        """The same part of another tensor; axes of size 1 stay."""
        for axis, numbers in self.kept.items():
            if tensor.shape[axis] != 1 or self.old is None or self.old.shape[axis] == 1:
                tensor = tensor.index_select(axis, numbers.to(tensor.device))
        return tensor


@dataclass
class Cut:
    """Everything that will change, computed before anything does."""

    slices: list[Slice] = field(default_factory=list)
    attributes: list[tuple[nn.Module, str, int]] = field(default_factory=list)

    def commit(self) -> None:
        """Change the network."""
        for s in self.slices:
            if isinstance(s.new, nn.Parameter):
                s.module._parameters[s.key] = s.new
            else:
                s.module._buffers[s.key] = s.new
        for module, name, value in self.attributes:
            setattr(module, name, value)


def prepared(model: nn.Module, recipe: Mapping[str, Any]) -> Cut:
    """What a recipe changes in a network.

    Raises:
        ValueError: it is no recipe, or one of another network.
    """
    if recipe.get("kind") != _KIND or type(recipe.get("format")) is not int:
        raise ValueError(
            "not a recipe: no kind 'undying.Recipe' with a format number; give report.recipe of undying.prune_"
        )
    if recipe["format"] > _FORMAT:
        raise ValueError(
            f"the recipe has format {recipe['format']}, and this undying reads up to {_FORMAT}: upgrade undying"
        )
    entries = recipe.get("modules")
    if not isinstance(entries, Mapping):
        raise ValueError(f"damaged recipe: modules is {short(entries)}")
    modules, cut = dict(model.named_modules()), Cut()
    for name, entry in entries.items():
        module = modules.get(name)
        if module is None:
            raise ValueError(
                f"the recipe cuts {name!r}, which {type(model).__name__} does not have: it is of a {recipe.get('model')}; build "
                "that, with the same options"
            )
        if not isinstance(module, (*WEIGHING, *NORMS)):
            raise ValueError(
                f"the recipe cuts {name!r}, which is a {type(module).__name__} here and no layer that can be cut"
            )
        if not isinstance(entry, Mapping) or entry.keys() - {"outputs", "inputs", "bias"}:
            raise ValueError(f"damaged recipe: {name!r} is {short(entry)}")
        _add(cut, name, module, entry)
    return cut


def _add(cut: Cut, name: str, module: nn.Module, entry: Mapping[str, Any]) -> None:
    counts = sizes_of(module)
    kept = [
        _numbers(name, side, counts[side], entry[side]) if side in entry else None for side in ("outputs", "inputs")
    ]
    if isinstance(module, CONVOLUTIONS) and module.groups > 1 and any(k is not None for k in kept):
        cut.attributes.append((module, "groups", _groups(name, module, kept)))
    for key, axes in axes_of(module).items():
        old: Tensor | None = {**module._buffers, **module._parameters}.get(key)
        if old is None:
            continue
        by_axis = {
            axis: numbers for axis, numbers in zip(axes, kept, strict=True) if axis is not None and numbers is not None
        }
        if by_axis:
            s = Slice(module, key, old, old, by_axis)
            s.new = _like(old, s.of)
            cut.slices.append(s)
    if "bias" in entry:
        if entry["bias"] != "added" or not isinstance(module, WEIGHING) or module._parameters.get("bias") is not None:
            raise ValueError(
                f"the recipe adds a bias to {name!r}, which has one, or takes none: give a network as it was built"
            )
        weight = module.weight
        many = counts["outputs"] if kept[0] is None else len(kept[0])
        bias = nn.Parameter(torch.zeros(many, dtype=weight.dtype, device=weight.device), weight.requires_grad)
        cut.slices.append(Slice(module, "bias", None, bias))
    for side, numbers in zip(("outputs", "inputs"), kept, strict=True):
        if numbers is not None:
            cut.attributes.append((module, _attribute(module, side), len(numbers)))


def sizes_of(module: nn.Module) -> dict[str, int]:
    """How many outputs and inputs a layer has."""
    return {side: int(getattr(module, _attribute(module, side))) for side in ("outputs", "inputs")}


def _attribute(module: nn.Module, side: str) -> str:
    if isinstance(module, nn.Linear):
        return "out_features" if side == "outputs" else "in_features"
    if isinstance(module, CONVOLUTIONS):
        return "out_channels" if side == "outputs" else "in_channels"
    return "num_features"


def _groups(name: str, module: Any, kept: list[Tensor | None]) -> int:
    """How many are left."""
    left = []
    for numbers, many in zip(kept, (module.out_channels, module.in_channels), strict=True):
        size = many // module.groups
        groups = (torch.arange(many) if numbers is None else numbers) // size
        if not torch.equal(groups, groups.unique().repeat_interleave(size)):
            raise ValueError(f"the recipe cuts {name!r}, a convolution in {module.groups} groups, within a group")
        left.append(groups.unique())
    if not torch.equal(*left):
        raise ValueError(f"the recipe cuts other groups of the outputs of {name!r} than of its inputs")
    return len(left[0])


def _like(old: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
    """A part of a parameter, with its gradient, or of a buffer, laid out in memory alike."""
    new = part(old.detach())
    for form in (torch.channels_last, torch.channels_last_3d):
        fits = old.dim() == (4 if form is torch.channels_last else 5)
        if fits and not old.is_contiguous() and old.is_contiguous(memory_format=form):
            new = new.contiguous(memory_format=form)
    if not isinstance(old, nn.Parameter):
        return new
    parameter = nn.Parameter(new, old.requires_grad)
    vars(parameter).update(vars(old))
    if old.grad is not None:
        parameter.grad = part(old.grad)
    return parameter


def _runs(kept: Tensor) -> list[list[int]]:
    ends = torch.cat([torch.zeros(1), kept.float(), torch.zeros(1)]).diff()
    return [
        list(run)
        for run in zip(ends.eq(1).nonzero().flatten().tolist(), ends.eq(-1).nonzero().flatten().tolist(), strict=True)
    ]


def _numbers(name: str, side: str, size: int, given: Any) -> Tensor:
    """int64: those that are left."""
    if not isinstance(given, Mapping) or not isinstance(given.get("kept"), list) or type(given.get("of")) is not int:
        raise ValueError(f"damaged recipe: {side} of {name!r} are {short(given)}")
    if given["of"] != size:
        raise ValueError(
            f"{name!r} has {size} {side} and the recipe is of one with {given['of']}: give a network as it was before it was "
            "pruned, built with the same options, and apply the recipe once"
        )
    runs, end = given["kept"], 0
    for run in runs:
        if not isinstance(run, list | tuple) or len(run) != 2 or any(type(n) is not int for n in run):
            raise ValueError(f"damaged recipe: {side} kept of {name!r} hold {short(run)}, no pair of numbers")
        if not end <= run[0] < run[1] <= size:
            raise ValueError(f"damaged recipe: {side} kept of {name!r} hold {run}, not runs that rise from 0 to {size}")
        end = run[1]
    if not runs:
        raise ValueError(f"damaged recipe: {side} kept of {name!r} are [], not runs that rise from 0 to {size}")
    return torch.cat([torch.arange(*run) for run in runs])


def _read(recipe: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    if isinstance(recipe, Mapping):
        return recipe
    try:
        content = json.loads(Path(recipe).read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{os.fspath(recipe)}: not a recipe: {type(error).__name__}: {error}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{os.fspath(recipe)}: not a recipe, but a {type(content).__name__}")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f'it says "{key}" twice')
        content[key] = value
    return content
