"""Validation of a domain of volumes: a summary of every volume, and all problems."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from src_training.data.classes import ClassValues, StoredMask, read_classes
from src_training.data.layouts.files import FolderFiles
from src_training.data.summary import (
    CaseSummary,
    Finding,
    Masks,
    Note,
    Problem,
    Values,
    summarise_case,
)
from src_training.data.volume_slices import (
    GridMismatch,
    VolumeSlice,
    slices_of,
    stored_mask_of,
)
from src_training.errors import InputError, memory_of
from src_training.io.volumes.grid import ResampledMask
from src_training.io.volumes.registry import open_volume

_FEW = 3


def inspect_volumes(
    files: FolderFiles,
    masks: Masks,
    *,
    class_values: Values | None = None,
    resample: bool = False,
) -> Iterator[Finding]:
    """Summarise every volume of a folder; see `inspect_folder`.

    Parameters
    ----------
    files
        Files of the folder.
    masks, class_values, resample
        See `inspect_folder`.
    """
    images, labels = files.images, files.masks
    volumes, stored = dict[str, list[VolumeSlice]](), dict[str, StoredMask]()
    for stem, file in images.items():
        name = files.name_of(file)
        if masks == "required" and stem not in labels:
            missing = f"{name} has no mask; expected one of the same stem in masks/"
            yield Problem(name, missing, stem)
            continue
        try:
            slices = list(slices_of(stem, file, labels.get(stem), resample=resample).values())
            if stem in labels:
                stored[stem] = stored_mask_of(labels[stem], files.name_of(labels[stem]))
            volumes[stem] = slices
        except GridMismatch as error:
            mask = labels[stem]
            yield Problem(files.name_of(mask), str(error), stem, other_grid=True)
        except InputError as error:
            yield Problem(name, str(error), stem)
    reading = read_classes(list(stored.values()), class_values)
    yield from (Note(note, reading.other_values) for note in reading.notes)
    for stem, slices in volumes.items():
        mask_name = stored[stem].name if stem in stored else ""
        if mask_name in reading.problems:
            yield Problem(mask_name, reading.problems[mask_name], stem)
            slices = [replace(part, mask=None) for part in slices]
        try:
            with memory_of(files.name_of(images[stem]), "a smaller volume"):
                summary = _summarise_volume(stem, slices, reading.classes)
        except InputError as error:
            yield Problem(files.name_of(images[stem]), str(error), stem)
            continue
        yield summary
        for note in open_volume(images[stem]).notes:
            yield Note(f"{files.name_of(images[stem])}: {note}.")
    yield from _note_resampled(
        {
            files.name_of(labels[stem]): slices[0].resampled
            for stem, slices in volumes.items()
            if slices[0].resampled is not None
        }
    )


def _note_resampled(masks: Mapping[str, ResampledMask]) -> Iterator[Note]:
    """Note each resampled mask; if there are many, only their number and the worst."""
    if len(masks) <= _FEW:
        yield from (Note(f"{name} is {mask}.") for name, mask in masks.items())
        return
    worst = max(masks, key=lambda name: masks[name].outside / max(1, masks[name].labelled))
    total = ResampledMask(
        sum(mask.labelled for mask in masks.values()), sum(mask.outside for mask in masks.values())
    )
    yield Note(f"{len(masks):,} masks are {total}. At the worst, {worst} is {masks[worst]}.")


def _summarise_volume(
    stem: str, slices: Sequence[VolumeSlice], classes: ClassValues
) -> CaseSummary:
    counts = None
    shown = slices[len(slices) // 2]
    if shown.mask is not None:
        table = [_count_voxels(replace(part, classes=classes)) for part in slices]
        counts = dict(zip(classes.names, np.sum(table, axis=0).tolist(), strict=True))
        foreground = [int(row[1:].sum()) for row in table]
        if any(foreground):
            shown = slices[int(np.argmax(foreground))]
    case = replace(shown, classes=classes).read()
    summary = summarise_case(stem, case.image, case.mask, classes.names)
    return replace(summary, counts=counts, slices=len(slices))


def _count_voxels(labelled: VolumeSlice) -> NDArray[np.intp]:
    """Number of voxels of each class."""
    labels = labelled.labels()
    assert labels is not None
    return np.bincount(labels.ravel(), minlength=len(labelled.classes.names))
