"""What a network is counted on: every image once, decoded as it was meant."""

import numpy as np
import pytest
import torch
from PIL import Image

from undying._base.errors import UndyingError
from undying.lab import data
from undying.lab.data.folder import folder
from undying.probe.data import ProbeOptions, probe

RANDOM = np.random.default_rng(0)


def bytes_of(*shape):
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def saved(image, path, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **settings)


def read(root, preprocess="0,1", **options):
    """All images as one tensor, and what is said of them."""
    found = probe(ProbeOptions(str(root), preprocess=preprocess, **options), "mine:net")
    batches = list(found.batches)
    assert len(batches) == found.length
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert tuple(x.shape[1:]) == found.shape
    order = y.argsort(stable=True)  # else those first that a hash takes for training
    return x[order], y[order], found


def palette():
    colours, indices = bytes_of(4, 3), RANDOM.integers(0, 4, (5, 6)).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    return image, colours[indices]


def alpha():
    pixels = bytes_of(5, 6, 4)
    pixels[..., 3] = RANDOM.choice([0, 255], (5, 6))
    return Image.fromarray(pixels), np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])


def cmyk():
    """Pure inks: cyan swallows red, and so on; black swallows all."""
    inks = (RANDOM.random((5, 6, 4)) < 0.3).astype(np.uint8) * 255
    shown = 255 - np.maximum(inks[..., :3], inks[..., 3:])
    return Image.frombytes("CMYK", (6, 5), inks.tobytes()), shown


def bilevel():
    shown = RANDOM.choice([0, 255], (5, 6)).astype(np.uint8)
    return Image.fromarray(shown).convert("1", dither=Image.Dither.NONE), np.stack([shown] * 3, -1)


CASES = {"palette": (palette, "png"), "alpha": (alpha, "png"), "CMYK": (cmyk, "tif"), "bilevel": (bilevel, "png")}


@pytest.mark.parametrize("case", CASES)
def test_images_of_every_kind_show_what_they_show(tmp_path, case):
    make, suffix = CASES[case]
    made = [make() for _ in range(2)]
    for i, (image, _) in enumerate(made):
        saved(image, tmp_path / "pets" / "ab"[i] / f"0.{suffix}")
    x, y, _ = read(tmp_path / "pets")
    truth = torch.tensor(np.stack([shown for _, shown in made])).permute(0, 3, 1, 2)
    assert torch.equal(x, truth.float() / 255)
    assert y.tolist() == [0, 1]
    as_compare = folder(tmp_path / "pets", whole=True)
    assert torch.equal(as_compare.x_test[as_compare.y_test.argsort()], truth)


def test_grey_images_are_of_one_channel_unless_one_is_coloured(tmp_path):
    shown = [bytes_of(5, 6), bytes_of(5, 6)]
    for name, pixels in zip("ab", shown, strict=True):
        saved(Image.fromarray(pixels), tmp_path / "grey" / name / "0.png")
    truth = torch.tensor(np.stack(shown)).unsqueeze(1).float() / 255
    assert torch.equal(read(tmp_path / "grey")[0], truth)
    assert torch.equal(read(tmp_path / "grey", "0,0,0,1,1,1")[0], truth.expand(-1, 3, -1, -1))
    saved(Image.fromarray(bytes_of(5, 6, 3)), tmp_path / "grey" / "b" / "1.png")
    assert torch.equal(read(tmp_path / "grey")[0][:2], truth.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 30).astype(np.uint16).reshape(5, 6)
    eight = bytes_of(5, 6)
    image = Image.fromarray(ramp)
    saved(image.convert("I") if suffix == "pgm" else image, tmp_path / "deep" / "a" / f"0.{suffix}")
    saved(Image.fromarray(eight), tmp_path / "deep" / "b" / "0.png")  # beside 8 bits, as both have a white
    x, _, _ = read(tmp_path / "deep", "0.5,0.25")
    assert torch.allclose(x[0, 0], (torch.tensor(ramp.astype(np.float32)) / 65535 - 0.5) / 0.25, atol=1e-6)
    assert torch.allclose(x[1, 0], (torch.tensor(eight) / 255 - 0.5) / 0.25, atol=1e-6)
    x, _, _ = read(tmp_path / "deep", "tests_own_preprocess:as_is")
    assert torch.equal(x[0, 0], torch.tensor((ramp / 257).round()).float())


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    """A preprocessing of the user's own: of an image as Pillow has it."""
    import sys
    import types

    module = types.ModuleType("tests_own_preprocess")
    module.as_is = lambda image: torch.tensor(np.array(image)).permute(2, 0, 1).float()
    module.whole_numbers = lambda image: torch.tensor(np.array(image))
    module.broken = lambda image: image.no_such_thing
    monkeypatch.setitem(sys.modules, "tests_own_preprocess", module)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_pixels_without_a_known_white_are_refused(tmp_path, dtype):
    saved(Image.fromarray(np.full((4, 4), 7, dtype)), tmp_path / "deep" / "a" / "0.tif")
    saved(Image.fromarray(np.full((4, 4), 70, dtype)), tmp_path / "deep" / "b" / "0.tif")
    for preprocess in ("0,1", "tests_own_preprocess:as_is"):
        with pytest.raises(
            UndyingError, match=r"a/0\.tif has .* pixels, and nothing says which value is white; .*compare"
        ):
            read(tmp_path / "deep", preprocess)
    assert len(read(tmp_path / "deep", "compare")[0]) == 2


