"""The page on domains is complete, self-contained and correct."""

from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from src_training.errors import InputError
from src_training.explore.fsd_influence import leave_one_out_influence
from src_training.explore.fsd_matrix import (
    dice_by_domain,
    dice_correlation,
    distance_matrix,
)
from src_training.reports.domains import domains_page
from tests.explore.tables import table

SVG = "{http://www.w3.org/2000/svg}"
RANDOM = np.random.default_rng(0)


def normal(count, shift=0.0, d=3):
    return RANDOM.normal(size=(count, d)) + shift


def domains(seed=0):
    rows = table(
        ("S", "s1", normal(20)),
        ("S", "s2", normal(20)),
        ("near", "n1", normal(20, 1)),
        ("near", "n2 <&>", normal(20, 1)),
        ("far & <away>", "f1", normal(4, 9)),
        ("near", "n1", normal(5, 77), 1, "image"),
        ("S", "s1", normal(40, 3), 0, "mask"),
    )
    rows.dice[:80] = np.repeat([0.9, 0.8, 0.7, 0.6], 20)
    return rows


class Page(HTMLParser):
    """Collects tags, text, and URLs that a browser would fetch."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.fetched, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_is_complete_and_fetches_nothing():
    tables = {"teacher": domains(), "distilled": domains()}
    page = domains_page("On <ours>", tables)
    read = Page(page)
    assert not read.fetched and "script" not in read.tags
    assert read.tags.count("svg") == 2 + 2 and read.tags.count("table") == 2
    assert read.tags.count("circle") == 2 * (84 + 40)
    for text in (
        "On <ours>",
        "far & <away>",
        "n2 <&>",
        "seed 0",
        "4 vectors, fewer than 30",
        "too few images",
    ):
        assert text in read.text
    near = distance_matrix(tables["teacher"].where(view=0)).between("S", "near")
    assert f"{near.value:.3g}" in read.text and f"[{near.low:.3g} to {near.high:.3g}]" in read.text
    first = leave_one_out_influence(tables["teacher"], "S", "near")[0]
    assert f"{first.value:.3g} ({first.share:.0%})" in read.text
    assert "0.850" in read.text and "Pearson" not in read.text


def test_every_figure_of_the_page_is_valid_svg():
    page = domains_page("t", {"m": domains()})
    figures = [f"<svg{part.partition('</svg>')[0]}</svg>" for part in page.split("<svg")[1:]]
    assert len(figures) == 2
    for figure in figures:
        assert ElementTree.fromstring(figure).tag == f"{SVG}svg"


def test_distance_and_dice_of_four_domains_are_correlated():
    parts = [(name, case, normal(15, i)) for i, name in enumerate("SABC") for case in "xy"]
    rows = table(*parts, dice=np.repeat([0.9, 0.8, 0.6, 0.3], 30))
    text = Page(domains_page("t", {"m": rows})).text
    matrix = distance_matrix(rows)
    r, count = dice_correlation(matrix, dice_by_domain(rows))
    assert r < -0.9 and f"over {count} other domains: Pearson's r = {r:.2f}" in text


def test_at_most_ten_images_are_shown():
    parts = [("T", f"case {i}", normal(3, 1)) for i in range(14)]
    text = Page(domains_page("t", {"m": table(("S", "s", normal(9)), *parts)})).text
    assert "T: the first 10 images. 4 more images are not shown." in text


def test_one_image_of_one_patch_has_a_page():
    text = Page(domains_page("t", {"m": table(("one", "x", [[1, 2, 3]]))})).text
    assert "one has 1 vector: no distance" in text and "too few" in text


def test_models_of_different_latent_sizes_are_refused():
    tables = {"a": table(("S", "s", normal(4))), "b": table(("S", "s", normal(4, d=5)))}
    with pytest.raises(InputError, match="of b have 5 components and those of a 3"):
        domains_page("t", tables)
