"""The tables, the JSON and the command, with planted figures; and the commands from end to end on small input."""

import json

import pytest

from undying import cli
from undying.bench import page
from undying.bench.activations import Case
from undying.bench.settings import ActivationSettings
from undying.bench.timing import Timings


def planted(size, threads=1):
    samples = {"nn.ReLU": [1e-5] * 6, "nn.GELU": [2e-5, 3e-5, 4e-5, 4e-5, 5e-5, 6e-5], "literal BAReLU": [4e-4] * 6}
    return Case(size, "float32", threads, Timings(samples, {}), {"nn.ReLU": "ReluBackward0"}, {"nn.ReLU": 4 * size})


@pytest.fixture
def found():
    return page.activation_page(ActivationSettings(), [planted(1000), planted(10**6), planted(1000, threads=2)])


def test_terminal_table_has_a_column_a_size_and_fits(found):
    shown = found.plain()
    assert "float32, 1 thread\n" in shown
    assert "float32, 2 threads\n" in shown
    rows = [line.split("  ") for line in shown.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert ["form", "1e3", "1e6"] in cells
    assert ["nn.GELU", "4.00±2.00", "4.00±2.00"] in cells
    assert ["literal BAReLU", "40.0±.0", "40.0±.0"] in cells
    assert ["nn.ReLU, microseconds", "10", "10"] in cells
    assert max(map(len, shown.splitlines())) <= 80


def test_markdown_has_the_command_the_machine_and_whole_intervals(found, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "bench", "activations", "--markdown", "a b.md"])
    written = found.markdown()
    assert written.startswith("    undying bench activations --markdown 'a b.md'\n")
    assert str(found.machine) in written
    assert "| nn.GELU | 4.00 [2.00, 6.00] | 4.00 [2.00, 6.00] |" in written


def test_json_holds_every_figure_the_settings_and_the_machine(found):
    content = json.loads(found.json())
    assert content["machine"]["torch"]
    assert content["settings"]["seconds"] == 10
    assert [(c["size"], c["threads"]) for c in content["cases"]] == [(1000, 1), (10**6, 1), (1000, 2)]
    gelu = content["cases"][0]["forms"]["nn.GELU"]
    assert gelu["ratio"] == pytest.approx({"median": 4, "low": 2, "high": 6, "rounds": 6})
    assert content["cases"][0]["forms"]["nn.ReLU"]["kept_bytes"] == 4000


@pytest.mark.parametrize(
    "arguments",
    [
        "activations --sizes 64 --dtypes bfloat16 --threads 1 --seconds 0.001 --forms nn.SiLU",
        "memory --models mlp --batch 2 --side 3 --forms BAReLU",
        "training --models mlp --batch 2 --side 3 --threads 1 --seconds 0.001 --forms BAReLU",
    ],
)
def test_commands_from_end_to_end(arguments, tmp_path, capsys):
    files = {name: tmp_path / f"result.{name}" for name in ("json", "markdown")}
    assert (
        cli.main(["bench", *arguments.split(), "--json", str(files["json"]), "--markdown", str(files["markdown"])]) == 0
    )
    shown = capsys.readouterr().out
    assert "measuring" not in shown  # not a terminal
    form = arguments.split()[-1]
    for text in (shown, files["json"].read_text(), files["markdown"].read_text()):
        assert form in text
    assert len(json.loads(files["json"].read_text())["cases"]) >= 1


def test_a_mistake_is_one_line(capsys, tmp_path):
    assert cli.main(["bench", "memory", "--models", "vgg"]) == 2
    assert capsys.readouterr().err.startswith("undying: --models must be some of")
    target = tmp_path / "missing" / "a.json"
    small = ["--models", "mlp", "--batch", "2", "--side", "3", "--forms", "BAReLU"]
    assert cli.main(["bench", "memory", *small, "--json", str(target)]) == 2
    assert "cannot write" in capsys.readouterr().err
