"""The planes of a portion of a volume, segmented one after the other in memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError
from src_training.inference.image_threshold import quantise
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes.job import AXES, Plan
from src_training.inference.volumes.slabs import Slab


def segment_portion(
    predictor: Predictor, voxels: Any, plan: Plan, portion: Slab
) -> NDArray[np.uint8]:
    """Segment one portion.

    Parameters
    ----------
    predictor
        Of the plan's model and options.
    voxels
        (Z, Y, X), NumPy, dask or zarr; only the portion and the planes beside
        it are read.
    plan, portion
        What is to be made, and of which planes.

    Returns
    -------
    ndarray
        As `LabelStore.keep` takes it.

    Raises
    ------
    InputError
        If a plane cannot be read or segmented; names the planes.
    """
    neighbours, axis = predictor.model.card.preprocessing.neighbours, portion.axis
    region, before = portion.with_neighbours(neighbours, plan.shape[axis])
    slab = _read(voxels, region, portion)
    planes = []
    for number in range(portion.stop - portion.start):
        plane = neighbouring(slab, before + number, neighbours, axis)
        try:
            maps = predictor.predict(plane if neighbours > 1 else plane[..., 0])
        except InputError as error:
            where = f"plane {portion.start + number} along {AXES[axis]}"
            raise InputError(f"{where}: {error}") from None
        if plan.orthogonal:
            planes.append(quantise(maps[1:] if plan.maps == 1 else maps))
        else:
            own = predictor.model.card.threshold_for(maps)
            planes.append(labels_from(maps, own if plan.threshold is None else plan.threshold))
    return np.stack(planes, axis=axis + 1 if plan.orthogonal else axis)


def _read(voxels: Any, region: tuple[slice, ...], portion: Slab) -> NDArray[Any]:
    """A region in memory; one chunk of the source at a time, so that memory stays bounded."""
    try:
        part = voxels[region]
        read = part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
        return np.asarray(read)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on a broken chunk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"planes {portion.start} to {portion.stop - 1} along {AXES[portion.axis]} cannot be "
            f"read ({reason}); expected whole chunks"
        ) from error
