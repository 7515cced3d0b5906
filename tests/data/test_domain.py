"""Domains from folders and arrays, and their errors."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from src_training.data.classes import ClassValues
from src_training.data.domain import Case, Domain, write_domain
from src_training.errors import InputError
from src_training.io.images import write_image, write_labels

REAL = os.environ.get("MSANKD_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="MSANKD_DATA does not name the real images")


def folder_of(path: Path, masks: dict[str, np.ndarray | None], fov: bool = False) -> Path:
    """A domain on disk: grey 12 x 10 images a, b, ... and the masks given."""
    for index, (name, mask) in enumerate(masks.items()):
        write_image(path / "images" / f"{name}.png", np.full((12, 10), index, np.uint8))
        if mask is not None:
            write_labels(path / "masks" / f"{name}.tif", mask)
        if fov:
            write_labels(path / "fov" / f"{name}.png", np.full((12, 10), 255, np.uint8))
    return path


def blob(value: int = 255, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[2:5, 3:6] = value
    return mask


def test_files_of_one_stem_make_a_case(tmp_path: Path) -> None:
    domain = Domain.from_folder(folder_of(tmp_path, {"b": blob(), "a": blob()}, fov=True))
    assert (domain.name, domain.names, len(domain)) == (tmp_path.name, ("a", "b"), 2)
    assert domain.classes == ("background", "foreground")
    case = domain[0]
    assert case.name == "a"
    assert (case.image == 1).all()
    assert case.mask is not None and case.mask.dtype == np.uint8
    np.testing.assert_array_equal(case.mask, blob(1))
    assert case.fov is not None and case.fov.dtype == bool and case.fov.all()
    assert [each.name for each in domain] == ["a", "b"]
    assert domain[-1].name == "b"


def test_a_domain_travels_to_another_process(tmp_path: Path) -> None:
    domain = Domain.from_folder(folder_of(tmp_path, {"a": blob()}))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(domain))[0].mask, blob(1))


def test_images_are_read_only_when_they_are_indexed(tmp_path: Path) -> None:
    domain = Domain.from_folder(folder_of(tmp_path, {"a": blob(), "b": blob()}))
    (tmp_path / "images" / "b.png").write_bytes(b"")
    assert domain[0].name == "a"
    with pytest.raises(InputError, match=r"b\.png is empty"):
        domain[1]


def test_a_domain_is_described_in_one_line(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob(), "b": blob(0)})
    write_labels(tmp_path / "masks" / "stray.png", blob())
    domain = Domain.from_folder(tmp_path, name="clinic")
    assert domain.describe() == (
        "clinic: 2 images of 10 × 12 px (w × h); values 0, 255 -> background, foreground; "
        "all background: b; masks/stray.png has no image of the same stem"
    )
    assert domain.background_only() == ("b",)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ((0, 1), ("background", "foreground")),
        ((0, 255), ("background", "foreground")),
        ((7,), ("background", "foreground")),
        ((0, 1, 2), ("background", "class_1", "class_2")),
        ((0, 2, 4), ("background", "foreground")),
        (tuple(range(200)), ("background", "foreground")),
    ],
)
def test_classes_are_found_from_the_values(
    values: tuple[int, ...], classes: tuple[str, ...]
) -> None:
    mapping = ClassValues.infer(values)
    assert mapping.names == classes
    mask = np.array([values])
    expected = mask if len(classes) > 2 else mask != 0
    np.testing.assert_array_equal(mapping.indices(mask), expected)


def test_a_mapping_that_is_given_wins(tmp_path: Path) -> None:
    mask = blob(1)
    mask[8, 8], mask[9, 9] = 2, 3
    folder_of(tmp_path, {"a": mask})
    given_values = {"liver": 1, "kidney": [2, 3]}
    domain = Domain.from_folder(tmp_path, class_values=given_values)
    assert domain.classes == ("background", "liver", "kidney")
    case = domain[0]
    assert case.mask is not None
    assert (case.mask[8, 8], case.mask[9, 9], case.mask[3, 4]) == (2, 2, 1)
    tumour = Domain.from_folder(tmp_path, class_values={"background": [0, 1, 2], "tumour": 3})
    assert tumour[0].mask is not None and tumour[0].mask.sum() == 1


def test_a_value_outside_the_mapping_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob(1), "b": blob(9)})
    with pytest.raises(InputError, match=r"b\.tif holds the value 9; expected only .*1 \(liver\)"):
        Domain.from_folder(tmp_path, class_values={"liver": 1})


@pytest.mark.parametrize("values", [{}, {"background": 0}, {"a": 1, "b": [1, 2]}, {"a": []}])
def test_a_mapping_that_makes_no_sense_is_refused(values: dict[str, int | list[int]]) -> None:
    with pytest.raises(InputError, match="class values are"):
        ClassValues.from_mapping(values)


def test_a_missing_mask_is_named_unless_masks_are_optional(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob(), "lonely": None})
    with pytest.raises(InputError, match=r"no mask for lonely\.png; expected a file"):
        Domain.from_folder(tmp_path)
    domain = Domain.from_folder(tmp_path, masks="optional")
    assert domain[1].mask is None
    assert "1 without mask" in domain.describe()


def test_a_domain_without_any_mask_is_a_target(tmp_path: Path) -> None:
    domain = Domain.from_folder(folder_of(tmp_path, {"a": None}), masks="optional")
    assert domain.describe().endswith("no masks")
    assert domain.classes == ("background", "foreground")


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob(size=(12, 11))})
    with pytest.raises(InputError, match=r"a\.tif is 11 × 12 px \(w × h\); expected 10 × 12 px"):
        Domain.from_folder(tmp_path)


def test_a_field_of_view_of_another_size_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob()})
    write_labels(tmp_path / "fov" / "a.png", blob(size=(5, 5)))
    with pytest.raises(InputError, match=r"fov.a\.png is 5 × 5 px \(w × h\); expected 10 × 12"):
        Domain.from_folder(tmp_path)[0]


def test_masks_that_are_all_background_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob(0), "b": blob(0)})
    with pytest.raises(InputError, match=r"all background \(a, b\); expected foreground"):
        Domain.from_folder(tmp_path)


def test_no_images_and_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable image in images/"):
        Domain.from_folder(tmp_path)
    folder_of(tmp_path, {"a": blob()})
    write_labels(tmp_path / "images" / "a.tif", blob())
    with pytest.raises(InputError, match=r"both a\.png and a\.tif"):
        Domain.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((12, 10), {}),
        ((12, 10, 3), {"photometric": "rgb"}),
        ((12, 10, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ((3, 12, 10), {"photometric": "rgb", "planarconfig": "separate"}),
        ((3, 12, 10), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((12, 10, 3), {"photometric": "minisblack"}),
    ],
)
def test_a_tiff_of_one_picture_is_an_image(
    shape: tuple[int, ...], options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.ones(shape, np.uint8), **options)
    write_labels(tmp_path / "masks" / "a.tif", blob())
    domain = Domain.from_folder(tmp_path)
    assert domain.names == ("a",) and domain.spacing is None
    assert domain[0].size == (12, 10)


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_a_tiff_of_several_times_is_refused(axes: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    series = np.ones((2, 5, 12, 10)[-len(axes) :], np.uint8)
    path = tmp_path / "images" / "a.tif"
    tifffile.imwrite(path, series, imagej=True, metadata={"axes": axes})
    with pytest.raises(InputError, match=r"a\.tif has shape .*; expected a single image"):
        Domain.from_folder(tmp_path, masks="optional")


def test_a_stack_beside_photographs_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob()})
    stack = np.ones((5, 12, 10), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "b.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    message = r"images has b\.tif and a\.png; expected either volumes or images"
    with pytest.raises(InputError, match=message):
        Domain.from_folder(tmp_path, masks="optional")


def test_hidden_and_foreign_files_are_no_images(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": blob()})
    for name in ("._a.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert Domain.from_folder(tmp_path).names == ("a",)


def test_arrays_become_a_domain() -> None:
    domain = Domain.from_arrays("layer", [np.zeros((12, 10, 3))], [blob(1)], [blob()])
    assert domain.names == ("000",)
    assert domain[0].fov is not None and domain[0].fov.sum() == 9
    assert domain.describe() == (
        "layer: 1 image of 10 × 12 px (w × h); values 0, 1 -> background, foreground"
    )
    with pytest.raises(IndexError):
        domain[1]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([blob(2)], "uint8 from 0 to 2; expected class indices from 0 to 1"),
        ([blob(1, (3, 3))], r"3 × 3 px \(w × h\); expected 10 × 12"),
        ([blob(0)], "all background"),
        ([blob(1), blob(1)], "1 images and 2 masks"),
        ([blob(1) / 2], "float64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(masks: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Domain.from_arrays("layer", [np.zeros((12, 10))], masks)


def test_names_must_be_known_and_different() -> None:
    images = [np.zeros((12, 10))] * 2
    domain = Domain.from_arrays("layer", images, names=["a", "b"])
    assert domain.subset(["b"]).names == ("b",)
    for names in (["c"], [], ["a", "a"]):
        with pytest.raises(InputError, match="domain layer; expected some of a, b"):
            domain.subset(names)
    with pytest.raises(InputError, match="1 different names"):
        Domain.from_arrays("layer", images, names=["a", "a"])
    with pytest.raises(InputError, match="no images"):
        Domain.from_arrays("layer", [])


def numbered(names: list[str]) -> Domain:
    """Slices that are full of their own number."""
    images = [np.full((4, 5), int(name.rpartition("_")[2]), np.uint8) for name in names]
    return Domain.from_arrays(
        "ct", images, [np.eye(4, 5, dtype=np.uint8)] * len(names), names=names
    )


def test_neighbours_are_the_adjacent_slices_of_a_patient() -> None:
    domain = numbered(["101_08", "101_09", "101_10", "101_12", "102_11"])
    found = {case.name: case.image[0, 0].tolist() for case in domain.with_neighbours(3)}
    assert found == {
        "101_08": [8, 8, 9],
        "101_09": [8, 9, 10],
        "101_10": [9, 10, 10],
        "101_12": [12, 12, 12],
        "102_11": [11, 11, 11],
    }
    assert domain.missing_context(3) == ("101_08", "101_10", "101_12", "102_11")
    assert domain.missing_context(1) == ()
    wide = next(iter(domain.subset(["101_10"]).with_neighbours(5)))
    assert wide.image[0, 0].tolist() == [8, 9, 10, 10, 10] and wide.mask is not None


def test_one_neighbour_is_the_slice_as_it_is() -> None:
    domain = numbered(["101_08", "101_09"])
    assert [case.image.shape for case in domain.with_neighbours(1)] == [(4, 5)] * 2


def test_neighbours_of_another_size_or_in_colour_are_refused() -> None:
    for other in ((4, 6), (4, 5, 3)):
        images = [np.zeros((4, 5), np.uint8), np.zeros(other, np.uint8)]
        domain = Domain.from_arrays("ct", images, names=["1_1", "1_2"])
        with pytest.raises(InputError, match="ct/1_1 and its neighbours have shapes"):
            list(domain.with_neighbours(3))


def test_a_written_domain_reads_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 10, 3), np.uint8)
    domain = Domain.from_arrays("made", [image, image], [blob(1), None], [blob(1), blob(1)])
    write_domain(domain, tmp_path)
    read = Domain.from_folder(tmp_path, masks="optional")
    for former, case in zip(domain, read, strict=True):
        assert_same(former, case)


def assert_same(one: Case, other: Case) -> None:
    assert one.name == other.name
    for a, b in ((one.image, other.image), (one.mask, other.mask), (one.fov, other.fov)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a, b)


@needs_real
@pytest.mark.real
@pytest.mark.parametrize("name", ["chasedb1", "drive", "stare"])
def test_vessels_and_field_of_view_of_real_fundus_are_plausible(name: str) -> None:
    domain = Domain.from_folder(Path(str(REAL)) / "retina" / name)
    assert len(domain) == {"chasedb1": 28, "drive": 40, "stare": 20}[name]
    case = domain[0]
    assert case.mask is not None and case.fov is not None
    assert 0.6 < case.fov.mean() < 0.8
    assert 0.06 < case.mask[case.fov].mean() < 0.16
    assert case.image[case.fov].mean() > 2 * case.image[~case.fov].mean()
