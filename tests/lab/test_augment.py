"""Each augmentation of a batch against the same done to one image after another."""

import pytest
import torch

from undying.lab.augment import AUGMENTATIONS, ON_BYTES, crop, cutout, flip, randaugment

X = torch.randn(64, 3, 16, 24, generator=torch.Generator().manual_seed(0))
BYTES = torch.randint(256, X.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def test_flip_turns_about_half_and_leaves_the_rest():
    y = flip(X, generator())
    turned = [torch.equal(b, a.flip(-1)) for a, b in zip(X, y, strict=True)]
    kept = [torch.equal(b, a) for a, b in zip(X, y, strict=True)]
    assert all(t != k for t, k in zip(turned, kept, strict=True))
    assert 16 < sum(turned) < 48


def test_crop_shifts_by_up_to_an_eighth_and_fills_with_the_mean():
    y = crop(X, generator())
    shifts = set()
    for a, b in zip(X, y, strict=True):
        found = []
        for down in range(-2, 3):
            for right in range(-3, 4):
                moved = torch.zeros_like(a)
                rows, columns = slice(max(0, down), 16 + min(0, down)), slice(max(0, right), 24 + min(0, right))
                from_rows = slice(max(0, -down), 16 + min(0, -down))
                from_columns = slice(max(0, -right), 24 + min(0, -right))
                moved[:, rows, columns] = a[:, from_rows, from_columns]
                found += [(down, right)] if torch.equal(moved, b) else []
        assert len(found) == 1
        shifts.update(found)
    assert {down for down, _ in shifts} == set(range(-2, 3))
    assert {right for _, right in shifts} == set(range(-3, 4))


def test_cutout_blanks_one_square_of_half_the_side():
    y = cutout(X, generator())
    whole = 0
    for a, b in zip(X, y, strict=True):
        blank = (b == 0).all(0)
        assert torch.equal(b[:, ~blank], a[:, ~blank])
        rows, columns = blank.any(1).nonzero().flatten(), blank.any(0).nonzero().flatten()
        assert blank[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(rows) <= 8
        assert len(columns) <= 8
        whole += len(rows) == len(columns) == 8
    assert whole > 5


def test_randaugment_does_two_operations_of_magnitude_9_to_each_image(monkeypatch):
    from torchvision.transforms import v2

    only = {"Rotate": v2.RandAugment._AUGMENTATION_SPACE["Rotate"]}
    monkeypatch.setattr(v2.RandAugment, "_AUGMENTATION_SPACE", only)
    turn = v2.functional.rotate
    drawn = set()
    for a, b in zip(BYTES, randaugment(BYTES, generator()), strict=True):
        found = [(one, two) for one in (-9.0, 9.0) for two in (-9.0, 9.0) if torch.equal(turn(turn(a, one), two), b)]
        assert found
        drawn.update(found)
    assert len(drawn) >= 3


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_decides_and_no_other_is_moved(name):
    augment, x = AUGMENTATIONS[name], BYTES if name in ON_BYTES else X
    before = torch.get_rng_state()
    first = augment(x, generator())
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(augment(x, generator()), first)
    assert not torch.equal(augment(x, generator(2)), first)
    assert (first.shape, first.dtype) == (x.shape, x.dtype)
