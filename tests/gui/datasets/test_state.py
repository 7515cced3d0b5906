"""State of a dataset selector, without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.datasets.selection import FolderDataset
from napari_msankd.datasets.state import DatasetState, common_name
from napari_msankd.layers import as_labels
from src_training.io.images import write_labels
from src_training.runs.data import load_domain

SIDE = (20, 24)


@pytest.fixture
def viewer():
    return ViewerModel()


def add_image(viewer, name, shape=SIDE):
    pixels = np.random.default_rng(len(name)).integers(0, 255, shape, np.uint8)
    return viewer.add_image(pixels, name=name)


def add_mask(viewer, name, shape=SIDE, kind="labels", value=1):
    mask = np.zeros(shape, np.uint8)
    mask[..., 3:9, 4:8] = value
    return getattr(viewer, f"add_{kind}")(mask, name=name)


def read(state, viewer):
    """Read the chosen dataset to the end."""
    for item in state.begin(viewer) or ():
        state.add(item)
    state.finish()
    return state


def names(state):
    return [(row.name, row.labels_name) for row in state.chosen]


def test_layers_are_remembered_by_id_and_not_by_name(viewer):
    first, second = (add_image(viewer, name) for name in ("a", "b"))
    mask = add_mask(viewer, "paint")
    state = DatasetState()
    state.update_layers(viewer)
    state.pair(second, mask)
    state.tick(first, False)
    first.name, second.name = "b", "a"
    viewer.layers.remove(first)
    add_image(viewer, "b")
    state.update_layers(viewer)
    assert names(state) == [("a", "paint")]
    assert state.chosen[0].image is second


def test_what_changes_is_emitted_once(viewer):
    add_image(viewer, "a")
    state, seen = DatasetState(), []
    state.events.rows.connect(seen.append)
    state.update_layers(viewer)
    state.update_layers(viewer)
    assert len(seen) == 1


def test_nothing_is_given_while_it_is_read(viewer, make_domain):
    state = DatasetState()
    folder = make_domain(images=4)
    state.choose_folder(folder)
    items = state.begin(viewer)
    assert state.text == "Reading…"
    for _ in range(3):
        state.add(next(items))
    assert state.text == "Reading… 2 of 4"
    assert state.value() is None and state.leave_out_text == ""
    for item in items:
        state.add(item)
    state.finish()
    assert state.value() == FolderDataset(folder)


@pytest.fixture
def mixed(make_domain):
    """A folder of six images: one is broken, one has a mask of another size, two have none."""
    folder = make_domain("lab", images=6)
    (folder / "images" / "000.png").write_bytes(b"no picture")
    write_labels(folder / "masks" / "001.png", np.ones((4, 4), np.uint8))
    for name in ("002", "003"):
        (folder / "masks" / f"{name}.png").unlink()
    return folder


def test_the_rest_is_used_after_leaving_faults_out(mixed, viewer, tmp_path):
    state = DatasetState()
    state.choose_folder(mixed)
    assert len(read(state, viewer).summary.problems) == 3
    assert state.leave_out_text == "Leave these 4 out"
    state.leave_out()
    dataset = read(state, viewer).value()
    assert state.summary.problems == () and state.include_text
    assert "2 left out: 000, 001." in state.text
    assert "2 without a mask: left out." in state.text
    assert load_domain(dataset.recipe(tmp_path), masks_required=True).names == ("004", "005")
    assert dataset.unlabelled_recipe(tmp_path) is None


def test_images_without_masks_join_as_unlabelled(mixed, viewer, tmp_path):
    state = DatasetState()
    state.choose_folder(mixed)
    assert read(state, viewer).use_text == "Use the 2 images without masks too"
    state.use_without_masks()
    assert read(state, viewer).leave_out_text == "Leave these 2 out"
    state.leave_out()
    dataset = read(state, viewer).value()
    assert "2 without a mask: used as unlabelled images." in state.text
    unlabelled = load_domain(dataset.unlabelled_recipe(tmp_path), masks_required=False)
    assert unlabelled.names == ("002", "003")
    state.choose_folder(None)
    assert (state.exclude, state.unmasked) == ((), "error")


def test_a_folder_without_any_mask_offers_no_way_out(viewer, make_domain):
    state = DatasetState()
    state.choose_folder(make_domain(masks=False))
    assert "3 images have no mask" in read(state, viewer).summary.problems[0]
    assert (state.leave_out_text, state.use_text) == ("", "")
    assert state.value() is None


def test_bare_slices_of_a_painted_stack_can_join(viewer, tmp_path):
    add_image(viewer, "ct", (5, *SIDE))
    add_mask(viewer, "liver", (5, *SIDE)).data[[0, 4]] = 0
    state = read(DatasetState(), viewer)
    assert "3 of 5 slices of 'ct' are painted." in state.text
    assert state.value().unlabelled_recipe(tmp_path) is None
    assert state.use_text == "Use the 2 images without masks too"
    state.use_without_masks()
    dataset = read(state, viewer).value()
    labelled = load_domain(dataset.recipe(tmp_path), masks_required=True)
    rest = load_domain(dataset.unlabelled_recipe(tmp_path), masks_required=False)
    assert (len(labelled), len(rest)) == (3, 2)


def test_layers_without_labels_can_join(viewer, tmp_path):
    image = add_image(viewer, "bare")
    add_image(viewer, "eye")
    add_mask(viewer, "eye vessels")
    state = DatasetState()
    state.update_layers(viewer)
    state.tick(image, True)
    [problem] = read(state, viewer).summary.problems
    assert "image layer 'bare' has no Labels layer" in problem
    state.use_without_masks()
    rest = read(state, viewer).value().unlabelled_recipe(tmp_path)
    assert load_domain(rest, masks_required=False).names == ("bare",)


def test_mask_images_are_turned_into_labels(viewer):
    for name in ("eye 1", "eye 2"):
        add_image(viewer, name)
        add_mask(viewer, f"{name} mask", kind="image", value=255)
    state = read(DatasetState(), viewer)
    assert "Some image layers look like masks" in state.text
    assert state.labels_text == "Use 2 mask images as labels"
    state.use_as_labels(viewer)
    assert state.labels_text == ""
    assert names(read(state, viewer)) == [(f"eye {n}", f"eye {n} mask") for n in (1, 2)]
    assert state.summary.classes == ("background", "foreground")


def test_a_mask_image_is_no_target(viewer):
    add_image(viewer, "eye")
    add_mask(viewer, "eye mask", kind="image")
    state = DatasetState("optional")
    state.update_layers(viewer)
    assert names(state) == [("eye", None)]


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [("optional", "Masks are used for scores only."), ("unused", "Their masks are not used.")],
)
def test_what_becomes_of_masks_is_said(masks, sentence, viewer, make_domain):
    state = DatasetState(masks)
    state.choose_folder(make_domain())
    assert sentence in read(state, viewer).text


def test_one_patient_is_said_and_an_angle_is_kept(viewer, make_domain):
    state = DatasetState(angle=45)
    state.choose_folder(make_domain(images=1))
    read(state, viewer)
    assert "Only one image: validation is not independent of training." in state.text
    assert state.value().angle == 45


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        (["eye 1", "eye 2"], "eye"),
        (["left", "right"], "layers"),
        (["scan_01", "scan_02"], "scan"),
        (["a"], "a"),
    ],
)
def test_layers_have_the_name_they_begin_with(layers, name):
    assert common_name(layers) == name


def write_masks(folder, masks):
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name, mask in masks.items():
        write_labels(folder / "images" / f"{name}.png", np.full(mask.shape, 9, np.uint8))
        write_labels(folder / "masks" / f"{name}.png", mask)
    return folder


def cells(seed):
    mask = np.zeros((60, 60), np.uint8)
    for number, place in enumerate(np.random.default_rng(seed).permutation(16)[:9], 1):
        row, column = 15 * (place // 4), 15 * (place % 4)
        mask[row + 2 : row + 10, column + 3 : column + 11] = number
    return mask


def test_numbered_objects_can_be_read_as_classes(viewer, tmp_path):
    state = DatasetState()
    state.choose_folder(write_masks(tmp_path / "cells", {"a": cells(0), "b": cells(1)}))
    read(state, viewer)
    assert "looks like numbered objects: they are read as one class" in state.text
    assert state.reading_text == "Read masks as 9 classes"
    assert load_domain(state.value().recipe(tmp_path), masks_required=True).classes[2:] == ()
    state.read_otherwise()
    read(state, viewer)
    assert len(state.summary.classes) == 10 and state.include_text == "Read masks as before"
    assert "class_7 " in state.text and " · 2 more classes" in state.text
    recipe = state.value().recipe(tmp_path)
    assert len(load_domain(recipe, masks_required=True).classes) == 10
    state.include_all()
    assert read(state, viewer).summary.classes == ("background", "foreground")


def test_inverted_masks_can_be_turned(viewer, tmp_path):
    mask = np.full((20, 24), 255, np.uint8)
    mask[4:8] = 0
    state = DatasetState()
    state.choose_folder(write_masks(tmp_path / "eyes", {"a": mask, "b": mask}))
    assert read(state, viewer).reading_text == "Read masks inverted"
    state.read_otherwise()
    assert "foreground 20 %" in read(state, viewer).text


def test_how_a_mask_layer_was_read_is_said(viewer):
    add_image(viewer, "eye")
    mask = add_mask(viewer, "eye mask", kind="image", value=255).data
    mask[3:9, 3], mask[2, 4:8], mask[0, 0] = 90, 40, 3
    state = DatasetState()
    state.update_layers(viewer)
    state.pair(state.rows[0].image, as_labels(viewer, viewer.layers["eye mask"]))
    assert "eye mask: The masks hold 5 values from 0 to 255" in read(state, viewer).text


def test_grey_values_in_a_labels_layer_are_a_problem(viewer):
    image = add_image(viewer, "eye")
    mask = add_mask(viewer, "converted", value=255).data
    mask[3:9, 3], mask[2, 4:8], mask[0, 0] = 90, 40, 3
    state = DatasetState()
    state.update_layers(viewer)
    state.tick(image, True)
    [sentence] = read(state, viewer).problems
    assert sentence.startswith("Labels layer 'converted' holds 5 values from 0 to 255, two and")
