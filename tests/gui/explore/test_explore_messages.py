"""Explore in a real napari window: messages, plots and saved files name their origin."""

import csv
import sys

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPainter
from qtpy.QtSvg import QSvgRenderer

from napari_msankd.explore.embedding.page import METHODS
from src_training.errors import InputError
from src_training.explore import projection
from tests.gui.conftest import PATIENCE
from tests.gui.explore.conftest import wait_until_laid_out

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


def test_umap_cannot_be_chosen_where_it_is_not_installed(explore, qtbot, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    qtbot.waitUntil(lambda: len(explore.parts) == 4, timeout=PATIENCE)
    box, place = explore.parts["embedding"].method, list(METHODS).index("UMAP")
    assert [box.model().item(i).isEnabled() for i in range(3)] == [True, True, False]
    assert "'napari-msankd[umap]'" in box.itemData(place, Qt.ItemDataRole.ToolTipRole)


def test_the_status_names_the_shown_projection_and_its_legend(
    extracted, make_domain, model_file, monkeypatch, qtbot
):
    def refused(*_):
        raise InputError("no t-SNE here")

    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    page = explore.parts["embedding"]
    monkeypatch.setattr(projection, "_tsne", refused)
    page.method.setCurrentText("t-SNE")
    qtbot.waitUntil(lambda: not page.workers, timeout=PATIENCE)
    assert page.status.text() == "✕ no t-SNE here" and page.method.currentText() == "PCA"
    assert page.scatters and "two" in page.legend.text()
    monkeypatch.setattr(projection, "_pca", refused)
    page._state.events.extraction.emit(page._state.extraction, None)
    qtbot.waitUntil(lambda: not page.workers, timeout=PATIENCE)
    assert not page.scatters and page.legend.text() == ""
    # The text stays at the bottom of the page.
    assert page.status.geometry().bottom() > 0.9 * page.height()


def test_numbers_of_the_fsd_page_say_what_they_are_of(extracted, finished_run, tmp_path):
    page = extracted(run=finished_run.path).parts["fsd"]
    first, second = page.source.itemText(0), page.target.currentText()
    run = finished_run.path.name
    what = (
        {"model": "student distilled", "a": first},
        {"model": "student distilled", "from": first, "to": second},
        {"run": run},
        {"model": "student distilled", "fsd_to": first},
    )
    for place, expected in enumerate(what):
        page.pages.setCurrentIndex(place)
        assert page.save_button.isEnabled()
        page._save_numbers(tmp_path / "numbers.csv")
        row, *_ = csv.DictReader((tmp_path / "numbers.csv").read_text().splitlines())
        assert expected.items() <= row.items()


def test_numbers_are_those_of_the_model_in_sight(extracted, finished_run, tmp_path, qtbot):
    page = extracted(run=finished_run.path).parts["fsd"]
    page.model.setCurrentText("teacher")
    assert not page.save_button.isEnabled() and page.status.text() == "Measuring distances…"
    qtbot.waitUntil(lambda: not page.workers, timeout=PATIENCE)
    for place in (0, 3):
        page.pages.setCurrentIndex(place)
        page._save_numbers(tmp_path / "numbers.csv")
        rows = csv.DictReader((tmp_path / "numbers.csv").read_text().splitlines())
        assert {row["model"] for row in rows} == {"teacher"}


def test_a_trend_that_is_not_there_is_not_saved(extracted, make_domain, model_file):
    page = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file).parts["fsd"]
    assert page.save_button.isEnabled()
    page.pages.setCurrentIndex(2)
    assert "not of a model file" in page.trend_text.text()
    assert not page.save_button.isEnabled()


def test_the_picture_of_the_matrix_is_full_and_names_the_model(
    extracted, make_domain, model_file, tmp_path, qtbot
):
    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    explore.window().resize(1200, 950)
    page = explore.parts["fsd"]
    explore.pages.setCurrentWidget(page)
    plot = page.matrix.getPlotItem()
    assert plot.titleLabel.text == "FSD by tiny"
    laid_out = lambda: plot.height() == page.matrix.height() < 0.8 * page.height()  # noqa: E731
    qtbot.waitUntil(laid_out, timeout=PATIENCE)
    page._save_picture(tmp_path / "matrix.png")
    picture = QImage(str(tmp_path / "matrix.png"))
    assert picture.width() == 1600 and picture.height() < 2400


