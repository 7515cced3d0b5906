"""A mask on another grid than its image is an error, unless resampling is enabled."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from src_training.cli import main
from src_training.config.domains import DomainRecipe
from src_training.data.domain import Domain
from src_training.data.summary import Note
from src_training.data.validation import inspect_folder
from src_training.errors import InputError
from src_training.evaluation.evaluate import evaluate
from src_training.inference.predictor import Predictor
from src_training.runs.data import load_domain
from tests.data.test_validation import problems, summaries
from tests.io.volumes.files import save_volume

AFFINE = np.array([[-0.7, 0, 0, 100], [0, -0.7, 0, 90], [0, 0, 2.5, -50], [0, 0, 0, 1.0]])
SHAPE = (24, 20, 8)  # x, y, z
MASK = np.zeros(SHAPE, np.uint8)
MASK[2:8, 3:6, 1:3] = 1


def save(path, voxels, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ascontiguousarray(voxels), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


@pytest.fixture
def make(tmp_path):
    """A folder of one scan, whose mask is on a different grid."""

    def make(affine, mask=MASK):
        voxels = np.arange(MASK.size, dtype=np.int16).reshape(SHAPE)
        save(tmp_path / "images" / "a.nii.gz", voxels, AFFINE)
        save(tmp_path / "masks" / "a.nii.gz", mask, affine)
        return tmp_path

    return make


def under_mask(domain):
    return sorted(np.concatenate([case.image[case.mask > 0] for case in domain]).tolist())


TRUE = sorted(np.arange(MASK.size).reshape(SHAPE)[MASK > 0].tolist())


def at(*diagonal, offset=(0, 0, 0)):
    """AFFINE with scaled steps along the file's axes and a shifted first voxel."""
    step = np.diag([*diagonal, 1.0])
    step[:3, 3] = offset
    return AFFINE @ step


@pytest.mark.parametrize(
    ("affine", "what"),
    [
        (np.eye(4), "spacing 1 × 1 × 1 mm against 2.5 × 0.7 × 0.7 mm (z × y × x), origin"),
        (np.diag([-1, -1, 1, 1.0]), "spacing 1 × 1 × 1 mm against 2.5 × 0.7 × 0.7 mm"),
        (at(1, 1, 1, offset=(0, 0, 10)), "origin (-25, -90, -100) mm against (-50, -90, -100) mm"),
        (at(1, 1, 1, offset=(0.5, 0, 0)), "origin"),
        (at(-1, 1, 1), "origin"),
        (at(1, 1, 2), "spacing 5 × 0.7 × 0.7 mm against 2.5 × 0.7 × 0.7 mm"),
    ],
)
def test_another_grid_is_said_in_one_sentence(affine, what, make):
    folder = make(affine)
    [(file, sentence)] = problems(inspect_folder(folder)).items()
    assert file == "masks/a.nii.gz" and what in sentence
    assert f"{folder / 'masks' / 'a.nii.gz'} lies on another grid than" in sentence
    with pytest.raises(InputError) as error:
        Domain.from_folder(folder)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("affine", "mask"),
    [
        (at(-1, 1, 1, offset=(23, 0, 0)), MASK[::-1]),
        (at(1, 1, -1, offset=(0, 0, 7)), MASK[:, :, ::-1]),
        (AFFINE[:, [1, 0, 2, 3]], MASK.transpose(1, 0, 2)),
        (at(1 + 1e-6, 1, 1), MASK),
        (AFFINE.astype(np.float32), MASK),
    ],
)
def test_another_order_of_axes_is_the_same_grid(affine, mask, make):
    folder = make(affine, mask)
    assert problems(inspect_folder(folder)) == {}
    domain = Domain.from_folder(folder, resample_masks=True)
    assert under_mask(domain) == TRUE and domain.resampled_masks == {}


