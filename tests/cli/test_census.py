"""``undying census`` from end to end."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image

import undying
from undying import cli

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 10))

class Odd(nn.Module):
    def forward(self, x):
        return torch.relu(torch.einsum("nab->bna", x))

def odd():
    return Odd()

class Clamped(nn.Module):
    def forward(self, x):
        return x.clamp(min=0)

def clamped():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), Clamped(), nn.Linear(16, 10))

class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.act = nn.Sequential(nn.Linear(1, 2), nn.ReLU()), nn.ReLU()

    def forward(self, x):
        return self.act(x).sum(1) + self.lin(x[:, :1]).sum(1)

def uneven():
    return Uneven()

def sizes():
    return [torch.ones(2, 3), torch.ones(2, 4)]

def batches():
    return [(torch.ones(3, 64), torch.zeros(3, dtype=torch.long)), torch.ones(2, 64)]
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A folder with a network of the user's own, to work in."""
    (tmp_path / "own_census_net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("own_census_net", None)


def run(*arguments):
    return cli.main(["census", *arguments])


def checkpoint(path, dead):
    import own_census_net

    net = own_census_net.build()
    with torch.no_grad():
        net[1].bias.fill_(20.0)
        net[1].bias[dead] = -1e6
    torch.save({"state_dict": net.state_dict()}, path)
    return net


def test_a_checkpoint_passes_the_gate_or_does_not(own, capsys):
    net = checkpoint(own / "w.pt", [1, 2, 9])
    arguments = ("--model", "own_census_net:build", "--checkpoint", "w.pt", "--json", "c.json", "--html", "c.html")
    assert run(*arguments, "--max-dead", "0.2") == 0
    assert "passed: 18.75 % of the units are dead (3 of 16), within the 20 % of --max-dead" in capsys.readouterr().out
    assert run(*arguments, "--max-dead", "0.1") == 1
    assert "more than the 10 % of --max-dead" in capsys.readouterr().out
    counted = undying.Census.load(own / "c.json")
    assert counted["2"].dead.nonzero().flatten().tolist() == [1, 2, 9]
    assert counted["2"].samples == 1797  # all of digits
    assert "w.pt" in (own / "c.html").read_text()
    expected = undying.census(net, undying_digits())
    assert counted.probe == expected.probe
    assert torch.equal(counted["2"].fired, expected["2"].fired)


def test_the_gate_is_not_passed_by_what_is_not_recognised(own, capsys):
    arguments = ("--model", "own_census_net:clamped", "--json", "c.json", "--max-dead", "1")
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert "4.clamp: not recognised, so not counted: clamp, " in out
    assert "--max-dead cannot be judged: not recognised, so not counted: 4.clamp (clamp, " in error
    assert run(*arguments, "--allow-unrecognised") == 0
    assert list(undying.Census.load(own / "c.json").unrecognised) == ["4.clamp"]
    assert run(*arguments, "--skip", "4.clamp") == 0


def undying_digits():
    from undying.lab import data

    digits = data.load("digits")
    parts = ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test))
    return [(digits.standardised(x), y) for x, y in parts]


def test_data_of_every_kind(own, capsys):
    assert run("--model", "mlp", "--limit", "50", "--gradients") == 0
    assert "linear6 -> act6  ReLU    128  50" in capsys.readouterr().out
    assert run("--model", "mlp", "--split", "train", "--limit", "70", "--batch-size", "32") == 0
    assert "128  70" in capsys.readouterr().out
    assert run("--model", "own_census_net:build", "--data", "random:30,64") == 0
    assert "ReLU     16  30" in capsys.readouterr().out
    assert run("--model", "own_census_net:build", "--data", "own_census_net:batches") == 0
    assert "ReLU     16  5" in capsys.readouterr().out


def test_every_image_of_a_folder_is_counted(own, capsys):
    """Nothing is held out for a test where nothing is trained, unless it is asked for."""
    pixels = torch.Generator().manual_seed(0)
    for i in range(26):
        path = own / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 8 + i % 3
        image = torch.randint(0, 256, (side, side), generator=pixels, dtype=torch.uint8)
        Image.fromarray(image.numpy()).save(path)
    arguments = ("--model", "own_census_net:build", "--data", "pets", "--max-dead", "1")
    assert run(*arguments) == 2
    assert "bring all to one size with --image-size" in capsys.readouterr().err
    assert run(*arguments, "--image-size", "8", "--json", "c.json") == 0
    assert "counted on 26 samples: all of pets" in capsys.readouterr().out
    assert undying.Census.load(own / "c.json")["2"].samples == 26
    assert run(*arguments, "--image-size", "8", "--limit", "7") == 0
    assert "counted on 7 samples: 7 of the 26 in all of pets" in capsys.readouterr().out
    assert run(*arguments, "--image-size", "8", "--split", "train") == 0
    assert "counted on 22 samples: the training part of pets" in capsys.readouterr().out
    for part in ("train", "test"):
        shutil.copytree(own / "pets", own / "split" / part)
    split = ("--model", "own_census_net:build", "--data", "split", "--image-size", "8")
    for part, counted in (
        ("all", "52 samples: all"),
        ("test", "26 samples: the test part"),
        ("train", "26 samples: the training part"),
    ):
        assert run(*split, "--split", part) == 0
        assert f"counted on {counted} of split" in capsys.readouterr().out
    assert run("--model", "own_census_net:build", "--image-size", "8") == 2
    assert "--image-size does not go with --data digits, which is no folder of images" in capsys.readouterr().err


