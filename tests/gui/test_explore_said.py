"""Explore in a real napari window: what it shows, and what it writes, says what it is of."""

import sys

from qtpy.QtCore import Qt

from napari_msankd.explore.vectors import METHODS
from src_training.errors import InputError
from src_training.evaluation import projection

from . import test_explore_widget as window
from .conftest import PATIENCE

pytestmark = window.pytestmark
own_folders, explore, extracted = window.own_folders, window.explore, window.extracted


def test_umap_cannot_be_chosen_where_it_is_not_installed(explore, qtbot, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    qtbot.waitUntil(lambda: len(explore.parts) == 4, timeout=PATIENCE)
    box, place = explore.parts["vectors"].method, list(METHODS).index("UMAP")
    assert [box.model().item(i).isEnabled() for i in range(3)] == [True, True, False]
    assert "'napari-msankd[umap]'" in box.itemData(place, Qt.ItemDataRole.ToolTipRole)


def test_the_projection_named_is_the_one_shown_and_a_legend_has_its_points(
    extracted, make_domain, model_file, monkeypatch, qtbot
):
    def refused(*_):
        raise InputError("no t-SNE here")

    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    page = explore.parts["vectors"]
    monkeypatch.setattr(projection, "_tsne", refused)
    page.method.setCurrentText("t-SNE")
    qtbot.waitUntil(lambda: not page.works, timeout=PATIENCE)
    assert page.status.text() == "✕ no t-SNE here" and page.method.currentText() == "PCA"
    assert page.scatters and "two" in page.legend.text()
    monkeypatch.setattr(projection, "_pca", refused)
    page.show_explored(page._explored)
    qtbot.waitUntil(lambda: not page.works, timeout=PATIENCE)
    assert not page.scatters and page.legend.text() == ""
    # The words stay at the foot of the page.
    assert page.status.geometry().bottom() > 0.9 * page.height()
