"""Segmenting a volume slab by slab into a file of labels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError, memory_of, naming
from src_training.inference.bn_adaptation import Shift
from src_training.inference.expected_dice import Sums, are_foreign, label_sums
from src_training.inference.image_threshold import quantise
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes.cleanup import clean_up
from src_training.inference.volumes.job import AXES, VolumeJob
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.slabs import Slab
from src_training.io.decoders.base import as_input_error, require_memory
from src_training.io.folder_lock import hold
from src_training.io.volumes.base import Volume
from src_training.io.volumes.dicom import DICOM
from src_training.io.volumes.registry import format_of, list_folder, write_labels_like

_CHECKED_SLICES = 3
"""Number of slices that `is_foreign` checks."""


@dataclass(frozen=True)
class SlabProgress:
    """Progress of segmenting a volume.

    Attributes
    ----------
    done, total
        Number of slabs, including those of averaging three axes.
    slab
        The slab that was just finished; None at the start, and when the file is written.
    sums
        `LabelStore.sums` of the labels before clean-up; only when the file is written.
    """

    done: int
    total: int
    slab: Slab | None = None
    sums: Sums | None = None


SlabSegmenter = Callable[[Any, LabelStore], Iterator[SlabProgress]]
"""`segment_slabs`, or one that shares the slabs out, with all but the voxels and store bound."""


def find_volumes(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate volumes, including those in folders, from other inputs.

    A folder with volumes is replaced by these volumes and by its images.
    """
    volumes, others = list[Path](), list[Path]()
    for path in inputs:
        if format_of(path) is not None or path.suffix.lower() in DICOM.suffixes:
            volumes.append(path)
            continue
        inside, images = list_folder(path)
        volumes += inside
        others += images if inside else [path]
    return volumes, others


def segment_volume(
    volume: Volume,
    job: VolumeJob,
    target: Path,
    segment: SlabSegmenter,
    *,
    changed_source: bool = False,
) -> Iterator[SlabProgress]:
    """Segment a volume into a file of labels; an interrupted segmentation is resumed.

    Labels are stored in the folder ``<target>.part``, which this process locks and
    removes when the file is written. Before the file is written, this checks that no slab is
    missing and that the volume has not changed.

    Parameters
    ----------
    volume, job
        Volume to segment, and the options.
    target
        File of the labels.
    segment
        Function that segments the slabs.
    changed_source
        Whether to resume although the volume has changed since the labels were begun.

    Yields
    ------
    SlabProgress
        See `segment_slabs`; the last one, with the sums, after the file is written.

    Raises
    ------
    InputError
        If the folder contains labels of another job or is locked by another process,
        a slice cannot be read or segmented, or the volume or the folder
        changed during the segmentation; finished slabs are kept.
    OSError
        If the disk is full; finished slabs are kept.
    """
    folder = target.with_name(target.name + ".part")
    with hold(folder) as held:
        if changed_source:
            job.accept_source(folder / "plan.json")
        store = LabelStore(folder, job, held)
        with naming(volume.path):
            yield from segment(volume.voxels, store)
        store.require_whole()
        with store.readable():
            clean_up(store.labels, largest=job.largest, filled=job.filled)
        if not changed_source:
            job.refuse_changed(volume.path)
        with store.readable():
            write_labels_like(volume, store.labels, target)
        sums = store.sums()
        total = len(store.slabs) + len(store.averaged_slabs)
        store.remove()
    with suppress(OSError):  # Windows cannot remove a folder whose lock file is open
        folder.rmdir()
    yield SlabProgress(total, total, sums=sums)


