"""undying audit, on a library's network and on the user's own."""

import textwrap

import pytest

from undying import cli


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            import torch.nn.functional as F

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.embed, self.out = nn.Embedding(10, 4), nn.Linear(4, 2)
                    self.act = nn.ReLU()

                def forward(self, tokens, scale):
                    return F.relu(self.out(self.act(self.embed(tokens)))) * scale

            build = Net
            number = lambda: 5
            """
        )
    )
    monkeypatch.chdir(tmp_path)


def test_torchvision_network(capsys):
    assert cli.main(["audit", "torchvision:resnet18"]) == 0
    shown = capsys.readouterr().out
    assert "layer1.0.relu" in shown
    assert shown.strip().endswith("9 sites, 17 calls in a forward pass; 0 would be left alone")


def test_own_network_from_the_working_directory(own, capsys):
    assert cli.main(["audit", "mynet:build", "--example", "2,3:int64", "1"]) == 0
    shown = capsys.readouterr().out
    assert "F.relu" in shown
    assert "2 sites, 2 calls in a forward pass; 0 would be left alone" in shown
    assert cli.main(["audit", "mynet:build"]) == 0
    assert "1 sites; no --example" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torchvision:resnet19"], ["resnet19"]),
        (["timm:resnet19x"], ["resnet19x"]),
        (["resnet18"], ["package.module:function"]),
        (["nomodule:build"], ["nomodule"]),
        (["mynet:nothing"], ["nothing"]),
        (["mynet:number"], ["int", "torch.nn.Module"]),
        (["mynet:build", "--example", "1,x"], ["--example", "1,x", "1,16:int64"]),
        (["mynet:build", "--example", "1,2:int63"], ["int63"]),
        (["mynet:build", "--targets", "Relu"], ["Relu", "ReLU", "GELU"]),
    ],
)
def test_mistakes_are_one_line_and_exit_2(own, arguments, words, capsys):
    assert cli.main(["audit", *arguments]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors
