"""Layouts against tensors that hold, in every element, the number of its unit."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import event, given, settings
from hypothesis import strategies as st

from undying.units.layout import Layout
from undying.units.rules import UnitAxes


def numbered(shape, axis):
    """A tensor whose elements are the numbers of their units."""
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    return torch.arange(shape[axis], dtype=torch.float64).view(sizes).expand(shape).contiguous()


def columns(layout, x, mask=None):
    """Each unit's values, as lists, by the layout."""
    found = layout.columns(x, mask)
    keep = torch.ones_like(found.values, dtype=torch.bool) if mask is None else found.mask.expand(found.values.shape)
    return [found.values[:, u][keep[:, u]].tolist() for u in range(layout.units)]


def assert_each_unit_has_its_column(layout, x, every=True):
    """No column holds two units' values, and, unless values were dropped or doubled, no unit has two columns."""
    assert layout.shape == tuple(x.shape)
    held = [set(column) for column in columns(layout, x)]
    assert all(len(numbers) == 1 for numbers in held), held
    if every:
        assert len(set.union(*held)) == layout.units
    assert sum(map(len, columns(layout, x))) == x.numel()


# --- drawn chains of operations -----------------------------------------------------------------------------------


def factorings(draw, n, at_most):
    """Sizes whose product is n."""
    sizes = []
    while len(sizes) < at_most - 1 and draw(st.booleans()):
        sizes.append(draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])))
        n //= sizes[-1]
    return [*sizes, n]


def reshape(draw, x):
    sizes = factorings(draw, x.numel(), 5)
    return draw(st.sampled_from([lambda: x.reshape(sizes), lambda: torch.reshape(x, sizes), lambda: x.reshape(*sizes)]))


def regroup(draw, x):
    """Split one axis, or join neighbours: what networks do."""
    d = draw(st.integers(0, x.dim() - 1))
    if draw(st.booleans()):
        sizes = factorings(draw, x.shape[d], 3)
        return draw(
            st.sampled_from(
                [
                    lambda: x.unflatten(d, sizes),
                    lambda: torch.unflatten(x, d - x.dim(), sizes),
                    lambda: x.contiguous().view(*x.shape[:d], *sizes, *x.shape[d + 1 :]),
                ]
            )
        )
    e = draw(st.integers(d, x.dim() - 1))
    joined = (*x.shape[:d], -1, *x.shape[e + 1 :])
    return draw(
        st.sampled_from(
            [lambda: x.flatten(d, e), lambda: torch.flatten(x, start_dim=d, end_dim=e), lambda: x.reshape(joined)]
        )
    )


def permute(draw, x):
    order = draw(st.permutations(range(x.dim())))
    a, b = (draw(st.integers(-x.dim(), x.dim() - 1)) for _ in range(2))
    spellings = [
        lambda: x.permute(order),
        lambda: x.permute(*order),
        lambda: torch.permute(x, dims=order),
        lambda: x.transpose(a, b),
        lambda: torch.transpose(x, dim0=a, dim1=b),
        lambda: x.swapaxes(a, b),
        lambda: torch.swapaxes(x, axis0=a, axis1=b),
        lambda: x.swapdims(a, b),
        lambda: x.movedim(a, b),
        lambda: torch.moveaxis(x, source=a, destination=b),
        lambda: x.movedim(tuple(order), tuple(range(x.dim()))),
        lambda: torch.movedim(x, [a], [b]),
    ]
    if x.dim() == 2:
        spellings += [lambda: x.T, lambda: x.t(), lambda: torch.t(x)]
    if x.dim() >= 2:
        spellings += [lambda: x.mT, lambda: x.adjoint()]
    return draw(st.sampled_from(spellings))


def of_length_one(draw, x):
    d = draw(st.integers(0, x.dim()))
    d_in = min(d, x.dim() - 1)
    spellings = [lambda: x.unsqueeze(d), lambda: x[..., None], lambda: x[None], lambda: x[:, None], lambda: x.squeeze()]
    return draw(st.sampled_from([*spellings, lambda: x.squeeze(d_in), lambda: torch.unsqueeze(x, dim=-1)]))


