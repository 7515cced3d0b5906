"""Figures as SVG: positions, limits, tooltips and colours."""

from xml.etree import ElementTree

import numpy as np
import pytest

from src_training.explore.fsd_influence import Influence
from src_training.explore.fsd_matrix import MASKS
from src_training.reports.svg import bars_svg, common_limits, group_colours, scatter_svg

SVG = "{http://www.w3.org/2000/svg}"


def dot_centres(svg):
    drawn = ElementTree.fromstring(svg)
    return [(float(c.get("cx")), float(c.get("cy"))) for c in drawn.iter(f"{SVG}circle")]


def test_larger_values_are_drawn_further_up():
    points = np.array([[0.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    svg = scatter_svg(
        "t", points, ["a"] * 3, list("xyz"), {"a": "#123456"}, common_limits([points])
    )
    assert dot_centres(svg) == [(12, 308), (308, 12), (12, 12)]


def test_figures_of_the_same_limits_can_be_compared():
    a, b = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 0.0], [10.0, 2.0]])
    shown = common_limits([a, b])
    first, second = (
        dot_centres(scatter_svg("t", each, ["g", "g"], ["", ""], {"g": "red"}, shown))
        for each in (a, b)
    )
    assert first[0] == second[0] and first[1][0] < second[1][0]
    assert common_limits([]) == common_limits([np.zeros((0, 2))]) == (0, 0, 1, 1)
    assert common_limits([np.ones((3, 2))])[2:] == (1, 1)


def test_the_last_group_is_drawn_below_the_others():
    both, colours = np.zeros((2, 2)), {"eyes": "red", "masks": "grey"}
    svg = scatter_svg("t", both, ["eyes", "masks"], ["an eye", "a mask"], colours, (0, 0, 1, 1))
    assert svg.index("a mask") < svg.index("an eye")


def test_names_are_escaped_in_tooltips():
    svg = scatter_svg(
        'a "title" <', np.zeros((1, 2)), ["g"], ["<&>"], {"g": "red"}, (0.0, 0.0, 1.0, 1.0)
    )
    drawn = ElementTree.fromstring(svg)
    assert [title.text for title in drawn.iter(f"{SVG}title")] == ["<&>"]
    assert drawn.get("aria-label") == 'a "title" <'


def test_bars_start_at_a_common_zero():
    found = [
        Influence("far", 3.0, 0.3),
        Influence("near", -1.0, -0.1),
        Influence("a" * 99, 0.0, 0.0),
    ]
    drawn = ElementTree.fromstring(bars_svg("t", found, "red"))
    bars = [(float(bar.get("x")), float(bar.get("width"))) for bar in drawn.iter(f"{SVG}rect")]
    (up, long), (down, short), (_, none) = bars
    assert none == 0 and long == pytest.approx(3 * short) and down + short == pytest.approx(up)
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert texts[1] == "3 (30%)" and len(texts[4]) == 24
    assert ElementTree.fromstring(bars_svg("t", [], "red")) is not None


def test_masks_are_grey_beside_any_number_of_domains():
    colours = group_colours([*map(str, range(8)), MASKS])
    assert colours[MASKS] not in [colours[str(i)] for i in range(8)]
    assert colours["0"] == colours["6"] != colours["1"]
