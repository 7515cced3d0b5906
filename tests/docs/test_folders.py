"""The page on folders and formats names every layout and every format of images."""

from pathlib import Path

import pytest

from src_training.data.layouts.registry import LAYOUTS
from src_training.io.images import IMAGE_SUFFIXES

PAGE = (Path(__file__).parents[2] / "docs" / "folders.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.name)
def test_every_layout_is_a_row_with_its_example(layout):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {layout.name} |"))
    assert f"`{layout.example.split(', ')[0]}`" in row


def test_the_page_names_the_formats_of_images():
    names = {suffix.split(".")[1] for suffix in IMAGE_SUFFIXES - {".pnm", ".jpg", ".tif"}}
    assert not {name for name in names if name.upper() not in PAGE.upper()}