@pytest.mark.parametrize("turn", [1, -1])
def test_a_crop_is_resampled_where_it_was_said(turn, make):
    crop = MASK[1:10, 2:12][::turn]
    folder = make(at(turn, 1, 1, offset=(1 if turn == 1 else 9, 2, 0)), crop)
    assert "10 px (w × h) against 8 slices of" in problems(inspect_folder(folder))["masks/a.nii.gz"]
    recipe = DomainRecipe(name="ours", folder=str(folder), resample_masks=True)
    domain = load_domain(recipe, masks_required=True)
    assert under_mask(domain) == TRUE
    assert (domain.resampled_masks["a"].labelled, domain.resampled_masks["a"].outside) == (36, 0)
    found = list(inspect_folder(folder, resample=True))
    assert problems(found) == {} and summaries(found)["a"].counts["foreground"] == 36
    [note] = [each.sentence for each in found if isinstance(each, Note)]
    assert "masks/a.nii.gz is resampled" in note and "0 of 36 labelled voxels (0.0 %)" in note


def test_what_falls_outside_is_counted(make):
    domain = Domain.from_folder(make(at(1, 1, 1, offset=(0, 0, 6))), resample_masks=True)
    assert domain.resampled_masks["a"].outside == 18
    assert "18 of 36 labelled voxels (50.0 %) lay outside" in str(domain.resampled_masks["a"])


def test_many_resampled_masks_are_summed_up(make):
    folder = make(at(1, 1, 1, offset=(0, 0, 6)))
    for stem in "bcd":
        for part in ("images", "masks"):
            shutil.copy(folder / part / "a.nii.gz", folder / part / f"{stem}.nii.gz")
    save(folder / "masks" / "c.nii.gz", MASK, at(1, 1, 1, offset=(0, 0, 5)))
    [note] = [each for each in inspect_folder(folder, resample=True) if isinstance(each, Note)]
    assert "4 masks are resampled" in note.sentence
    assert "54 of 144 labelled voxels (37.5 %) lay outside. At the worst, masks/" in note.sentence
    assert note.sentence.endswith("18 of 36 labelled voxels (50.0 %) lay outside.")


def test_nothing_left_is_a_problem_still(make):
    folder = make(at(1, 1, 1, offset=(0, 0, 60)))
    sentence = problems(inspect_folder(folder, resample=True))["images/a.nii.gz"]
    assert "36 of 36 labelled voxels lie outside" in sentence


@pytest.mark.parametrize(("images", "masks"), [("dicom", "nifti"), ("omezarr", "nifti")])
def test_other_formats_are_compared_as_well(images, masks, tmp_path):
    voxels = np.zeros((4, 9, 11), np.int16)
    labels = voxels.astype(np.uint8)
    labels[1, 2:5] = 1
    save_volume(images, tmp_path / "images", "a", voxels, (2.5, 0.7, 0.8))
    save_volume(masks, tmp_path / "masks", "a", labels, (2.5, 0.7, 0.7))
    assert "spacing" in " ".join(problems(inspect_folder(tmp_path)).values())


def test_stacks_without_a_place_cannot_be_resampled(tmp_path):
    labels = np.zeros((4, 9, 11), np.uint8)
    labels[1, 2:5] = 1
    save_volume("tiff", tmp_path / "images", "a", labels, (2.5, 0.7, 0.7))
    save_volume("tiff", tmp_path / "masks", "a", labels, (1.0, 0.7, 0.7))
    with pytest.raises(InputError, match=r"spacing 1 × 0\.7 × 0\.7 mm .* expected one grid$"):
        Domain.from_folder(tmp_path, resample_masks=True)


def test_scores_record_what_was_resampled(make, tiny_model):
    domain = Domain.from_folder(make(at(1, 1, 1, offset=(0, 0, 6))), resample_masks=True)
    found = evaluate(Predictor(tiny_model(), "cpu"), domain).to_dict()
    assert json.loads(json.dumps(found))["resampled_masks"] == {
        "a": {"labelled": 36, "outside": 18, "lost": []}
    }


def test_the_command_takes_the_option(make, capsys, monkeypatch):
    folder = make(at(1, 1, 1, offset=(0, 0, 6)))
    for options, code in (([], 1), (["--resample-masks"], 0)):
        monkeypatch.setattr("sys.argv", ["msankd", "inspect", str(folder), *options])
        try:
            main()
        except SystemExit as end:
            assert (end.code or 0) == code
        else:
            assert code == 0
