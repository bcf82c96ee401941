"""Ships networks to LiteRT (TFLite) and compares: ``python tests/treat/export_to_litert.py``, by hand.

It needs litert-torch, which brings jax and wants older versions of some packages: an environment of its own. The table
that it prints is in docs/ship.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

RELU = 1
"""Of schema.ActivationFunctionType; 19 is the operator of a Relu that is fused into none."""


def relus(path: Path) -> tuple[int, int]:
    """(Relus that are part of another operator, Relus of their own)."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    fused = sum(getattr(o.builtinOptions, "fusedActivationFunction", 0) == RELU for o in operators)
    alone = sum(model.operatorCodes[o.opcodeIndex].builtinCode == schema.BuiltinOperator.RELU for o in operators)
    return fused, alone


def main() -> None:
    import litert_torch
    from test_ship import NETWORKS, ship

    print(
        "| network | Relu sites | Relus in the file | largest difference, of the largest output |\n| --- | --- | --- | --- |"
    )
    for name in NETWORKS:
        net, x, _, sites = ship(name)
        x = x[:1]
        with torch.no_grad():
            wanted = net(x).numpy()
        edge = litert_torch.convert(net, (x,))
        with tempfile.TemporaryDirectory() as folder:
            edge.export(str(Path(folder, "net.tflite")))
            fused, alone = relus(Path(folder, "net.tflite"))
        difference = np.abs(np.asarray(edge(x)) - wanted).max() / np.abs(wanted).max()
        print(f"| {name} | {sites} | {fused} in other operators, {alone} alone | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
