"""``undying census`` as a gate: planted cases, each of which ends as docs/gate.md says."""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import undying
from undying import cli

NETWORK = """
import torch
from torch import nn

def colour():
    return _net(192)

def grey():
    return _net(64)

def _net(inputs):
    torch.manual_seed(5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        net[1].bias.fill_(20.0)
        net[3].weight.abs_()
    return net

def broken():
    net = grey()
    net[3].weight.data.fill_(float("nan"))
    return net

def tanh():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2))

def idle():
    net = grey()
    net.add_module("auxiliary", nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    net.add_module("again", nn.Sequential(net[2], nn.ReLU()))
    net.add_module("same", net.again[1])
    net.forward = lambda x: net[5](net[4](net[3](net[2](net[1](net[0](x))))))
    return net

def raising():
    net = grey()
    net.forward = lambda x: {}["no such key"]
    return net

def nothing():
    return []

def clamped():
    class Clamped(nn.Module):
        def forward(self, x):
            return x.clamp(min=0)

    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), Clamped(), nn.Linear(16, 2))
"""
RANDOM = np.random.default_rng(0)
GATE = ("--max-dead", "0.1")


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    """A folder with a network of the user's own, to work in, on no machine of GitHub's."""
    (tmp_path / "own_gate_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield
    sys.modules.pop("own_gate_net", None)


def run(*arguments, model="own_gate_net:colour"):
    return cli.main(["census", "--model", model, *arguments])


def saved(tmp_path, place, image=None, **settings):
    """One image of 8x8, in colours unless another is given."""
    path = tmp_path / "pets" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.fromarray(pixels(8, 8, 3))).save(path, **settings)
    return path


def pixels(*shape, dtype="uint8"):
    return RANDOM.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def pets(tmp_path, **images):
    """One image a class, the usual ones and those that are given."""
    saved(tmp_path, "cat/0.png")
    saved(tmp_path, "dog/0.png")
    for name, image in images.items():
        saved(tmp_path, f"dog/{name}.{'tif' if image.mode in ('CMYK', 'I;16') else 'png'}", image)


def of_palette():
    return Image.fromarray(pixels(8, 8, 3)).quantize(4)


