"""The landscape of a run, from its weights."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import planted
from undying._base.errors import UndyingError
from undying.lab.execution import Execution
from undying.lab.executors import work
from undying.lab.runs.batches import Batches, dataset_of
from undying.lab.runs.classification import build_model
from undying.lab.store import Store
from undying.papers.details import read_sections
from undying.papers.details.landscape import FILE, Landscape, Landscapes, compute_landscape, read_landscape
from undying.papers.plan import make_plan
from undying.papers.results import run_results
from undying.papers.tables import TABLES


def test_a_landscape_is_computed_from_the_weights_of_a_run(tmp_path):
    """With ReLU in SUGAR's place the loss in the middle is that of the trained network."""
    table = TABLES["sugar-landscape"]
    plan = make_plan(table.scales["smoke"], (5,))
    plan = replace(plan, scale=replace(plan.scale, grid=replace(plan.scale.grid, iterations=30)))
    run = next(planned for planned in plan.runs if planned.arm == "sugar")
    config, store, execution = run.config, Store(tmp_path), Execution()
    assert work.execute(config, tmp_path, execution, False) == work.FINISHED
    grid = plan.scale.grid
    assert read_landscape(config, grid, store) is None
    compute_landscape(config, grid, execution, store)
    found = read_landscape(config, grid, store)
    assert read_landscape(config, replace(grid, reach=0.7), store) is None

    dataset = dataset_of(config, execution)
    network = build_model(config, dataset).eval()
    network.load_state_dict(store.weights(config))
    x, y = next(Batches(dataset, config, execution).test())
    with torch.no_grad():
        loss = float(F.cross_entropy(network(x[: grid.images]), y[: grid.images]))
    assert found.middle == pytest.approx(loss, rel=1e-5)
    assert [len(row) for row in found.losses] == [grid.points] * grid.points
    [result], [section] = read_sections(table, plan, run_results(plan, {config: store.read(config)}), store)
    assert section.arms == {"sugar": {config.seed: found}}
    assert result.curvature == pytest.approx(math.log(found.top))

    path = store.path(config, FILE)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(UndyingError, match="newer"):
        read_landscape(config, grid, store)
    path.write_text("{")
    with pytest.raises(UndyingError, match="damaged"):
        read_landscape(config, grid, store)


@pytest.mark.parametrize("top", [None, -0.5, 0.0, 2.0])
def test_a_curvature_above_0_is_added_to_its_run_and_to_no_other(top):
    plan = make_plan(TABLES["sugar-landscape"].scales["smoke"])
    results = planted.results(plan, lambda run: 0.5)
    mine, *others = results
    section = Landscapes(plan.scale.tasks[0], plan.scale.grid, {mine.planned: Landscape([[1.0]], top, 0.0)})
    added = section.complete(mine)
    assert replace(added, curvature=0.0) == replace(mine, curvature=0.0)
    assert added.curvature == math.log(2) if top == 2 else math.isnan(added.curvature)
    assert others
    assert all(section.complete(other) is other for other in others)
