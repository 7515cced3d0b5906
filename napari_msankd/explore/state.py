"""State of the Explore widget, without Qt and torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from psygnal import Signal, evented

if TYPE_CHECKING:
    from psygnal import SignalGroup

    from napari_msankd.datasets.selection import Dataset
    from napari_msankd.explore.extraction import Extraction
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.explore.suitability import Suitability


class Sample(NamedTuple):
    """A patch of an image, or an augmented view of it; the same for every model.

    Attributes
    ----------
    domain, case
        Names of the domain and of its image.
    corner
        Top and left on the prepared grid, pixels.
    view
        0 for the patch itself, k for its k-th view.
    kind
        Whether the ``image`` or the ``mask`` was encoded.
    """

    domain: str
    case: str
    corner: tuple[int, int]
    view: int = 0
    kind: str = "image"

    def __str__(self) -> str:
        """``"DRIVE / 01_test, patch at (0, 256), view 2"``."""
        top, left = self.corner
        text = f"{self.domain} / {self.case}, patch at ({top}, {left})"
        if self.kind == "mask":
            return f"{text}, its mask"
        return f"{text}, view {self.view}" if self.view else text

    @property
    def patch(self) -> "Sample":
        """The patch that a view or a mask belongs to."""
        return Sample(self.domain, self.case, self.corner)


class Selection(NamedTuple):
    """Samples selected in one plot and marked in all of them.

    Attributes
    ----------
    samples
        Selected samples.
    current
        Sample that was clicked last.
    """

    samples: frozenset[Sample] = frozenset()
    current: Sample | None = None


@evented
@dataclass
class ExploreState:
    """State of the Explore widget; each field has an event of its name in `events`.

    Attributes
    ----------
    use_run, run
        Whether to explore the models of a run, and the run.
    model
        Model file, in addition to the run or alone.
    datasets
        Chosen folders and layers; None while one of them is invalid.
    own_domains
        Whether to include the images of the run.
    views
        Number of augmented views of each patch.
    extracting
        Whether an extraction is active.
    extraction
        Models, domains and vectors, once they are extracted.
    selection
        Selected samples.
    suitability
        Verdict on the model for each domain, once it is computed.
    open_requested
        Emitted with a `Sample` to show in the viewer, the name of its model, and the
        displayed view, (h, w) or (h, w, C), or None.
    """

    open_requested: ClassVar[Signal] = Signal(object, str, object)
    if TYPE_CHECKING:
        events: ClassVar[SignalGroup]

    use_run: bool = True
    run: Path | None = None
    model: Path | None = None
    datasets: "tuple[Dataset, ...] | None" = ()
    own_domains: bool = True
    views: int = 0
    extracting: bool = False
    extraction: "Extraction | None" = None
    selection: Selection = field(default_factory=Selection)
    suitability: "Suitability | None" = None

    @property
    def chosen_run(self) -> Path | None:
        """The run to explore, or None."""
        return self.run if self.use_run else None

    def select(self, samples: Iterable[Sample], current: Sample | None = None) -> None:
        """Select only these samples; the current sample is kept if `current` is None."""
        self.selection = Selection(frozenset(samples), current or self.selection.current)

    def open(self, sample: Sample, model: str, view: Any = None) -> None:
        """Request to show a sample in the viewer."""
        self.open_requested.emit(sample, model, view)

    def open_image(self, model: str, domain: str, case: str) -> None:
        """Select every sample of an image, and show its first patch in the viewer."""
        assert self.extraction is not None
        rows = samples_of(self.extraction.tables[model])
        samples = [sample for sample in rows if (sample.domain, sample.case) == (domain, case)]
        first = next(sample for sample in samples if sample.kind == "image")
        self.select(samples, first)
        self.open(first, model)


def missing(state: ExploreState) -> str:
    """Hint about a missing choice; empty if vectors can be extracted."""
    run = state.chosen_run
    if run is None and state.model is None:
        return "Choose a finished run or a model."
    if state.datasets is None:
        return "One of the folders or groups of layers cannot be used; see its problems above."
    if not state.datasets and not (run is not None and state.own_domains):
        return "Add a folder of images, or open layers."
    return ""


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