def test_maps_side_by_side_have_captions_and_their_own_colours(extracted, finished_run, qtbot):
    explore = extracted(run=finished_run.path)
    maps, layers = explore.parts["feature_maps"], explore.viewer.layers
    image = explore.viewer.add_image(np.random.default_rng(0).random((64, 96)), name="eye")
    explore.viewer.add_image(np.zeros((64, 96)), name="other")
    maps.image.layer = image
    rebuilt = ["teacher reconstruction", "teacher error"]
    rebuilt += ["student reconstruction", "student error"]
    crossed = ["p_T: teacher", "p_S: student"]
    crossed += ["p1: teacher decodes student", "p2: student decodes teacher"]
    for button, names in ((maps.reconstruction_button, rebuilt), (maps.cross_button, crossed)):
        button.click()
        qtbot.waitUntil(lambda last=f"{names[-1]} · eye": last in layers, timeout=PATIENCE)
        first, *shown = [layer for layer in layers if layer.visible]
        assert first.name == "eye" and [each.name for each in shown] == [
            f"{n} · eye" for n in names
        ]
        assert all(each.opacity == 1 and each.name_overlay.visible for each in shown)
        quoted = [f"“{name}”" for name in names]
        assert f"the image, {', '.join(quoted)}." in maps.status.text()
    maps.grid_box.click()
    assert all(each.opacity == 0.8 and not each.name_overlay.visible for each in shown)


def test_graphs_in_the_viewer_have_titles_and_cover_no_image(
    extracted, finished_run, tmp_path, qtbot
):
    explore = extracted(run=finished_run.path)
    graphs, first = explore.parts["graphs"], explore.parts["embedding"]._samples["teacher"][0]
    layers = explore.viewer.layers
    explore.state.open(first, "teacher")
    explore.state.select([first], first)
    qtbot.waitUntil(lambda: "explored patch" in layers, timeout=PATIENCE)
    qtbot.waitUntil(lambda: graphs._drawing is not None, timeout=PATIENCE)
    words = graphs.status.text()
    assert words.startswith(str(first))
    graphs.open_button.click()
    image, _frame, montage, _lines, points = layers
    assert [layer.visible for layer in layers] == [False, False, True, True, True]
    places = {
        text: place for text, place in zip(points.text.values, points.data, strict=True) if text
    }
    assert list(places) == ["teacher", "student", "student - teacher"]
    thirds = [int(3 * column / montage.data.shape[1]) for _, column in places.values()]
    assert thirds == [0, 1, 2] and ", ".join(places) in graphs.done.text()
    graphs._save_numbers(tmp_path / "eye.csv")
    assert graphs.done.text().startswith("✓") and graphs.status.text() == words
    explore.state.open(first, "teacher")
    qtbot.waitUntil(lambda: image.visible, timeout=PATIENCE)
    assert not montage.visible and not points.visible


def _bytes(image):
    """Pixels of a QImage; `constBits` returns an address in PyQt6, a memoryview in PySide6."""
    bits = image.constBits()
    return bits.asstring(image.sizeInBytes()) if hasattr(bits, "asstring") else bits


def apart(svg, png):
    """Mean grey difference of two pictures, relative to the value range of the second."""
    shown = QImage(str(png)).convertToFormat(QImage.Format.Format_Grayscale8)
    drawn = QImage(shown.size(), QImage.Format.Format_RGB32)
    painter = QPainter(drawn)
    QSvgRenderer(str(svg)).render(painter)
    painter.end()
    drawn = drawn.convertToFormat(QImage.Format.Format_Grayscale8)
    one, other = (
        np.frombuffer(_bytes(image), np.uint8)
        .reshape(image.height(), image.bytesPerLine())[:, : image.width()]
        .astype(float)
        for image in (drawn, shown)
    )
    return np.abs(one - other).mean() / np.ptp(other)


def test_pictures_and_numbers_are_written(extracted, make_domain, model_file, tmp_path, qtbot):
    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    # Large enough that the message about a saved file does not resize the plots.
    explore.window().resize(1200, 950)
    for name in ("embedding", "fsd"):
        page = explore.parts[name]
        explore.pages.setCurrentWidget(page)
        wait_until_laid_out(explore, qtbot)
        for suffix in (".svg", ".png"):
            page._save_picture(tmp_path / f"{name}{suffix}")
        page._save_numbers(tmp_path / f"{name}.csv")
        qtbot.waitUntil(lambda page=page: not page.workers, timeout=PATIENCE)
        assert apart(tmp_path / f"{name}.svg", tmp_path / f"{name}.png") < 3e-4
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) > 1


def test_the_tables_of_distances_are_pictures_and_numbers_too(
    extracted, make_domain, model_file, tmp_path
):
    folders = make_domain("one"), make_domain("two", seed=1, masks=False)
    fsd = extracted(*folders, model=model_file).parts["fsd"]
    assert [fsd.dice.item(row, 3).text() for row in range(2)][1] == "—"
    heads = {1: "model,from,to,image,value,share", 3: "model,domain,vectors,fsd_to,fsd,dice"}
    for place, head in heads.items():
        fsd.pages.setCurrentIndex(place)
        for suffix in (".svg", ".png"):
            fsd._save_picture(tmp_path / f"table{suffix}")
        fsd._save_numbers(tmp_path / "table.csv")
        assert (tmp_path / "table.csv").read_text().splitlines()[0] == head
        assert "<text" in (tmp_path / "table.svg").read_text()
        assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
