"""The pages on folders and formats name every layout, and every format of images."""

from pathlib import Path

import pytest

from src_training.data.layouts.registry import LAYOUTS
from src_training.io.images import IMAGE_SUFFIXES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "folders.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.name)
def test_every_layout_is_a_row_with_its_example(layout):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {layout.name} |"))
    assert f"`{layout.example.split(', ')[0]}`" in row


def test_every_format_of_images_is_named():
    names = {suffix.split(".")[1] for suffix in IMAGE_SUFFIXES - {".pnm", ".jpg", ".tif"}}
    page = (DOCS / "formats.md").read_text(encoding="utf-8").upper()
    assert not {name for name in names if name.upper() not in page}