def pets(path, count=26, size=(5, 6)):
    shown = [bytes_of(*size, 3) for _ in range(count)]
    for i, pixels in enumerate(shown):
        saved(Image.fromarray(pixels), path / "ab"[i % 2] / f"{i:02}.png")
    return shown


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_every_image_is_counted_once(tmp_path, preprocess):
    pets(tmp_path / "pets")
    x, y, found = read(tmp_path / "pets", preprocess, batch_size=8)
    assert len(x.unique(dim=0)) == len(x) == 26
    assert y.bincount().tolist() == [13, 13]
    assert (found.source, found.classes) == (f"all of {tmp_path / 'pets'}", 2)
    train, test = (read(tmp_path / "pets", preprocess, split=part)[0] for part in ("train", "test"))
    assert len(test) == len(data.load(str(tmp_path / "pets")).x_test) > 0
    assert len(torch.cat([train, test]).unique(dim=0)) == len(train) + len(test) == 26


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_every_part_of_a_split_folder_is_counted(tmp_path, preprocess):
    root = tmp_path / "split"
    for part, count in (("train", 6), ("test", 4), ("val", 2)):
        pets(root / part, count)
    assert len(read(root, preprocess)[0].unique(dim=0)) == 12
    assert len(read(root, preprocess, split="train")[0]) == 6
    assert len(read(root, preprocess, split="test")[0]) == 4