IMAGES = {
    "sixteen": lambda: Image.fromarray(pixels(8, 8, dtype="uint16")),
    "grey": lambda: Image.fromarray(pixels(8, 8)),
    "palette": of_palette,
    "cmyk": lambda: Image.frombytes("CMYK", (8, 8), pixels(8, 8, 4).tobytes()),
    "alpha": lambda: Image.fromarray(pixels(8, 8, 4)),
    "bilevel": lambda: Image.fromarray(pixels(8, 8)).convert("1"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_every_kind_of_image_is_counted(tmp_path, capsys, kind):
    pets(tmp_path, **{kind: IMAGES[kind]()})
    assert run("--data", "pets", "--preprocess", "0.5,0.25", *GATE) == 0
    out = capsys.readouterr().out
    assert "counted on 3 samples: all of pets" in out
    assert "preprocessing: numbers, mean 0.5, std 0.25" in out
    assert out.endswith("the gate is passed\n")


def test_sixteen_bits_of_one_folder_are_counted_with_their_values(tmp_path, capsys):
    """A dim ramp and a bright one, which clipping would make the same."""
    for name, start in (("a", 1000), ("b", 40000)):
        ramp = (start + 100 * np.arange(64)).astype(np.uint16).reshape(8, 8)
        saved(tmp_path, f"{name}/0.png", Image.fromarray(ramp))
    for preprocess in ("0,1", "compare"):
        assert run("--data", "pets", "--preprocess", preprocess, "--json", "c.json", model="own_gate_net:grey") == 0
        assert undying.Census.load("c.json").inputs["1"].variance > 0.01
    capsys.readouterr()
    saved(tmp_path, "b/1.png", Image.fromarray(pixels(8, 8)))
    assert run("--data", "pets", "--preprocess", "compare", model="own_gate_net:grey") == 2
    assert "more than 8 bits" in capsys.readouterr().err


def test_a_corrupt_image_is_an_error_that_names_it_and_the_option(tmp_path, capsys):
    pets(tmp_path)
    whole = (tmp_path / "pets" / "cat" / "0.png").read_bytes()
    (tmp_path / "pets" / "cat" / "bad.png").write_bytes(whole[:60])
    arguments = ("--data", "pets", "--preprocess", "0,1", *GATE)
    assert run(*arguments, "--junit", "c.xml") == 2
    error = capsys.readouterr().err
    assert "pets/cat/bad.png cannot be read as an image" in error
    assert "--skip-unreadable leaves such files out" in error
    [case] = ElementTree.parse("c.xml").iter("testcase")
    assert "pets/cat/bad.png" in case.find("error").get("message")
    assert run(*arguments, "--skip-unreadable", "--json", "c.json", "--html", "c.html") == 0
    out = capsys.readouterr().out
    assert "counted on 2 samples: all of pets" in out
    assert "unreadable, left out: 1: pets/cat/bad.png (" in out
    [unreadable] = json.loads((tmp_path / "c.json").read_text())["unreadable"]
    assert unreadable["file"] == "pets/cat/bad.png"
    assert "pets/cat/bad.png" in (tmp_path / "c.html").read_text()


def test_two_sizes_need_an_option(tmp_path, capsys):
    pets(tmp_path)
    saved(tmp_path, "cat/1.png", Image.fromarray(pixels(10, 12, 3)))
    for preprocess in ("0,1", "compare"):
        assert run("--data", "pets", "--preprocess", preprocess, *GATE) == 2
        assert "bring all to one size with --image-size" in capsys.readouterr().err
        assert run("--data", "pets", "--preprocess", preprocess, *GATE, "--image-size", "8") == 0
        assert "counted on 3 samples" in capsys.readouterr().out


def test_folders_in_folders_and_one_image_a_class(tmp_path, capsys):
    for place in ("cat/persian/old/0.png", "dog/0.png", "emu/0.png"):
        saved(tmp_path, place)
    for preprocess in ("0,1", "compare"):
        assert run("--data", "pets", "--preprocess", preprocess, *GATE) == 0
        assert "counted on 3 samples: all of pets" in capsys.readouterr().out


def test_no_image_is_not_passed(tmp_path, capsys):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    for preprocess in ("0,1", "compare"):
        assert run("--data", "pets", "--preprocess", preprocess, *GATE) == 2
        assert "holds no images" in capsys.readouterr().err
    assert run("--data", "own_gate_net:nothing", *GATE) == 2
    assert "no batch" in capsys.readouterr().err


def weights(form, tmp_path):
    """The network with 4 dead units of 24, in a checkpoint of a kind, and what is said of it."""
    import own_gate_net

    net = own_gate_net.grey()
    with torch.no_grad():
        net[1].bias[:4] = -1e6
    state = net.state_dict()
    if form == "safetensors":
        from safetensors.torch import save_file

        save_file(state, "w.safetensors")
        return "w.safetensors", ""
    if form == "DDP":
        torch.save({f"module.{name}": value for name, value in state.items()}, "w.pt")
        return "w.pt", ", names without their wrappers"
    if form == "compiled DDP":
        torch.save({"model": {f"_orig_mod.module.{name}": value for name, value in state.items()}}, "w.pt")
        return "w.pt", ", its 'model', names without their wrappers"
    from timm.utils import CheckpointSaver, ModelEmaV3

    live = own_gate_net.grey()
    saver = CheckpointSaver(
        live,
        torch.optim.SGD(live.parameters()),
        args=argparse.Namespace(model="grey"),
        model_ema=ModelEmaV3(net),
        checkpoint_dir=str(tmp_path),
    )
    saver.save_checkpoint(0)
    return "last.pth.tar", ", its 'state_dict_ema'"


@pytest.mark.parametrize("form", ["DDP", "compiled DDP", "safetensors", "timm's averages"])
def test_checkpoints_of_every_kind_are_counted_and_said(tmp_path, capsys, form):
    name, said = weights(form, tmp_path)
    arguments = ("--data", "random:30,1,8,8", "--checkpoint", name)
    key = ()
    if form == "timm's averages":
        key = ("--checkpoint-key", "state_dict_ema")
        assert run(*arguments, *GATE, model="own_gate_net:grey") == 2
        assert "'state_dict', 'state_dict_ema'; name one with --checkpoint-key" in capsys.readouterr().err
    assert run(*arguments, *key, *GATE, model="own_gate_net:grey") == 1
    out = capsys.readouterr().out
    assert f"weights: {name}{said}\n" in out
    assert "failed: 16.67 % of the units are dead (4 of 24), more than the 10 % of --max-dead" in out


def test_limits_of_sites_a_baseline_and_its_files(tmp_path, capsys):
    name, _ = weights("DDP", tmp_path)
    arguments = ("--data", "random:30,1,8,8", "--checkpoint", name)
    grey = {"model": "own_gate_net:grey"}
    assert run(*arguments, "--max-dead", "0.5", "2=0.25", "4=0", "--max-silent", "*=0.25", **grey) == 0
    assert "passed: limits of single sites: 4" in capsys.readouterr().out
    assert run(*arguments, "--max-dead", "0.5", "*=0", "--junit", "c.xml", "--github", **grey) == 1
    out = capsys.readouterr().out
    assert "::error title=undying census::2: 25.00 %25 of its units are dead (4 of 16), more than the 0 %25" in out
    suite = ElementTree.parse("c.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["1 -> 2"]
    assert run("--data", "random:30,1,8,8", "--json", "old.json", **grey) == 0
    capsys.readouterr()
    assert run(*arguments, "--baseline", "old.json", **grey) == 1
    assert "failed: 2: 4 units are newly silent or dead: 0-3" in capsys.readouterr().out
    assert run("--data", "random:30,1,8,8", "--baseline", "old.json", **grey) == 0
    assert "passed: no unit is newly silent or dead since the baseline, at 2 sites" in capsys.readouterr().out
    other = ("--data", "random:29,1,8,8", "--baseline", "old.json")
    assert run(*other, **grey) == 2
    assert "the baseline saw other data" in capsys.readouterr().err
    assert run(*other, "--other-data", **grey) == 0
    assert "noted: the baseline saw other data" in capsys.readouterr().out


def test_a_model_of_torchvision_gets_its_own_transforms_and_classes(tmp_path, capsys):
    import torchvision

    for place in ("cat/0.png", "dog/0.png"):
        saved(tmp_path, place, Image.fromarray(pixels(50, 60, 3)))
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), "w.pt")
    arguments = ("--data", "pets", "--checkpoint", "w.pt", "--image-size", "32", "--max-dead", "1")
    assert run(*arguments, model="torchvision:resnet18") == 2
    assert "--classes gives the network another number" in capsys.readouterr().err
    assert run(*arguments, "--classes", "3", model="torchvision:resnet18") == 0
    out = capsys.readouterr().out
    assert (
        "preprocessing: torchvision's of ResNet18_Weights.IMAGENET1K_V1, resized to 37, cropped to 32, mean 0.485,"
        in out
    )


def test_a_certificate_for_every_image_that_the_preprocessing_can_give(tmp_path, capsys):
    name, _ = weights("DDP", tmp_path)
    saved(tmp_path, "cat/0.png", Image.fromarray(pixels(8, 8)))
    arguments = ("--data", "pets", "--checkpoint", name)
    assert run(*arguments, "--preprocess", "0.5,0.25", "--certify", "c.json", model="own_gate_net:grey") == 0
    certificate = undying.Certificate.load("c.json")
    assert certificate.box.shape == (1, 1, 8, 8)
    assert [float(end) for end in (certificate.box.low.min(), certificate.box.high.max())] == pytest.approx(
        [-2, 2], rel=1e-4
    )
    assert certificate["2"].dead.nonzero().flatten().tolist() == [0, 1, 2, 3]
    by_method = ("--preprocess", "0.5,0.25", "--method", "forward", "--certify", "d.json")
    assert run(*arguments, *by_method, model="own_gate_net:grey") == 0
    assert undying.Certificate.load("d.json").model.endswith(".forward")
    capsys.readouterr()
    assert run("--data", "random:3,1,8,8", "--certify", "c.json", model="own_gate_net:grey") == 2
    assert "--certify needs images whose preprocessing says what range" in capsys.readouterr().err


def test_the_name_of_a_file_gives_no_orders(tmp_path, capsys):
    """GitHub's runner obeys each line that begins with two colons."""
    pets(tmp_path)
    (tmp_path / "pets" / "cat" / "\n::stop-commands::x\n.png").write_bytes(b"")
    saved(tmp_path, "cat/\r::error::forged\u2028::error::forged.png", Image.fromarray(pixels(9, 9, 3)))
    arguments = ("--data", "pets", "--preprocess", "0,1", "--github", *GATE)
    ends = [(run(*arguments, *options), capsys.readouterr().out) for options in ([], ["--skip-unreadable"])]
    assert [status for status, _ in ends] == [2, 2]
    ends.append((run(*arguments, "--skip-unreadable", "--image-size", "8"), capsys.readouterr().out))
    assert ends[-1][0] == 0
    for _, out in ends:
        orders = [line for line in re.split(r"[\n\r\u2028]", out) if line.lstrip().startswith("::")]
        assert orders
        assert all(re.match("::(error|warning|notice) title=undying census::", line) for line in orders)


def test_activations_that_are_never_called_are_named(capsys):
    data = ("--data", "random:20,1,8,8")
    assert run(*data, model="own_gate_net:idle") == 0
    assert "never called on these data, so not counted: auxiliary.1, again.1\n" in capsys.readouterr().out
    assert run(*data, *GATE, model="own_gate_net:idle") == 2
    assert "auxiliary.1 was never called on these data" in capsys.readouterr().err
    assert run(*data, *GATE, "--allow-uncalled", model="own_gate_net:idle") == 0


@pytest.mark.parametrize("option", ["--json", "--html", "--junit", "--certify"])
def test_no_other_file_is_overwritten(option, tmp_path, capsys):
    (tmp_path / "own.py").write_text("mine")
    assert run("--data", "random:20,1,8,8", option, "own.py", model="own_gate_net:grey") == 2
    assert "own.py is there and is no ." in capsys.readouterr().err
    assert (tmp_path / "own.py").read_text() == "mine"


def test_the_workflow_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """As it stands: a passing network, and one that lost units since its baseline."""
    page = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    [step] = [step for step in workflow["jobs"]["census"]["steps"] if step.get("name") == "count dead units"]
    words = shlex.split(step["run"])
    (tmp_path / "mypackage").mkdir()
    build = "def build():\n    return nn.Sequential(OrderedDict(features=_features(), flat=nn.Flatten(), head=nn.Linear(72, 2)))"
    features = "def _features():\n    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=21), nn.ReLU())"
    head = "from collections import OrderedDict\nfrom torch import nn"
    (tmp_path / "mypackage" / "models.py").write_text("\n".join([head, features, build]))
    saved(tmp_path, "a/0.png")
    saved(tmp_path, "b/0.png")
    (tmp_path / "tests").mkdir()
    (tmp_path / "pets").rename(tmp_path / "tests" / "images")
    (tmp_path / "weights").mkdir()
    import mypackage.models
    from safetensors.torch import save_file

    net = mypackage.models.build()
    torch.nn.init.constant_(net.features[0].bias, 9.0)
    save_file(net.state_dict(), "weights/model.safetensors")
    baseline = words[words.index("--data") : words.index("--max-dead")]
    network = words[2 : words.index("--data")]
    assert cli.main(["census", *network, *baseline, "--json", "weights/census.json"]) == 0
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    capsys.readouterr()
    assert cli.main(words[1:]) == 0
    assert "::notice title=undying census::within the limits\n" in capsys.readouterr().out
    with torch.no_grad():
        net.features[0].bias[3] = -1e6
    save_file(net.state_dict(), "weights/model.safetensors")
    assert cli.main(words[1:]) == 1
    assert "::error title=undying census::features.1: 1 units are newly silent or dead: 3\n" in capsys.readouterr().out
    assert all((tmp_path / f"census.{suffix}").exists() for suffix in ("json", "html", "xml"))
    for name in ("mypackage", "mypackage.models"):
        sys.modules.pop(name)


@pytest.mark.parametrize("option", ["--json", "--html", "--junit", "--certify"])
@pytest.mark.parametrize("kept", ["--baseline", "--checkpoint"])
def test_no_file_that_is_read_is_overwritten(tmp_path, capsys, option, kept):
    """Not by the verdict on that very mistake either."""
    (tmp_path / "kept").write_text("as it was")
    assert run("--data", "random:20,1,8,8", kept, "kept", option, "./kept", model="own_gate_net:grey") == 2
    assert "kept is named for two files" in capsys.readouterr().err
    assert (tmp_path / "kept").read_text() == "as it was"


def test_on_github_a_mistake_is_an_annotation_too(monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run("--data", "none/", *GATE) == 2
    assert "::error title=undying census::there is no folder none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-dead",), "--max-dead needs a share"),
        (("--max-dead", "nan"), "--max-dead is a share from 0 to 1"),
        (("--max-silent", "2=1.5"), "--max-silent is a share from 0 to 1"),
        (("--max-dead", "0.1", "0.2"), "two shares for all units"),
        (("--max-dead", "0.1", "--max-dead", "2=0.2"), "--max-dead is given twice"),
        (("--max-dead", "0.1", "--max_dead=0.9"), "--max-dead is given twice"),
        (("--max-dead", "features.*=0.1"), "'features.*=0.1' matches no counted site; sites: 2, 4"),
        (("--baseline", "none.json"), "--baseline none.json cannot be read"),
        (("--baseline", "own_gate_net.py"), "--baseline own_gate_net.py does not hold a census"),
        (("--json", "a.json", "--baseline", "a.json"), "a.json is named for two files"),
        (("--json", "a", "--html", "./a"), "a is named for two files"),
        (("--other-data",), "--other-data is about a --baseline"),
        (("--checkpoint-key", "model"), "--checkpoint-key names weights of a --checkpoint"),
        (("--model", "own_gate_net:broken", "--max-dead", "1"), "pre-activations of 8 units are infinite or NaN"),
        (("--model", "own_gate_net:raising", "--max-dead", "1"), "KeyError: 'no such key'"),
        (("--max-dead", "2=0", "*=1"), "--max-dead '2=0' has no effect, as later patterns match all its sites"),
        (("--model", "own_gate_net:tanh", "--max-silent", "1"), "silent is not said of 2"),
        (("--model", "own_gate_net:clamped", "--max-silent", "1"), "not recognised, so not counted: 4.clamp"),
        (("--model", "own_gate_net:grey", "--classes", "3"), "has no parameter classes, num_classes or outputs"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(capsys, arguments, message):
    network = () if "--model" in arguments else ("--model", "own_gate_net:grey")
    assert cli.main(["census", *network, "--data", "random:20,1,8,8", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("undying: ")
    assert error.count("\n") == 1
