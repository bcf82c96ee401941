"""Hash, scale, subsets and what cannot be trained on."""

import dataclasses

import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.data.dataset import Dataset, stratified


def made(classes=3, train=90, test=30, shape=(3, 4, 4)):
    generator = torch.Generator().manual_seed(1)

    def images(n):
        return torch.randint(0, 256, (n, *shape), generator=generator).to(torch.uint8)

    y_train, y_test = (torch.arange(n) % classes for n in (train, test))
    return Dataset("made", images(train), y_train, images(test), y_test, classes)


def test_each_channel_has_mean_0_and_std_1_over_the_training_data():
    dataset = made()
    dataset.x_train[:, 1] //= 4
    train, test = dataset.standardised(dataset.x_train), dataset.standardised(dataset.x_test)
    assert torch.allclose(train.double().mean((0, 2, 3)), torch.zeros(3, dtype=torch.double), atol=1e-6)
    assert torch.allclose(train.double().std((0, 2, 3)), torch.ones(3, dtype=torch.double), atol=1e-6)
    assert test.double().mean((0, 2, 3)).abs().max() > 1e-4  # by the training data's numbers, not its own


def test_features_that_are_neither_images_nor_a_table_have_one_scale_and_a_constant_is_only_shifted():
    x = torch.tensor([[[1.0], [5.0]], [[3.0], [7.0]]])
    dataset = Dataset("f", x, torch.tensor([0, 1]), x, torch.tensor([0, 1]), 2)
    assert dataset.scale[0] == 4.0
    assert dataset.scale[1] == pytest.approx(x.std().item())
    flat = dataclasses.replace(dataset, x_train=torch.full((2, 2, 1), 5.0))
    assert torch.equal(flat.standardised(flat.x_train), torch.zeros(2, 2, 1))


@pytest.mark.parametrize("number", [1, 7, 30, 89, 90])
def test_a_stratified_draw_has_the_exact_number_with_each_class_within_one_of_its_share(number):
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)
    drawn = stratified(labels, 3, number)
    assert len(drawn) == len(drawn.unique()) == number
    shares = torch.tensor([50, 30, 10]) * number / 90
    assert (torch.bincount(labels[drawn], minlength=3) - shares).abs().max() < 1
    assert torch.equal(drawn, stratified(labels, 3, number))


def test_held_out_and_kept_are_the_training_data_once_and_the_test_data_stay():
    dataset = made()
    kept, x, y = dataset.without(0.2)
    assert (len(kept.x_train), len(x)) == (72, 18)
    assert torch.bincount(y).tolist() == [6, 6, 6]
    rows = sorted(map(tuple, torch.cat([kept.x_train, x]).flatten(1).tolist()))
    assert rows == sorted(map(tuple, dataset.x_train.flatten(1).tolist()))
    assert torch.equal(kept.x_test, dataset.x_test)


def test_a_subset_keeps_the_balance():
    small = made().subset(12)
    assert small.per_class()["train"] == [4, 4, 4]
    assert len(small.x_test) == 30
    assert small.sha256 != made().sha256


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda d: d.subset(91), ["--subset 91", "90"]),
        (lambda d: d.without(0.001), ["--validation 0.001", "90"]),
        (lambda d: dataclasses.replace(d, y_train=d.y_train[1:]).checked(), ["90 samples", "89 labels"]),
        (lambda d: dataclasses.replace(d, y_test=d.y_test + 1).checked(), ["test labels", "1 to 3", "0 to 2"]),
        (lambda d: dataclasses.replace(d, x_test=d.x_test[:, :1]).checked(), ["(1, 4, 4)", "(3, 4, 4)"]),
        (lambda d: dataclasses.replace(d, x_train=d.x_train / 0).checked(), ["NaN"]),
        (lambda d: dataclasses.replace(d, x_train=d.x_train.long()).checked(), ["int64"]),
        (lambda d: dataclasses.replace(d, x_test=d.x_test[:0], y_test=d.y_test[:0]).checked(), ["0 samples"]),
        (
            lambda d: dataclasses.replace(d, y_train=d.y_train * 0, y_test=d.y_test * 0, classes=1).checked(),
            ["1 class"],
        ),
    ],
)
def test_what_does_not_fit_is_named(wrong, words):
    with pytest.raises(UndyingError) as error:
        wrong(made())
    assert all(word in str(error.value) for word in words), error.value


def test_each_column_of_a_table_has_a_unit_of_its_own():
    x = torch.randn(50, 3) * torch.tensor([1.0, 1000.0, 0.001]) + torch.tensor([0.0, 5000.0, 1.0])
    x[:, 2] = 7.0  # a constant column is only shifted
    data = Dataset("table", x, torch.arange(50) % 2, x, torch.arange(50) % 2, 2)
    z = data.standardised(x).double()
    wanted = (x.double() - x.double().mean(0)) / torch.cat([x.double().std(0)[:2], torch.ones(1)])
    assert torch.allclose(z, wanted, atol=1e-3)
    assert (z[:, 2] == 0).all()