def test_the_gate_asks_for_what_left_by_itself(capsys):
    arguments = ("--model", "own_census_net:uneven", "--data", "own_census_net:sizes", "--max-dead", "1")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "act (its input had 3 units in one batch and 4 in another) not counted; --skip" in error
    assert run(*arguments, "--skip", "act") == 0
    assert "act: left out, skipped" in capsys.readouterr().out
    assert run(*arguments, "--skip", "nope") == 2
    assert "skip='nope' matches no site; sites: lin.1, act" in capsys.readouterr().err


def test_three_images_are_enough(own, capsys):
    """However a hash would part them."""
    for label, shade in (("a", 0), ("a", 60), ("b", 120)):
        (own / "few" / label).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), shade).save(own / "few" / label / f"{shade}.png")
    assert run("--model", "own_census_net:build", "--data", "few") == 0
    assert "counted on 3 samples: all of few" in capsys.readouterr().out


def test_torchvision_networks(capsys):
    assert run("--model", "torchvision:resnet18", "--data", "random:2,3,64,64") == 0
    out = capsys.readouterr().out
    assert "layer4.1.relu#2" in out
    assert run("--model", "torchvision:resnet18", "--data", "random:2,3,64,64") == 0
    assert capsys.readouterr().out == out  # the same weights and data again


