"""Unpacked folders of public data sets open; every file is used or reported."""

import gzip
import json
import unicodedata

import nibabel
import numpy as np
import pytest
from PIL import Image

from src_training.data.domain import Domain
from src_training.data.layouts.files import read_folder
from src_training.data.summary import CaseSummary, Note, Problem
from src_training.data.validation import inspect_folder
from src_training.errors import InputError

PAINTED = np.zeros((12, 16), np.uint8)
PAINTED[3:6, 4:9] = 255


def save(path, labels):
    """Write a 2-D image or a volume, with noise or with a mask of one region."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.lower()
    if ".nii" in name:
        voxels = np.zeros((8, 9, 3), np.uint8 if labels else np.int16)
        voxels[2:4, 2:4] = 1
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 2, 1])), path)
    elif name.endswith(".ppm.gz"):
        Image.fromarray(np.stack([PAINTED] * 3, -1)).save(path.with_suffix(""))
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        path.with_suffix("").unlink()
    elif labels:
        Image.fromarray(PAINTED).save(path)
    else:
        Image.new("RGB", (16, 12), (90, 60, 30)).save(path)


LAYOUTS = {
    "ours": (["images/a.png", "images/b.jpg"], ["masks/a.png", "masks/b.png"], ["fov/a.png"]),
    "ours with additions": (
        ["images/21_training.tif", "images/22_training.tif"],
        ["masks/21_manual1.gif", "masks/22_manual1.gif"],
        ["fov/21_training_mask.gif", "fov/22_training_mask.gif"],
    ),
    "ours with both": (
        ["images/Image_01L.jpg"],
        ["masks/Image_01L_1stHO.png"],
        ["fov/Image_01L_mask.png"],
    ),
    "DRIVE": (
        ["images/21_training.tif", "images/22_training.tif"],
        ["1st_manual/21_manual1.gif", "1st_manual/22_manual1.gif"],
        ["mask/21_training_mask.gif", "mask/22_training_mask.gif"],
    ),
    "DRIVE test": (
        ["images/01_test.tif"],
        ["1st_manual/01_manual1.gif"],
        ["mask/01_test_mask.gif"],
    ),
    "CHASE_DB1": (
        ["Image_01L.jpg", "Image_01R.jpg"],
        ["Image_01L_1stHO.png", "Image_01R_1stHO.png"],
        [],
    ),
    "STARE": (["im0001.ppm", "im0002.PPM"], ["im0001.ah.ppm", "im0002.ah.ppm"], []),
    "STARE unpacked": (
        ["stare-images/im0001.ppm.gz"],
        ["labels-ah/im0001.ah.ppm.gz"],
        [],
    ),
    "HRF": (
        ["images/01_dr.JPG", "images/02_h.jpg"],
        ["manual1/01_dr.tif", "manual1/02_h.tif"],
        ["mask/01_dr_mask.tif", "mask/02_h_mask.tif"],
    ),
    "FIVES": (["Original/1_A.png"], ["Ground truth/1_A.png"], []),
    "IOSTAR": (
        ["image/STAR 01_OSC.jpg"],
        ["GT/STAR 01_OSC_GT.tif"],
        ["mask/STAR 01_OSC_Mask.tif"],
    ),
    "KiTS": (["case_00000/imaging.nii.gz"], ["case_00000/segmentation.nii.gz"], []),
    "LiTS": (["volume-0.nii", "volume-1.nii"], ["segmentation-0.nii", "segmentation-1.nii"], []),
    "LiTS in folders": (["volumes/volume-0.nii"], ["segmentations/segmentation-0.nii"], []),
    "MSD": (["imagesTr/liver_0.nii.gz"], ["labelsTr/liver_0.nii.gz"], []),
    "nnU-Net": (["imagesTr/liver_0_0000.nii.gz"], ["labelsTr/liver_0.nii.gz"], []),
    "BraTS": (["BraTS20_001/BraTS20_001_flair.nii.gz"], ["BraTS20_001/BraTS20_001_seg.nii.gz"], []),
}


def unpack(folder, images, masks, fovs=()):
    for name in images:
        save(folder / name, labels=False)
    for name in [*masks, *fovs]:
        save(folder / name, labels=True)
    return folder


def notes(folder, **options):
    found = inspect_folder(folder, None, **options)
    return [each.sentence for each in found if isinstance(each, Note)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_layout_opens_as_it_is_unpacked(name, tmp_path):
    images, masks, fovs = LAYOUTS[name]
    found = list(inspect_folder(unpack(tmp_path, images, masks, fovs)))
    assert [each for each in found if isinstance(each, Problem | Note)] == []
    summaries = [each for each in found if isinstance(each, CaseSummary)]
    assert [each.counts["foreground"] > 0 for each in summaries] == [True] * len(images)
    domain = Domain.from_folder(tmp_path)
    assert domain.labelled and all(case.mask.any() for case in domain if case.position is None)
    assert sum(case.fov is not None for case in domain) == len(fovs)


def test_cases_are_named_by_what_tells_them_apart(tmp_path):
    names = {}
    for layout in ("KiTS", "LiTS", "nnU-Net", "BraTS", "DRIVE", "STARE unpacked"):
        folder = unpack(tmp_path / layout, *LAYOUTS[layout])
        names[layout] = next(iter(read_folder(folder).images))
    assert list(names.values()) == [
        *("case_00000", "volume-0", "liver_0", "BraTS20_001", "21_training", "im0001"),
    ]


def test_every_file_is_used_or_named(tmp_path):
    unpack(tmp_path, *LAYOUTS["DRIVE"])
    unpack(tmp_path, [], ["2nd_manual/21_manual2.gif", "1st_manual/99_manual1.gif", "av/21.png"])
    for name in ("._21.png", "Thumbs.db", "readme.txt", "images/._21_training.tif", "images/a.csv"):
        (tmp_path / name).write_bytes(b"x")
    said = " ".join(
        each.sentence for each in inspect_folder(tmp_path) if not isinstance(each, CaseSummary)
    )
    for name in ("2nd_manual/21_manual2.gif", "1st_manual/99_manual1.gif", "av/ (1 in it)"):
        assert name in said
    for name in ("._21.png", "Thumbs.db", "readme.txt", "images/._21_training.tif", "images/a.csv"):
        assert name in said
    assert "images/a.csv" in Domain.from_folder(tmp_path).describe()


def test_many_unused_files_are_counted_not_listed(tmp_path):
    unpack(tmp_path, *LAYOUTS["ours"])
    for number in range(50):
        save(tmp_path / f"fov/x{number}.png", labels=True)
        (tmp_path / f"images/{number}.txt").write_bytes(b"x")
    found = [each for each in inspect_folder(tmp_path) if not isinstance(each, CaseSummary)]
    assert len(found) == 2 and all("50" in each.sentence for each in found)
    assert all(each.unused for each in found if isinstance(each, Problem))


def test_a_second_observer_is_named_and_not_taken(tmp_path):
    images, masks, _ = LAYOUTS["CHASE_DB1"]
    unpack(tmp_path, images, [*masks, "Image_01L_2ndHO.png"])
    (note,) = notes(tmp_path)
    assert note == "1 further mask of an image that has one is not used: Image_01L_2ndHO.png"
    assert read_folder(tmp_path).masks["Image_01L"].name == "Image_01L_1stHO.png"


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("images", ["a.nii", "a.nii.gz"]),
        ("masks", ["a.nii", "a.nii.gz"]),
        ("images", ["b.png", "b.tif"]),
    ],
)
def test_two_files_of_one_stem_are_refused(part, names, tmp_path):
    suffix = names[0].removeprefix("a").removeprefix("b")
    stem = names[0][0]
    unpack(tmp_path, [f"images/{stem}{suffix}"], [f"masks/{stem}{suffix}"])
    unpack(
        tmp_path, *(([f"{part}/{each}" for each in names], [])[:: 1 if part == "images" else -1])
    )
    with pytest.raises(InputError, match="expected one file for each stem"):
        Domain.from_folder(tmp_path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_match_composed_and_decomposed(forms, tmp_path):
    image, mask = (unicodedata.normalize(form, "Renée") for form in forms)
    unpack(tmp_path, [f"images/{image}.png"], [f"masks/{mask}.png"])
    domain = Domain.from_folder(tmp_path)
    assert domain.labelled and domain.names == (unicodedata.normalize("NFC", "Renée"),)
    with pytest.raises(InputError, match=r"no readable image"):
        Domain.from_folder(tmp_path, exclude=[unicodedata.normalize("NFD", "Renée")])


def test_a_folder_of_parts_says_which_to_choose(tmp_path):
    unpack(tmp_path / "training", *LAYOUTS["DRIVE"])
    unpack(tmp_path / "test", *LAYOUTS["DRIVE test"])
    expected = r"holds test/ \(1 image, 1 mask\) and training/ \(2 images, 2 masks\)"
    with pytest.raises(InputError, match=expected):
        Domain.from_folder(tmp_path)
    (problem,) = inspect_folder(tmp_path, None)
    assert "training/" in problem.sentence


@pytest.fixture
def brats(tmp_path):
    for case in ("BraTS20_001", "BraTS20_002"):
        kinds = ("flair", "t1", "t1ce", "t2")
        unpack(tmp_path, [f"{case}/{case}_{kind}.nii.gz" for kind in kinds], [])
        unpack(tmp_path, [], [f"{case}/{case}_seg.nii.gz"])
    return tmp_path


def test_one_of_several_channels_must_be_chosen(brats):
    with pytest.raises(InputError, match="4 images of each case: flair, t1, t1ce, t2; expected"):
        Domain.from_folder(brats)
    (problem,) = inspect_folder(brats)
    assert problem.channels == ("flair", "t1", "t1ce", "t2")
    with pytest.raises(InputError, match="and no 'pet'"):
        Domain.from_folder(brats, channel="pet")


def test_a_chosen_channel_is_read_and_the_others_named(brats):
    files = read_folder(brats, channel="T1CE")
    assert [file.name for file in files.images.values()] == [
        *("BraTS20_001_t1ce.nii.gz", "BraTS20_002_t1ce.nii.gz"),
    ]
    assert files.notes[0].startswith("6 images of other channels are not used: BraTS20_001/")
    assert Domain.from_folder(brats, channel="t1ce").labelled


def write_json(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    "labels",
    [{"0": "background", "1": "liver", "2": "cancer"}, {"background": 0, "liver": 1, "cancer": 2}],
)
def test_classes_come_from_dataset_json(labels, tmp_path):
    unpack(tmp_path, *LAYOUTS["MSD"])
    write_json(tmp_path, labels=labels)
    domain = Domain.from_folder(tmp_path)
    assert domain.classes == ("background", "liver", "cancer")
    (summary,) = (each for each in inspect_folder(tmp_path) if isinstance(each, CaseSummary))
    assert list(summary.counts) == ["background", "liver", "cancer"]
    own = Domain.from_folder(tmp_path, class_values={"organ": [1, 2]})
    assert own.classes == ("background", "organ")


def test_a_channel_may_be_called_as_in_dataset_json(tmp_path):
    unpack(tmp_path, ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], ["labelsTr/a.nii.gz"])
    write_json(tmp_path, channel_names={"0": "T2", "1": "ADC"}, labels={"background": 0, "x": 1})
    with pytest.raises(InputError, match=r"0000 \(T2\), 0001 \(ADC\)"):
        Domain.from_folder(tmp_path)
    assert read_folder(tmp_path, channel="adc").images["a"].name == "a_0001.nii.gz"


def test_a_mask_with_a_value_beyond_dataset_json_is_named(tmp_path):
    unpack(tmp_path, *LAYOUTS["MSD"])
    write_json(tmp_path, labels={"background": 0, "liver": 7})
    with pytest.raises(InputError, match=r"liver_0\.nii\.gz holds the value 1"):
        Domain.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{broken", "dataset.json is not used, as it cannot be read"),
        ('{"labels": {"whole": [1, 2], "core": [2]}}', "they overlap"),
        ('{"labels": {"background": 0, "x": 1, "ignore": 2}}', "is read as background"),
        ('{"labels": ["liver"]}', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_what_of_dataset_json_is_not_used_is_a_note(content, sentence, tmp_path):
    unpack(tmp_path, *LAYOUTS["MSD"])
    (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    assert any(sentence in note for note in notes(tmp_path))
    assert Domain.from_folder(tmp_path).labelled


def test_test_images_of_a_data_set_are_named(tmp_path):
    unpack(tmp_path, *LAYOUTS["MSD"])
    unpack(tmp_path, ["imagesTs/liver_9.nii.gz", "imagesTs/liver_8.nii.gz"], [])
    assert notes(tmp_path) == ["2 files are not used: imagesTs/ (2 in it)"]


def test_cases_of_layouts_are_left_out_by_name(tmp_path):
    unpack(tmp_path, *LAYOUTS["LiTS"])
    files = read_folder(tmp_path, exclude=["volume-0", "nobody"])
    assert list(files.images) == ["volume-1"] and files.unmatched == {"nobody"}
    assert files.notes == () and files.unpaired_files == ()


def test_what_is_not_used_stays_known_of_a_part(tmp_path):
    unpack(tmp_path, *LAYOUTS["ours"])
    (tmp_path / "images" / "a.csv").write_bytes(b"x")
    part = Domain.from_folder(tmp_path).subset(["a"])
    assert part.file_notes == ("1 file is not used: images/a.csv",)
