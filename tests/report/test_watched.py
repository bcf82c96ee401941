"""A page as a sink of watch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import undying

from .test_html import HOSTILE, Page, check_scripts


def train(page: undying.Page, steps: int = 6) -> undying.Memory:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=1, probe=torch.randn(32, 4), sinks=[memory, page]):
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.randn(16, 4)).square().mean().backward()
            optimizer.step()
    return memory


def test_the_last_page_holds_what_the_records_say(tmp_path: Path) -> None:
    page = undying.Page(tmp_path / "new" / "watch.html")
    memory = train(page)
    html = page.path.read_text(encoding="utf-8")
    check_scripts(html)
    assert 'data-state="finished"' in html
    assert 'http-equiv="refresh"' not in html
    last = memory[-1]
    rows = re.findall(r'<tr><th scope="row"><span>(.*?)</span></th>(.*?)</tr>', html)
    assert [name for name, _ in rows] == [site.name for site in last.census.sites]
    for (name, cells), site in zip(rows, last.census.sites, strict=True):
        units, silent, _, died, revived, _ = re.findall("<td[^>]*>(.*?)</td>", cells)
        assert units == str(site.units)
        assert silent == f"{100 * int(site.silent.sum()) / site.units:.1f} %"
        assert int(died) == sum(len(record.died.get(name, ())) for record in memory)
        assert int(revived) == sum(len(record.revived.get(name, ())) for record in memory)
    assert sum(len(units) for record in memory for units in record.died.values()) > 0  # or all of this is of zeros
    [steps] = set(re.findall(r'data-x="([^"]*)"', html))
    assert steps == "0 1 2 3 4 5"


def test_each_page_on_the_way_is_whole_and_asks_to_be_loaded_again(tmp_path: Path) -> None:
    page = undying.Page(tmp_path / "watch.html")
    train(undying.Page(tmp_path / "other.html"), steps=1)
    record = train(undying.Page(tmp_path / "other.html"), steps=1)[0]
    page.write(record)
    html = page.path.read_text(encoding="utf-8")
    assert 'data-state="running"' in html
    assert '<noscript><meta http-equiv="refresh"' in html
    Page(html)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.html", "watch.html"]


def test_names_are_text(tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("lin", nn.Linear(2, 3))
    net.add_module(HOSTILE[1].replace(".", ""), nn.ReLU())
    page = undying.Page(tmp_path / "watch.html")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=page):
        net(torch.randn(4, 2)).sum().backward()
        optimizer.step()
    html = page.path.read_text(encoding="utf-8")
    check_scripts(html)
    assert HOSTILE[1] in Page(html).text


def test_without_the_lab_its_name_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\nimport undying\nassert 'matplotlib' not in sys.modules\nundying.Page"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "undying[lab]" in run.stderr


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pages'"):
        undying.Pages  # noqa: B018
