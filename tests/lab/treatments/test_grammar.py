"""What a spec says, and what is said of one that is wrong."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from undying._base.errors import UndyingError
from undying.cli import main
from undying.lab.treatments import build_treatment
from undying.lab.treatments.grammar import ANNEALED, PARTS, PLACED


@pytest.mark.parametrize(
    ("spec", "activation", "parts"),
    [
        ("relu", "relu", "()"),
        ("sugar:nelu:a=1e+0", "sugar:nelu:a=1e+0", "()"),
        ("sugar:anneal=0.5", "sugar", "(Anneal(share=0.5),)"),
        ("barelu:alpha=0.1:anneal=1", "barelu:alpha=0.1", "(Anneal(share=1.0),)"),
        ("relu+l2init:1e-3", "relu", "(L2Init(weight=0.001),)"),
        ("relu+l2init:weight=1e+2+layernorm", "relu", "(L2Init(weight=100.0), LayerNorm())"),
        ("gelu+recycle:scaled:at=0.5", "gelu", "(Recycle(at=0.5, init='scaled'),)"),
        ("relu+fresh:0.25", "relu", "(Fresh(at=0.25),)"),
        ("relu+redo:0.1:every=200", "relu", "(Redo(tau=0.1, every=200),)"),
        ("relu+cbp:rate=1e-4", "relu", "(Cbp(rate=0.0001, maturity=100, utility='contribution', decay=0.99),)"),
        ("crelu", "relu", "(Crelu(),)"),
        ("crelu+layernorm", "relu", "(LayerNorm(), Crelu())"),
    ],
)
def test_specs(spec, activation, parts):
    treatment = build_treatment(spec)
    assert (treatment.spec, treatment.activation, repr(treatment.parts)) == (spec, activation, parts)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nope+recycle", "unknown activation 'nope'"),
        ("", "unknown activation ''"),
        ("relu+", f"unknown part '' in 'relu+'; known: {', '.join(PARTS)}"),
        ("relu+nope", f"unknown part 'nope' in 'relu+nope'; known: {', '.join(PARTS)}"),
        ("relu+gelu", "an activation comes first"),
        ("recycle:at=0.5", "write the activation before it, as in relu+recycle:at=0.5"),
        ("relu+recycle+recycle", "names the part recycle twice"),
        ("relu+recycle:nope", "init must be one of default, kaiming, scaled, recenter, not 'nope'"),
        ("relu+recycle:kaiming:init=scaled", "gives recycle init twice"),
        ("relu+recycle:at=1", "at must be at least 0 and below 1, not 1"),
        ("relu+recycle:at=soon", "recycle at must be a number, not 'soon'"),
        ("relu+recycle:when=0.5", "recycle has no argument 'when'; known: at, init"),
        ("relu+layernorm:2", "layernorm takes no value, but '2' is given"),
        ("relu+layernorm:eps=2", "layernorm has no argument 'eps'; known: none"),
        ("relu+l2init:-1", "weight must be at least 0, not -1"),
        ("relu+l2init:nan", "weight must be at least 0, not nan"),
        ("relu+shrink_perturb:1", "shrink must be at least 0 and below 1, not 1"),
        ("relu:anneal=0.5", "anneal goes with sugar and barelu, which end as ReLU; relu cannot"),
        ("gelu:anneal=0.5+l2init", "anneal goes with sugar and barelu"),
        ("sugar:anneal=0", "anneal must be at least 1e-06 and at most 1, not 0"),
        ("sugar:anneal=2", "anneal must be at least 1e-06 and at most 1, not 2"),
        ("sugar:anneal=0.5:anneal=0.6", "gives anneal twice"),
        ("relu+anneal:0.5", "unknown part 'anneal'"),
        ("relu+redo:every=0", "redo: every must be a whole number of at least 1, not 0"),
        ("relu+redo:every=1.5", "redo every must be a whole number, not '1.5'"),
        ("relu+redo:1", "redo: tau must be at least 0 and below 1, not 1.0"),
        ("relu+cbp:utility=nope", "utility must be one of contribution, weight, not 'nope'"),
        ("relu+snr:2", "snr: percentile must be between 0 and 1"),
        ("crelu:2", "crelu has no arguments, but '2' is given"),
        ("relu+crelu", "unknown part 'crelu'"),
        ("crelu+redo", "redo cannot go with crelu, in which a row of weights makes two units"),
        ("crelu+l2init+recycle", "recycle cannot go with crelu"),
        ("nope", "bsilu, nelu, "),
        ("nope", ", crelu; one of your own is package.module:name, or known where"),
    ],
)
def test_wrong_specs_are_named_with_the_way_out(spec, said):
    with pytest.raises(UndyingError, match=re.escape(said)):
        build_treatment(spec)


def test_the_page_has_a_row_for_each_part_with_its_arguments_and_defaults():
    page = (Path(__file__).parents[3] / "docs" / "treatments.md").read_text(encoding="utf-8")
    rows = {row[1].strip(): row[2] for row in (line.split("|") for line in page.splitlines()) if len(row) == 6}
    for name, part in PARTS.items():
        said = dict(re.findall(r"`(\w+)=([^`]+)`", rows[f"`{name}`"]))
        having = {f.name: f.default for f in fields(part)}
        assert {key: type(having[key])(value) for key, value in said.items()} == having
        assert re.findall(r"\*\*`(\w+)=", rows[f"`{name}`"]) == ([part.main] if part.main else [])
    assert [f"`{name}`" in rows for name in PLACED] == [True]
    assert ", ".join(f"`{name}:anneal=SHARE`" for name in ANNEALED) in rows


def test_the_help_of_compare_names_every_part(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    said = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", said) for name in (*PARTS, *PLACED))