def cut(draw, x):
    d = draw(st.integers(0, x.dim() - 1))
    start = draw(st.integers(0, x.shape[d] - 1))
    length, step = draw(st.integers(1, x.shape[d] - start)), draw(st.integers(1, 3))
    before = (slice(None),) * d
    parts = draw(st.integers(1, x.shape[d]))
    return draw(
        st.sampled_from(
            [
                lambda: x.narrow(d, start, length),
                lambda: x[(*before, slice(start, start + length, step))],
                lambda: x[(..., slice(start, start + length), *(slice(None),) * (x.dim() - d - 1))],
                lambda: x[(*before, start)],
                lambda: x[(*before, start, ..., None)],
                lambda: x.select(d, start),
                lambda: x.unbind(d)[start],
                lambda: x.chunk(parts, d)[-1],
                lambda: torch.split(x, length, dim=d)[0],
                lambda: torch.tensor_split(x, parts, dim=d)[0],
            ]
        )
    )


def gather(draw, x):
    d = draw(st.integers(0, x.dim() - 1))
    order = torch.tensor(draw(st.permutations(range(x.shape[d]))))
    first = torch.tensor(draw(st.permutations(range(x.shape[0]))))
    shift = draw(st.integers(0, 3))
    return draw(
        st.sampled_from(
            [
                lambda: x.index_select(d, order),
                lambda: x[first],
                lambda: x[first[:, None]],
                lambda: x[first > 0] if len(first) > 1 else x,
                lambda: x.flip(d),
                lambda: torch.roll(x, shift, d),
                lambda: x.roll(shift, dims=d),
            ]
        )
    )


