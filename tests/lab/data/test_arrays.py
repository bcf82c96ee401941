"""Keras-style files, as people write them."""

import numpy as np
import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.data import load
from undying.lab.data.arrays import npz

RANDOM = np.random.default_rng(0)


def arrays(shape=(6, 5, 3), dtype=np.uint8):
    x_train, x_test = (RANDOM.integers(0, 256, (n, *shape)).astype(dtype) for n in (8, 4))
    return {"x_train": x_train, "y_train": np.arange(8) % 2, "x_test": x_test, "y_test": np.arange(4) % 2}


def written(path, content):
    np.savez(path, **content)
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "ours"),
    [
        ((6, 5, 3), np.uint8, (3, 6, 5)),  # Keras: channels last
        ((3, 6, 5), np.uint8, (3, 6, 5)),
        ((6, 5), np.uint8, (1, 6, 5)),
        ((6, 5, 1), np.int64, (1, 6, 5)),
        ((7,), np.float64, (7,)),
        ((2, 9, 7, 3), np.float32, (2, 9, 7, 3)),
    ],
)
def test_samples_are_found_whatever_their_layout(tmp_path, shape, dtype, ours):
    content = arrays(shape, dtype)
    read = npz(written(tmp_path / "a.npz", content))
    assert read.shape == ours
    assert read.x_train.dtype == (torch.float32 if np.dtype(dtype).kind == "f" else torch.uint8)
    assert sorted(read.x_train[3].flatten().tolist()) == sorted(content["x_train"][3].ravel().tolist())
    if shape == (6, 5, 3):
        assert read.x_test[1, 2, 4, 3] == content["x_test"][1, 4, 3, 2]


def test_classes_may_be_names_or_a_number_or_absent(tmp_path):
    content = arrays()
    assert npz(written(tmp_path / "a.npz", content)).classes == 2
    assert npz(written(tmp_path / "b.npz", {**content, "classes": np.array(5)})).classes == 5
    named = npz(written(tmp_path / "c.npz", {**content, "classes": np.array(["cat", "dog", "cow"])}))
    assert (named.classes, named.names) == (3, ("cat", "dog", "cow"))


def test_labels_of_shape_n_1_as_keras_has_them(tmp_path):
    content = arrays()
    content["y_train"] = content["y_train"][:, None].astype(np.uint8)
    assert npz(written(tmp_path / "a.npz", content)).y_train.tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_test": None}, ["y_test", "x_train"]),
        ({"y_train": np.arange(7) % 2}, ["8 samples", "7 labels"]),
        ({"y_train": np.arange(8) / 2}, ["y_train", "float64"]),
        ({"y_train": np.eye(2)[np.arange(8) % 2].astype(int)}, ["y_train", "(8, 2)"]),
        ({"y_test": np.array([0, 1, 0, -1])}, ["-1"]),
        ({"x_train": np.full((8, 6, 5, 3), 300)}, ["x_train", "300"]),
        ({"x_train": np.array(["a"] * 8)}, ["x_train", "<U1"]),
        ({"x_train": np.array([{}] * 8)}, ["cannot be read"]),
        ({"classes": np.array(["one"])}, ["1", "0 to 0"]),
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path, change, words):
    content = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    path = written(tmp_path / "a.npz", content)
    with pytest.raises(UndyingError) as error:
        load(str(path))
    assert all(word in str(error.value) for word in (*words, "a")), error.value
    assert "\n" not in str(error.value)


def test_a_truncated_or_flipped_or_missing_file_is_named(tmp_path):
    path = written(tmp_path / "a.npz", arrays())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    for damaged in (whole[: len(whole) // 2], b"", b"text", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(UndyingError, match=str(path)):
            npz(path)
    with pytest.raises(UndyingError, match=r"there is no .*none\.npz"):
        npz(tmp_path / "none.npz")


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", ">u2", "int16"])
def test_unsigned_numbers_that_torch_hardly_knows(tmp_path, dtype):
    content = arrays(dtype=dtype)
    read = npz(written(tmp_path / "a.npz", content))
    assert read.shape == (3, 6, 5)
    assert np.array_equal(read.x_train.permute(0, 2, 3, 1).numpy().astype("int64"), content["x_train"].astype("int64"))


def test_sixteen_bits_keep_their_values(tmp_path):
    content = arrays((6, 6))
    content["x_train"] = RANDOM.integers(0, 65536, (8, 6, 6)).astype("uint16")
    content["x_test"] = RANDOM.integers(0, 200, (4, 6, 6)).astype("uint16")
    read = npz(written(tmp_path / "a.npz", content))
    assert np.array_equal(read.x_train[:, 0].numpy(), content["x_train"].astype("float32"))
    assert read.x_test.dtype == read.x_train.dtype == torch.float32


@pytest.mark.parametrize("value", [2**63, 70000])
def test_numbers_that_no_image_has_are_refused(tmp_path, value):
    content = arrays(dtype="uint64")
    content["x_train"][0] = value
    with pytest.raises(UndyingError, match=f"{value}; images are 0 to 255"):
        npz(written(tmp_path / "a.npz", content))


@pytest.mark.parametrize(
    ("shape", "ours"),
    [
        ((8, 8, 2), (2, 8, 8)),
        ((8, 8, 13), (13, 8, 8)),
        ((13, 8, 8), (13, 8, 8)),
        ((4, 4, 3), (3, 4, 4)),
        ((3, 4, 4), (3, 4, 4)),
    ],
)
def test_square_images_tell_where_the_channels_are(tmp_path, shape, ours):
    assert npz(written(tmp_path / "a.npz", arrays(shape))).shape == ours


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 4), (6, 5, 7)])
def test_channels_first_or_last_is_asked_where_nothing_tells(tmp_path, shape):
    with pytest.raises(UndyingError, match="first or last"):
        npz(written(tmp_path / "a.npz", arrays(shape)))


@pytest.mark.parametrize(
    ("labels", "words"), [([1, 2] * 4, "from 1 to 2, and class 0"), ([0, 1] * 3 + [1, 255], "class 2 .*252 others")]
)
def test_classes_without_a_training_sample_are_told_of(tmp_path, labels, words):
    content = {**arrays(), "y_train": np.array(labels), "y_test": np.array([1, 1, 1, 1])}
    with pytest.raises(UndyingError, match=words):
        npz(written(tmp_path / "a.npz", content))
    assert npz(written(tmp_path / "b.npz", {**content, "classes": np.array(256)})).classes == 256
