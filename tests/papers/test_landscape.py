"""The landscape and the curvature of quadratics in closed form, and of a run from its weights."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from undying._base.errors import UndyingError
from undying.lab.execution import Execution
from undying.lab.executors import work
from undying.lab.runs.batches import Batches, dataset_of
from undying.lab.runs.classification import build_model
from undying.lab.store import Store
from undying.papers import landscape
from undying.papers.landscape import chart, curvature_along, directions, surface, top_curvature
from undying.papers.plan import make_plan
from undying.papers.results import run_results, with_curvature
from undying.papers.table import Grid
from undying.papers.tables import TABLES

GRID = Grid(points=5, reach=0.7, images=7, curved=7, iterations=200)


def generator():
    return torch.Generator().manual_seed(3)


def quadratic(eigenvalues):
    """Parameters of (2, 3) and (3,), the Hessian, and half their quadratic form."""
    draw = generator()
    basis, _ = torch.linalg.qr(torch.randn(9, 9, generator=draw, dtype=torch.float64))
    hessian = basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    parameters = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in ((2, 3), (3,))]

    def loss():
        z = flat(parameters)
        return 0.5 * z @ hessian @ z

    return parameters, hessian, loss


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


EIGENVALUES = (7, 4, 2, 1, 0.5, 0, -1, -2, -3)


def test_a_direction_has_the_norms_of_the_filters():
    weight, bias = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    draws = generator()
    first, second = directions([weight, bias], draws), directions([weight, bias], draws)
    for direction in (first, second):
        torch.testing.assert_close(direction[0].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
        assert not direction[1].any()
    assert not torch.allclose(first[0], second[0])
    again = directions([3 * weight, bias], generator())  # of a scaled network they are scaled
    torch.testing.assert_close(again[0], 3 * first[0])


def test_the_surface_of_a_quadratic():
    parameters, hessian, loss = quadratic(EIGENVALUES)
    start, draws = flat(parameters).detach().clone(), generator()
    first, second = directions(parameters, draws), directions(parameters, draws)
    losses = surface(lambda: float(loss()), parameters, first, second, GRID)
    assert torch.equal(flat(parameters), start)
    steps = (-0.7, -0.35, 0, 0.35, 0.7)
    for row, b in zip(losses, steps, strict=True):
        for found, a in zip(row, steps, strict=True):
            z = start + a * flat(first) + b * flat(second)
            assert found == pytest.approx(float(0.5 * z @ hessian @ z), abs=1e-12)
    both = [float(flat(d) @ hessian @ flat(d)) for d in (first, second)]
    assert curvature_along(losses, GRID) == pytest.approx(sum(both) / 2, abs=1e-10)


def test_the_parameters_are_put_back_when_the_loss_fails():
    parameters, _, _ = quadratic(EIGENVALUES)
    start = flat(parameters).detach().clone()

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        surface(fail, parameters, directions(parameters, generator()), directions(parameters, generator()), GRID)
    assert torch.equal(flat(parameters), start)


@pytest.mark.parametrize(("first", "top"), [(7, 7), (-7, 4), (-20, 4)])
def test_the_top_eigenvalue_of_a_quadratic(first, top):
    """The largest, also where one below 0 is larger in absolute value."""
    parameters, _, loss = quadratic((first, *EIGENVALUES[1:]))
    assert top_curvature(loss(), parameters, 200, generator()) == pytest.approx(top, rel=1e-9)


def test_the_top_eigenvalue_of_a_hessian_below_0():
    parameters, _, loss = quadratic(range(-9, 0))
    assert top_curvature(loss(), parameters, 200, generator()) == pytest.approx(-1, rel=1e-9)


def test_nothing_is_curved_where_the_hessian_is_0():
    parameters, _, loss = quadratic((0,) * 9)
    assert top_curvature(loss(), parameters, 5, generator()) == 0


def test_the_top_eigenvalue_of_a_network_is_that_of_its_whole_hessian():
    torch.manual_seed(0)
    x, y = torch.randn(20, 2, dtype=torch.float64), torch.arange(20) % 2
    first, second = (torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((4, 2), (2, 4)))

    def loss(first, second):
        return F.cross_entropy(F.linear(torch.relu(F.linear(x, first)), second), y)

    blocks = torch.autograd.functional.hessian(loss, (first, second))
    whole = torch.cat([torch.cat([block.reshape(8, 8) for block in row], 1) for row in blocks])
    top = torch.linalg.eigvalsh(whole).max()
    assert top_curvature(loss(first, second), (first, second), 300, generator()) == pytest.approx(float(top), rel=1e-6)


def test_a_run_is_charted_from_its_weights(tmp_path):
    """With ReLU in SUGAR's place the loss in the middle is that of the trained network."""
    table = TABLES["sugar-landscape"]
    plan = make_plan(table.scales["smoke"], (5,))
    plan = replace(plan, scale=replace(plan.scale, grid=replace(plan.scale.grid, iterations=30)))
    run = next(planned for planned in plan.runs if planned.arm == "sugar")
    config, store, execution = run.config, Store(tmp_path), Execution()
    assert work.execute(config, tmp_path, execution, False) == work.FINISHED
    grid = plan.scale.grid
    assert landscape.read(config, grid, store) is None
    chart(config, grid, execution, store)
    found = landscape.read(config, grid, store)
    assert landscape.read(config, GRID, store) is None  # another one

    dataset = dataset_of(config, execution)
    network = build_model(config, dataset).eval()
    network.load_state_dict(store.weights(config))
    x, y = next(Batches(dataset, config, execution).test())
    with torch.no_grad():
        loss = float(F.cross_entropy(network(x[: grid.images]), y[: grid.images]))
    assert found.middle == pytest.approx(loss, rel=1e-5)
    assert [len(row) for row in found.losses] == [grid.points] * grid.points
    [result] = with_curvature(run_results(plan, {config: store.read(config)}), grid, store)
    assert result.curvature == pytest.approx(math.log(found.top))

    path = store.path(config, landscape.FILE)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(UndyingError, match="newer"):
        landscape.read(config, grid, store)
    path.write_text("{")
    with pytest.raises(UndyingError, match="damaged"):
        landscape.read(config, grid, store)
