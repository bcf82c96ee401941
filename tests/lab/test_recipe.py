"""What a recipe refuses, and that every option has its effect."""

import pytest

from undying._base.errors import UndyingError
from undying.lab.recipe import Recipe


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"augment": ("flip", "rotate")}, ["--augment", "'rotate'", "flip, crop, cutout, randaugment"]),
        ({"targets": ("Relu",)}, ["--targets", "'Relu'", "ReLU"]),
        ({"schedule": "linear"}, ["--schedule", "'linear'", "cosine"]),
        ({"amp": "fp16"}, ["--amp", "'fp16'", "float16"]),
        ({"validation": 1.0}, ["--validation", "1.0"]),
        ({"ema": -0.1}, ["--ema", "-0.1"]),
        ({"label_smoothing": float("nan")}, ["--label-smoothing", "nan"]),
        ({"subset": -1}, ["--subset", "-1"]),
        ({"clip": float("inf")}, ["--clip", "inf"]),
        ({"weight_decay": -0.1}, ["--weight-decay", "-0.1"]),
        ({"measure_every": 0}, ["--measure-every", "0"]),
    ],
)
def test_wrong_values_are_named_with_what_is_known(wrong, words):
    with pytest.raises(UndyingError) as error:
        Recipe(**wrong)
    assert all(word in str(error.value) for word in words), error.value
