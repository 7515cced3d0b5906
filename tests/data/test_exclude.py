"""Excluded files and cases, and selection of images with or without masks."""

import numpy as np
import pytest
from pydantic import ValidationError

from src_training.config.domains import DomainRecipe
from src_training.data.domain import Domain
from src_training.data.summary import CaseSummary, Problem
from src_training.data.validation import inspect_folder
from src_training.errors import InputError
from src_training.io.images import write_labels
from src_training.runs.data import load_domain
from tests.io.volumes.files import save_volume


@pytest.fixture
def folder(make_domain):
    """Images 000 to 005, each with a mask."""
    return make_domain(images=6)


@pytest.fixture
def faulty(folder):
    """A broken image, a mask of another size, a second file of a stem and a missing mask."""
    (folder / "images" / "000.png").write_bytes(b"no picture")
    write_labels(folder / "masks" / "001.png", np.ones((4, 4), np.uint8))
    write_labels(folder / "images" / "002.tif", np.ones((48, 48), np.uint8))
    (folder / "masks" / "003.png").unlink()
    return folder


def problems(folder, **options):
    return [each for each in inspect_folder(folder, **options) if isinstance(each, Problem)]


def summaries(folder, **options):
    found = inspect_folder(folder, **options)
    return [each.name for each in found if isinstance(each, CaseSummary)]


def test_each_problem_says_how_to_leave_it_out(faulty):
    assert {each.file: each.exclude for each in problems(faulty)} == {
        "images/000.png": "000",
        "masks/001.png": "001",
        "images/002.tif": "images/002.tif",
        "images/003.png": "003",
    }


def test_a_faulty_folder_is_read_without_what_is_excluded(faulty):
    with pytest.raises(InputError):
        Domain.from_folder(faulty)
    exclude = [each.exclude for each in problems(faulty)]
    assert problems(faulty, exclude=exclude) == []
    assert summaries(faulty, exclude=exclude) == ["002", "004", "005"]
    domain = Domain.from_folder(faulty, exclude=exclude)
    assert domain.names == ("002", "004", "005")
    assert all(case.mask is not None for case in domain)


def test_a_mask_alone_can_be_left_out(folder):
    (folder / "masks" / "004.png").write_bytes(b"no picture")
    domain = Domain.from_folder(folder, masks="optional", exclude=["masks/004.png"])
    assert [case.name for case in domain if case.mask is None] == ["004"]


def test_images_are_taken_by_whether_they_have_a_mask(folder):
    for name in ("001", "003"):
        (folder / "masks" / f"{name}.png").unlink()
    present = Domain.from_folder(folder, masks="present")
    assert present.names == ("000", "002", "004", "005") and present.labelled
    absent = Domain.from_folder(folder, masks="absent")
    assert absent.names == ("001", "003")
    assert all(case.mask is None for case in absent)


@pytest.mark.parametrize(("masks", "found"), [("absent", "every"), ("present", "no")])
def test_no_image_to_take_is_one_sentence(masks, found, make_domain):
    folder = make_domain(masks=masks == "absent")
    with pytest.raises(InputError, match=f"{found} image has a mask; expected"):
        Domain.from_folder(folder, masks=masks)


def test_a_name_that_is_not_there_is_refused(folder):
    with pytest.raises(InputError, match="exclude names '01', which is not there"):
        Domain.from_folder(folder, exclude=["01"])


def test_volumes_and_slices_can_be_left_out(tmp_path):
    labels = np.zeros((3, 9, 11), np.uint8)
    labels[1, 2:5] = 1
    for stem in ("a", "b", "c"):
        save_volume("nifti", tmp_path / "images", stem, labels.astype(np.int16), (2, 1, 1))
        save_volume("nifti", tmp_path / "masks", stem, labels, (2, 1, 1))
    (tmp_path / "masks" / "b.nii.gz").write_bytes(b"no volume")
    (tmp_path / "masks" / "c.nii.gz").unlink()
    assert sorted(each.exclude for each in problems(tmp_path)) == ["b", "c"]
    assert problems(tmp_path, exclude=["b", "images/c.nii.gz"]) == []
    domain = Domain.from_folder(tmp_path, exclude=["b", "c"])
    assert domain.names == ("a_z000", "a_z001", "a_z002")
    domain = Domain.from_folder(tmp_path, exclude=["b", "a_z000"], masks="present")
    assert domain.names == ("a_z001", "a_z002")
    assert Domain.from_folder(tmp_path, exclude=["b"], masks="absent").names[0] == "c_z000"


def test_a_recipe_says_what_is_left_out(faulty):
    recipe = DomainRecipe(
        name="lab", folder=str(faulty), exclude=["000", "001", "images/002.tif"], masks="present"
    )
    assert load_domain(recipe, masks_required=True).names == ("002", "004", "005")
    with pytest.raises(InputError, match=r"both 002\.png and 002\.tif"):
        load_domain(recipe.model_copy(update={"exclude": ["000"]}), masks_required=True)
    rest = recipe.model_copy(update={"masks": "absent"})
    assert load_domain(rest, masks_required=False).names == ("003",)


def test_a_phantom_is_left_out_by_its_name():
    fields = {"name": "A", "phantoms": {"scanner": "A", "images": 3, "size": 64}}
    names = load_domain(DomainRecipe.model_validate(fields), masks_required=True).names
    fields["exclude"] = [names[1]]
    recipe = DomainRecipe.model_validate(fields)
    assert load_domain(recipe, masks_required=True).names == (names[0], names[2])
    with pytest.raises(InputError, match="exclude names all 3 cases"):
        load_domain(recipe.model_copy(update={"exclude": list(names)}), masks_required=True)
    with pytest.raises(ValidationError, match="given for phantoms"):
        DomainRecipe.model_validate(fields | {"masks": "present"})