def segment_slabs(predictor: Predictor, voxels: Any, store: LabelStore) -> Iterator[SlabProgress]:
    """Segment every pending slab; closing the iterator stops after the current one.

    Peak memory does not depend on the number of slices: it holds one slab, its labels,
    and a batch of tiles.

    Parameters
    ----------
    predictor
        Predictor with the model and the options of the job.
    voxels
        (Z, Y, X), NumPy, dask or zarr.
    store
        Store of the labels; finished slabs are skipped.

    Yields
    ------
    SlabProgress
        At the start, and after every slab.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented; finished slabs are kept.
    OSError
        If the disk is full; finished slabs are kept.
    """
    slabs, pending = store.slabs, store.pending
    done, total = len(slabs) - len(pending), len(slabs) + len(store.averaged_slabs)
    yield SlabProgress(done, total)
    for slab in pending:
        store.write(slab, *segment_slab(predictor, voxels, store.job, slab))
        done += 1
        yield SlabProgress(done, total, slab)
    for number, slab in enumerate(store.average(), done + 1):
        yield SlabProgress(number, total, slab)


def segment_slab(
    predictor: Predictor, voxels: Any, job: VolumeJob, slab: Slab
) -> tuple[NDArray[np.uint8], Sums | None]:
    """Segment one slab.

    Parameters
    ----------
    predictor
        Predictor with the model and the options of the job.
    voxels
        (Z, Y, X), NumPy, dask or zarr; only the slab and its neighbouring
        slices are read.
    job, slab
        The job, and the slices to segment.

    Returns
    -------
    ndarray
        Values for `LabelStore.write`.
    ndarray or None
        `label_sums` of its slices, (slices, K - 1, 4); None if three axes are averaged.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented; the message names the slices.
    """
    neighbours, axis = predictor.model.card.preprocessing.neighbours, slab.axis
    region, before = slab.with_neighbours(neighbours, job.shape[axis])
    part = _read(voxels, region, slab)
    segmented, sums = [], []
    for number in range(slab.stop - slab.start):
        pixels = neighbouring(part, before + number, neighbours, axis)
        try:
            with memory_of("it", "a smaller slice"):
                maps = predictor.predict(pixels if neighbours > 1 else pixels[..., 0])
        except InputError as error:
            where = f"slice {slab.start + number} along {AXES[axis]}"
            raise InputError(f"{where}: {error}") from None
        if job.orthogonal:
            segmented.append(quantise(maps[1:] if job.maps == 1 else maps))
        else:
            threshold = job.threshold
            if threshold is None:
                threshold = predictor.model.card.threshold_for(maps)
            segmented.append(labels_from(maps, threshold))
            sums.append(label_sums(maps, segmented[-1]))
    values = np.stack(segmented, axis=axis + 1 if job.orthogonal else axis)
    return values, None if job.orthogonal else np.stack(sums)


def is_foreign(predictor: Predictor, voxels: Any, job: VolumeJob, sums: Sums) -> bool:
    """Tell whether a volume is unlike those that the model was made for; see `are_foreign`.

    The three slices with the most labelled pixels are segmented again, and the majority decides.

    Parameters
    ----------
    predictor, voxels, job
        See `segment_slab`.
    sums
        Sums from `segment_volume`.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented.
    """
    card, axis = predictor.model.card, job.axes[0]
    if card.quality is None or card.quality.known is None:
        return False
    neighbours, shifts = card.preprocessing.neighbours, list[Shift | None]()
    for index in np.argsort(-sums[:, :, 0].sum(1), kind="stable")[:_CHECKED_SLICES]:
        slab = Slab(axis, int(index), int(index) + 1)
        region, before = slab.with_neighbours(neighbours, job.shape[axis])
        pixels = neighbouring(_read(voxels, region, slab), before, neighbours, axis)
        predictor.predict(pixels if neighbours > 1 else pixels[..., 0], shifts=shifts)
    foreign = are_foreign(card.quality, shifts)
    return 2 * sum(foreign) > len(foreign)


def _read(voxels: Any, region: tuple[slice, ...], slab: Slab) -> NDArray[Any]:
    """Read a region; dask reads one chunk of the source at a time, which bounds the memory."""
    slices = f"slices {slab.start} to {slab.stop - 1} along {AXES[slab.axis]}"
    with as_input_error(slices, "whole chunks"):
        part = voxels[region]
        size = " × ".join(map(str, part.shape))
        require_memory(slices, f"of {size} voxels", part.size, part.dtype.itemsize)
        read = part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
        return np.asarray(read)
