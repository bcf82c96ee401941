"""The table for a paper: what LaTeX reads, held against a small reader of tabular."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from undying.lab.results import Results
from undying.report.latex import escaped, latex_table
from undying.statistics.metric import ACCURACY, Metric

NAMES = ("relu", r"a_b & 50 % \of #1 {x} ~ ^ $y$ <z> |w|")


def cells(table: str) -> list[list[str]]:
    """The rows between the rules, each as its cells."""
    body = re.search(r"\\toprule\n(.*)\\bottomrule\n\\end\{tabular\}", table, re.DOTALL)
    assert body is not None
    lines = [line for line in body[1].splitlines() if line != r"\midrule"]
    assert all(line.endswith(r" \\") for line in lines)
    return [re.split(r"(?<!\\) ?& ?", line.removesuffix(r" \\")) for line in lines]


def check(table: str) -> None:
    """What LaTeX would stumble over: braces, special characters, environments, another number of cells."""
    content = "\n".join(line for line in table.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\&%$#_{}]", "", content)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#_~^<>|]", re.sub(r"\$[<>=]?.*?\$", "", bare))
    [columns] = re.findall(r"\\begin\{tabular\}\{(l[r]*)\}", content)
    assert {len(row) for row in cells(table)} == {len(columns)}
    assert content.isascii()


def test_a_row_an_arm_with_the_numbers_of_the_results(results: Results) -> None:
    table = latex_table(results)
    check(table)
    head, first, *others = cells(table)
    assert head == ["Activation", r"Test accuracy (\%)", "Difference (points)", "$p$", r"Silent units (\%)"]
    score = results.baseline.score
    assert first[:2] == ["relu", f"{100 * score.mean:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"]
    assert first[2:4] == ["", ""]
    for row, activation in zip(others, results.activations[1:], strict=True):
        comparison = activation.comparison
        assert float(row[2].replace("$-$", "-")) == pytest.approx(100 * comparison.difference, abs=0.05)
        assert row[3] == ("$<$ 0.001" if comparison.p_holm < 0.001 else f"{comparison.p_holm:.3f}")
        assert row[4].startswith(f"{100 * activation.silent.mean:.1f} [")
    assert "over $n = $ 10 seeds" in table
    assert "Holm's correction over 5 comparisons" in table


def test_any_name_is_escaped(make_results: Callable[..., Results]) -> None:
    results = make_results(NAMES, seeds=1, epochs=1)
    check(latex_table(results))
    assert escaped(NAMES[1]) == (
        r"a\_b \& 50 \% \textbackslash{}of \#1 \{x\} \textasciitilde{} \textasciicircum{} \$y\$ \textless{}z\textgreater{} "
        r"\textbar{}w\textbar{}"
    )


def test_further_metrics_get_columns_and_an_unknown_share_a_dash(make_results: Callable[..., Results]) -> None:
    results = make_results(("relu", "tanh"), seeds=6, epochs=1)
    loss = Metric("loss", higher_is_better=False)
    first, second = (
        replace(
            activation,
            scores={**activation.scores, "loss": activation.score},
            comparisons={
                **activation.comparisons,
                **({"loss": activation.comparison} if activation.comparison else {}),
            },
            silent=None,
        )
        for activation in results.activations
    )
    table = latex_table(replace(results, metrics=[ACCURACY, loss], activations=[first, second]))
    check(table)
    head, _, row = cells(table)
    assert head[4:7] == ["Loss", "Difference", "$p$"]
    assert row[-1] == "--"
    assert "over 2 comparisons" in table