def test_an_axis_can_be_named(capsys):
    assert run("--model", "own_census_net:odd", "--data", "random:4,5,6") == 0
    assert "relu: not counted" in capsys.readouterr().out
    assert run("--model", "own_census_net:odd", "--data", "random:4,5,6", "--axes", "relu=0") == 0
    assert "ReLU      6  4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nope:build"), "nope"),
        (("--model", "own_census_net:build", "--data", "random:x"), "random:256,3,64,64"),
        (("--model", "own_census_net:build", "--data", "random:3,5"), "own_census_net:build on random:3,5"),
        (("--model", "own_census_net:build", "--data", "random:3,64", "--gradients"), "--gradients needs labels"),
        (("--model", "mlp", "--data", "random:3,64"), "made for a data set"),
        (("--model", "own_census_net:build", "--checkpoint", "none.pt"), "cannot read checkpoint none.pt"),
        (("--model", "own_census_net:build", "--max-dead", "5"), "share from 0 to 1"),
        (("--model", "own_census_net:build", "--tau", "-1"), "--tau"),
        (("--model", "own_census_net:build", "--batch-size", "0"), "--batch-size"),
        (("--model", "own_census_net:smooth", "--max-dead", "0.1"), "dead is unknown at 2; give --gradients"),
        (("--model", "own_census_net:odd", "--data", "random:4,5,6", "--max-dead", "0.1"), "relu not counted"),
        (("--model", "own_census_net:build", "--axes", "relu"), "site=axis"),
        (("--model", "own_census_net:build", "--axes", "nope=1"), "'nope', which is no site"),
        (("--model", "own_census_net:build", "--json", "no/such/folder.json"), "cannot write no/such/folder.json"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("undying: ")
    assert "Traceback" not in error


def test_json_is_plain(own):
    checkpoint(own / "w.pt", [0])
    run("--model", "own_census_net:build", "--checkpoint", "w.pt", "--json", "c.json")
    assert json.loads((own / "c.json").read_text())["sites"][0]["dead"][0] is True


def test_outputs_and_a_method_are_counted(own, capsys):
    (own / "own_census_net.py").write_text(
        f"""{NETWORK}

class Latents(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(64, 24)
        nn.init.constant_(self.lin.bias[:5].data, -1e6)

    def encode(self, x):
        top = torch.topk(self.lin(x.flatten(1)), 4)
        return torch.zeros(len(x), 24).scatter(-1, top.indices, torch.relu(top.values))
"""
    )
    options = ("--model", "own_census_net:Latents", "--data", "random:40,64", "--method", "encode", "--skip", "relu")
    assert run(*options, "--outputs", "encode", "--json", "census.json") == 0
    assert undying.Census.load("census.json")["encode"].silent[:5].all()
    assert run(*options, "--outputs", "decode") == 2
    assert "outputs names 'decode'" in capsys.readouterr().err


def test_examples_and_another_census_on_the_page(own, capsys):
    assert run("--model", "own_census_net:build", "--json", "before.json", "--seed", "1") == 0
    arguments = ["--model", "own_census_net:build", "--examples", "4", "--html", "census.html", "--json", "now.json"]
    assert run(*arguments, "--beside", "before.json") == 0
    page = (own / "census.html").read_text()
    found = undying.Census.load(own / "now.json")
    assert found.examples.number == 4
    wanted = {n for name, of in found.examples.items() for n in of.most.flatten().tolist()}
    drawn = {int(word.split('"')[0]) for word in page.split('<use href="#sample-')[1:]}
    assert drawn & wanted
    assert "0 units died and 0 revived" in page
    assert "Both are of the same weights." in page
    assert run(*arguments, "--examples-of", "2=3,5") == 0
    of = found.examples["2"]
    ends = {*of.most[[3, 5]].flatten().tolist(), *of.least[[3, 5]].flatten().tolist()}
    page = (own / "census.html").read_text()
    assert {int(word.split('"')[0]) for word in page.split('<use href="#sample-')[1:]} == ends


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--examples", "4"], "--examples go into a file; give --html or --json"),
        (["--examples", "-1", "--html", "c.html"], "--examples is a number of samples, at least 0"),
        (["--examples-of", "2=1", "--html", "c.html"], "--examples-of says which units a page shows"),
        (["--examples", "2", "--html", "c.html", "--examples-of", "2"], "'2' must be site=units, such as act=3,17"),
        (["--examples", "2", "--html", "c.html", "--examples-of", "9=1"], "no site '9'; sites with examples: 2"),
        (["--examples", "2", "--html", "c.html", "--examples-of", "2=16"], "2 has units 0 to 15, and no 16"),
        (["--beside", "there.json"], "--beside is shown on a page; give --html too"),
        (["--beside", "none.json", "--html", "c.html"], "--beside none.json cannot be read: No such file"),
        (["--beside", "there.json", "--html", "c.html"], "--beside there.json: the censuses have different sites"),
        (["--beside", "there.json", "--html", "c.html", "--limit", "9"], "different data"),
        (["--data", "own_census_net:changing", "--examples", "2", "--html", "c.html"], "gave other samples"),
    ],
)
def test_what_a_page_cannot_show_is_said_by_name(own, capsys, options, said):
    (own / "own_census_net.py").write_text(
        NETWORK + "\ncalls = []\ndef changing():\n    calls.append(1)\n    return [torch.ones(3, 64) * len(calls)]\n"
    )
    assert run("--model", "own_census_net:clamped", "--json", "there.json") == 0
    content = json.loads((own / "there.json").read_text())
    content["sites"] = content["sites"] * 2
    content["sites"][1] = {**content["sites"][1], "name": "other"}
    (own / "there.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert run("--model", "own_census_net:build", *options) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (own / "c.html").exists()


ROUTER = """
import torch
import undying
from torch import nn

class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(64, 24)
        nn.init.constant_(self.lin.bias[:5].data, -1e6)

    def route(self, x):
        top = torch.topk(torch.relu(self.lin(x)), 4)
        return top.values, top.indices

    def forward(self, x):
        values, indices = self.route(x)
        return torch.relu(values) @ torch.ones(4, 2) + 0 * x[:, :1]

class Jump(Router):
    def route(self, x):
        h = self.lin(x)
        return h * (h > 0.3)

    def forward(self, x):
        return self.route(x) @ torch.ones(24, 2)

def units(out):
    return undying.Indexed(*out, units=24)

def wrong(out):
    return out[0]
"""


def test_a_function_takes_units_out_of_an_output_and_what_it_counts_is_judged(own, capsys):
    (own / "own_census_net.py").write_text(ROUTER)
    options = ("--model", "own_census_net:Router", "--data", "random:40,64", "--json", "c.json")
    assert run(*options, "--outputs", "route") == 2
    error = capsys.readouterr().err
    assert "undying.Indexed(out[0], out[1], units=...)" in error
    assert "--outputs NAME=package.module:function names such a function" in error
    assert run(*options, "--outputs", "route=own_census_net:wrong") == 2
    assert "a rank is no unit" in capsys.readouterr().err
    assert run(*options, "--outputs", "route=own_census_net:nothing") == 2
    assert "--outputs route= 'own_census_net:nothing'" in capsys.readouterr().err
    assert run(*options, "--outputs", "route=own_census_net:units", "--max-silent", "route=0.5") == 2
    assert "relu#2 (its input is picked by a sort, topk or max" in capsys.readouterr().err  # behind the output
    named = ("--outputs", "route=own_census_net:units", "--skip", "relu#2")
    assert run(*options, *named, "--max-silent", "route=0.5") == 0
    assert run(*options, *named, "--max-silent", "route=0.1") == 1
    site = undying.Census.load("c.json")["route"]
    assert site.silent[:5].all()
    assert site.units == 24


def test_what_leads_to_an_output_does_not_keep_it_from_being_judged(own, capsys):
    (own / "own_census_net.py").write_text(ROUTER)
    options = ("--model", "own_census_net:Jump", "--data", "random:40,64")
    assert run(*options, "--max-silent", "0.5") == 2
    assert run(*options, "--outputs", "route", "--max-silent", "0.5") == 0
    assert run(*options, "--outputs", "route", "--max-silent", "0.1") == 1
    assert "(5 of 24)" in capsys.readouterr().out
