"""The surface and the curvature of quadratics in closed form."""

import pytest
import torch
import torch.nn.functional as F

from undying.papers.details.surface import curvature_along, directions, surface, top_curvature
from undying.papers.table import Grid

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
