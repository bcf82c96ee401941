"""Folders of images, split or not, whole or not."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from undying._base.errors import UndyingError
from undying.lab.data import load
from undying.lab.data.folder import folder

RANDOM = np.random.default_rng(0)


def image(path, size=(5, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = RANDOM.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def split(tmp_path):
    root = tmp_path / "pets"
    pixels = {
        (part, name, i): image(root / part / name / f"{i}.png")
        for part, count in (("train", 3), ("test", 2))
        for name in ("cat", "dog")
        for i in range(count)
    }
    return root, pixels


def test_train_and_test_by_class(split):
    root, pixels = split
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    pets = load(str(root))
    assert (pets.name, pets.names, pets.classes, pets.shape) == ("pets", ("cat", "dog"), 2, (3, 4, 5))
    assert pets.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert pets.y_test.tolist() == [0, 0, 1, 1]
    assert np.array_equal(pets.x_train[4].permute(1, 2, 0).numpy(), pixels["train", "dog", 1])
    assert np.array_equal(pets.x_test[1].permute(1, 2, 0).numpy(), pixels["test", "cat", 1])


def test_without_a_split_a_hash_picks_about_a_fifth_and_copies_stay_together(tmp_path):
    for name in ("a", "b"):
        for i in range(150):
            image(tmp_path / name / f"{i}.png", (2, 2))
    shutil.copy(tmp_path / "a" / "7.png", tmp_path / "b" / "copy.png")
    made = folder(tmp_path)
    assert len(made.x_train) + len(made.x_test) == 301
    assert 0.13 < len(made.x_test) / 301 < 0.27
    pixels = {tuple(x.flatten().tolist()) for x in made.x_train} & {tuple(x.flatten().tolist()) for x in made.x_test}
    assert not pixels
    (tmp_path / "b").rename(tmp_path / "c")  # the split goes by content
    assert folder(tmp_path).sha256 == made.sha256


def test_grey_images_stay_grey_unless_one_is_not(split, tmp_path):
    root = tmp_path / "grey"
    for part in ("train", "test"):
        for name in ("x", "y"):
            image(root / part / name / "0.png", mode="L")
    assert folder(root).shape == (1, 4, 5)
    image(root / "train" / "x" / "1.png")
    assert folder(root).shape == (3, 4, 5)


def test_sizes_that_differ_need_image_size(split):
    root, _ = split
    image(root / "test" / "dog" / "9.png", (20, 10))
    with pytest.raises(UndyingError, match=r"9\.png is 20x10 and .*0\.png 5x4; .*--image-size"):
        folder(root)
    assert folder(root, size=8).shape == (3, 8, 8)


def test_image_size_scales_the_shorter_side_and_keeps_the_middle(tmp_path):
    for part in ("train", "test"):
        for name in ("x", "y"):
            path = tmp_path / part / name / "0.png"
            path.parent.mkdir(parents=True)
            pixels = np.zeros((8, 16), np.uint8)
            pixels[:, 4:12] = 200  # the middle square
            Image.fromarray(pixels).save(path)
    assert folder(tmp_path, size=8).x_train.unique().tolist() == [200]


def test_a_truncated_or_damaged_image_is_named(split):
    root, _ = split
    victim = root / "train" / "dog" / "2.png"
    whole = victim.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        victim.write_bytes(damaged)
        with pytest.raises(UndyingError, match=rf"{victim} cannot be read as an image"):
            folder(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: shutil.rmtree(root / "test"), ["no test folder"]),
        (lambda root: image(root / "test" / "cow" / "0.png"), ["cow"]),
        (lambda root: [f.unlink() for f in root.glob("test/*/*")], ["no images to test", ".png"]),
        (lambda root: [shutil.rmtree(f) for f in root.glob("train/*")], ["no folders of images"]),
        (lambda root: shutil.rmtree(root), ["pets"]),
    ],
)
def test_a_folder_of_something_else_is_named(split, change, words):
    root, _ = split
    change(root)
    with pytest.raises(UndyingError) as error:
        folder(root)
    assert all(word in str(error.value) for word in words), error.value


def stored(root, make, suffix="png", count=3):
    """Both parts, two classes; ``make(label)`` gives what is saved."""
    for part in ("train", "test"):
        for label in (0, 1):
            (root / part / str(label)).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(make(label)).save(root / part / str(label) / f"{i}.{suffix}")
    return root


@pytest.mark.parametrize(
    ("suffix", "dtype", "low", "high"),
    [
        ("png", "uint16", 5000, 60000),
        ("tif", "uint16", 5000, 60000),
        ("tif", "int32", 300, 100000),
        ("tif", "float32", 0, 1),
    ],
)
def test_more_than_eight_bits_keep_their_values(tmp_path, suffix, dtype, low, high):
    made = {0: [], 1: []}

    def make(label):
        made[label].append((low + (high - low) * RANDOM.random((4, 4))).astype(dtype))
        return made[label][-1]

    read = folder(stored(tmp_path / "d", make, suffix))
    assert read.x_train.dtype == torch.float32
    assert read.shape == (1, 4, 4)
    for x, pixels in zip(read.x_train, [*made[0][:3], *made[1][:3]], strict=True):
        assert np.array_equal(x[0].numpy(), pixels.astype("float32"))
    assert folder(tmp_path / "d", size=8).shape == (1, 8, 8)


def test_eight_and_sixteen_bits_together_are_refused(tmp_path):
    root = stored(tmp_path / "d", lambda label: RANDOM.integers(0, 60000, (4, 4)).astype("uint16"))
    image(root / "train" / "0" / "9.png", (4, 4), mode="L")
    with pytest.raises(UndyingError, match=r"more than 8 bits a pixel and \S+9\.png has 8"):
        folder(root)


def drawing(mode):
    """A black line on what is transparent, and black below."""
    shown = np.zeros((4, 4, 4), np.uint8)
    shown[1, :, 3] = 255
    return Image.fromarray(shown, "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            drawing(mode).save(tmp_path / part / label / "0.png")
    read = folder(tmp_path).x_train[0]
    assert read[:, 1].eq(0).all()
    assert read[:, [0, 2, 3]].eq(255).all()


def test_a_camera_held_upright_gives_an_upright_image(tmp_path):
    lying = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            noted = Image.Exif()
            noted[0x0112] = 6  # turned by a quarter
            Image.fromarray(lying).save(tmp_path / part / label / "0.png", exif=noted)
    assert np.array_equal(folder(tmp_path).x_train[0, 0].numpy(), np.rot90(lying, -1))


@pytest.mark.parametrize(
    "parts",
    [("Training", "Testing"), ("Train", "Test"), ("train_set", "test_set"), ("TRN", "tst"), ("train-data", "testdata")],
)
def test_a_split_is_known_by_its_usual_names(split, parts):
    root, _ = split
    wanted = folder(root)
    for old, new in zip(("train", "test"), parts, strict=True):
        (root / old).rename(root / f"_{old}")
        (root / f"_{old}").rename(root / new)
    read = folder(root)
    assert read.names == ("cat", "dog")
    assert read.sha256 == wanted.sha256


def test_a_validation_folder_beside_both_parts_is_not_read(split):
    root, _ = split
    wanted = folder(root)
    image(root / "val" / "cat" / "0.png")
    assert folder(root).sha256 == wanted.sha256


@pytest.mark.parametrize("parts", [("valid", "test"), ("train", "val"), ("Training", "train")])
def test_half_a_split_is_not_taken_for_classes(tmp_path, parts):
    for part in parts:
        for name in ("cat", "dog"):
            image(tmp_path / part / name / "0.png")
    with pytest.raises(UndyingError, match="folder"):
        folder(tmp_path)


def test_sixteen_bits_with_a_transparent_value_are_not_clipped(tmp_path):
    """Pillow goes by way of 8 bits where a PNG names a value that is transparent."""
    pixels = np.array([[0, 300], [40000, 65535]], np.uint16)
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / part / label / "0.png", transparency=300)
    assert folder(tmp_path).x_train[0, 0].tolist() == pixels.tolist()


def test_the_hash_of_ordinary_images_is_that_of_before(tmp_path):
    """It is part of the ids of runs; computed by the version before decoding moved."""
    for part in ("train", "test"):
        for label in range(2):
            for i in range(2):
                (tmp_path / part / str(label)).mkdir(parents=True, exist_ok=True)
                pixels = np.arange(60).reshape(4, 5, 3) * 3 + 11 * label + 5 * i + (part == "test")
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / part / str(label) / f"{i}.png")
    assert folder(tmp_path).sha256 == "936bbb18c81ea7d9b1bb91e42e02e60b7db5eae954796f154742405a9c9729c0"
    assert folder(tmp_path, size=8).sha256 == "4c68c9b6cfa17882ca7186cd878509cb0d3ee8900abf39ae76250bfe271b3f49"
