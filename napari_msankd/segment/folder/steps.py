"""Generators for a worker: segment a folder, and open a result."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_msankd.readers import VOLUME, volume_layer
from napari_msankd.segment.folder.state import FolderProgress, FolderRequest
from napari_msankd.segment.provenance import class_attributes
from napari_msankd.segment.quality import quality_of
from napari_msankd.torch_import import gc_paused, preload
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.inference.model_card import ModelCard
    from src_training.reports.triage import TriageEntry

_REVIEWED = 0.2
"""Minimum share of the files in the list to review; the default of the command line."""


@dataclass(frozen=True)
class FileStep:
    """Item of a run after each file.

    Attributes
    ----------
    entry
        Result of the file, with its expected Dice.
    progress
        Progress of the run.
    """

    entry: "TriageEntry"
    progress: FolderProgress

    @property
    def done(self) -> int:
        """Number of files done, for napari's progress bar."""
        return self.progress.done

    @property
    def total(self) -> int:
        """Number of all files."""
        return self.progress.total


@dataclass(frozen=True)
class FolderEnd:
    """Last item of a run, after the table and the page are written.

    Attributes
    ----------
    done, total
        Number of files done, and of all files.
    failed, review
        Number of files that failed, and of files to review.
    notes
        Notes about files in the folder that were not segmented.
    report
        HTML page of the results.
    """

    done: int
    total: int
    failed: int
    review: int
    notes: tuple[str, ...]
    report: Path

    def __str__(self) -> str:
        """Status text."""
        segmented = self.done - self.failed
        text = f"{segmented:,} of {self.total:,} files are segmented"
        lines = [f"✓ {text}; {self.review:,} to review."]
        if self.done < self.total:
            lines = [f"Stopped: {text}. Start resumes."]
        if self.failed:
            lines.append(f"⚠ {self.failed:,} could not be segmented; the table says why.")
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class OpenedFile:
    """Layer data of an image of the folder and its labels.

    Attributes
    ----------
    entry
        Result of the file.
    image
        Data and attributes of the image layer.
    labels
        Data and attributes of the labels layer, without the transform, which is that of the
        image; None if there are no labels.
    """

    entry: "TriageEntry"
    image: tuple[Any, dict[str, Any]]
    labels: tuple[Any, dict[str, Any]] | None


def segment_folder(
    request: FolderRequest, stopped: Callable[[], bool]
) -> Iterator[FileStep | FolderEnd]:
    """Segment the files that are not done yet; table, page and list are always written.

    Parameters
    ----------
    request
        Folder, model and options.
    stopped
        Called before every file and slab; the run stops if it returns True.

    Raises
    ------
    InputError
        If the folder holds nothing to segment, or the output folder has results of another
        model.
    """
    preload()
    with gc_paused():
        from src_training.evaluation.quality.triage import (
            LABELS,
            TriageJob,
            segmented_image,
            triage,
        )
        from src_training.inference.image_files import find_inputs
        from src_training.inference.model_file import load_model
        from src_training.reports.triage import TriageEntry, write_triage

    model = load_model(request.model)
    card = model.card
    angle = request.angle if card.preprocessing.kind == "fundus" else None
    given = {"The camera's angle": angle is not None}
    inputs = find_inputs([request.folder], request.out / LABELS, given)
    if inputs.faults:
        raise InputError(inputs.faults[0])
    targets = inputs.images | inputs.targets
    job = TriageJob(model.sha256 or "", request.flips, None, angle)
    entries, before, start = list[TriageEntry](), 0, time.monotonic()
    review: list[TriageEntry] = []
    try:
        for file, known in triage(
            targets, request.out, request.model, job, request.device, stopped=stopped
        ):
            entries.append(TriageEntry(file, segmented_image(file, card.quality)))
            before += known
            seconds = time.monotonic() - start
            progress = FolderProgress(len(entries), len(targets), before, seconds)
            yield FileStep(entries[-1], progress)
    finally:
        if entries:
            review = write_triage(request.out, entries, card.classes, card.quality, _REVIEWED)
    failed = sum(entry.image is None for entry in entries)
    report = request.out / "triage.html"
    counts = len(entries), len(targets), failed, len(review)
    yield FolderEnd(*counts, tuple(inputs.notes), report)


def open_entry(entry: "TriageEntry", request: FolderRequest) -> Iterator[OpenedFile]:
    """Read an image of the folder and its labels; yields once.

    Raises
    ------
    InputError
        If a file is missing or cannot be read.
    """
    preload()
    from src_training.inference.model_file import read_card

    file = Path(entry.triaged.file)
    pixels, attributes = _image(file)
    labels = None
    if entry.triaged.labels:
        path = request.out / entry.triaged.labels
        labels = _pixels(path), _label_attributes(entry, path, request, read_card(request.model))
        if VOLUME in attributes["metadata"]:
            labels[1]["metadata"][VOLUME] = attributes["metadata"][VOLUME]
    yield OpenedFile(entry, (pixels, attributes), labels)


def _image(file: Path) -> tuple[Any, dict[str, Any]]:
    """Read an image as it was segmented; napari's readers may rotate it or split its channels."""
    from src_training.io.decoders.base import NARROWEST
    from src_training.io.images import read_image
    from src_training.io.volumes.registry import format_of, open_volume

    if format_of(file) is not None:
        voxels, attributes, _ = volume_layer(open_volume(file), labels=False)
        return voxels, attributes
    image = read_image(file)
    planar = image.ndim == 3 and image.shape[-1] < NARROWEST
    if planar and image.shape[-1] not in (3, 4):
        image = image[..., 0]
    rgb = planar and image.ndim == 3
    return image, {"name": file.stem, "rgb": rgb, "metadata": {"source": str(file)}}


def _pixels(path: Path) -> Any:
    from src_training.io.images import read_image
    from src_training.io.volumes.registry import format_of, open_volume

    # Copy, because arrays read from files may be read-only.
    return np.array(open_volume(path).voxels if format_of(path) else read_image(path))


def _label_attributes(
    entry: "TriageEntry", path: Path, request: FolderRequest, card: "ModelCard"
) -> dict[str, Any]:
    classes, image = tuple(card.classes), entry.image
    attributes = class_attributes(Path(entry.triaged.file).stem, classes)
    record: dict[str, Any] = {"model": card.name, "input": entry.triaged.file, "labels": str(path)}
    if image is not None:
        quality = quality_of(image.expected, image.sums.sum(0), image.quality, classes)
        record |= quality.record()
        attributes["features"] |= quality.features()
    record |= {"flips": request.flips, "angle_degrees": request.angle}
    return attributes | {"metadata": {"msankd": record}}
