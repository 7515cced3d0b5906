"""Distances between surfaces, against MONAI's, which are in single precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from src_training.evaluation.surfaces import (
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
)

SPACINGS = {2: [(1.0, 1.0), (0.7, 2.5)], 3: [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7)]}


def blobs(seed, ndim):
    """Two masks that overlap, touch the border of the array and have holes."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.normal(size=(14,) * ndim), 1.2)
    return field > 0.05, np.roll(field, 2, 0) + 0.1 * random.normal(size=field.shape) > 0.08


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.sampled_from([2, 3]), st.sampled_from([0, 1]))
def test_all_scores_of_surfaces_are_those_of_monai(seed, ndim, which):
    from monai import metrics

    predicted, true = blobs(seed, ndim)
    spacing = SPACINGS[ndim][which]
    if not (predicted.any() and true.any()):
        return
    y_pred, y = (torch.from_numpy(mask)[None, None] for mask in (predicted, true))
    of = {"y_pred": y_pred, "y": y, "include_background": True, "spacing": list(spacing)}
    found = surface_distances(predicted, true, spacing)
    hd95 = metrics.compute_hausdorff_distance(**of, percentile=95)
    # In single precision, a percentile between two distances loses digits with their number.
    assert hausdorff95(found) == pytest.approx(float(hd95), rel=1e-4)
    assd = metrics.compute_average_surface_distance(**of, symmetric=True)
    assert average_surface_distance(found) == pytest.approx(float(assd), rel=1e-6)
    within = metrics.compute_surface_dice(**of, class_thresholds=[0.7])
    assert surface_dice(found, 0.7) == pytest.approx(float(within), rel=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_distances_are_those_of_the_distance_transform(ndim):
    predicted, true = blobs(3, ndim)
    spacing = SPACINGS[ndim][1]
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted, true)]
    maps = [ndimage.distance_transform_edt(~surface, spacing) for surface in surfaces]
    found = surface_distances(predicted, true, spacing)
    np.testing.assert_allclose(found.of_predicted, maps[1][surfaces[0]], atol=1e-9)
    np.testing.assert_allclose(found.of_true, maps[0][surfaces[1]], atol=1e-9)
