"""The page of a census: every unit is drawn once, where it belongs."""

import re
from html.parser import HTMLParser

import torch
from torch import nn

import undying
from undying.report.census import CELL, COLUMNS, census_page


def planted():
    net = nn.Sequential(nn.Linear(3, 300), nn.ReLU(), nn.Linear(300, 40), nn.Tanh(), nn.Linear(40, 2), nn.GELU())
    with torch.no_grad():
        net[0].bias.fill_(30.0)
        net[0].bias[[0, 5, 6, 7, 127, 128, 299]] = -1e6
        net[2].weight *= 1e-6
        net[2].bias[:10] = 1e6
        net[4].weight[:, 20:25] = 0
        net[4].bias.fill_(50.0)
    return net


def cells(path):
    """The cells that an SVG path fills."""
    found = []
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v7h-\d+z", path):
        first, n = int(x) // CELL + COLUMNS * (int(y) // CELL), (int(width) + 1) // CELL
        found += range(first, first + n)
    return found


def test_every_unit_is_drawn_once_in_its_state():
    page = census_page(undying.census(planted(), torch.rand(50, 3)), "net", [("data", "random")])
    strips = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(strips) == 3
    drawn = [{c: cells(d) for c, d in re.findall(r'<path class="(\w+)" d="([^"]*)"', strip)} for strip in strips]
    assert drawn[0]["dead"] == [0, 5, 6, 7, 127, 128, 299]
    assert sorted(unit for units in drawn[0].values() for unit in units) == list(range(300))
    assert drawn[1]["saturated"] == list(range(10))
    assert drawn[1]["unused"] == list(range(20, 25))
    assert sorted(unit for units in drawn[1].values() for unit in units) == list(range(40))
    assert drawn[2] == {"firing": [0, 1]}
    assert "dead: 0, 5-7, 127-128, 299" in page
    assert (
        "300 units, 7 dead, 293 firing; 50 values each, of 50 samples, so a silent unit fires in less than 5.8 % of such samples"
        in page
    )


def test_names_are_escaped_and_the_page_asks_for_nothing_else():
    net = nn.ModuleDict()
    net["<script>alert(1)</script>"] = nn.ReLU()
    net.forward = lambda x: net["<script>alert(1)</script>"](x)
    page = census_page(undying.census(net, torch.rand(5, 3)), "<b>net</b>", [("<i>", "&")])
    assert page.count("<script") == 1  # our own
    assert "<script>alert" not in page
    assert "<b>net" not in page
    assert "<i>" not in page.split("</style>")[1]
    assert not re.search(r"(src|href)=\"(?!data:,|#)", page)
    HTMLParser().feed(page)


def test_ten_thousand_units_stay_a_page():
    net = nn.Sequential(nn.Linear(2, 10_000), nn.ReLU())
    with torch.no_grad():
        net[0].bias.fill_(10.0)
        net[0].bias[::2] = -1e6  # the most rectangles there can be
    page = census_page(undying.census(net, torch.rand(20, 2)), "wide", [])
    assert len(page) < 400_000
    assert "5000 dead" in page


def test_what_was_not_counted_is_said():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return torch.relu(torch.einsum("abc->cab", x)), torch.relu(self.layer(x)), self.layer(x).clamp(min=0)

    page = census_page(undying.census(Odd(), torch.rand(2, 3, 4)), "odd", [])
    assert "Not counted, since nothing decides which axis holds the units: relu 4, 2, 3" in page
    assert "Not recognised, so not counted; shares are of the other units: clamp (clamp, " in page


def test_the_overview_has_the_worst_site_first_and_leads_to_its_units():
    found = undying.census(planted(), torch.rand(50, 3))
    page = census_page(found, "net", [])
    rows = re.findall(r'<tr><th scope="row"><a href="#site-(\d)">(.*?)</a></th>(.*?)</tr>', page)
    shares = [float(site.dead.double().mean()) if site.dead is not None else 0.0 for site in found.sites]
    assert int(rows[0][0]) - 1 == shares.index(max(shares))
    cells_of = re.findall(r"<td[^>]*>(.*?)</td>", rows[0][2])
    assert cells_of[:4] == ["ReLU", "300", "50", "2.3 %"]
    assert all(f'id="site-{place}"' in page for place, _, _ in rows)
