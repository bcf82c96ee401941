"""Examples and another census on the page of a census."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import undying
from undying.census.examples import samples_at
from undying.report.beside import beside
from undying.report.census import census_page, worst_units
from undying.report.examples import as_sample, numbers_of, worst


def counted(shape=(1, 6, 6), n=12, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU())
    with torch.no_grad():
        net[1].bias[3] = -1e6
        net[3].bias[2] = -1e6
    data = torch.randn(n, *shape).split(5)
    return undying.census(net, data, examples=3), data


def page_of(found, data, units):
    samples, order = samples_at(data, numbers_of(found.examples, units))
    assert order == found.examples.order
    return census_page(found, "net", [], units=units, samples=samples)


def test_pictures_are_those_of_the_samples_that_fire_most():
    found, data = counted()
    page = page_of(found, data, [("2", 1), ("2", 3)])
    x = torch.cat(data)
    pictures = dict(
        re.findall(r'<image id="sample-(\d+)" width="6" height="6" href="data:image/png;base64,([^"]+)"', page)
    )
    shown = [int(n) for n in re.findall(r'<use href="#sample-(\d+)"', page)]
    of = found.examples["2"]
    assert shown == [*of.most[1].tolist(), *of.least[1].tolist(), *of.most[3].tolist(), *of.least[3].tolist()]
    assert sorted(map(int, pictures)) == sorted(set(shown))
    for number, content in pictures.items():
        pixels = torch.tensor(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(float))
        sample = x[int(number), 0]
        scaled = (sample - sample.min()) / (sample.max() - sample.min()) * 255
        assert (pixels - scaled).abs().max() <= 0.5001
    assert "unit 3 <small>dead, fires at 0.0 % of the values" in page
    assert f"{of.most_peak[1, 0]:.3g}" in page


def test_large_images_are_shrunk_and_colours_stay():
    x = torch.zeros(3, 128, 64)
    x[0, :, 32:] = 1
    sample = as_sample(7, x)
    assert (sample.width, sample.height) == (24, 48)
    image = Image.open(io.BytesIO(base64.b64decode(sample.picture.partition(",")[2])))
    assert image.getpixel((0, 5)) == (0, 0, 0)
    assert image.getpixel((20, 5)) == (255, 0, 0)
    assert as_sample(1, torch.full((1, 8, 8), torch.nan)).picture is not None


def test_what_is_no_image_is_written_as_numbers():
    found, data = counted(shape=(9,))
    page = page_of(found, data, [("2", 0)])
    number = int(found.examples["2"].most[0, 0])
    first = ", ".join(f"{v:.3g}" for v in torch.cat(data)[number][:6].tolist()).replace("-", "−")
    assert f"<span>{first}, …</span>" in page
    assert "<image" not in page
    assert as_sample(0, "a text").values == ""
    assert as_sample(0, torch.zeros(2, 3, 3)).picture is None  # three channels come first in an image, or one


def test_the_worst_units_of_each_site_come_first():
    found, _ = counted()
    units = worst_units(found)
    assert set(units[:2]) == {("2", 3), ("4", 2)}  # the dead ones
    rates = {(name, unit): float(site.firing_rate[unit]) for name, site in found.items() for unit in range(site.units)}
    alive = [unit for unit in units[2:] if unit[0] == "2"]
    assert alive == sorted(alive, key=rates.__getitem__)
    assert len(units) == 9
    assert worst(found, ["dead"], found.sites, 3) == [("2", 3), ("4", 2), alive[0]]


def test_a_second_reading_of_other_data_is_noticed():
    found, data = counted()
    assert samples_at([t.flip(0) for t in data], {0})[1] != found.examples.order
    assert samples_at(data[::-1], {0})[1] != found.examples.order
    again, order = samples_at([(x, torch.zeros(len(x))) for x in data], {11})
    assert torch.equal(again[11], torch.cat(data)[11])
    assert order != found.examples.order


def planted(bias, tail=nn.ReLU):
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3), tail())
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.1)
        net[0].bias[bias] = -100.0
    return net


def test_another_census_stands_beside_it():
    x = torch.rand(20, 2)
    then, now = (undying.census(planted(bias), x) for bias in ([0, 1], [1, 2, 3]))
    page = census_page(now, "net", [], beside=beside(now, then))
    row = re.search(
        r'<tr><th scope="row"><a href="#site-1">0 -&gt; 1</a></th>(.*?)</tr>', page.split("Beside another census")[1]
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row[1])
    assert cells == [
        "6",
        "33.3 %",
        "50.0 %",
        "33.3 %",
        "50.0 %",
        '2<small class="which">2-3</small>',
        '1<small class="which">0</small>',
    ]
    assert "2 units died and 1 revived" in page
    assert "same weights" not in page
    assert "Both are of the same weights." in census_page(now, "net", [], beside=beside(now, now))


def test_what_does_not_fit_is_said_by_name():
    x = torch.rand(20, 2)
    now = undying.census(planted([0]), x)
    with pytest.raises(ValueError, match=r"different sites: \[\('1', 6\), \('3', 3\)\] and earlier \[\('1', 6\)\]"):
        beside(now, undying.census(planted([0])[:2], x))
    other = undying.census(planted([0]), x + 1)
    with pytest.raises(ValueError, match="the censuses saw different data"):
        beside(now, other)
    found = beside(now, other, other_data=True)
    assert found.notes[0].startswith(f"The other census saw other data (probe {other.probe}, now {now.probe})")
    with_loss = undying.census(planted([0]), [(x, torch.zeros(20, dtype=torch.long))], gradients=True)
    compared = beside(now, with_loss, other_data=True)
    assert any("Dead is not compared: by loss cross_entropy before, None now" in note for note in compared.notes)
    assert {row.dead for row in compared.rows} == {(None, None)}
    tanh = undying.census(planted([0], nn.Tanh), x)
    [_, last] = beside(tanh, tanh).rows
    assert (last.died, last.silent) == (None, (None, None))
    skipped = undying.census(planted([0]), x, skip="3")
    assert "Not compared, as the other census did not count them: 3." in beside(now, skipped).notes
