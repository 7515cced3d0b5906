"""Explore in a real napari window: clicks, lasso, and linked selections."""

import csv
import gc
import threading
import weakref
from itertools import pairwise

import numpy as np
import pyqtgraph
import pytest
from napari.layers import Image, Points, Vectors
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_msankd.explore import extraction as explored
from napari_msankd.explore import setup_page
from napari_msankd.theme import LINES
from src_training.runs.monitor import PATCHES
from src_training.training import semantic_encoder as fitting
from tests.gui.conftest import PATIENCE

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning"),
]


def at(scatter, point):
    """Position of a point of a scatter plot on its widget."""
    return scatter.mapFromScene(scatter.box.mapViewToScene(QPointF(*point)))


@pytest.fixture
def drag(monkeypatch):
    """Drag with the left button along positions on a scatter plot's widget."""
    # By default pyqtgraph drops mouse events that are faster than a human's.
    monkeypatch.setitem(pyqtgraph.CONFIG_OPTIONS, "mouseRateLimit", -1)
    return dragged


def dragged(scatter, places):
    """Press at the first position, move along the others, release at the last."""
    kinds = QEvent.Type.MouseButtonPress, QEvent.Type.MouseMove, QEvent.Type.MouseButtonRelease
    last = len(places) - 1
    for number, place in enumerate(places):
        kind = kinds[0] if number == 0 else kinds[2] if number == last else kinds[1]
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        button = none if kind == kinds[1] else left
        held = none if kind == kinds[2] else left
        local = QPointF(place)
        spot = QPointF(scatter.viewport().mapToGlobal(place))
        event = QMouseEvent(kind, local, spot, button, held, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(scatter.viewport(), event)
        QApplication.processEvents()


def around(scatter):
    """A lasso around everything."""
    low, high = scatter.points.min(0), scatter.points.max(0)
    room = 0.04 * (high - low).max()
    (left, down), (right, up) = low - room, high + room
    corners = [(left, down), (right, down), (right, up), (left, up), (left, down)]
    steps = [
        np.array(a) + share * (np.array(b) - a)
        for a, b in pairwise(corners)
        for share in np.linspace(0, 1, 6)
    ]
    return [at(scatter, step) for step in steps]


def test_a_click_opens_the_image_and_frames_the_patch(extracted, make_domain, model_file, qtbot):
    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    assert explore.pages.currentIndex() == 1
    [scatter] = explore.parts["embedding"].scatters.values()
    place = at(scatter, scatter.points[4])
    found = scatter.nearest(scatter.mapToScene(place))
    qtbot.mouseClick(scatter.viewport(), Qt.MouseButton.LeftButton, pos=place)
    layers = explore.viewer.layers
    sample = explore.parts["embedding"]._samples["tiny"][found]
    assert explore.state.selection.current == sample
    name = f"{sample.domain} / {sample.case}"
    qtbot.waitUntil(lambda: layers.selection.active.name == name, timeout=PATIENCE)
    image = layers[name]
    assert isinstance(image, Image) and image.data.shape == (48, 48)
    [frame] = layers["explored patch"].data
    assert np.ptp(frame, axis=0).tolist() == [32, 32]
    assert sample.case in explore.parts["embedding"].status.text()


def test_a_dot_has_the_place_and_the_colour_of_its_row(extracted, make_domain, model_file):
    folders = make_domain("one"), make_domain("two", seed=1, images=2)
    explore = extracted(*folders, model=model_file)
    [scatter] = explore.parts["embedding"].scatters.values()
    table = explore.parts["fsd"]._table
    shown = {
        (dot.pos().x(), dot.pos().y()): dot.brush().color().name() for dot in scatter.dots.points()
    }
    assert len(shown) == len(table) == 5
    for point, domain in zip(scatter.points.tolist(), table.domains, strict=True):
        assert shown[tuple(point)] == LINES[("one", "two").index(domain)]


def test_a_lasso_rings_points_and_marks_images_and_saves_a_list(
    extracted, make_domain, model_file, drag, tmp_path
):
    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    vectors, fsd = explore.parts["embedding"], explore.parts["fsd"]
    [scatter] = vectors.scatters.values()
    vectors.lasso.click()
    drag(scatter, around(scatter))
    chosen = explore.state.selection.samples
    assert len(chosen) == len(scatter.points) == len(scatter.rings.data)
    assert len(fsd.influences.selectedItems()) == 3 * len(fsd.influences.names) == 9
    vectors.save_list(tmp_path / "chosen.csv")
    rows = list(csv.DictReader((tmp_path / "chosen.csv").read_text().splitlines()))
    assert {(row["domain"], row["case"]) for row in rows} == {(s.domain, s.case) for s in chosen}
    vectors.save_list(tmp_path / "chosen.txt")
    assert len((tmp_path / "chosen.txt").read_text().splitlines()) == 6


def test_few_vectors_are_warned_of_and_one_image_is_no_trouble(extracted, make_domain, model_file):
    explore = extracted(make_domain("many"), make_domain("lone", images=1), model=model_file)
    fsd = explore.parts["fsd"]
    assert "lone has 1 vector" in fsd.status.text() or "fewer than 30" in fsd.status.text()
    assert fsd.matrix._names == ("many", "lone")


def test_an_image_that_pushes_away_opens_at_a_click(extracted, make_domain, model_file, qtbot):
    explore = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file)
    fsd = explore.parts["fsd"]
    explore.pages.setCurrentWidget(fsd)
    fsd.pages.setCurrentIndex(1)
    table = fsd.influences
    place = table.visualItemRect(table.item(0, 0)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    name = f"two / {table.names[0]}"
    qtbot.waitUntil(lambda: name in explore.viewer.layers, timeout=PATIENCE)
    [scatter] = explore.parts["embedding"].scatters.values()
    assert 0 < len(scatter.rings.data) == len(explore.state.selection.samples)


@pytest.fixture
def bare_file(tiny_model, tmp_path):
    tiny_model(semantics=False).save(tmp_path / "bare.safetensors")
    return tmp_path / "bare.safetensors"


def test_a_model_without_semantic_encoder_has_one_fitted(
    extracted, make_domain, bare_file, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setenv("MSANKD_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(fitting, "STEPS", 2)
    explore = extracted(make_domain("seen", masks=False), make_domain("ours"), model=bare_file)
    page = explore.setup
    assert "bare.safetensors has no semantic encoder" in page.offer.text.text()
    assert [page.offer.domain.itemText(i) for i in range(page.offer.domain.count())] == ["ours"]
    assert not explore.pages.isTabEnabled(1)
    page.offer.button.click()
    qtbot.waitUntil(lambda: page.status.text().startswith("✓"), timeout=PATIENCE)
    qtbot.waitUntil(lambda: explore.pages.isTabEnabled(1), timeout=PATIENCE)
    assert page.model.path == tmp_path / "models" / "bare-aligned.safetensors"
    assert page.model.path.exists()
    assert page.offer.isHidden()


def test_without_masks_no_encoder_is_offered(extracted, make_domain, bare_file):
    page = extracted(make_domain(masks=False), model=bare_file).setup
    assert page.offer.text.text().endswith("Add a domain with masks to fit one here.")
    assert page.offer.button.isHidden()


def test_a_stop_keeps_what_was_encoded(extracted, make_domain, model_file, qtbot, monkeypatch):
    encoded, go_on, messages = threading.Event(), threading.Event(), []

    def held(request):
        for step in explored.explore(request):
            yield step
            if getattr(step, "done", 0) == 1:
                encoded.set()
                go_on.wait(PATIENCE / 1000)

    monkeypatch.setattr(setup_page, "explore", held)
    explore = extracted(make_domain(), model=model_file, wait=False)
    page = explore.setup
    qtbot.waitUntil(encoded.is_set, timeout=PATIENCE)
    page.stop_button.click()
    go_on.set()
    assert page.status.text().startswith("Stopped") and not page.stop_button.isEnabled()
    qtbot.wait(200)
    assert not explore.pages.isTabEnabled(1)
    monkeypatch.setattr(setup_page, "explore", explored.explore)
    monkeypatch.setattr(page.status, "setText", messages.append)
    page.extract.click()
    qtbot.waitUntil(lambda: "extract" not in page.workers, timeout=PATIENCE)
    # The current image is still encoded and cached.
    assert "Encoding by tiny: image 3 of 3 (2 from the cache)" in messages


def test_models_of_two_latent_sizes_are_refused_in_words(extracted, finished_run, model_file):
    explore = extracted(run=finished_run.path, model=model_file)
    words = explore.parts["embedding"].status.text()
    assert words.startswith("✕") and "expected models of one latent size" in words


def test_a_run_shows_three_models_and_the_graphs_of_a_sample(
    extracted, finished_run, tmp_path, qtbot
):
    explore = extracted(run=finished_run.path)
    vectors, graphs = explore.parts["embedding"], explore.parts["graphs"]
    assert list(vectors.scatters) == ["teacher", "student alone", "student distilled"]
    first = vectors._samples["teacher"][0]
    explore.state.select([first], first)
    qtbot.waitUntil(lambda: graphs._drawing is not None, timeout=PATIENCE)
    views = graphs.views.value()
    edges = views + views * (views - 1) // 2
    assert [len(picture.edges) for picture in graphs.pictures.values()] == [edges] * 3
    graphs.open_button.click()
    montage, lines, points = explore.viewer.layers[-3:]
    assert (type(montage), type(lines), type(points)) == (Image, Vectors, Points)
    assert len(lines.data) == 3 * edges and len(points.data) == 3 * (1 + views)
    graphs._save_picture(tmp_path / "eye.svg")
    graphs._save_numbers(tmp_path / "eye.csv")
    assert (tmp_path / "eye-student.svg").exists()
    assert len((tmp_path / "eye.csv").read_text().splitlines()) == 1 + edges
    assert set(lines.features["panel"]) == {"teacher", "student", "difference"}


def test_the_slider_shows_the_students_of_earlier_steps(extracted, finished_run, qtbot):
    explore = extracted(run=finished_run.path)
    graphs, first = explore.parts["graphs"], explore.parts["embedding"]._samples["teacher"][0]

    def drawn(place):
        before = graphs._drawing
        graphs.slider.setValue(place)
        qtbot.waitUntil(lambda: graphs._drawing is not before, timeout=PATIENCE)
        return graphs._drawing.values

    explore.state.select([first], first)
    qtbot.waitUntil(lambda: graphs._drawing is not None, timeout=PATIENCE)
    best = graphs._drawing.values
    assert graphs._steps == [0, 2, 3] and graphs.step_label.text() == "best student"
    begun = drawn(0)
    assert graphs.step_label.text() == "student at step 0"
    np.testing.assert_array_equal(begun["teacher"], best["teacher"])
    assert not np.array_equal(begun["student"], best["student"])
    np.testing.assert_array_equal(drawn(3)["student"], best["student"])


def test_a_click_on_a_thumbnail_opens_that_view_over_its_patch(extracted, finished_run, qtbot):
    explore = extracted(run=finished_run.path)
    graphs, first = explore.parts["graphs"], explore.parts["embedding"]._samples["teacher"][0]
    explore.pages.setCurrentWidget(graphs)
    explore.state.select([first], first)
    qtbot.waitUntil(lambda: graphs._drawing is not None, timeout=PATIENCE)
    picture, layers = graphs.pictures["student"], explore.viewer.layers
    scene = picture.getPlotItem().vb.mapViewToScene(QPointF(*graphs._drawing.places[2]))
    place = picture.mapFromScene(scene)
    qtbot.mouseClick(picture.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: "explored view 2" in layers, timeout=PATIENCE)
    np.testing.assert_array_equal(layers["explored view 2"].data, graphs._drawing.images[2])
    frame, view = layers["explored patch"].data[0], layers["explored view 2"]
    ends = [view.data_to_world((-0.5, -0.5)), view.data_to_world(np.array(view.data.shape) - 0.5)]
    np.testing.assert_allclose(ends, [frame.min(0), frame.max(0)], atol=1e-6)


def test_the_trend_of_a_run_is_what_it_measured(extracted, finished_run, tmp_path):
    fsd = extracted(run=finished_run.path).parts["fsd"]
    measured = [event for event in finished_run.events if event.kind == "measured"]
    assert fsd.trend.names == ["B"]
    assert f"at most {PATCHES} patches" in fsd.trend_text.text()
    fsd.pages.setCurrentIndex(2)
    fsd._save_numbers(tmp_path / "course.csv")
    rows = list(csv.DictReader((tmp_path / "course.csv").read_text().splitlines()))
    expected = [(e.step, e.fsd["B"]) for e in measured if e.stage == "distil"]
    assert [(int(row["step"]), float(row["fsd"])) for row in rows] == expected != []


def test_maps_lie_exactly_over_the_image(extracted, finished_run, qtbot):
    explore = extracted(run=finished_run.path)
    maps = explore.parts["feature_maps"]
    layer = explore.viewer.add_image(np.random.default_rng(0).random((64, 96)), scale=(2, 3))
    layer.translate = (5, 7)

    def press(button, count):
        before = len(explore.viewer.layers)
        maps.image.layer = layer
        button.click()
        wanted = before + count
        qtbot.waitUntil(lambda: len(explore.viewer.layers) == wanted, timeout=PATIENCE)
        return explore.viewer.layers[-count:]

    maps.channels.setChecked(True)
    for shown in press(maps.show_button, 2):
        ends = shown.extent.world[:, -2:]
        np.testing.assert_allclose(ends[1] - ends[0], (128, 288), atol=40)
    press(maps.reconstruction_button, 4)
    for shown in press(maps.cross_button, 4):
        np.testing.assert_allclose(shown.extent.world, layer.extent.world)
        assert shown.data.min() >= 0 and shown.data.max() <= 1
    assert maps.grid_box.isChecked() and explore.viewer.canvas.grid.enabled
    assert sum(each.visible for each in explore.viewer.layers) == 5
    maps.grid_box.click()
    assert not explore.viewer.canvas.grid.enabled


def test_a_report_is_one_page(extracted, make_domain, model_file, tmp_path, qtbot):
    page = extracted(make_domain("one"), make_domain("two", seed=1), model=model_file).setup
    page.save_report(tmp_path / "report.html")
    qtbot.waitUntil(lambda: "report" not in page.workers, timeout=PATIENCE)
    assert page.status.text().startswith("✓")
    assert "one" in (tmp_path / "report.html").read_text()


def test_an_open_layer_is_framed_where_it_lies(extracted, viewer, model_file, qtbot):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    layer = viewer.add_image(pixels, name="mine", scale=(2, 2))
    extracted(None, model=model_file)
    # The first sample is opened automatically.
    qtbot.waitUntil(lambda: "explored patch" in viewer.layers, timeout=PATIENCE)
    assert list(viewer.layers) == [layer, viewer.layers["explored patch"]]
    frame = viewer.layers["explored patch"].extent.world
    np.testing.assert_allclose(np.diff(frame, axis=0), [[64, 64]], atol=6)


def test_a_verdict_links_to_the_images(extracted, make_domain, model_file, qtbot, tmp_path):
    explore = extracted(
        make_domain("one", images=4), make_domain("two", seed=1, images=2), model=model_file
    )
    page = explore.verdict_page
    assert explore.verdict.text().startswith("two: ") and page.text.text().count("<p>") == 2
    assert explore.pages.isTabEnabled(explore.pages.indexOf(page))
    assert page.domain.currentText() == "two" and sorted(page.images.names) == ["000", "001"]
    page.text.linkActivated.emit("two/001")
    layers = explore.viewer.layers
    qtbot.waitUntil(lambda: layers.selection.active.name == "two / 001", timeout=PATIENCE)
    assert {sample.case for sample in explore.state.selection.samples} == {"001"}
    page.save_button.numbers.emit(tmp_path / "verdict.csv")
    rows = list(csv.DictReader((tmp_path / "verdict.csv").read_text().splitlines()))
    assert len(rows) == 6 and page.done.text().startswith("✓")


def test_closing_explore_gives_the_viewer_back(extracted, finished_run, viewer, qtbot):
    image = viewer.add_image(np.random.default_rng(0).random((64, 96)), name="mine")
    hidden = viewer.add_image(np.zeros((64, 96)), name="hidden", visible=False)
    explore = extracted(run=finished_run.path)
    maps = explore.parts["feature_maps"]
    maps.image.layer = image
    maps.cross_button.click()
    qtbot.waitUntil(lambda: not maps.workers, timeout=PATIENCE)
    assert viewer.canvas.grid.enabled
    explore.end()
    assert image.visible and not hidden.visible and not viewer.canvas.grid.enabled
    assert "explored patch" not in viewer.layers


def test_a_closed_explore_is_dead_and_deaf(viewer, qtbot):
    def opened():
        dock, widget = viewer.window.add_plugin_dock_widget("napari-msankd", "Explore")
        widget.window().show()
        qtbot.waitUntil(lambda: len(widget.parts) == 4, timeout=PATIENCE)
        return dock, weakref.ref(widget)

    closed = []
    for _ in range(2):
        dock, widget = opened()
        closed.append(widget)
        viewer.window.remove_dock_widget(dock)
        del dock
        # Qt deletes the widget in the event loop.
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()
        gc.collect()
    assert [reference() for reference in closed] == [None, None]
    # A callback of a deleted widget would raise.
    viewer.add_image(np.zeros((8, 8)))
    viewer.theme, viewer.canvas.grid.enabled = "light", True