def pool(draw, x):
    """Over the last axis, by the greatest of neighbours."""
    width = draw(st.integers(1, min(3, x.shape[-1])))
    stride, padding = draw(st.integers(1, width)), draw(st.integers(0, width // 2))
    spellings = [lambda: x.amax(-1, keepdim=True), lambda: x.max(dim=-1, keepdim=True)[0]]
    if x.dim() in (2, 3):
        spellings += [lambda: F.max_pool1d(x, width, stride, padding), lambda: F.adaptive_max_pool1d(x, width)]
        spellings += [lambda: F.pad(x, (1, 0), mode="replicate")]
    if x.dim() == 3:
        spellings += [lambda: F.interpolate(x, scale_factor=2.0)]
    return draw(st.sampled_from(spellings))


def elementwise(draw, x):
    return draw(
        st.sampled_from(
            [
                lambda: x + 0,
                lambda: 0 + x,
                lambda: x * torch.ones(x.shape[-1], dtype=x.dtype),
                lambda: x + torch.zeros((2, *x.shape), dtype=x.dtype),
                lambda: 1.0 * x.data,
                lambda: x.clone().add_(x).div_(2),
                lambda: F.dropout(x, 0.5, training=False),
                lambda: torch.where(x > 3, x, x + 0),
                lambda: torch.zeros_like(x).copy_(x),
                lambda: x.to(torch.float32).double(),
                lambda: x[None].expand(2, *x.shape),
                lambda: torch.maximum(x, x),
                lambda: torch.max(x, other=x),
                lambda: x.clamp(min=0),
            ]
        )
    )


def join(draw, x):
    d = draw(st.integers(0, x.dim() - 1))
    spellings = [lambda: torch.stack([x, x], dim=d - x.dim() - 1), lambda: torch.stack([x, x], d)]
    return draw(st.sampled_from([*spellings, lambda: torch.cat([x, x], d), lambda: torch.concat((x, x), dim=d)]))


STEPS = [reshape, regroup, regroup, permute, permute, of_length_one, cut, gather, pool, elementwise, join]
DOUBLING = [join, cut, pool]  # what is left, or doubled, may be part of a unit's numbers only


@settings(max_examples=300)
@given(data=st.data())
def test_whatever_is_done_to_a_tensor_its_columns_are_its_units_or_the_layout_is_lost(data):
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    axes = UnitAxes()
    with axes:
        # Embeddings have their units last.
        table = torch.arange(shape[axis], dtype=torch.float64)[None]
        x = F.embedding(torch.zeros(shape[:axis] + shape[axis + 1 :], dtype=torch.int64), table).movedim(-1, axis)
    assert torch.equal(x, numbered(shape, axis))
    every = True
    for _ in range(data.draw(st.integers(1, 6))):
        layout = axes.of(x)
        if layout is None or x.dim() == 0 or x.numel() > 3000:
            break
        assert_each_unit_has_its_column(layout, x, every)
        step = data.draw(st.sampled_from(STEPS))
        operation = step(data.draw, x)
        every = every and step not in DOUBLING
        with axes:
            x = operation()
    layout = axes.of(x)
    event("lost" if layout is None else "followed")
    if layout is not None:
        assert_each_unit_has_its_column(layout, x, every)


# --- by hand ------------------------------------------------------------------------------------------------------


def followed(make):
    """(result, layout) of a function of an embedded (2, 3, 4) tensor with its units last."""
    axes = UnitAxes()
    with axes:
        x = F.embedding(torch.zeros(2, 3, dtype=torch.int64), torch.arange(4.0)[None])
        out = make(x)
    return out, axes.of(out)


@pytest.mark.parametrize(
    ("make", "units"),
    [
        (lambda x: x.flatten(1), 4),  # places and units in one axis
        (lambda x: x.mT.flatten(1), 4),
        (lambda x: x.mT.flatten(1).unflatten(1, (4, 3)), 4),
        (lambda x: x.unflatten(-1, (2, 2)).transpose(1, 2), 4),  # heads
        (lambda x: x.unflatten(-1, (2, 2)).transpose(1, 2).flatten(2), 4),
        (lambda x: x.unflatten(-1, (2, 2)).transpose(2, 3).flatten(2), 4),  # channel shuffle
        (lambda x: x.unflatten(-1, (2, 2)).select(2, 1), 2),  # one head
        (lambda x: x.unflatten(-1, (2, 2))[:, :, :, 0], 2),
        (lambda x: x.unflatten(-1, (2, 2))[..., :1], 2),
        (lambda x: x.unflatten(-1, (2, 2)).sum(-2, keepdim=True), 2),
        (lambda x: x.permute(2, 0, 1).reshape(4, -1), 4),
        (lambda x: x.mean(1), 4),
        (lambda x: x.mean((0, 1)), 4),
        (lambda x: x.mean(0, keepdim=True).expand(5, -1, -1), 4),
        (lambda x: x[x.sum(-1) > 3], 4),
        (lambda x: torch.cat([x, x], -1), 8),
        (lambda x: torch.cat([x, x], 1), 4),
        (lambda x: torch.cat([x[..., :1], x[..., 1:2]], -1), 2),  # one unit grows to two
        (lambda x: x.mean(-1, keepdim=True), 1),
        (lambda x: x.repeat(1, 1, 2), 8),
        (lambda x: x.chunk(2, -1)[0] + x.chunk(2, -1)[1], 2),
        # rotary embedding: halves swapped, and added to the whole again
        (lambda x: x + torch.cat([-x[..., 2:], x[..., :2]], -1), 4),
    ],
)
def test_units_after(make, units):
    out, layout = followed(make)
    assert (layout.shape, layout.units) == (tuple(out.shape), units)


def test_halves_of_heads_joined_again_are_laid_out_as_the_whole():
    """So that q * cos + rotated(q) * sin keeps its units, as in Llama."""

    def rotated(x):
        x = x.unflatten(-1, (2, 2)).transpose(1, 2)
        return x * 2 + torch.cat([-x[..., 1:], x[..., :1]], -1) * 3

    _, layout = followed(rotated)
    assert layout == Layout((((2, 0),), ((2, 2),), ((3, 0),), ((2, 1),)))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.flatten(1).roll(1, 1),  # places and units in one axis, moved by one
        lambda x: x.mT.flatten(1)[:, torch.randperm(12)],
        lambda x: x.mT.flatten(1).index_select(1, torch.randperm(12)),
        lambda x: F.max_pool1d(x.mT.flatten(1)[None], 3, 1, 1),
        lambda x: F.pad(x.flatten(1), (1, -1)),
        lambda x: x.flatten(1)[:, :5],
        lambda x: torch.cat([x.flatten(1), x[:, 0]], 1),
        lambda x: x.sum(-1),  # over units
        lambda x: x.mT.flatten(1).view(2, 2, 6).sum(1),
        lambda x: x.reshape(8, 3),
        lambda x: x[..., :1].reshape(2, 3) * torch.ones(5, 2, 3),  # one unit, repeated
        lambda x: torch.stack([x[:, :, :3], x[:, :, :3].mT]),  # of two layouts
        lambda x: torch.ones(2, 3, 4).view_as(x),  # the other operand's
        lambda x: torch.ones(2, 3, 4).type_as(x),
        lambda x: torch.ones(1, 3, 4).expand_as(x),
        lambda x: torch.norm(x, 2, 1),
        lambda x: torch.einsum("nab->nba", x),
        lambda x: x.clone().copy_(torch.zeros(2, 3, 4)),
    ],
)
def test_lost_where_it_is_not_known(make):
    assert followed(make)[1] is None


