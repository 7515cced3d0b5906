"""Before a domain is used a person sees every case, and reads of every problem by its file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.summary import OUTLINES, CaseSummary, Note, Problem
from src_training.data.validation import inspect_arrays, inspect_folder
from src_training.errors import InputError
from src_training.io.images import write_image, write_labels


def looks(found):
    return {look.name: look for look in found if isinstance(look, CaseSummary)}


def problems(found):
    return {problem.file: problem.sentence for problem in found if isinstance(problem, Problem)}


@pytest.fixture
def folder(tmp_path):
    """Three squares on grey images, 255 in the masks."""
    for index, name in enumerate("abc"):
        mask = np.zeros((40, 30), np.uint8)
        mask[10:20, 5 : 10 + index] = 255
        write_image(tmp_path / "images" / f"{name}.png", np.full((40, 30), 90, np.uint8))
        write_labels(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def test_every_case_is_seen_with_its_size_and_its_pixels_of_each_class(folder):
    found = list(inspect_folder(folder))
    assert problems(found) == {}
    seen = looks(found)
    assert list(seen) == ["a", "b", "c"]
    assert seen["b"].size == (40, 30)
    assert seen["b"].counts == {"background": 1140, "foreground": 60}


def test_values_that_are_taken_for_one_class_are_told(folder):
    assert not [each for each in inspect_folder(folder) if isinstance(each, Note)]
    write_labels(folder / "masks" / "b.png", np.full((40, 30), 67, np.uint8))
    notes = [each.sentence for each in inspect_folder(folder) if isinstance(each, Note)]
    merged = "0 is background, all others are foreground"
    assert notes == [f"The masks hold values 0, 67, 255 -> {merged}."]
    organs = inspect_folder(folder, {"liver": 67, "other": 255})
    assert not [each for each in organs if isinstance(each, Note)]


def test_the_classes_are_those_of_the_domain(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((8, 8), np.uint8))
        write_labels(tmp_path / "masks" / f"{name}.png", np.full((8, 8), value, np.uint8))
    assert looks(inspect_folder(tmp_path))["a"].counts == {
        "background": 0,
        "class_1": 64,
        "class_2": 0,
    }
    organs = looks(inspect_folder(tmp_path, {"liver": [1, 2]}))
    assert organs["b"].counts == {"background": 0, "liver": 64}
    assert (
        tuple(organs["b"].counts)
        == Domain.from_folder(tmp_path, class_values={"liver": [1, 2]}).classes
    )


def test_a_thumbnail_is_small_and_outlines_the_mask(folder):
    picture = looks(inspect_folder(folder, thumbnail=20))["c"].thumbnail
    assert picture.shape == (20, 15, 3) and picture.dtype == np.uint8
    drawn = (picture == OUTLINES[0]).all(-1)
    assert drawn[5, 3] and drawn[9, 5] and not drawn[7, 4]
    assert (picture[0, 0] == 90).all()


def test_a_small_image_is_not_blown_up(folder):
    assert looks(inspect_folder(folder))["a"].thumbnail.shape == (40, 30, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, bool])
def test_any_depth_has_a_picture(dtype):
    image = (np.arange(64).reshape(8, 8) > 30).astype(dtype)
    picture = looks(inspect_arrays("lab", [image], required="optional"))["000"].thumbnail
    assert picture.min() == 0 and picture.max() == 255


def test_every_problem_is_told_by_its_file_and_none_hides_another(folder):
    (folder / "images" / "a.png").write_bytes(b"no picture")
    (folder / "masks" / "b.png").unlink()
    write_labels(folder / "masks" / "c.png", np.ones((4, 4), np.uint8))
    write_labels(folder / "masks" / "alone.png", np.ones((4, 4), np.uint8))
    write_labels(folder / "masks" / "c.tif", np.ones((4, 4), np.uint8))
    write_image(folder / "images" / "d.png", np.zeros((40, 30), np.uint8))
    write_labels(folder / "masks" / "d.png", np.ones((40, 30), np.uint8))
    write_labels(folder / "fov" / "d.png", np.zeros((40, 30), np.uint8))
    found = list(inspect_folder(folder))
    said = problems(found)
    assert "cannot be read" in said["images/a.png"]
    assert "has no mask" in said["images/b.png"]
    assert "is 4 x 4 pixels; expected 40 x 30 pixels" in said["masks/c.png"]
    assert "no image of the same stem" in said["masks/alone.png"]
    assert "both c.png and c.tif" in said["masks/c.tif"]
    assert "empty field of view" in said["fov/d.png"]
    assert len(said) == 6 and not any("\n" in sentence for sentence in said.values())
    assert {name: look.counts is None for name, look in looks(found).items()} == {
        "b": True,
        "c": True,
        "d": False,
    }


def test_a_value_that_belongs_to_no_class_is_a_problem_of_its_file(folder):
    found = problems(inspect_folder(folder, {"vessel": 1}))
    assert list(found) == ["masks/a.png", "masks/b.png", "masks/c.png"]
    assert "holds the value 255" in found["masks/a.png"]


def test_masks_that_are_optional_may_be_missing(folder):
    (folder / "masks" / "b.png").unlink()
    assert problems(inspect_folder(folder, masks="optional")) == {}


def test_masks_that_are_all_background_are_one_problem_of_the_domain(folder):
    for file in (folder / "masks").iterdir():
        write_labels(file, np.zeros((40, 30), np.uint8))
    said = problems(inspect_folder(folder))
    assert list(said) == [folder.name] and "all background" in said[folder.name]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_images_is_one_problem(tmp_path, name):
    (tmp_path / "empty").mkdir()
    said = problems(inspect_folder(tmp_path / name))
    assert "no readable image in images/" in said[name] and len(said) == 1


def test_a_stack_is_a_problem():
    said = problems(inspect_arrays("lab", [np.zeros((5, 8, 8))], names=["stack"]))
    assert "stack has shape (5, 8, 8); expected a single image" in said["stack"]


def test_class_values_that_make_no_sense_are_refused(folder):
    with pytest.raises(InputError, match="expected a class beside background"):
        list(inspect_folder(folder, {}))


def test_layers_are_seen_one_at_a_time():
    taken = []

    class Lazy:
        def __init__(self, name, array):
            self.name, self.array = name, array

        def __array__(self, dtype=None, copy=None):
            taken.append(self.name)
            return self.array

    square = np.eye(8, dtype=np.uint8)
    found = inspect_arrays(
        "lab", [Lazy("a", square), Lazy("b", square)], [square, None], ["a", "b"], {"vessel": 1}
    )
    first = next(found)
    assert taken == ["a"] and first.counts == {"background": 56, "vessel": 8}
    assert "has no mask" in problems(found)["b"]


def test_ct_is_shown_in_the_window_of_soft_tissue():
    hu = np.array([[-1000, -160], [40, 3000]], np.int16)
    picture = looks(inspect_arrays("ct", [hu], required="optional"))["000"].thumbnail
    assert picture[..., 0].tolist() == [[0, 0], [127, 255]]


def test_looking_loads_no_torch():
    code = "import sys, src_training.data.validation; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
