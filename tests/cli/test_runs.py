"""``undying runs`` as a user types it."""

import csv
import json

import pytest
from rich.cells import cell_len

from stores import finish, prepared, stop_in
from undying import cli
from undying.lab import Settings

SETTINGS = Settings(activations=("relu", "sugar:nelu:a=0.1"), seeds=3, epochs=2)


@pytest.fixture
def out(tmp_path):
    """Four runs finished, one interrupted, one not begun."""
    store, configs = prepared(tmp_path, SETTINGS)
    for config in configs[:4]:
        finish(store, config)
    stop_in(store, configs[4], 1)
    return tmp_path


def shown(arguments, capsys, status=0):
    assert cli.main(["runs", *map(str, arguments)]) == status
    return capsys.readouterr().out


def test_the_list_says_what_there_is_and_fits_80_columns(out, capsys):
    text = shown([out], capsys)
    assert max(map(cell_len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines() if " relu " in line or " sugar:nelu:a=0.1 " in line]
    assert [row[1:5] for row in rows[:2]] == [
        ["relu", "0", "finished", "2/2"],
        ["sugar:nelu:a=0.1", "0", "finished", "2/2"],
    ]
    assert rows[4][3:5] == ["interrupted", "0/2"]
    assert "data digits, model mlp, lr 0.01" in text
    assert "6 runs planned: 4 finished, 1 interrupted, 1 not begun" in text


def test_what_runs_differ_in_gets_a_column(out, capsys):
    store, configs = prepared(
        out, Settings(activations=("relu", "gelu"), seeds=1, epochs=2, lr=0.03, model="small_cnn")
    )
    finish(store, configs[0])
    text = shown([out], capsys)
    assert "small_cnn" in text
    assert "0.03" in text
    assert "data digits\n" in text
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "2 runs planned: 1 finished, 1 not begun; 5 others: 4 finished, 1 interrupted" in text


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        (["--activation", "relu"], 3),
        (["--activation", "relu", "--seed", "0", "1"], 2),
        (["--status", "interrupted"], 1),
        (["--status", "finished", "--seed", "1"], 2),
        (["--filter", "lr=0.01", "model=mlp"], 5),
        (["--filter", "batch-size=64"], 5),
        (["--filter", "lr=0.02"], 0),
        (["--filter", "weight_decay=None"], 5),
    ],
)
def test_filters(out, tmp_path, capsys, filters, number):
    text = shown([out, *filters, "--json", tmp_path / "runs.json"], capsys)
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) == number
    assert (f"{number} shown" in text) == (number < 5)


def test_csv_and_json_hold_every_field_and_number(out, tmp_path, capsys):
    shown([out, "--csv", tmp_path / "runs.csv", "--json", tmp_path / "runs.json"], capsys)
    with (tmp_path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert len(rows) == len(runs) == 5
    for row, run in zip(rows, runs, strict=True):
        stored = json.loads((out / "runs" / run["id"] / "config.json").read_text())
        assert {key: run["config"][key] for key in stored if key != "format"} == {
            key: value for key, value in stored.items() if key != "format"
        }
        assert (row["id"], row["activation"], row["lr"]) == (run["id"], stored["activation"], "0.01")
        last = json.loads((out / "runs" / run["id"] / "metrics.jsonl").read_text().splitlines()[-1])
        assert float(row["score"]) == run["score"] == last["test_accuracy"]
        assert run["silent"] == sum(site["silent"] for site in last["sites"]) / 384
    assert rows[4]["status"] == "interrupted"


def test_a_damaged_run_is_listed_with_its_reason_beside_the_rest(out, capsys):
    victim = next(out.glob("runs/*/result.json"))
    victim.write_text("{")
    text = shown([out], capsys)
    assert "3 finished, 1 interrupted, 1 damaged" in text
    assert str(victim) in text


def test_runs_are_listed_without_the_sweep_and_it_is_said(out, capsys):
    (out / "sweep.json").write_text("{")
    text = shown([out], capsys)
    assert "sweep.json cannot be read" in text
    assert "5 runs: 4 finished, 1 interrupted" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "holds no comparison"]),
        (["--status", "done"], ["'done'", "interrupted"]),
        (["--filter", "speed=1"], ["speed=1", "batch_size"]),
        (["--filter", "lr"], ["'lr'", "field=value"]),
        (["--csv", "/dev/null/x.csv"], ["/dev/null/x.csv"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(out, arguments, words, capsys):
    folder = [] if arguments == ["nowhere"] else [str(out)]
    assert cli.main(["runs", *folder, *arguments]) == 2
    errors = capsys.readouterr().err
    assert len(errors.strip().splitlines()) == 1
    assert all(word in errors for word in words), errors
