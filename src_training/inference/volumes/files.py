"""A volume's file becomes a file of labels."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from src_training.errors import InputError
from src_training.inference.model_file import SegmentationModel
from src_training.inference.volumes.cleanup import clean_up
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.streaming import Grown
from src_training.io.volumes.base import Volume
from src_training.io.volumes.registry import format_of, list_folder, write_labels_like

Stream = Callable[[Volume, LabelStore], Iterator[Grown]]
"""`stream` or `stream_on`, all but the volume and its labels told."""


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


def volumes_among(inputs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part files and folders into volumes, those in the folders too, and other inputs.

    A folder that holds volumes is replaced by them and by its images.
    """
    volumes, others = list[Path](), list[Path]()
    for path in inputs:
        if format_of(path) is not None:
            volumes.append(path)
            continue
        inside, images = list_folder(path)
        volumes += inside
        others += images if inside else [path]
    return volumes, others


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
