"""The job of segmenting a volume: all settings that its labels depend on."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from src_training.errors import InputError
from src_training.inference.model_file import SegmentationModel
from src_training.inference.volumes.slabs import Shape
from src_training.io.atomic import write_text
from src_training.io.volumes.base import Volume

AXES = "zyx"
CHANGED_SOURCE = "--changed-source"
"""Command-line option that resumes a volume although it changed."""


@dataclass(frozen=True)
class VolumeOptions:
    """Options of segmenting volumes; see `VolumeJob`.

    Attributes
    ----------
    axis, orthogonal, flips, threshold
        See `VolumeJob`.
    largest, filled
        Names of classes to clean up.
    """

    axis: int = 0
    orthogonal: bool = False
    flips: bool = False
    threshold: float | None = None
    largest: Sequence[str] = ()
    filled: Sequence[str] = ()


@dataclass(frozen=True)
class VolumeJob:
    """All settings that the labels of a volume depend on; only an equal job can be resumed.

    Attributes
    ----------
    shape
        Shape (Z, Y, X) of the volume.
    source
        Fingerprint of the volume; see `fingerprint`.
    model
        SHA-256 of the model's file.
    classes
        Number of classes, background included.
    axis
        Axis of (Z, Y, X) along which slices are taken: 0, 1 or 2.
    orthogonal
        Whether to average the probabilities of slices along all three axes
        instead.
    flips
        See `Predictor`.
    threshold
        Foreground threshold of a two-class model. None: the model's own, which may differ from
        slice to slice; never None if three axes are averaged.
    largest, filled
        Indices of classes to clean up; see `clean_up`.
    """

    shape: Shape
    source: str
    model: str
    classes: int
    axis: int = 0
    orthogonal: bool = False
    flips: bool = False
    threshold: float | None = None
    largest: tuple[int, ...] = ()
    filled: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: SegmentationModel, volume: Volume, options: VolumeOptions) -> "VolumeJob":
        """Create the job of segmenting a volume with a model.

        Raises
        ------
        InputError
            If the options name a class that the model does not have.
        """
        card, threshold = model.card, options.threshold
        if options.orthogonal and threshold is None:
            threshold = card.threshold
        return cls(
            shape=volume.shape,
            source=fingerprint(volume.path),
            model=model.sha256 or "",
            classes=len(card.classes),
            axis=options.axis,
            orthogonal=options.orthogonal,
            flips=options.flips,
            threshold=threshold,
            largest=_class_indices(card.classes, options.largest, "--keep-largest"),
            filled=_class_indices(card.classes, options.filled, "--fill-holes"),
        )

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which slices are segmented."""
        return (0, 1, 2) if self.orthogonal else (self.axis,)

    @property
    def maps(self) -> int:
        """Number of maps to store for averaging: one for two classes, else one for each class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def disk(self) -> int:
        """Size in bytes of labels and stored probabilities before compression."""
        z, y, x = self.shape
        return z * y * x * (1 + (len(self.axes) * self.maps if self.orthogonal else 0))

    def to_json(self) -> str:
        """Convert the job to JSON, for storing it with the labels."""
        return json.dumps(asdict(self), indent=1)

    def refuse_other(self, stored: Path, folder: Path) -> None:
        """Raise `InputError` if the job stored in a file of a folder differs from this one."""
        try:
            other = json.loads(stored.read_text(encoding="utf-8"))
            assert isinstance(other, dict)
        except (ValueError, AssertionError, RecursionError):
            raise InputError(
                f"{stored} is damaged; removing {folder} starts the labels over"
            ) from None
        except FileNotFoundError:
            raise InputError(f"{stored} was removed; expected it to stay") from None
        for name, value in json.loads(self.to_json()).items():
            if other.get(name) == value:
                continue
            if name == "source":
                raise InputError(
                    f"{folder} holds labels of {other.get(name)}, and the volume is now {value}; "
                    f"expected the same, {CHANGED_SOURCE} to go on with it, or that folder removed"
                )
            raise InputError(
                f"{folder} holds labels that were begun with {name} {other.get(name)!r}, "
                f"not {value!r}; expected the same, another folder, or that one removed"
            )

    def accept_source(self, stored: Path) -> None:
        """Update the fingerprint of a stored job, if there is one, to the current volume."""
        try:
            other = json.loads(stored.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return  # `refuse_other` raises for a damaged file
        if isinstance(other, dict):
            write_text(stored, json.dumps(other | {"source": self.source}, indent=1))

    def refuse_changed(self, volume: Path) -> None:
        """Raise `InputError` if a volume has changed since the job was created."""
        if (now := fingerprint(volume)) != self.source:
            raise InputError(
                f"{volume} changed while it was segmented, from {self.source} to {now}; "
                "no labels are written. Expected it unchanged: segment it anew, or go on by "
                f"{CHANGED_SOURCE} where the voxels are the same"
            )


def fingerprint(path: Path) -> str:
    """Identify a volume by its path, its size and the modification time of its newest file.

    Unfinished labels (``.part``) inside the folder of the volume are ignored.
    """
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    inside = [each.relative_to(path).parts for each in files]
    stats = []
    for file, parts in zip(files, inside, strict=True):
        with suppress(FileNotFoundError):  # removed since it was listed
            if not any(part.endswith(".part") for part in parts):
                stats.append(file.stat())
    newest = max((each.st_mtime_ns for each in stats), default=0)
    return f"{path.resolve()}, {sum(each.st_size for each in stats)} bytes, {newest}"


def _class_indices(classes: list[str], names: Sequence[str], option: str) -> tuple[int, ...]:
    for name in names:
        if name not in classes[1:]:
            known = ", ".join(classes[1:])
            raise InputError(f"{option} {name}: the model has no such class; expected {known}")
    return tuple(sorted(classes.index(name) for name in set(names)))
