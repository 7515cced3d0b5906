"""Inspecting a domain yields a summary of every case and every problem."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from src_training.data.domain import Domain
from src_training.data.summary import OUTLINES, THUMBNAIL, CaseSummary, Note, Problem
from src_training.data.validation import inspect_array, inspect_folder
from src_training.errors import InputError
from src_training.io.images import write_image, write_labels


def summaries(findings):
    return {each.name: each for each in findings if isinstance(each, CaseSummary)}


def problems(findings):
    return {each.file: each.sentence for each in findings if isinstance(each, Problem)}


def notes(findings):
    return [each.sentence for each in findings if isinstance(each, Note)]


@pytest.fixture
def folder(tmp_path):
    """Three squares on grey images, 255 in the masks."""
    for index, name in enumerate("abc"):
        mask = np.zeros((40, 30), np.uint8)
        mask[10:20, 5 : 10 + index] = 255
        write_image(tmp_path / "images" / f"{name}.png", np.full((40, 30), 90, np.uint8))
        write_labels(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def test_a_summary_has_size_and_pixels_of_each_class(folder):
    findings = list(inspect_folder(folder))
    assert problems(findings) == {}
    cases = summaries(findings)
    assert list(cases) == ["a", "b", "c"]
    assert cases["b"].size == (40, 30)
    assert cases["b"].counts == {"background": 1140, "foreground": 60}


def test_values_that_become_one_class_are_a_note(folder):
    assert notes(inspect_folder(folder)) == []
    write_labels(folder / "masks" / "b.png", np.full((40, 30), 67, np.uint8))
    merged = "0 is background, all others are foreground"
    [note] = notes(inspect_folder(folder))
    assert note.startswith(f"The masks hold values 0, 67, 255 -> {merged}. If they are classes,")


def test_the_classes_are_those_of_the_domain(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((8, 8), np.uint8))
        write_labels(tmp_path / "masks" / f"{name}.png", np.full((8, 8), value, np.uint8))
    counts = summaries(inspect_folder(tmp_path))["a"].counts
    assert counts == {"background": 0, "class_1": 64, "class_2": 0}
    assert tuple(counts) == Domain.from_folder(tmp_path).classes


def test_an_array_has_the_classes_of_its_domain():
    [case] = inspect_array("a", np.zeros((4, 4)), np.eye(4), {"liver": [1, 2]}, "ct")
    assert case.counts == {"background": 12, "liver": 4}


def test_a_value_of_no_class_is_a_problem_of_the_mask():
    findings = list(inspect_array("a", np.zeros((4, 4)), np.eye(4, dtype=int), {"liver": 2}, "ct"))
    assert "mask of a holds the value 1; expected only 0" in problems(findings)["mask of a"]
    assert summaries(findings)["a"].counts is None


def test_class_values_without_a_class_are_refused():
    with pytest.raises(InputError, match="expected a class beside background"):
        list(inspect_array("a", np.zeros((4, 4)), None, {}, "ct"))


def test_a_thumbnail_is_small_and_outlines_the_mask():
    mask = np.zeros((400, 300), np.uint8)
    mask[100:200, 50:150] = 1
    [case] = inspect_array("a", np.full((400, 300), 90, np.uint8), mask, {"vessel": 1}, "eyes")
    picture = case.thumbnail
    assert picture.shape == (THUMBNAIL, round(0.75 * THUMBNAIL), 3) and picture.dtype == np.uint8
    outlined = (picture == OUTLINES[0]).all(-1)
    assert outlined[24, 20] and outlined[30, 12] and not outlined[30, 20]
    assert (picture[0, 0] == 90).all()


def test_a_small_image_is_not_blown_up(folder):
    assert summaries(inspect_folder(folder))["a"].thumbnail.shape == (40, 30, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, bool])
def test_any_depth_has_a_picture(dtype):
    image = (np.arange(64).reshape(8, 8) > 30).astype(dtype)
    [case] = inspect_array("a", image, None, {"vessel": 1}, "lab")
    picture = case.thumbnail
    assert picture.min() == 0 and picture.max() == 255


def test_every_problem_names_its_file_and_hides_no_other(folder):
    (folder / "images" / "a.png").write_bytes(b"no picture")
    (folder / "masks" / "b.png").unlink()
    write_labels(folder / "masks" / "c.png", np.ones((4, 4), np.uint8))
    write_labels(folder / "masks" / "alone.png", np.ones((4, 4), np.uint8))
    write_labels(folder / "masks" / "c.tif", np.ones((4, 4), np.uint8))
    write_image(folder / "images" / "d.png", np.zeros((40, 30), np.uint8))
    write_labels(folder / "masks" / "d.png", np.ones((40, 30), np.uint8))
    write_labels(folder / "fov" / "d.png", np.zeros((40, 30), np.uint8))
    findings = list(inspect_folder(folder))
    sentences = problems(findings)
    assert "cannot be read" in sentences["images/a.png"]
    assert "has no mask" in sentences["images/b.png"]
    assert "is 4 × 4 px (w × h); expected 30 × 40 px (w × h)" in sentences["masks/c.png"]
    assert "no image of the same stem" in sentences["masks/alone.png"]
    assert "both c.png and c.tif" in sentences["masks/c.tif"]
    assert "empty field of view" in sentences["fov/d.png"]
    assert len(sentences) == 6 and not any("\n" in each for each in sentences.values())
    assert {name: case.counts is None for name, case in summaries(findings).items()} == {
        "b": True,
        "c": True,
        "d": False,
    }


def test_masks_that_are_optional_may_be_missing(folder):
    (folder / "masks" / "b.png").unlink()
    assert problems(inspect_folder(folder, masks="optional")) == {}


def test_masks_of_background_only_are_one_problem(folder):
    for file in (folder / "masks").iterdir():
        write_labels(file, np.zeros((40, 30), np.uint8))
    sentences = problems(inspect_folder(folder))
    assert list(sentences) == [folder.name] and "all background" in sentences[folder.name]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_images_is_one_problem(tmp_path, name):
    (tmp_path / "empty").mkdir()
    sentences = problems(inspect_folder(tmp_path / name))
    assert "no readable image in images/" in sentences[name] and len(sentences) == 1


def test_a_stack_is_a_problem():
    stack = np.zeros((5, 8, 8))
    sentences = problems(inspect_array("stack", stack, None, {"vessel": 1}, "lab"))
    assert "stack has shape (5, 8, 8); expected a single image" in sentences["stack"]


def test_ct_is_shown_in_the_window_of_soft_tissue():
    hu = np.array([[-1000, -160], [40, 3000]], np.int16)
    [case] = inspect_array("a", hu, None, {"liver": 1}, "ct")
    assert case.thumbnail[..., 0].tolist() == [[0, 0], [127, 255]]


def test_inspecting_loads_no_torch():
    code = "import sys, src_training.data.validation; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


def test_tiffs_of_several_images_are_said_once(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        with tifffile.TiffWriter(tmp_path / "images" / f"{name}.tif") as file:
            for side in (40, 20):
                file.write(np.full((side, side), 9, np.uint8), photometric="minisblack")
    found = list(inspect_folder(tmp_path, "optional"))
    notes = [each.sentence for each in found if isinstance(each, Note)]
    assert notes == [
        "a.tif holds 2 images (40 × 40 and 20 × 20); number 1 is read; the same of 1 more."
    ]
