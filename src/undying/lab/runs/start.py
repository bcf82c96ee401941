"""How a run starts: runs of one seed are a pair only if weights, first batch and generators are the same in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying.lab.checkpoints import random_state, seed_everything
from undying.lab.runs.lines import sha256
from undying.lab.treatments import Treatment

CAUSES = (
    "a run must not depend on those before it: let the network's function make every part anew, not on import and not from "
    "a cache, and draw from torch, numpy.random or random without generators or seeds of its own"
)
"""Why runs start otherwise, and the way out."""
_OUTPUT = "its output"


@dataclass(frozen=True)
class Start:
    """What a run starts from, as hashes."""

    made_on: str
    """What decides how numbers are rounded: starts made on other machines are not compared bit by bit."""
    weights: dict[str, str]
    """Of each parameter and buffer of the network."""
    batch: str
    """Of the first batch."""
    random: str
    """Of the state of the generators that a network draws from."""
    owned: list[str] = field(default_factory=list)
    """Names in ``weights`` that the treatment brought, such as the slope of PReLU or the weight of a layer norm. Other
    treatments lack them, or have others."""

    def __post_init__(self) -> None:
        if not isinstance(self.weights, dict) or not isinstance(self.owned, list):
            raise TypeError("its weights are not named")


def start_of(
    model: nn.Module, treatment: Treatment, batch: Iterable[Tensor] = (), prepared: Iterable[str] = ()
) -> Start:
    """How a run starts.

    Args:
        model: the network, with the activation in it.
        treatment: which one.
        batch: tensors of the first batch.
        prepared: names of what the treatment added or replaced in the network.
    """
    state, kind = random_state(), type(treatment.build())
    device = next((p.device.type for p in model.parameters()), "cpu")
    owned = {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if type(module) is kind
        for name in _tensors(module)
    }
    return Start(
        made_on=f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {device}",
        weights={name: sha256([tensor]) for name, tensor in _tensors(model).items()},
        batch=sha256(batch),
        random=sha256([state["torch"], state["numpy"][1], repr((state["python"], state["numpy"][2:]))]),
        owned=sorted({*owned, *prepared}),
    )


def difference(one: Start, other: Start) -> str:
    """What two runs of one seed do not start alike in, in words; empty where they do."""
    names = (one.weights.keys() | other.weights.keys()) - {*one.owned, *other.owned}
    changed = sorted(name for name in names if one.weights.get(name) != other.weights.get(name))
    if changed:
        return _listed(changed)
    if one.batch != other.batch:
        return "another first batch"
    return "" if one.random == other.random else "random generators that stand elsewhere after it was built"


def check_fresh(make: Callable[[], nn.Module], samples: Tensor, what: str) -> None:
    """Whether a network is another one after one of its kind was trained.

    Args:
        make: builds it from a seed.
        samples: two, on their device.
        what: it is called so in messages.

    Raises:
        UndyingError: it keeps something from one run to the next, or draws what no seed decides.
    """
    make()  # the first time it may import more, which may draw or seed
    try:
        before = _trained(make(), samples)
        after = _trained(make(), samples)
    except UndyingError as error:
        raise UndyingError(f"{what} cannot be built a second time: {error}; {CAUSES}") from None
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise UndyingError(
            f"{what}, built a second time from the same seed after the first was trained, has {_listed(changed)}; {CAUSES}"
        )


def _trained(model: nn.Module, samples: Tensor) -> dict[str, str]:
    """Hashes of weights and output after one forward pass, before every weight is changed."""
    seed_everything(0)
    output = model.train()(samples)
    seen = {name: sha256([tensor]) for name, tensor in _tensors(model).items()} | {_OUTPUT: sha256([output])}
    output.sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # also one that the loss does not reach in this step
                parameter.add_(1)
    return seen


def _listed(names: list[str]) -> str:
    named = [name for name in names if name != _OUTPUT]
    if not named:
        return "another output"
    more = f" and {len(named) - 1} more" if len(named) > 1 else ""
    return f"other weights in {named[0]!r}{more}"


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
