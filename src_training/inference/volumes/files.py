"""A volume's file becomes a file of labels."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from src_training.errors import InputError
from src_training.inference.image_files import NARROWEST
from src_training.inference.model_file import SegmentationModel
from src_training.inference.volumes.cleanup import clean_up
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.streaming import Grown
from src_training.io.images import IMAGE_SUFFIXES, image_files, image_shape
from src_training.io.volumes.base import Kind, Volume
from src_training.io.volumes.label_writing import write_labels_like
from src_training.io.volumes.registry import volume_kind

Stream = Callable[[Volume, LabelStore], Iterator[Grown]]
"""`stream` or `stream_on`, all but the volume and its labels told."""

_WRITTEN: dict[Kind, str] = {
    "nifti": ".nii.gz",
    "dicom": ".nii.gz",
    "tiff": ".tif",
    "zarr2": ".zarr",
    "zarr3": ".zarr",
}
_STRIPPED = (".nii", ".nii.gz", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr")


@dataclass(frozen=True)
class VolumeOptions:
    """What a person asks for beside the model; see `Plan`.

    Attributes
    ----------
    axis, orthogonal, flips, threshold
        As there.
    largest, filled
        Names of classes.
    """

    axis: int = 0
    orthogonal: bool = False
    flips: bool = False
    threshold: float | None = None
    largest: Sequence[str] = ()
    filled: Sequence[str] = ()


def plan_for(model: SegmentationModel, volume: Volume, wishes: VolumeOptions) -> Plan:
    """The plan of a volume.

    Raises
    ------
    InputError
        If a class is unknown to the model.
    """
    card = model.card
    threshold = wishes.threshold
    if wishes.orthogonal and threshold is None:
        threshold = card.threshold
    return Plan(
        shape=volume.shape,
        source=_told_apart(volume.path),
        model=model.sha256 or "",
        classes=len(card.classes),
        axis=wishes.axis,
        orthogonal=wishes.orthogonal,
        flips=wishes.flips,
        threshold=threshold,
        largest=_indices(card.classes, wishes.largest, "--keep-largest"),
        filled=_indices(card.classes, wishes.filled, "--fill-holes"),
    )


def labels_file(volume: Volume, folder: Path) -> Path:
    """Where the labels of a volume go: its own format, NIfTI for a DICOM series."""
    name = volume.path.name
    ending = max((each for each in _STRIPPED if name.lower().endswith(each)), key=len, default="")
    suffix = ".nii" if ending == ".nii" else _WRITTEN[volume.kind]
    return folder / (name[: len(name) - len(ending)] + suffix)


def volumes_among(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The volumes among files and folders, those in folders too; and the other inputs.

    A TIFF or zarr array is a volume where it is a grey stack. A folder that
    holds volumes and nothing else is no input any more.
    """
    volumes, others = list[Path](), list[Path]()
    for path in inputs:
        if _is_volume(path):
            volumes.append(path)
            continue
        inside = sorted(path.iterdir()) if path.is_dir() else []
        found = [each for each in inside if _is_volume(each)]
        volumes += found
        if not found or image_files(path):
            others.append(path)
    return volumes, others


def _is_volume(path: Path) -> bool:
    kind = volume_kind(path)
    if kind is None or kind in ("nifti", "dicom") or path.suffix.lower() not in IMAGE_SUFFIXES:
        return kind is not None
    try:
        shape = image_shape(path)
    except InputError:
        # A group of arrays, as OME-Zarr is; what is broken says so when it is opened.
        return path.is_dir()
    return len(shape) == 3 and shape[-1] >= NARROWEST


def segment_volume(volume: Volume, plan: Plan, target: Path, stream: Stream) -> Iterator[Grown]:
    """Segment a volume into `target`; what was begun before is gone on with.

    The labels grow in ``<target>.part`` beside it, which is removed once
    `target` is whole.

    Yields
    ------
    Grown
        See `stream`.

    Raises
    ------
    InputError
        If labels of another plan were begun there, or a plane cannot be read
        or segmented; finished portions are kept.
    OSError
        If the disk is full; likewise.
    """
    folder = target.with_name(target.name + ".part")
    growing = LabelStore(folder, plan)
    yield from stream(volume, growing)
    clean_up(growing.labels, largest=plan.largest, filled=plan.filled)
    write_labels_like(volume, growing.labels, target)
    shutil.rmtree(folder)


def _indices(classes: list[str], names: Sequence[str], option: str) -> tuple[int, ...]:
    for name in names:
        if name not in classes[1:]:
            known = ", ".join(classes[1:])
            raise InputError(f"{option} {name}: the model has no such class; expected {known}")
    return tuple(sorted(classes.index(name) for name in set(names)))


def _told_apart(path: Path) -> str:
    """A volume by its place, size and time; a folder by its place and its newest file."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    found = [each.stat() for each in files]
    newest = max((each.st_mtime_ns for each in found), default=0)
    return f"{path.resolve()}, {sum(each.st_size for each in found)} bytes, {newest}"
