"""Heat maps: a colour a share, grey where it is not known."""

from __future__ import annotations

import numpy as np

from undying.plots.heat import HEAT, Map, heat_maps
from undying.plots.theme import styled


def test_shares_are_colours_and_unknown_is_grey() -> None:
    with styled():
        canvas = heat_maps([Map("relu", ["a", "b"], [[0.0, 0.5, 1.0], [None]]), Map("tanh", [], [])], "silent units")
    (image,) = canvas.axes[0].images
    pixels = np.asarray(image.get_array())
    assert pixels.shape == (2, 3, 4)
    assert (pixels[0, :, :3] == HEAT).all()
    faint, half, full = pixels[0, :, 3].tolist()
    assert 0 < faint < half < full == 255
    assert (pixels[1, :, :3] == 128).all()  # the row ended early
    assert not canvas.axes[1].images
    assert canvas.axes[-1].get_xlabel() == "silent units"


def test_rows_are_named_as_far_as_they_fit() -> None:
    names = [f"layer{i}" for i in range(40)]
    with styled():
        canvas = heat_maps([Map("relu", names, [[0.1]] * 40)], "silent units")
    shown = [text.get_text() for text in canvas.axes[0].get_yticklabels()]
    assert 2 <= len(shown) <= 14
    assert shown == names[:: 40 // len(shown) + (40 % len(shown) > 0)]
