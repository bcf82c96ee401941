"""Count, for every unit of every activation call, how often it fires on given data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undying._base.patterns import Skip
from undying._base.preserve_state import device_of, preserve_state
from undying._base.unwrap import uncompiled, unwrap_model
from undying._base.warn import warn
from undying.activations.known import is_flat_below_zero, is_two_sided
from undying.census.batches import Inputs, Mask, batches_of, entry, mask_of, moved, unpacked
from undying.census.counting import Counter
from undying.census.examples import Keeper
from undying.census.fingerprint import Fingerprint, weights_of
from undying.census.inputs import FirstLayers
from undying.census.outputs import Given
from undying.census.results import Census
from undying.census.samples import samples_in
from undying.census.site import Site, dormancy
from undying.census.site_counts import SiteCounts
from undying.census.uses import Uses
from undying.units.unseen import Unrecognised

__all__ = ["census"]

_TERM = "a term of a loss, as only its sum over all samples is used"


def census(
    model: nn.Module,
    data: Iterable[Any],
    *,
    method: str | Callable[..., Any] | None = None,
    outputs: Given = (),
    tau: float = 0.025,
    gradients: bool = False,
    loss: Callable[[Any, Any], Tensor] | None = None,
    inputs: Inputs | None = None,
    mask: Mask | None = None,
    axes: Mapping[str, int] | None = None,
    skip: str | Sequence[str] | Skip = (),
    examples: int = 0,
    device: torch.device | str | None = None,
) -> Census:
    """Run ``model`` in eval mode over ``data`` and count, for each unit of each activation call, how it fires.

    Args:
        model: left as it was: parameters and their ``grad``, buffers, training flags, hooks and random number
            generators. A compiled or distributed one is counted by the network inside, uncompiled.
        data: batches, each a tensor, a tuple ``(input, target, ...)`` or a dict of keyword arguments; an input may
            itself be a tuple of arguments or a dict of them. One tensor or one dict is taken as a single batch. Where
            the model does not take a first batch so, it is given the batch as a whole: a list of images, a graph. The
            result does not depend on batch size or order, but for the numbers of calls in the names of sites, which are those
            of the first batches: ``relu#2``.
        method: what is called with each batch where it is not the model: the name of one of its methods, such as
            ``"encode"``, or a function that calls it.
        outputs: names of submodules and methods whose output is counted as units too, such as ``["encode", "router"]``:
            one that is never above 0 is silent. A mapping from names to functions where something else is returned than
            a tensor: each takes what was returned and gives a tensor or an :class:`Indexed`. Its operations are followed as
            the network's own are.
        tau: dormancy threshold, at least 0 (Sokar et al. 2023, arXiv:2302.12902).
        gradients: also run the backward pass of ``loss``, to tell dead units from silent ones.
        loss: ``loss(output, target)`` giving a scalar; for a dict batch ``target`` is the dict. Default: cross
            entropy for integer targets, mean squared error for others.
        inputs: gives the input of a batch, where it is none of these: a tensor, a tuple of arguments or a dict of them.
            The target of the loss is then the batch.
        mask: which positions count, for padded batches: the name of an entry of dict batches, such as
            ``"attention_mask"``, or a function of the batch. It gives (N, T), not 0 where a token counts, for sites
            whose positions begin with (N, T) or number N * T; sites with one value a sample are counted whole.
        axes: unit axis by site name, where the producer of a tensor does not decide it.
        skip: patterns (``fnmatch``) of sites to leave out, and of places that are not recognised, by their names or as
            ``audit`` names them; ``"(root)"`` is what the network itself calls.
        examples: keep so many samples that fire each unit most, and as many that fire it least, by their largest
            pre-activation at any position: their numbers in the order of the data, in ``examples`` of the result. Takes
            32 bytes for each unit and example.
        device: where batches are moved; default: the device of the first parameter.

    Activations are found as modules (torch's, SUGAR, BAReLU, B-SiLU, NeLU, those of :func:`undying.register_activation`)
    and as calls of the functions that compute the same (``F.relu``, ``x.relu_()``), which are named after the calling
    module: ``block.relu``.

    On several ranks each counts its share, and :meth:`Census.all_reduce` adds them up.

    Returns:
        a :class:`Census`. Sites whose unit axis nothing decides are in its ``ambiguous``; places that act as an activation
        and are none that is known, such as ``x.clamp(min=0)``, in its ``unrecognised``; those that are skipped, sites on ranks
        of a sort or topk, and sites whose number of units changes from call to call, in its ``left_out``.

    Raises:
        ValueError: no data, a pair (x, y) as data, no activation called, a mask that does not fit or leaves nothing,
            axes or a pattern to skip for no site, or no loss to be had.
        TypeError: the model is no ``nn.Module``, or is in ``nn.DataParallel``, whose replicas cannot be counted, or it has no
            such method.

    >>> import torch, undying
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = nn.init.constant_(net[0].bias, -100.0)
    >>> print(undying.census(net, torch.linspace(0, 1, 128).view(32, 4)))
    layer -> site  kind  units   N  silent  dead  dormant  firing
        0 -> 1     ReLU      8  32       8     8        8   0.000
    layer 0 reads the input: gamma 1.72 (|mean| / std)
    """
    return counted(
        model, data, method, tau, gradients, loss, inputs, mask, axes, skip, device, outputs, examples=examples
    )[0]


def counted(
    model: nn.Module,
    data: Iterable[Any],
    method: str | Callable[..., Any] | None,
    tau: float,
    gradients: bool,
    loss: Callable[[Any, Any], Tensor] | None,
    inputs: Inputs | None,
    mask: Mask | None,
    axes: Mapping[str, int] | None,
    skip: str | Sequence[str] | Skip,
    device: torch.device | str | None,
    outputs: Given = (),
    moments: bool = False,
    examples: int = 0,
) -> tuple[Census, dict[str, SiteCounts]]:
    """The census, and the counts that it was read from; with ``moments`` the second moments of the outputs are in them."""
    if not tau >= 0:
        raise ValueError(f"tau must be at least 0, not {tau!r}")
    if type(examples) is not int or examples < 0:
        raise ValueError(f"examples must be a number of samples, at least 0, not {examples!r}")
    if loss is not None and not gradients:
        raise ValueError("loss is only used with gradients=True")
    model = unwrap_model(model)
    place = torch.device(device) if device is not None else device_of(model)
    patterns = skip if isinstance(skip, Skip) else Skip(skip)
    counter = Counter(model, axes or {}, gradients, patterns, outputs)
    uses = counter.uses = Uses(counter.of)
    first_layers = counter.inputs = FirstLayers(counter.layer_of, counter.input_columns)
    counter.moments = moments
    counter.examples = Keeper(examples) if examples else None
    fingerprint = Fingerprint()
    batches, whole = 0, False
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserve_state(model))
        stack.enter_context(counter.attached())
        stack.enter_context(uncompiled())
        call = entry(model, method)  # here, where a method of the outputs is followed
        model.eval()
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for batch in batches_of(data):
            counter.unseen.given(batch)  # the network may hold the data too
            batch = moved(batch, place)
            fingerprint.add(batch)
            args, kwargs, target = unpacked(batch, inputs, whole=whole)
            counter.start_batch(mask_of(batch, mask, inputs), samples_in(args, kwargs, target))
            try:
                counter.given(args, kwargs)
                with counter:
                    output = call(*args, **kwargs)
            except Exception as failure:
                if batches or inputs is not None or isinstance(batch, Tensor):
                    raise
                counter.restart()
                counter.start_batch(mask_of(batch, mask), samples_in([batch], {}))
                output, target, whole = _given_whole(call, batch, counter, failure), batch, True
            if gradients:
                loss = loss or _default_loss(target)
                _backward(loss(output, target), model, counter.leaves)
            if counter.uses is not None and counter.counts:  # one forward pass tells
                uses.returned(output)
                counter.uses = None
            batches += 1
    if batches == 0:
        raise ValueError("data gave no batch")
    for label, doubt in counter.names.doubts().items():
        warn(f"census: {label}: {doubt}")
    unrecognised = counter.unrecognised()
    for site, line in uses.terms.items():
        if counter.counts.pop(site, None) is not None:
            unrecognised[site] = Unrecognised(site.rpartition(".")[0], _TERM, line)
    if patterns is not skip:  # else the caller checks, over all that it counts
        patterns.check([*counter.counts, *counter.ambiguous, *counter.left_out, *unrecognised])
    _check(counter, model, axes or {}, unrecognised)
    name = None if loss is None else getattr(loss, "__name__", type(loss).__name__)
    sites = [site_of(counts, tau, gradients, uses.unused(counts.name)) for counts in counter.counts.values()]
    found = Census(sites, tau, name, fingerprint.read(), counter.ambiguous, unrecognised, counter.left_out)
    counter.inputs = None  # else the two keep each other, and the network with them
    kept = None if counter.examples is None else counter.examples.read(fingerprint.read_in_order(), counter.counts)
    return replace(found, inputs=first_layers.read(), weights=weights_of(model), examples=kept), counter.counts


def _given_whole(call: Callable[..., Any], batch: Any, counter: Counter, failure: Exception) -> Any:
    """The output for a batch as one argument, after ``failure`` with its parts; where that fails too, this is the one to
    tell of."""
    try:
        counter.given(batch)
        with counter:
            return call(batch)
    except Exception:
        raise failure from None


def site_of(counts: SiteCounts, tau: float, gradients: bool, unused: Tensor | None) -> Site:
    """Read the counts of one site off the device."""
    values = int(counts.values)
    before = counts.before
    table, peak = before.counts.cpu(), before.peak.cpu()
    mean_abs = counts.total.cpu() / values
    score = dormancy(mean_abs)
    low = high = saturated = silent = None
    if counts.ends is not None:
        low, high = table[3], table[4]
        saturated = low + high == values
    if not is_two_sided(counts.ends):
        silent = (table[0] == 0) & (table[2] == 0)  # a NaN is not > 0 either
    stuck = saturated if silent is None else silent
    dead = None
    if gradients and stuck is not None:
        dead = stuck & (counts.gradient.cpu() == 0 if counts.gradient is not None else True)
    elif silent is not None and is_flat_below_zero(counts.kind):
        dead = silent.clone()
    return Site(
        name=counts.name,
        layer=counts.layer,
        line=counts.line,
        kind=counts.kind.__name__,
        units=counts.units,
        samples=None if counts.samples is None else int(counts.samples),
        values=values,
        fired=table[0],
        nonfinite=table[1],
        peak=peak,
        mean_abs=mean_abs,
        zero=counts.zeros.cpu().double() / values,
        score=score,
        silent=silent,
        dead=dead,
        dormant=score <= tau,
        low=low,
        high=high,
        saturated=saturated,
        unused=unused,
    )


def _check(
    counter: Counter, model: nn.Module, axes: Mapping[str, int], unrecognised: Mapping[str, Unrecognised]
) -> None:
    seen = "".join(f"; not recognised: {name} ({place})" for name, place in unrecognised.items())
    if not counter.counts and counter.left_out:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in counter.left_out.items())
        raise ValueError(f"no site of {type(model).__name__} is left to count: {reasons}{seen}")
    if not counter.counts and not counter.ambiguous:
        raise ValueError(f"{type(model).__name__} called no activation that is known, or only on empty batches{seen}")
    unseen = [name for name, counts in counter.counts.items() if int(counts.values) == 0]
    if unseen:
        raise ValueError(f"the mask leaves no value of site {unseen[0]!r} in any batch")
    unknown = [name for name in axes if name not in counter.counts and name not in counter.left_out]
    if unknown:
        raise ValueError(f"axes names {unknown[0]!r}, which is no site; sites: {', '.join(counter.counts)}")
    unasked = [name for name in counter.outputs.kinds if name not in counter.counts and name not in counter.left_out]
    if unasked:
        raise ValueError(
            f"outputs names {unasked[0]!r}, which gave nothing: no pass over the data called it by this name on its module, or only "
            "on empty batches. A bound method that was kept, another name for it and Class.method(self, x) are not noticed"
        )


def _backward(value: Tensor, model: nn.Module, leaves: list[Tensor]) -> None:
    """Send the gradient of ``value`` past the hooks without touching any parameter's ``grad``."""
    if not isinstance(value, Tensor) or value.dim() != 0:
        raise ValueError(f"loss must give a 0-dimensional tensor, not {value!r}")
    torch.autograd.grad(value, [*(p for p in model.parameters() if p.requires_grad), *leaves], allow_unused=True)


def _default_loss(target: Any) -> Callable[[Any, Any], Tensor]:
    if not isinstance(target, Tensor):
        raise ValueError("gradients=True needs batches of (input, target), or loss=")
    return F.mse_loss if target.is_floating_point() else F.cross_entropy
