"""Choosing a dataset among open layers."""

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox

from napari_msankd.datasets.selection import LayerDataset
from napari_msankd.datasets.selector import RED, DatasetSelector
from napari_msankd.theme import contrast
from tests.gui.conftest import PATIENCE
from tests.gui.datasets.conftest import SIDE


def names(choice):
    return [(pair.image.name, pair.labels and pair.labels.name) for pair in choice.value().pairs]


def test_open_photographs_with_paint_are_found_at_once(add, make_choice, await_summary):
    for name in ("eye 1", "eye 2", "eye 3"):
        add(name)
    choice = await_summary(make_choice())
    value = choice.value()
    assert isinstance(value, LayerDataset)
    assert (value.name, value.role) == ("eye", "source")
    assert names(choice) == [(f"eye {n}", f"eye {n} mask") for n in (1, 2, 3)]
    assert "3 images of 48 × 40 px (w × h)" in choice.summary.text()
    assert "foreground 6.2 % (360 pixels)" in choice.summary.text()
    assert choice.strip.count() == 3
    assert "eye_1 · 48 × 40 px" in choice.strip.item(0).toolTip()
    assert choice.faults.text() == ""


def test_the_choice_follows_the_layers_in_a_real_window(make_napari_viewer_proxy, await_summary):
    viewer = make_napari_viewer_proxy()
    choice = DatasetSelector(viewer)
    viewer.window.add_dock_widget(choice, name="Domain")
    for name in ("eye 1", "eye 2"):
        viewer.add_image(np.ones((*SIDE, 3), np.uint8), name=name, rgb=True)
        viewer.add_labels(np.ones(SIDE, int), name=f"{name} vessels")
    assert names(await_summary(choice)) == [(f"eye {n}", f"eye {n} vessels") for n in (1, 2)]
    labels = viewer.layers["eye 2 vessels"]
    labels.data_setitem(np.nonzero(np.ones(SIDE)), 3)
    assert choice.looking
    assert await_summary(choice).classes == ("background", "class_1", "class_3")
    choice.end()


def test_layers_that_come_and_go_are_followed(add, viewer, make_choice, await_summary):
    choice = await_summary(make_choice())
    assert choice.value() is None
    assert "No image is open" in choice.summary.text()
    image, _ = add("eye 1")
    add("eye 2")
    assert len(await_summary(choice).value().pairs) == 2
    image.name = "left eye"
    assert ("left eye", "eye 1 mask") in names(await_summary(choice))
    viewer.layers.remove(image)
    assert len(await_summary(choice).value().pairs) == 1
    assert "Only one image" in choice.summary.text()


def test_an_image_is_no_source_until_its_labels_are_chosen(
    add, viewer, make_choice, await_summary, qtbot
):
    add("eye 1")
    add("eye 2")
    add("third", labels=False)
    extra = viewer.add_labels(np.ones(SIDE, int), name="eye 1 other")
    choice = await_summary(make_choice())
    assert [name for name, _ in names(choice)] == ["eye 1", "eye 2", "third"]
    viewer.layers.remove(extra)
    assert [name for name, _ in names(await_summary(choice))] == ["eye 1", "eye 2"]
    third = choice.rows.topLevelItem(2)
    assert third.checkState(0) == Qt.CheckState.Unchecked
    choice.rows.setCurrentItem(third)
    qtbot.keyClick(choice.rows, Qt.Key.Key_Return)
    box = choice.rows.findChild(QComboBox)
    qtbot.waitUntil(lambda: box.view().isVisible(), timeout=PATIENCE)
    qtbot.keyClick(box.view(), Qt.Key.Key_Down)
    qtbot.keyClick(box.view(), Qt.Key.Key_Return)
    assert choice.looking
    assert ("third", "eye 1 mask") in names(await_summary(choice))


def test_what_a_person_ticked_stays_when_layers_come(add, make_choice, await_summary, qtbot):
    for name in ("eye 1", "eye 2", "eye 3"):
        add(name)
    choice = await_summary(make_choice())
    choice.rows.setCurrentItem(choice.rows.topLevelItem(0))
    qtbot.keyClick(choice.rows, Qt.Key.Key_Space)
    add("eye 4")
    assert [name for name, _ in names(await_summary(choice))] == ["eye 2", "eye 3", "eye 4"]


def test_painting_is_seen(add, make_choice, await_summary):
    add("eye 1")
    _, labels = add("eye 2")
    choice = await_summary(make_choice())
    labels.data_setitem(np.nonzero(np.ones(SIDE)), 1)
    assert choice.looking
    assert choice.value() is None
    await_summary(choice)
    assert "53 % (2,040 pixels)" in choice.summary.text()


def test_labels_that_are_not_painted_are_a_problem_by_name(add, viewer, make_choice, await_summary):
    add("eye 1")
    _, labels = add("eye 2")
    labels.data = np.zeros(SIDE, int)
    choice = await_summary(make_choice())
    assert "Labels layer 'eye 2 mask' is empty" in choice.faults.text()
    assert choice.value() is None


def test_of_a_stack_only_painted_slices_count_and_it_says_so(add, make_choice, await_summary):
    _, labels = add("ct", shape=(6, *SIDE))
    labels.data[[0, 2, 3, 5]] = 0
    choice = await_summary(make_choice())
    assert "2 of 6 slices of 'ct' are painted." in choice.summary.text()
    assert choice.strip.count() == 2
    assert choice.value() is not None


def test_several_labels_are_classes(add, make_choice, await_summary):
    add("ct 1")
    add("ct 2", value=4)
    choice = await_summary(make_choice())
    assert choice.classes == ("background", "class_1", "class_4")
    assert "class_1 3.1 % (120 pixels) · class_4 3.1 % (120 pixels)" in choice.summary.text()


