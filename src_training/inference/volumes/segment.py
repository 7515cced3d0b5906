"""Segmenting a volume slab by slab, from its voxels to a file of labels."""

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


@dataclass(frozen=True)
class SlabProgress:
    """Progress of segmenting a volume.

    Attributes
    ----------
    done, total
        Number of slabs; the averaging of three axes counts too.
    slab
        The slab that was finished last; None at the start, and once the file is written.
    sums
        `LabelStore.sums` of the labels before they were cleaned up, once the file is written.
    """

    done: int
    total: int
    slab: Slab | None = None
    sums: Sums | None = None


SlabSegmenter = Callable[[Volume, LabelStore], Iterator[SlabProgress]]
"""`segment_slabs` or `segment_slabs_on`, all other arguments bound."""


def find_volumes(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate files and folders into volumes, those in the folders included, and other inputs.

    A folder that holds volumes is replaced by them and by its images.
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
    """Segment a volume into a file of labels, resuming what was begun before.

    Labels are stored in ``<target>.part`` beside the file, which one process
    holds at a time and which is removed once the file is written. Before that
    every slab, and the volume itself, is checked to be what it was.

    Parameters
    ----------
    volume, job
        What to segment, and how.
    target
        The file of the labels.
    segment
        Segments the slabs.
    changed_source
        Whether to go on though the volume is not what it was when the labels were begun.

    Yields
    ------
    SlabProgress
        See `segment_slabs`; a last one, with the sums, once the file is written.

    Raises
    ------
    InputError
        If labels of another job were begun there or another process is at them,
        a slice cannot be read or segmented, or the volume or the folder of the
        labels changed meanwhile; finished slabs stay.
    OSError
        If the disk is full; finished slabs stay.
    """
    folder = target.with_name(target.name + ".part")
    with hold(folder) as held:
        if changed_source:
            job.accept_source(folder / "plan.json")
        store = LabelStore(folder, job, held)
        with naming(volume.path):
            yield from segment(volume, store)
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
    with suppress(OSError):  # Windows removes no folder that holds a lock
        folder.rmdir()
    yield SlabProgress(total, total, sums=sums)


def segment_slabs(predictor: Predictor, voxels: Any, store: LabelStore) -> Iterator[SlabProgress]:
    """Segment every pending slab; closing the iterator stops after the present one.

    Peak memory does not depend on the number of slices: a slab, its labels,
    and a batch of tiles.

    Parameters
    ----------
    predictor
        Has the model and the options of the job.
    voxels
        (Z, Y, X), NumPy, dask or zarr.
    store
        Where the labels go; finished slabs are skipped.

    Yields
    ------
    SlabProgress
        At the start, and after every slab.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented; finished slabs stay.
    OSError
        If the disk is full; finished slabs stay.
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
        Has the model and the options of the job.
    voxels
        (Z, Y, X), NumPy, dask or zarr; only the slab and its neighbouring
        slices are read.
    job, slab
        The job, and the slices to segment.

    Returns
    -------
    ndarray
        As `LabelStore.write` takes it.
    ndarray or None
        `label_sums` of its slices, (slices, K - 1, 4); None where three axes are averaged.

    Raises
    ------
    InputError
        If a slice cannot be read or segmented; names the slices.
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
            own = predictor.model.card.threshold_for(maps)
            segmented.append(labels_from(maps, own if job.threshold is None else job.threshold))
            sums.append(label_sums(maps, segmented[-1]))
    values = np.stack(segmented, axis=axis + 1 if job.orthogonal else axis)
    return values, None if job.orthogonal else np.stack(sums)


def is_foreign(predictor: Predictor, voxels: Any, job: VolumeJob, sums: Sums) -> bool:
    """Whether a volume is of another kind than what the model was made for, see `are_foreign`.

    Most of the three slices on which most is labelled decide; they are segmented once more.

    Parameters
    ----------
    predictor, voxels, job
        As `segment_slab` takes them.
    sums
        What `segment_volume` returned.

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
    """Read a region into memory, one chunk of the source at a time to bound the memory."""
    slices = f"slices {slab.start} to {slab.stop - 1} along {AXES[slab.axis]}"
    with as_input_error(slices, "whole chunks"):
        part = voxels[region]
        size = " × ".join(map(str, part.shape))
        require_memory(slices, f"of {size} voxels", part.size, part.dtype.itemsize)
        read = part.compute(scheduler="synchronous") if hasattr(part, "compute") else part
        return np.asarray(read)
