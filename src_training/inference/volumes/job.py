"""What is to be made of a volume: all that its labels depend on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.inference.volumes.slabs import Shape

AXES = "zyx"


@dataclass(frozen=True)
class Plan:
    """What the labels of a volume depend on; labels that are begun go on under the same plan only.

    Attributes
    ----------
    shape
        (Z, Y, X) of the volume.
    source
        What tells the volume from another, such as its path, size and time.
    model
        SHA-256 of the model's file.
    classes
        Number of classes, background included.
    axis
        The axis that planes follow: 0, 1 or 2 of (Z, Y, X).
    orthogonal
        Whether the probabilities of planes along all three axes are averaged;
        `axis` is of no account then.
    flips
        See `Predictor`.
    threshold
        Probability from which a voxel of a two-class model is foreground.
        None: as the model says, which may be anew for each plane; of an
        average of three always its fixed one.
    largest, filled
        Classes that are cleaned up at the end; see `clean_up`.
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

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which planes are segmented."""
        return (0, 1, 2) if self.orthogonal else (self.axis,)

    @property
    def maps(self) -> int:
        """Probabilities kept of a voxel and an axis for the average; one tells two classes."""
        return 1 if self.classes == 2 else self.classes

    @property
    def disk(self) -> int:
        """Bytes that labels and kept probabilities take at most; they are compressed."""
        z, y, x = self.shape
        return z * y * x * (1 + (len(self.axes) * self.maps if self.orthogonal else 0))

    def to_json(self) -> str:
        """As it is kept beside the labels."""
        return json.dumps(asdict(self), indent=1)

    def refuse_other(self, kept: str, where: Path) -> None:
        """Raise `InputError` if what is kept in `where` is another plan than this one."""
        told: dict[str, Any] = json.loads(kept)
        ours = json.loads(self.to_json())
        for name, value in ours.items():
            if told.get(name) != value:
                raise InputError(
                    f"{where} holds labels that were begun with {name} {told.get(name)!r}, "
                    f"not {value!r}; expected the same, another folder, or that one removed"
                )