def test_a_pixel_that_is_no_number_names_its_layer(add, viewer, make_choice, await_summary):
    add("eye 1")
    add("eye 2")
    viewer.layers["eye 2"].data = np.full(SIDE, np.nan)
    choice = await_summary(make_choice())
    assert "image layer 'eye 2' has 1920 values that are NaN" in choice.faults.text()
    assert choice.value() is None


def test_a_target_takes_what_is_not_labelled(add, make_choice, await_summary):
    add("eye 1")
    add("eye 2")
    add("other scanner", labels=False)
    choice = await_summary(make_choice("optional"))
    assert names(choice) == [("other scanner", None)]
    assert choice.value().role == "targets"
    assert "No masks, so no Dice is measured" in choice.summary.text()


def test_a_layer_opened_after_a_target_is_not_added_by_itself(
    add, viewer, make_choice, await_summary, qtbot
):
    add("eye 1")
    _, mask = add("eye 2")
    add("other scanner", labels=False)
    choice = await_summary(make_choice("optional"))
    add("by chance", labels=False)
    viewer.layers.remove(mask)
    assert names(await_summary(choice)) == [("other scanner", None)]
    choice.rows.setCurrentItem(choice.rows.topLevelItem(3))
    qtbot.keyClick(choice.rows, Qt.Key.Key_Space)
    assert names(await_summary(choice)) == [("other scanner", None), ("by chance", None)]


def test_with_nothing_open_samples_are_offered(viewer, make_choice, await_summary, qtbot):
    choice = await_summary(make_choice())
    assert not choice.sample.isHidden()
    choice.sample.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 6, timeout=PATIENCE)
    await_summary(choice)
    assert choice.sample.isHidden()
    assert len(choice.value().pairs) == 3
    target = await_summary(make_choice("optional"))
    assert target.sample.isHidden()


def test_mask_images_become_labels_by_one_click(add, viewer, make_choice, await_summary):
    image, _ = add("eye 1", labels=False)
    viewer.add_image(image.data > 128, name="eye 1 mask")
    choice = await_summary(make_choice())
    assert choice.value() is None
    assert choice.remedies.as_labels.text() == "Use 'eye 1 mask' as labels"
    choice.remedies.as_labels.click()
    assert names(await_summary(choice)) == [("eye 1", "eye 1 mask")]
    assert choice.remedies.as_labels.isHidden()


def test_after_its_end_it_is_deaf(add, viewer, make_choice, await_summary, qtbot):
    _, labels = add("eye 1")
    choice = await_summary(make_choice())
    choice.end()
    with qtbot.assertNotEmitted(choice.changed):
        add("eye 2")
        labels.data_setitem(np.nonzero(np.ones(SIDE)), 1)
        QApplication.processEvents()
    assert not choice.looking and len(choice.state.rows) == 1


def test_it_is_compact_and_every_control_explains_itself(add, make_choice, await_summary):
    for number in range(12):
        add(f"eye {number}")
    choice = await_summary(make_choice())
    assert choice.strip.height() <= 72
    assert choice.sizeHint().height() <= 260
    for kind in (QAbstractButton, QComboBox):
        for control in choice.findChildren(kind):
            assert control.toolTip(), control
    reachable = [choice.where, choice.browse, choice.strip, choice.rows]
    assert all(control.focusPolicy() & Qt.FocusPolicy.TabFocus for control in reachable)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_problems_can_be_read_in_either_theme(theme, viewer, make_choice):
    from napari_msankd.theme import theme_colors

    viewer.theme = theme
    choice = make_choice()
    assert RED[theme] in choice.faults.styleSheet()
    assert contrast(RED[theme], theme_colors(viewer).background) >= 4.5


def test_a_preview_of_a_run_is_not_learned_from(add, viewer, make_choice, await_summary):
    add("eye 1")
    image, _ = add("eye 2", labels=False)
    painted = np.ones(image.data.shape, np.uint8)
    viewer.add_labels(painted, name="eye 2 preview", metadata={"msankd": {"preview": "run"}})
    choice = await_summary(make_choice())
    assert names(choice) == [("eye 1", "eye 1 mask")]


def test_a_lazy_layer_that_cannot_be_read_is_named_as_a_problem(
    viewer, make_choice, await_summary, add
):
    there = [True]

    def read(block):
        if not there[0]:
            raise OSError("the disk is gone")
        return block

    add("near")
    pixels = da.from_array(np.random.default_rng(0).integers(0, 255, SIDE, np.uint8), SIDE)
    viewer.add_image(pixels.map_blocks(read, dtype=np.uint8, meta=np.zeros((0, 0))), name="far")
    viewer.add_labels(np.ones(SIDE, np.uint8), name="far mask")
    there[0] = False
    choice = await_summary(make_choice())
    [problem] = choice.problems
    assert "'far' cannot be read (the disk is gone)" in problem
    assert choice.summary.text().startswith("1 image")
    assert choice.value() is None


@pytest.mark.parametrize(
    "shape, rgb, cases",
    [
        ((*SIDE, 4), True, 1),
        ((2, 3, *SIDE), False, 6),
        ((2, *SIDE, 3), True, 2),
        ((1, 1), False, 1),
    ],
    ids=["with alpha", "4-D", "a stack of colour", "one pixel"],
)
def test_layers_of_odd_shapes_are_cases(shape, rgb, cases, viewer, make_choice, await_summary):
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    viewer.add_image(pixels, rgb=rgb, name="眼 é")
    painted = np.ones(shape[:-1] if rgb else shape, np.uint8)
    viewer.add_labels(painted, name="眼 é 1")
    choice = await_summary(make_choice())
    assert choice.problems == ()
    assert choice.summary.text().startswith(f"{cases} image")
    assert choice.value() is not None