def test_a_limit_is_spread_over_all_classes(tmp_path):
    pets(tmp_path / "pets", 20)
    for preprocess in ("0,1", "compare"):
        _, y, found = read(tmp_path / "pets", preprocess, limit=4)
        assert y.tolist() == [0, 0, 1, 1]
        assert found.source == f"4 of the 20 in all of {tmp_path / 'pets'}"


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_images_in_folders_of_folders_and_without_classes_are_counted(tmp_path, preprocess):
    shown = bytes_of(5, 6, 3)
    for place in ("a/x/y/0.png", "a/1.png", "b/2.png"):
        saved(Image.fromarray(shown), tmp_path / "nested" / place)
    (tmp_path / "nested" / "b" / "notes.txt").write_text("x")
    saved(Image.fromarray(shown), tmp_path / "nested" / "stray.png")
    _, y, found = read(tmp_path / "nested", preprocess)
    assert y.tolist() == [0, 0, 1]
    stray = tmp_path / "nested" / "stray.png"
    assert found.passed_over == (f"images in no folder of a class: 1, such as {stray}", "other files: 1 .txt")
    saved(Image.fromarray(shown), tmp_path / "flat" / "0.png")
    saved(Image.fromarray(bytes_of(5, 6, 3)), tmp_path / "flat" / "1.png")
    x, _, found = read(tmp_path / "flat", preprocess)
    assert (len(x), found.labelled, found.passed_over) == (2, False, ())


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_files_that_cannot_be_read_are_named_or_left_out(tmp_path, preprocess):
    pets(tmp_path / "pets", 6)
    whole = (tmp_path / "pets" / "a" / "00.png").read_bytes()
    broken = [tmp_path / "pets" / "a" / "x.png", tmp_path / "pets" / "b" / "y.jpg"]
    broken[0].write_bytes(whole[: len(whole) // 2])
    broken[1].write_bytes(b"")
    with pytest.raises(UndyingError, match=r"/(a/x\.png|b/y\.jpg) cannot be read as an image, .*; --skip-unreadable"):
        read(tmp_path / "pets", preprocess)
    x, _, found = read(tmp_path / "pets", preprocess, skip_unreadable=True)
    assert len(x) == 6
    assert {file for file, reason in found.unreadable if reason} == set(map(str, broken))


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_a_folder_of_nothing_that_can_be_read_is_an_error(tmp_path, preprocess):
    for name in "ab":
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "0.png").write_bytes(b"text")
    with pytest.raises(UndyingError, match="holds no images"):
        read(tmp_path / "bad", preprocess, skip_unreadable=True)


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_two_sizes_need_image_size(tmp_path, preprocess):
    pets(tmp_path / "pets", 4)
    pets(tmp_path / "pets" / "b" / "more", 2, (9, 12))
    with pytest.raises(UndyingError, match=r"is 12x9 and .* 6x5; bring all to one size with --image-size"):
        read(tmp_path / "pets", preprocess)
    assert read(tmp_path / "pets", preprocess, image_size=4)[0].shape == (6, 3, 4, 4)


def test_preprocessing_of_ones_own_decides_the_size(tmp_path):
    pets(tmp_path / "pets", 4)
    x, _, found = read(tmp_path / "pets", "tests_own_preprocess:as_is")
    assert torch.equal(x, read(tmp_path / "pets")[0].mul(255).round())
    assert found.scale is None
    pets(tmp_path / "pets" / "b" / "more", 2, (9, 12))
    with pytest.raises(UndyingError, match="as_is must bring all to one size"):
        read(tmp_path / "pets", "tests_own_preprocess:as_is")
    for name, match in (("whole_numbers", "floating point tensor"), ("broken", "no_such_thing"), ("none", "none")):
        with pytest.raises(UndyingError, match=match):
            read(tmp_path / "pets", f"tests_own_preprocess:{name}")
    with pytest.raises(UndyingError, match="--image-size does not go with --preprocess"):
        read(tmp_path / "pets", "tests_own_preprocess:as_is", image_size=8)


def test_images_of_a_data_set_in_memory():
    digits = data.load("digits")
    x, _, found = read("digits", "0.5,0.25")
    order = torch.cat([digits.y_train, digits.y_test]).argsort(stable=True)
    truth = (torch.cat([digits.x_train, digits.x_test])[order].float() / 255 - 0.5) / 0.25
    assert torch.allclose(x, truth, atol=1e-6)
    assert found.scale == ((0.5,), (0.25,), (0.0, 1.0))
    assert len(read("digits", "")[0]) == len(truth)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"data": "random:4,3", "limit": 2}, "--limit does not go with --data random:4,3"),
        ({"data": "random:4,3", "split": "test"}, "--split does not go"),
        ({"data": "random:4,3", "preprocess": "imagenet"}, "--preprocess does not go"),
        ({"data": "digits", "skip_unreadable": True}, "--skip-unreadable does not go with --data digits"),
        ({"data": ""}, "unknown --data ''"),
        ({"split": "tset"}, "--split must be one of all, train, test"),
        ({"limit": -1}, "--limit"),
        ({"preprocess": "imagnet"}, "unknown --preprocess 'imagnet'"),
        ({"preprocess": "0.5"}, "must be a mean and a standard deviation"),
        ({"preprocess": "0.5,0"}, "above 0"),
        ({"preprocess": "nan,1"}, "must be a mean"),
        ({"preprocess": "0.5,0.5,0.5,0.5"}, "three of each"),
        ({"preprocess": "timm"}, "--model mine:net is none of timm"),
        ({"preprocess": "torchvision:Nothing"}, "torchvision has no weights 'Nothing'"),
        ({"preprocess": "timm:nothing"}, "nothing"),
    ],
)
def test_what_would_go_unheard_is_refused(options, match):
    with pytest.raises(UndyingError, match=match):
        probe(ProbeOptions(**options), "mine:net")


@pytest.mark.parametrize("preprocess", ["0,1", "compare"])
def test_links_that_lead_nowhere_are_no_images_and_linked_folders_are_named(tmp_path, preprocess):
    root = tmp_path / "pets"
    pets(root, 4)
    (root / "c").symlink_to(root / "a")  # a class of its own
    assert len(read(root, preprocess)[0]) == 6
    (root / "a" / "again").symlink_to(root)
    _, _, found = read(root, preprocess)
    assert [said.split(":")[0] for said in found.passed_over] == ["linked folders, which are not followed"]
    assert str(root / "a" / "again") in found.passed_over[0]
    (root / "a" / "gone.png").symlink_to(tmp_path / "none.png")
    with pytest.raises(UndyingError, match=r"gone\.png cannot be read .*--skip-unreadable"):
        read(root, preprocess)
    x, _, found = read(root, preprocess, skip_unreadable=True)
    assert (len(x), len(found.unreadable)) == (6, 2)  # by both ways to it


def test_the_first_frame_of_several_is_counted(tmp_path):
    frames = [bytes_of(5, 6, 3) for _ in range(2)]
    first, second = map(Image.fromarray, frames)
    saved(first, tmp_path / "pets" / "a" / "0.tif", save_all=True, append_images=[second])
    x, _, _ = read(tmp_path / "pets")
    assert torch.equal(x, torch.tensor(frames[0]).permute(2, 0, 1).unsqueeze(0) / 255)
