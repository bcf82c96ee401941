"""A .csv against the rows that it was written from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from undying._base.errors import UndyingError
from undying.lab.data.table import table

ROWS = [(i / 7, i % 5 - 2.5, i * i % 11) for i in range(60)]


def written(path: Path, rows, header="a,b,y", mark=",", encoding="utf-8") -> Path:
    text = "\n".join([header.replace(",", mark), *(mark.join(map(str, row)) for row in rows)])
    path.write_text(text + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_every_row_is_there_once_with_its_target(tmp_path: Path, mark: str) -> None:
    found = table(written(tmp_path / "t.csv", ROWS, mark=mark, encoding="utf-8-sig"), "values")
    rows = torch.cat([torch.cat([found.x_train, found.y_train], 1), torch.cat([found.x_test, found.y_test], 1)])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, torch.tensor(ROWS, dtype=torch.float32).tolist()))
    assert found.shape == (2,)
    assert 4 <= len(found.x_test) <= 20


def test_a_cell_may_hold_separators_and_line_breaks_in_quotes(tmp_path: Path) -> None:
    names = ("no, not\nat all", "yes")
    rows = [(a, b, f'"{names[i % 2]}"') for i, (a, b, _) in enumerate(ROWS)]
    assert table(written(tmp_path / "t.csv", rows)).names == names


def test_the_split_goes_by_the_row_and_not_by_its_place(tmp_path: Path) -> None:
    one = table(written(tmp_path / "t.csv", ROWS), "values")
    other = table(written(tmp_path / "t.csv", [*ROWS[::-1], *ROWS[:10]]), "values")
    rows = lambda x: set(map(tuple, x.tolist()))  # noqa: E731
    assert rows(one.x_test) == rows(other.x_test)
    assert not rows(other.x_test) & rows(other.x_train)


def test_classes_are_words_or_numbers_in_their_order(tmp_path: Path) -> None:
    words = table(written(tmp_path / "t.csv", [(a, b, ("no", "yes")[i % 2]) for i, (a, b, _) in enumerate(ROWS)]))
    assert (words.names, words.classes) == (("no", "yes"), 2)
    numbers = table(written(tmp_path / "t.csv", [(a, b, (10, 9)[i % 2]) for i, (a, b, _) in enumerate(ROWS)]))
    assert numbers.names == ("9", "10")


def test_any_columns_are_the_targets(tmp_path: Path) -> None:
    found = table(written(tmp_path / "t.csv", ROWS), "values", ("y", "a"))
    assert (found.shape, found.classes) == ((1,), 2)
    assert {tuple(y) for y in found.y_train.tolist()} <= {
        tuple(y) for y in torch.tensor([(y, a) for a, _, y in ROWS]).float().tolist()
    }


@pytest.mark.parametrize(
    ("rows", "more", "error"),
    [
        ([(1, "", 3)], {}, "line 2, column b: empty; every cell must be a number"),
        ([(1, 2, 3), (1, "nan", 3)], {}, "line 3, column b: 'nan'; every cell must be a number"),
        ([(1, "red", 3)], {}, "line 2, column b: 'red'"),
        (
            [(i, 2, i / 4) for i in range(60)],
            {"targets": "classes"},
            "column y: a class is 0.25; for numbers that are measured",
        ),
        (
            [(i, 2, i) for i in range(60)],
            {"targets": "classes"},
            "60 classes in 60 rows; for numbers that are measured add",
        ),
        ([(i, 2, "1_0") for i in range(60)], {}, "column y: '1_0'; every cell must be a number"),
        (ROWS, {"columns": ("y", "y")}, "names a column twice"),
        ([(1, 2)], {}, "line 2 has 2 cells, the header 3"),
        ([], {}, "has a header and no row"),
        ([(1, 2, 3)] * 30, {}, "has 30 rows, too few to test on a fifth of them"),
        (ROWS, {"columns": ("z",)}, "has no column 'z'; it has a, b, y"),
        (ROWS, {"columns": ("a", "b", "y")}, "has no column beside a, b, y to learn from"),
        ([(a, b, 1e9 + y) for a, b, y in ROWS], {}, "target 1 of 1 is 1e+09 in every train sample, in float32"),
        (ROWS, {"targets": "labels"}, "targets of several labels must be 0 or 1, not 4"),
        (ROWS, {"targets": "classes", "columns": ("a", "y")}, "a class is one column; for several labels add --task"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path: Path, rows, more, error: str) -> None:
    with pytest.raises(UndyingError, match=re.escape(error)):
        table(written(tmp_path / "t.csv", rows), **{"targets": "values", **more})


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UndyingError, match="there is no"):
        table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00a,b")
    with pytest.raises(UndyingError, match="no text in UTF-8"):
        table(tmp_path / "t.csv")