def test_units_in_the_order_in_which_they_lie():
    shuffled = Layout.along(1, (5, 6, 7)).reshaped((5, 2, 3, 7)).permuted((0, 2, 1, 3)).reshaped((5, 6, 7))
    assert shuffled.numbers(1).tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffled.in_order() == Layout.along(1, (5, 6, 7))
    heads = Layout.along(-1, (5, 6)).reshaped((5, 2, 3))
    assert heads.in_order() == heads
    assert heads.permuted((2, 0, 1)).in_order().axes == (((3, 2),), ((5, 0),), ((2, 1),))
    assert Layout.single((3, 4)).in_order() == Layout.single((3, 4))


def test_numbers_of_an_axis():
    flat = Layout.along(1, (5, 3, 2)).reshaped((5, 6))
    assert flat.numbers(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert Layout.along(-1, (5, 2, 3)).reshaped((5, 6)).numbers(1).tolist() == [0, 1, 2, 0, 1, 2]
    heads = Layout.along(-1, (5, 6)).reshaped((5, 2, 3))
    assert heads.numbers(1) is None
    assert heads.permuted((0, 2, 1)).reshaped((5, 6)).numbers(1).tolist() == [0, 3, 1, 4, 2, 5]


@settings(max_examples=60)
@given(data=st.data())
def test_a_mask_leaves_out_the_same_values_wherever_the_units_lie(data):
    n, t, c, h = (data.draw(st.integers(1, 4)) for _ in range(4))
    mask = torch.rand(n, t) < 0.6
    x = torch.arange(float(n * t * c * h)).view(n, t, c, h)  # each value once
    expected = [sorted(x[:, :, u][mask].flatten().tolist()) for u in range(c)]
    layout = Layout.along(2, x.shape)
    order = data.draw(st.sampled_from([(0, 1, 2, 3), (2, 0, 1, 3), (0, 2, 1, 3), (0, 1, 3, 2)]))
    for moved, laid, given_mask in (
        (x.permute(order), layout.permuted(order), mask),
        (x.permute(order).contiguous(), layout.permuted(order), mask),
        (x.flatten(0, 1), layout.reshaped((n * t, c, h)), mask),
        (x, layout, mask.flatten()),
        (x.flatten(2), layout.reshaped((n, t, c * h)), mask),
    ):
        assert [sorted(column) for column in columns(laid, moved, given_mask)] == expected


def test_a_mask_of_other_axes_does_not_fit():
    layout, x = Layout.along(-1, (3, 2, 4)), torch.zeros(3, 2, 4)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 3\) does not fit values at \(3, 2\) positions"):
        layout.columns(x, torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not fit"):
        layout.columns(x, torch.ones(3, 3, dtype=torch.bool))
    assert layout.columns(x, torch.ones(3, dtype=torch.bool)).mask.sum() == 6  # of whole samples


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_columns_of_dense_maps_are_views(memory_format):
    x = torch.randn(2, 3, 4, 5).to(memory_format=memory_format)
    values = Layout.along(1, x.shape).columns(x).values
    assert values.data_ptr() == x.data_ptr()
    assert math.prod(values.shape) == x.numel()
    for u in range(3):
        assert sorted(values[:, u].flatten().tolist()) == sorted(x[:, u].flatten().tolist())
