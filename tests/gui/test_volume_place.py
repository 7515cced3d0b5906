"""Transforms of volumes survive reading, segmenting, painting, saving and reading again."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels

from napari_msankd.readers import volume_reader
from napari_msankd.writers import write_labels
from tests.io.volumes.files import Series, save, save_ome

TO_LPS = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]])
"""From RAS+ (x, y, z) to world coordinates of layers: superior, posterior and left, mm."""

ORDERS = [
    (order, signs) for order in permutations(range(3)) for signs in product((-1, 1), repeat=3)
]


def opened(path):
    """The single layer of a file."""
    [(data, attributes, kind)] = volume_reader(str(path))(str(path))
    return {"image": Image, "labels": Labels}[kind](np.asarray(data), **attributes)


def saved(layer, path):
    write_labels(str(path), layer.data, layer.as_layer_data_tuple()[1])
    return path


def world(path):
    """Sorted world coordinates of a NIfTI's nonzero voxels, computed by nibabel."""
    image = nibabel.load(path)
    places = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))
    return np.array(sorted((places @ TO_LPS.T).round(3).tolist()))


def world_of(layer):
    places = [layer.data_to_world(index) for index in np.argwhere(layer.data)]
    return np.array(sorted(np.round(places, 3).tolist()))


def painted(layer, shape=None, **place):
    """A Labels layer with some voxels, on the grid of a layer or another one."""
    labels = np.zeros(shape or layer.data.shape, np.uint8)
    labels[1, 1:3, 2:] = 1
    attributes = {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "units": layer.units,
        "metadata": layer.metadata,
    }
    return Labels(labels, name="painted", **attributes | place)


