"""Validation of a domain before it is used: a summary of every case, and all problems."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import require_size
from src_training.data.classes import MaskReading, StoredMask, read_classes
from src_training.data.layouts.files import FolderFiles, SeveralChannels, read_folder
from src_training.data.layouts.listing import no_images
from src_training.data.summary import (
    Array,
    Finding,
    Masks,
    Note,
    Problem,
    Values,
    require_foreground,
    summarise_case,
)
from src_training.data.volume_validation import inspect_volumes
from src_training.errors import InputError, memory_of
from src_training.io.decoders.tiff import series_notes
from src_training.io.images import read_image
from src_training.io.masks import MaskValues, field_of_view, read_mask, read_mask_values


@dataclass(frozen=True)
class _LazyCase:
    """Functions that read a case, and the names of its files in messages."""

    name: str
    image_file: str
    image: Callable[[], Array]
    mask_file: str = ""
    mask: Callable[[], tuple[Array, MaskValues]] | None = None
    fov_file: str = ""
    fov: Callable[[], Array] | None = None


def inspect_folder(
    folder: Path,
    masks: Masks | None = "required",
    exclude: Collection[str] = (),
    *,
    class_values: Values | None = None,
    channel: str | None = None,
    resample: bool = False,
) -> Iterator[Finding]:
    """Inspect every case of a folder of any layout.

    A volume is one case; its thumbnail shows the slice with the most foreground.
    Errors of `Domain.from_folder` are problems here, and all of them are
    reported. The masks of images are read twice.

    Parameters
    ----------
    folder
        Path of the folder.
    masks
        Whether an image without mask is a problem. If None, it is one if other
        images have masks.
    exclude, class_values, channel
        See `Domain.from_folder`.
    resample
        Whether masks of volumes may be resampled to the grid of their image.

    Yields
    ------
    CaseSummary, Problem or Note
        Findings for each case, in the order of the names. The summary of a case
        with an invalid mask is without the mask.
    """
    folder = Path(folder)
    try:
        files = read_folder(folder, exclude, channel)
    except SeveralChannels as error:
        yield Problem(folder.name, str(error), channels=error.channels)
        return
    except InputError as error:
        yield Problem(folder.name, str(error))
        return
    yield from _folder_problems(files)
    if masks is None:
        masks = "required" if files.masks else "optional"
    given = files.class_values if class_values is None else class_values
    if files.volumes:
        findings = inspect_volumes(files, masks, class_values=given, resample=resample)
        yield from require_foreground(findings, folder.name)
        return
    if not files.images:
        yield Problem(folder.name, no_images(folder))
    cases = [_on_disk(stem, files) for stem in files.images]
    reading = _read_classes(cases, given)
    yield from (Note(note, reading.other_values) for note in reading.notes)
    findings = (finding for case in cases for finding in _inspect(case, reading, masks))
    yield from require_foreground(findings, folder.name)
    yield from _several_series(files)


def inspect_array(
    name: str, image: Array, mask: Array | None, class_values: Values | None, domain: str
) -> Iterator[Finding]:
    """Inspect one case in memory, such as a layer of a viewer; see `inspect_folder`.

    Parameters
    ----------
    name
        Name of the case.
    image
        (H, W) or (H, W, C).
    mask
        (H, W) of stored values; None if there is none.
    class_values
        See `Domain.from_folder`; None to infer them from the mask.
    domain
        Name of the domain, for messages.

    Raises
    ------
    InputError
        If `class_values` are invalid.
    """
    array = None if mask is None else partial(_with_values, np.asarray(mask))
    case = _LazyCase(name, name, partial(np.asarray, image), f"mask of {name}", array)
    reading = _read_classes([case], class_values)
    yield from map(Note, reading.notes)
    yield from require_foreground(_inspect(case, reading, "optional"), domain)


def _with_values(labels: Array) -> tuple[Array, MaskValues]:
    return labels, MaskValues.of(labels)


def _folder_problems(files: FolderFiles) -> Iterator[Finding]:
    """Problems with files that prevent the use of the folder, and notes about unused files."""
    for file in files.mixed:
        mixed = f"{file} lies beside volumes; expected either volumes or images"
        yield Problem(files.name_of(file), mixed, files.name_of(file))
    for file, sentence in files.duplicates.items():
        yield Problem(files.name_of(file), sentence, files.name_of(file))
    if alone := files.describe_unpaired_files():
        yield Problem(files.name_of(files.unpaired_files[0]), alone, unused=True)
    yield from map(Note, files.notes)


def _several_series(files: FolderFiles) -> Iterator[Note]:
    """A note if TIFF files have more images than the one that is read."""
    notes = list[str]()
    for path in files.images.values():
        with suppress(InputError):  # A broken file is already reported as a problem.
            notes += series_notes(path)
    if notes:
        more = f"; the same of {len(notes) - 1:,} more" if notes[1:] else ""
        yield Note(f"{notes[0]}{more}.")


def _on_disk(stem: str, files: FolderFiles) -> _LazyCase:
    image, mask, fov = files.images[stem], files.masks.get(stem), files.fovs.get(stem)
    return _LazyCase(
        stem,
        files.name_of(image),
        partial(read_image, image),
        files.name_of(mask) if mask else "",
        partial(read_mask_values, mask) if mask else None,
        files.name_of(fov) if fov else "",
        partial(read_mask, fov) if fov else None,
    )


def _inspect(case: _LazyCase, reading: MaskReading, masks: Masks) -> Iterator[Finding]:
    try:
        with memory_of(case.image_file, "a smaller image"):
            image = _require_image(case.image(), case.image_file)
            size = (image.shape[0], image.shape[1])
            indices, problems = _read_indices(case, size, reading, masks)
            summary = summarise_case(case.name, image, indices, reading.classes.names)
    except InputError as error:
        yield Problem(case.image_file, str(error), case.name)
        return
    yield from problems
    yield summary


def _read_classes(cases: Iterable[_LazyCase], class_values: Values | None) -> MaskReading:
    """Determine the classes of all readable masks."""
    stored = []
    for case in cases:
        if case.mask is None:
            continue
        try:
            values = case.mask()[1]
        except InputError:
            continue
        stored.append(StoredMask(case.mask_file, values, partial(_labels, case.mask)))
    return read_classes(stored, class_values)


def _labels(mask: Callable[[], tuple[Array, MaskValues]]) -> Array:
    return mask()[0]


def _require_image(image: Array, file: str) -> Array:
    """Return the image if `Preprocessing.prepare` supports its shape."""
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (1, 3, 4)):
        return image
    raise InputError(
        f"{file} has shape {image.shape}; expected a single image, "
        "(H, W) or (H, W, C) with C = 1, 3 or 4"
    )


def _read_indices(
    case: _LazyCase, size: tuple[int, int], reading: MaskReading, masks: Masks
) -> tuple[NDArray[np.uint8] | None, list[Problem]]:
    """Read the class indices (H, W) of the mask, None if it is invalid, and collect problems."""
    problems, indices = [], None
    try:
        if case.fov and not field_of_view(_require_size_of(case.fov(), size, case.fov_file)).any():
            raise InputError(
                f"{case.fov_file} is an empty field of view; expected at least one pixel"
            )
    except InputError as error:
        problems.append(Problem(case.fov_file, str(error), case.name))
    if case.mask is None:
        if masks == "required":
            missing = f"{case.image_file} has no mask; expected one of the same stem in masks/"
            problems.append(Problem(case.image_file, missing, case.name))
        return None, problems
    try:
        labels = _require_size_of(case.mask()[0], size, case.mask_file)
        if case.mask_file in reading.problems:
            raise InputError(reading.problems[case.mask_file])
        indices = reading.classes.indices(labels)
    except InputError as error:
        problems.append(Problem(case.mask_file, str(error), case.name))
    return indices, problems


def _require_size_of(labels: Array, size: tuple[int, int], file: str) -> Array:
    require_size(labels.shape, size, file)
    return labels
