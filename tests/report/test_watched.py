"""A page as a sink of watch."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest
import torch
from torch import nn

import undying
from fresh import Run

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
    sites = last.probe.sites
    assert [unescape(name) for name, _ in rows] == ["0 -> 1", "2 -> 3"] == [site.label for site in sites]
    for (_, cells), site in zip(rows, sites, strict=True):
        units, silent, dead, _, died, revived, _ = re.findall("<td[^>]*>(.*?)</td>", cells)
        assert units == str(site.units)
        assert silent == dead == f"{100 * int(site.silent.sum()) / site.units:.1f} %"
        assert int(died) == sum(len(record.died.get(site.name, ())) for record in memory)
        assert int(revived) == sum(len(record.revived.get(site.name, ())) for record in memory)
    assert sum(len(units) for record in memory for units in record.died.values()) > 0  # or all of this is of zeros
    assert ">Died<" not in html  # they are events, of which a unit may have several
    assert "Deaths <small>so far</small>" in html
    # All shares are those of the probe: the batches of the steps are others each time.
    assert any(record.probe.silent_fraction != record.census.silent_fraction for record in memory)
    assert f"{100 * last.probe.silent_fraction:.1f} % of the units were silent on the probe" in html
    for place, site in enumerate(sites):
        figure = html.split('id="silent-caption"')[1]
        [drawn] = re.findall(rf'data-arm="{place}" data-x="0 1 2 3 4 5" data-y="([^"]*)"', figure)
        shares = [100 * record.probe[site.name].silent.double().mean().item() for record in memory]
        assert [float(share) for share in drawn.split()] == pytest.approx(shares, rel=1e-5)
    # A button of the legend has the colour of its line: the norms are the first and the second of their figure.
    buttons = re.findall(r'data-arm="(\d)" style="--arm: var\((--[a-z0-9-]+)\)"', html)
    assert buttons == [("0", "--ink"), ("1", "--series-1"), ("2", "--ink"), ("3", "--series-1")]


def test_without_a_probe_it_says_of_what_it_tells_and_counts_no_deaths(tmp_path: Path) -> None:
    page = undying.Page(tmp_path / "watch.html")
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=page) as watching:
        net(torch.randn(16, 4)).sum().backward()
        optimizer.step()
    html = page.path.read_text(encoding="utf-8")
    assert (
        f"{100 * watching.last.census.silent_fraction:.1f} % of the units were silent on the step’s own batch" in html
    )
    assert "Deaths" not in html
    assert "<code>watch(..., probe=batch)</code>" in html


def test_the_page_stays_with_the_probe_where_one_step_could_not_count_it(tmp_path: Path) -> None:
    page = undying.Page(tmp_path / "watch.html")
    first, second = train(undying.Page(tmp_path / "other.html"), steps=2)
    page.write(first)
    page.write(replace(second, probe=None, changes={}))
    page.close()
    html = page.path.read_text(encoding="utf-8")
    assert f"At step 0,\n{100 * first.probe.silent_fraction:.1f} % of the units were silent on the probe" in html
    assert re.findall(r'data-arm="0" data-x="([^"]*)"', html)[-1] == "0"


def test_the_line_that_calls_a_site_is_shown(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x).relu()

    net, page = Net(), undying.Page(tmp_path / "watch.html")
    with undying.watch(net, sinks=page) as watching:
        net(torch.randn(16, 4)).sum().backward()
        watching.step()
    [site] = watching.last.census.sites
    assert site.label.startswith("body -> ")
    assert f"{escape(site.label)} <small>{Path(site.line).name}</small>" in page.path.read_text(encoding="utf-8")


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


def test_without_the_lab_its_name_says_what_is_missing(fresh: Run) -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\nimport undying\nassert 'matplotlib' not in sys.modules\nundying.Page"
    )
    assert "undying[lab]" in fresh(code).stderr


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pages'"):
        undying.Pages  # noqa: B018