def turn(angles):
    """A rotation by three angles."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = [index for index in range(3) if index != axis]
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return matrix


small, spacings = st.floats(-0.6, 0.6), st.floats(0.3, 5)


# napari warns that it slices a rotated volume along its data axes.
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(ORDERS),
    st.tuples(small, small, small) | st.just((0, 0, 0)),
    st.tuples(spacings, spacings, spacings),
    st.tuples(*[st.floats(-400, 400)] * 3),
    st.sampled_from([".nii", ".nii.gz"]),
)
def test_a_nifti_of_any_affine_keeps_its_place(
    tmp_path_factory, order, angles, spacing, offset, suffix
):
    folder = tmp_path_factory.mktemp("place")
    axes, signs = order
    affine = np.eye(4)
    affine[:3, :3] = turn(angles) @ np.eye(3)[:, axes] @ np.diag(signs) @ np.diag(spacing)
    affine[:3, 3] = offset
    voxels = np.random.default_rng(0).integers(-500, 500, (4, 5, 6)).astype(np.int16)
    source = save(folder / f"ct{suffix}", voxels, affine)
    stored = nibabel.load(source).affine
    image = opened(source)
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        [found] = [
            layer_index
            for layer_index in np.argwhere(image.data == voxels[index])
            if np.allclose(
                image.data_to_world(layer_index),
                TO_LPS @ nibabel.affines.apply_affine(stored, index),
                atol=1e-2,
            )
        ]
        assert image.data[tuple(found)] == voxels[index]
    labels = painted(image)
    whole = saved(labels, folder / "whole.nii.gz")
    np.testing.assert_allclose(nibabel.load(whole).affine, stored, atol=1e-4)
    np.testing.assert_allclose(world(whole), world_of(labels), atol=2e-3)
    start = image.data_to_world((1, 1, 0))
    part = painted(image, tuple(np.subtract(image.data.shape, (1, 1, 0))), translate=start)
    np.testing.assert_allclose(
        world(saved(part, folder / "part.nii.gz")), world_of(part), atol=2e-3
    )


def test_a_crop_lies_over_its_ct(tmp_path):
    affine = np.diag([-0.8, -0.8, 3.0, 1.0])
    affine[:3, 3] = 120, 80, -300
    voxels = np.random.default_rng(0).integers(-1000, 400, (20, 18, 12)).astype(np.int16)
    place = affine.copy()
    place[:3, 3] = (affine @ [10, 8, 4, 1])[:3]
    whole = opened(save(tmp_path / "ct.nii", voxels, affine))
    crop = opened(save(tmp_path / "crop.nii", voxels[10:16, 8:14, 4:10], place))
    over = np.round(whole.world_to_data(crop.data_to_world((0, 0, 0)))).astype(int)
    assert whole.data[tuple(over)] == crop.data[0, 0, 0]


@pytest.mark.parametrize("source", ["nifti", "dicom", "zarr"])
@pytest.mark.parametrize("target", ["labels.nii.gz", "labels.zarr"])
def test_labels_of_some_slices_keep_their_place(source, target, tmp_path):
    if source == "dicom":
        path = Series(tmp_path / "series").folder
    elif source == "zarr":
        path = save_ome(tmp_path / "a.zarr", np.zeros((6, 20, 30), np.int16), levels=1)
    else:
        affine = np.diag([-0.8, -0.8, 3.0, 1.0])
        affine[:3, 3] = 120, 80, -300
        path = save(tmp_path / "ct.nii.gz", np.zeros((20, 18, 12), np.int16), affine)
    image = opened(path)
    part = painted(image, (3, 4, 5), translate=image.data_to_world((2, 0, 1)))
    again = opened(saved(part, tmp_path / target))
    np.testing.assert_allclose(world_of(again), world_of(part), atol=2e-3)


@pytest.mark.parametrize(
    "place",
    [
        {"translate": (30, 10, 5)},
        {"scale": (3, -1, 1)},
        {"rotate": [[1, 0, 0], [0, 0, -1], [0, 1, 0]]},
        {"affine": np.diag([2, 2, 2, 1.0])},
        {"units": ("um", "mm", "cm")},
    ],
    ids=lambda place: next(iter(place)),
)
def test_labels_of_any_layer_keep_their_place(place, tmp_path):
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1, 2:5, 3:9] = 1
    layer = Labels(labels, **({"scale": (3, 1, 1), "units": ("mm",) * 3} | place))
    expected = world_of(layer)
    if "units" in place:
        expected = expected * (1e-3, 1, 10)
    found = world(saved(layer, tmp_path / "labels.nii"))
    np.testing.assert_allclose(found, sorted(expected.tolist()), atol=2e-3)


@pytest.mark.parametrize(
    "place",
    [
        {"translate": (30, 10, 5)},
        {"scale": (3, -1, 1)},
        {"rotate": [[1, 0, 0], [0, 0, -1], [0, 1, 0]]},
    ],
    ids=lambda place: next(iter(place)),
)
def test_a_tiff_refuses_a_place_that_it_cannot_hold(place, tmp_path):
    layer = Labels(np.ones((3, 4, 5), np.uint8), units=("mm",) * 3, **place)
    with pytest.raises(RuntimeError, match="cannot hold the place of"):
        saved(layer, tmp_path / "labels.tif")
    assert not (tmp_path / "labels.tif").exists()


@pytest.mark.parametrize("shape, label", [((40, 48), 2), ((40, 48), 300), ((5, 40, 48), 70_000)])
def test_a_tiff_takes_labels_that_are_no_volume_of_classes(shape, label, tmp_path):
    # napari may take this writer for any labels, as its own has the same suffixes.
    labels = np.zeros(shape, np.int32)
    labels[..., 3:9] = label
    path = saved(Labels(labels), tmp_path / "labels.tif")
    assert np.array_equal(tifffile.imread(path), labels)
    assert list(tmp_path.iterdir()) == [path]


def test_a_sheared_layer_is_refused(tmp_path):
    layer = Labels(np.ones((3, 4, 5), np.uint8), shear=(0.2, 0, 0), units=("mm",) * 3)
    with pytest.raises(RuntimeError, match="degrees off the right angle"):
        saved(layer, tmp_path / "labels.nii")
