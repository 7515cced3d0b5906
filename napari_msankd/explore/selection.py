"""What is chosen in one picture and seen in all of them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from src_training.explore.embedding_table import EmbeddingTable


class Sample(NamedTuple):
    """A patch of an image, as it is or as a view of it; the same for every model.

    Attributes
    ----------
    domain, case
        Names of the domain and of its image.
    corner
        Top and left on the prepared grid, pixels.
    view
        0 as it is, k for its k-th view.
    kind
        ``image`` or ``mask``: what was encoded.
    """

    domain: str
    case: str
    corner: tuple[int, int]
    view: int = 0
    kind: str = "image"

    @property
    def words(self) -> str:
        """``"DRIVE / 01_test, patch at 0, 256 of the prepared image, view 2"``."""
        top, left = self.corner
        words = f"{self.domain} / {self.case}, patch at {top}, {left} of the prepared image"
        if self.kind == "mask":
            return f"{words}, its mask"
        return f"{words}, view {self.view}" if self.view else words


class Selection(QObject):
    """The samples that are chosen, in whichever picture that was.

    Attributes
    ----------
    changed
        Emitted when `samples` or `current` are others.
    samples
        All that are chosen.
    current
        The one that was clicked last, and that is looked at closely.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.samples: frozenset[Sample] = frozenset()
        self.current: Sample | None = None

    def choose(self, samples: Iterable[Sample], current: Sample | None = None) -> None:
        """Choose these and no others; look closely at `current`, where one is given."""
        chosen, looked_at = frozenset(samples), current or self.current
        if (chosen, looked_at) != (self.samples, self.current):
            self.samples, self.current = chosen, looked_at
            self.changed.emit()

    def clear(self) -> None:
        """Choose nothing."""
        if self.samples or self.current:
            self.samples, self.current = frozenset(), None
            self.changed.emit()


def samples_of(table: "EmbeddingTable") -> list[Sample]:
    """The sample of every row of a table."""
    rows = zip(
        table.domains,
        table.cases,
        map(tuple, table.corners.tolist()),
        table.views.tolist(),
        table.kinds,
        strict=True,
    )
    return [Sample(*row) for row in rows]
