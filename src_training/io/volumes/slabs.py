"""Labels a few slices at a time, checked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

# Bytes of labels, as uint8, in memory at a time.
_SLAB = 2**26


def slabs(labels: Any, path: Path, axis: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Successive slabs across an axis.

    Parameters
    ----------
    labels
        (A, B, C), NumPy, dask or zarr, bool or integer.
    path
        What they are written to; named by errors.
    axis
        Across which they are cut.

    Yields
    ------
    ndarray
        uint8, of at most about 64 MB or one slice.

    Raises
    ------
    InputError
        If a value is below 0 or above 255.
    """
    slices = int(labels.shape[axis])
    count = max(1, _SLAB * slices // max(1, int(np.prod(labels.shape, dtype=np.int64))))
    for first in range(0, slices, count):
        slab = np.asarray(labels[(slice(None),) * axis + (slice(first, first + count),)])
        if slab.min() < 0 or slab.max() > 255:
            raise InputError(
                f"labels for {path} run from {slab.min()} to {slab.max()}; "
                "expected integers from 0 to 255"
            )
        yield slab.astype(np.uint8)
