"""``undying prune``: a checkpoint in, a smaller one out that computes the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import Tensor, nn

from undying._base.errors import UndyingError
from undying._base.extras import need
from undying._base.files import write_bytes
from undying.census.batches import unpacked
from undying.census.census import census
from undying.cli.bar import bar, followed
from undying.cli.exported import exported
from undying.cli.network import Data, NetworkOptions, axes_of
from undying.probe.data import Probe, ProbeOptions, probe
from undying.treat.prune.prune import prune_
from undying.treat.prune.report import PruneReport

WEIGHTS, RECIPE, REPORT, PAGE, ONNX = "weights.safetensors", "recipe.json", "report.json", "report.html", "network.onnx"


@dataclass(frozen=True)
class PruneCommand:
    """Cut out units that never fire on given data, and write the smaller network.

    The outputs on the data stay the same, which is checked. Beside the weights stands a recipe, by which
    undying.apply_recipe_ shapes a fresh network that takes them.
    """

    network: Annotated[NetworkOptions, tyro.conf.arg(name="")]
    out: Path
    """Folder for weights.safetensors, recipe.json, report.json and report.html; a new one, or one that this command wrote."""
    options: Annotated[ProbeOptions, tyro.conf.arg(name="")] = field(default_factory=ProbeOptions)
    certify: bool = False
    """Cut out only units that are proved to fire for no image that the preprocessing can give, instead of those that do not
    fire on the data."""
    tolerance: float = 1e-5
    """Largest change of an output that counts as rounding, as a share of the largest output."""
    rounds: int = 21
    """Rounds of timing a forward pass of one sample, before and after; 0: none."""
    onnx: bool = False
    """Also write network.onnx, and compare what onnxruntime makes of the data with it."""
    axes: tuple[str, ...] = ()
    """Axis of the units, for sites where it cannot be told, such as site=1."""

    def __call__(self, console: Console) -> int:
        from undying.report.prune import prune_page

        self._check()
        torch.manual_seed(self.network.seed)
        found = probe(self.options, self.network.model)
        model, weights = self.network.build(found)
        model.eval()
        data = Data(self.options, self.network)
        example = _first(data)
        if self.onnx:
            need("onnxruntime", "onnx", "--onnx")
            need("onnxscript", "onnx", "--onnx")
        try:
            report = self._pruned(model, found, data, example)
        except UndyingError:
            raise
        except Exception as error:  # whatever the network or the data raise
            kind = "" if type(error) in (RuntimeError, TypeError, ValueError) else f"{type(error).__name__}: "
            raise UndyingError(f"{self.network.model} on {self.options.data}: {kind}{error}") from error
        facts = [("network", self.network.model), ("weights", weights), ("data", found.source)]
        if found.preprocessing is not None:
            facts.append(("preprocessing", found.preprocessing))
        files = {
            WEIGHTS: _weights(model),
            RECIPE: json.dumps(report.recipe).encode(),
            REPORT: json.dumps({**report.to_dict(), "facts": dict(facts)}, allow_nan=False).encode(),
            PAGE: prune_page(report, facts).encode(),
        }
        if self.onnx:
            files[ONNX], difference = exported(model, data)
            facts.append((ONNX, f"outputs in onnxruntime differ by {difference:.2g} of the largest at most"))
        self._write(files)
        for line in [*str(report).splitlines(), *(f"{name}: {said}" for name, said in facts)]:
            console.print(" ".join(line.splitlines()), markup=False, highlight=False, emoji=False, soft_wrap=True)
        if not report.cut:
            console.print("nothing was cut: the weights are those that were read", highlight=False)
        console.print(f"written to {self.out}: {', '.join(files)}", markup=False, highlight=False)
        return 0

    def _check(self) -> None:
        self.network.check()
        if not 0 <= self.rounds < 2**31:
            raise UndyingError(f"--rounds must be at least 0 and below 2**31, not {self.rounds}")
        if not self.tolerance >= 0:
            raise UndyingError(f"--tolerance must be at least 0, not {self.tolerance}")
        if self.out.exists() and not self.out.is_dir():
            raise UndyingError(f"--out {self.out} is a file; name a folder")
        there = {path.name for path in self.out.iterdir()} if self.out.is_dir() else set()
        if there and RECIPE not in there:
            raise UndyingError(f"--out {self.out} holds {sorted(there)[0]} and no {RECIPE}; name a new folder")
        if self.network.checkpoint is not None and (self.out / WEIGHTS).resolve() == self.network.checkpoint.resolve():
            raise UndyingError(f"--checkpoint {self.network.checkpoint} would be replaced; name another --out")

    def _pruned(self, model: nn.Module, found: Probe, data: Data, example: Any) -> PruneReport:
        axes = axes_of(self.axes)
        if self.certify:
            from undying.certify.interpreter import certify

            with bar("certifying") as done:
                evidence: Any = certify(model, found.box(), axes=axes, progress=done)
        else:
            with bar("counting") as done:
                evidence = census(model, followed(data, found.length, done), axes=axes)
        return prune_(model, evidence, example, data=data, tolerance=self.tolerance, rounds=self.rounds, axes=axes)

    def _write(self, files: dict[str, bytes]) -> None:
        """The recipe last: it says that the folder is ours, and whole."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for name in sorted(files, key=lambda name: name == RECIPE):
                write_bytes(self.out / name, files[name])
        except OSError as error:
            raise UndyingError(f"cannot write to {self.out}: {error.strerror}") from None


def _first(data: Data) -> Any:
    """An input of one sample, where it is a tensor."""
    batch = next(iter(data), None)
    if batch is None:
        raise UndyingError("the data hold no batch")
    args, kwargs, _ = unpacked(batch, None)
    if kwargs:
        return kwargs
    return args[0][:1] if len(args) == 1 and isinstance(args[0], Tensor) else args


def _weights(model: nn.Module) -> bytes:
    """As safetensors, which keeps what several names share once."""
    shared: set[tuple[int, int]] = set()
    kept = {}
    for name, tensor in model.state_dict().items():
        place = tensor.data_ptr(), tensor.numel()
        if place not in shared or not tensor.numel():
            kept[name] = tensor.contiguous()
        shared.add(place)
    saved: bytes = need("safetensors.torch", "prune", "undying prune").save(kept)
    return saved
