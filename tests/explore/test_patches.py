"""Augmented views of patches: exact symmetries, the same in every call."""

import numpy as np
import pytest
import torch

from src_training.data.augmentation import Augmentation
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.explore.patches import ViewGenerator, cut_patches
from tests.explore.scans import domain

CORNER = (2, 4)


def first_image():
    return next(prepare_cases(domain(), IntensityPreprocessing(percentiles=(0, 100))))


def shown(augmentation, count):
    """The first patch of the first image, with its views."""
    [patch] = cut_patches(first_image(), 32, [CORNER])
    return ViewGenerator(augmentation, 32, count, seed=0)(patch)


def without_style(**geometry):
    """An augmentation of only flips and rotations."""
    off = dict.fromkeys(("brightness", "contrast", "gamma", "blur", "noise", "illumination"), 0)
    return Augmentation.model_validate({"resolution": 1, **off, **geometry})


def test_masks_follow_the_symmetry_of_their_view():
    found = shown(without_style(), 20)
    # The mask is true where the image is above half of its range.
    image = first_image().original.image
    half = (0.5 - image.min()) / (image.max() - image.min())
    np.testing.assert_array_equal(found.images[:, 0] > half, found.masks == 1)
    assert len({view.tobytes() for view in found.images}) > 4
    assert found.fovs.all()


@pytest.mark.parametrize(
    ("geometry", "count"),
    [
        ({"flips": False, "turn": 15}, 1),
        ({"flips": False, "turn": 90}, 3),
        ({"flips": False}, 4),
        ({"turn": 15}, 2),
        ({}, 8),
    ],
)
def test_views_have_the_symmetries_of_the_augmentation(geometry, count):
    found = shown(without_style(**geometry), 80)
    assert len({view.tobytes() for view in found.images.round(4)}) == count


def test_patches_keep_their_place_and_their_field_of_view():
    fov = np.zeros((70, 40), bool)
    fov[:20] = True
    scans = domain(fovs=[fov, None])
    [image, _] = prepare_cases(scans, IntensityPreprocessing(percentiles=(0, 100)))
    [patch] = cut_patches(image, 32, [CORNER])
    assert (patch.case, patch.corner) == ("tall", CORNER)
    np.testing.assert_array_equal(patch.fovs[0], fov[2:34, 4:36])
    np.testing.assert_array_equal(patch.masks[0], scans[0].mask[2:34, 4:36])


def test_patches_without_mask_have_views_without_masks():
    [image, _] = prepare_cases(domain(masks=False), IntensityPreprocessing(percentiles=(0, 100)))
    [patch] = cut_patches(image, 32, [CORNER])
    assert ViewGenerator(Augmentation(), 32, 2, seed=0)(patch).masks is None


def test_views_leave_the_random_generator_as_it_was():
    before = torch.random.get_rng_state()
    shown(Augmentation(), 2)
    assert torch.equal(before, torch.random.get_rng_state())
