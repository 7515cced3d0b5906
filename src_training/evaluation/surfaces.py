"""Distances between the surfaces of two masks, in two or three dimensions, computed by MONAI.

Both masks are bool arrays of one shape with at least one true pixel each;
where one of them is empty the distances are not defined, and it is for the
caller to say what that means. `spacing` is the size of a pixel along each
axis, and sets the unit of the distances.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from src_training.data.preprocessing.geometry import Mask


def hausdorff95(predicted: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """HD95: the larger of the two 95th percentiles of the surface distances.

    Examples
    --------
    >>> true = np.zeros((40, 40), bool)
    >>> true[10:20, 10:20] = True
    >>> hausdorff95(np.roll(true, 3, axis=1), true, (1, 1))
    3.0
    """
    from monai.metrics import compute_hausdorff_distance

    with _deprecation_ignored():
        return float(compute_hausdorff_distance(**_inputs(predicted, true, spacing), percentile=95))


def surface_dice(predicted: Mask, true: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """Share of both surfaces that lies within a tolerance of the other surface, in [0, 1].

    Nikolov et al. 2018, arXiv 1809.04430.

    Examples
    --------
    >>> true = np.zeros((40, 40), bool)
    >>> true[10:20, 10:20] = True
    >>> surface_dice(np.roll(true, 3, axis=1), true, (1, 1), tolerance=3)
    1.0
    """
    from monai.metrics import compute_surface_dice

    with _deprecation_ignored():
        return float(
            compute_surface_dice(**_inputs(predicted, true, spacing), class_thresholds=[tolerance])
        )


def average_surface_distance(predicted: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """ASSD: the mean distance of both surfaces from each other (symmetric).

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> average_surface_distance(true, true, (1, 1))
    0.0
    """
    from monai.metrics import compute_average_surface_distance

    with _deprecation_ignored():
        return float(
            compute_average_surface_distance(**_inputs(predicted, true, spacing), symmetric=True)
        )


def _inputs(predicted: Mask, true: Mask, spacing: Sequence[float]) -> dict[str, Any]:
    """Arguments common to MONAI's surface metrics: one sample with one channel."""
    # Cropped first: a volume need not be copied whole for a small organ.
    box = _bounding_box(predicted | true)
    y_pred, y = (
        torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (predicted, true)
    )
    return {"y_pred": y_pred, "y": y, "include_background": True, "spacing": [*map(float, spacing)]}


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The bounding box of a mask and one pixel around it, inside the array."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        positions = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, int(positions[0]) - 1), int(positions[-1]) + 2))
    return tuple(box)


@contextmanager
def _deprecation_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        # MONAI 1.6 calls its own deprecated argument.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        yield
