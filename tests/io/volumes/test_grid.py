"""Comparing grids, and resampling labels, in world coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from src_training.errors import InputError
from src_training.io.volumes.grid import Grid, resample_labels

SHAPE = (5, 6, 7)

spacings = st.tuples(*[st.floats(0.2, 5)] * 3)
angles = st.tuples(*[st.floats(-3, 3)] * 3)
origins = st.tuples(*[st.floats(-300, 300)] * 3)


@st.composite
def affines(draw):
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*draw(angles)) @ np.diag(draw(spacings))
    affine[:3, 3] = draw(origins)
    return affine


def moved(affine, index):
    """The affine of a grid that begins at another index."""
    shift = np.eye(4)
    shift[:3, 3] = index
    return affine @ shift


@given(affines())
def test_rounding_of_headers_is_no_difference(affine):
    grid = Grid.of_affine((300, 400, 500), affine)
    for rounded in (affine.astype(np.float32), affine * (1 + 1e-6), np.round(affine, 5)):
        assert grid.differences(Grid.of_affine(grid.shape, rounded)) == ()


@given(affines(), st.sampled_from([0, 1, 2]), st.sampled_from([-1, -0.5, 0.5, 3]))
def test_half_a_voxel_is_a_difference(affine, axis, offset):
    index = np.zeros(3)
    index[axis] = offset
    [sentence] = Grid.of_affine(SHAPE, affine).differences(
        Grid.of_affine(SHAPE, moved(affine, index))
    )
    assert sentence.startswith("origin (") and " against (" in sentence


@given(affines(), st.floats(1.01, 2))
def test_another_spacing_is_a_difference(affine, factor):
    other = Grid.of_affine(SHAPE, affine @ np.diag([factor, 1, 1, 1]))
    assert "spacing" in Grid.of_affine(SHAPE, affine).differences(other)[0]


@given(affines())
def test_a_turned_grid_is_a_difference(affine):
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(np.radians(2))
    found = Grid.of_affine(SHAPE, affine).differences(Grid.of_affine(SHAPE, affine @ turn))
    assert "degrees apart" in " ".join(found)


def test_what_is_not_known_is_not_compared():
    placed, bare = Grid.of_affine(SHAPE, np.eye(4)), Grid(SHAPE)
    assert placed.differences(bare) == bare.differences(placed) == ()
    assert Grid(SHAPE, (2.0, 1.0, 1.0)).differences(placed) != ()


@given(affines(), st.integers(0, 2**32 - 1))
def test_a_crop_is_put_back_in_its_place(affine, seed):
    labels = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    labels[2, 3, 4] = 1
    whole = Grid.of_affine(SHAPE, affine)
    crop = Grid.of_affine((3, 4, 5), moved(affine, (1, 1, 1)))
    expected = np.zeros_like(labels)
    expected[1:4, 1:5, 1:6] = labels[1:4, 1:5, 1:6]
    back, found = resample_labels(labels[1:4, 1:5, 1:6], crop, whole, "mask")
    assert np.array_equal(back, expected) and found.outside == 0
    cropped, found = resample_labels(labels, whole, crop, "mask")
    assert np.array_equal(cropped, labels[1:4, 1:5, 1:6])
    assert found.outside == np.count_nonzero(labels) - np.count_nonzero(cropped)
    assert found.lost == tuple({*np.unique(labels)} - {0, *np.unique(cropped)})


def test_a_coarser_mask_fills_the_finer_grid():
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[1, 0, 1] = 3
    coarse = moved(np.diag([2.0, 2, 2, 1]), (0.25, 0.25, 0.25))  # edges meet
    fine, found = resample_labels(
        labels, Grid.of_affine((2, 2, 2), coarse), Grid.of_affine((4, 4, 4), np.eye(4)), "mask"
    )
    expected = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.array_equal(fine, expected) and found.outside == 0


def test_nothing_left_is_refused():
    labels = np.ones((2, 2, 2), np.uint8)
    here, there = (Grid.of_affine((2, 2, 2), moved(np.eye(4), (z, 0, 0))) for z in (0, 9))
    with pytest.raises(InputError, match=r"a\.nii is empty .* 8 of 8 labelled voxels lie outside"):
        resample_labels(labels, here, there, "a.nii")
    with pytest.raises(InputError, match="is not recorded"):
        resample_labels(labels, here, Grid((2, 2, 2)), "a.nii")
