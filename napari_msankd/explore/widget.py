"""The Explore widget: compares domains by a model's semantic vectors, linked to the images."""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from napari_msankd.explore.extraction import Extraction, FirstImage
from napari_msankd.explore.sample_layers import (
    OpenedSample,
    clear_samples,
    read_sample,
    show_image,
    show_sample,
)
from napari_msankd.explore.setup_page import ExploreSetupPage
from napari_msankd.explore.state import ExploreState, Sample, Selection, samples_of
from napari_msankd.explore.verdict_page import VerdictPage, headline_html, judge
from napari_msankd.layers import WidgetLayers
from napari_msankd.widgets.line_plot import load_pyqtgraph
from napari_msankd.widgets.plugin_widget import PluginWidget
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup, timer

if TYPE_CHECKING:
    import napari

    from src_training.explore.suitability import Suitability

_PAGES = (
    ("embedding", "EmbeddingPage", "&Vectors"),
    ("fsd", "FsdPage", "&FSD"),
    ("graphs", "GraphPage", "&Graphs"),
    ("feature_maps", "FeatureMapPage", "&Maps"),
)
"""Package, class and title of the pages that are imported late, because they need pyqtgraph."""


class ExploreWidget(PluginWidget):
    """The Explore widget: choose models and images, then compare.

    Parameters
    ----------
    viewer
        The viewer of the dock.

    Attributes
    ----------
    state
        Choices, extraction and selection.
    own
        Layers that this widget adds.
    setup
        The first page.
    parts
        Package -> page, for the pages that are imported late; empty until then.
    verdict
        Summary of the model's suitability for each domain, above all pages.
    verdict_page
        The last page, with the details of the verdict.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self.state = ExploreState()
        self.own = WidgetLayers(viewer)
        self.workers = WorkerGroup(self, self._show_failure)
        self.parts: dict[str, Any] = {}
        self._classes: list[Any] = []
        self._next_page = timer(self, self._make_page)
        self.setup = ExploreSetupPage(viewer, self.state)
        self.pages = QTabWidget()
        self.pages.addTab(self.setup, "&Choose")
        for _, _, title in _PAGES:
            self.pages.addTab(QWidget(), title)
            self.pages.setTabEnabled(self.pages.count() - 1, False)
        self.verdict = WrappingLabel()
        self.verdict.setTextFormat(Qt.TextFormat.RichText)
        self.verdict_page = VerdictPage(viewer, self.state)
        self.pages.addTab(self.verdict_page, "Verd&ict")
        self.pages.setTabEnabled(self.pages.count() - 1, False)
        self.status = WrappingLabel()
        self.status.setToolTip("Errors")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for part in (self.verdict, self.pages, self.status):
            layout.addWidget(part)
        layout.setStretch(1, 1)
        self.setup.first_image.connect(self._on_first_image)
        self.state.events.extraction.connect(self._on_extraction)
        self.state.events.suitability.connect(self._show_verdict)
        self.state.open_requested.connect(self._open_sample)

    def on_end(self) -> None:
        """Cancel workers and restore the viewer."""
        self._next_page.stop()
        self.workers.cancel_all()
        self.setup.end()
        for page in (*self.parts.values(), self.verdict_page):
            page.end()
        clear_samples(self.own)

    def showEvent(self, event: QShowEvent) -> None:
        """Load the pages on the first show."""
        super().showEvent(event)
        if not self.parts and "load" not in self.workers:
            self.workers.start("load", _load_pages(), self._make_pages)

    def _make_pages(self, classes: list[Any]) -> None:
        """Create the pages, one per cycle of the event loop."""
        self._classes = classes
        self._make_page()

    def _make_page(self) -> None:
        tab = len(self.parts) + 1
        name, _, title = _PAGES[tab - 1]
        own = (self.own,) if name in ("graphs", "feature_maps") else ()
        page = self.parts[name] = self._classes[tab - 1](self.viewer, self.state, *own)
        placeholder = self.pages.widget(tab)
        self.pages.removeTab(tab)
        placeholder.deleteLater()
        self.pages.insertTab(tab, page, title)
        self.pages.setTabEnabled(tab, False)
        if tab < len(self._classes):
            self._next_page.start()
        elif self.state.extraction is not None:
            self.state.events.extraction.emit(self.state.extraction, None)

    def _on_first_image(self, step: FirstImage) -> None:
        clear_samples(self.own)
        show_image(self.viewer, self.own, step.extraction, step.sample, step.image)

    def _on_extraction(self, extraction: Extraction | None) -> None:
        """Enable the pages and open the first sample, once pages and extraction exist."""
        if extraction is None or len(self.parts) < len(_PAGES):
            return
        for tab in range(1, 1 + len(_PAGES)):
            self.pages.setTabEnabled(tab, True)
        if self.pages.currentWidget() is self.setup:
            self.pages.setCurrentIndex(1)
        self.state.suitability, self.state.selection = None, Selection()
        model, table = list(extraction.tables.items())[-1]
        first = samples_of(table)[0]
        self.state.select([first], first)
        self.state.open(first, model)
        title = "Will it work on these images?"
        self.workers.start("verdict", judge(extraction), self._on_verdict, title=title)

    def _open_sample(self, sample: Sample, model: str, view: Any) -> None:
        extraction = self.state.extraction
        assert extraction is not None
        self.status.setText("")
        steps = read_sample(extraction, sample, model, view)
        self.workers.start("open", steps, lambda opened: self._on_opened(extraction, opened))

    def _on_opened(self, extraction: Extraction, opened: OpenedSample) -> None:
        show_sample(self.viewer, self.own, extraction, opened)

    def _on_verdict(self, step: "str | Suitability") -> None:
        if isinstance(step, str):
            self.verdict.setText(step)
        else:
            self.state.suitability = step

    def _show_verdict(self, suitability: "Suitability | None") -> None:
        self.verdict.setText("" if suitability is None else headline_html(suitability))
        tab = self.pages.indexOf(self.verdict_page)
        self.pages.setTabEnabled(tab, suitability is not None)

    def _show_failure(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")


def _load_pages() -> Iterator[list[Any]]:
    """Import pyqtgraph, then the classes of the pages."""
    for _ in load_pyqtgraph():
        pass
    yield [
        getattr(import_module(f"napari_msankd.explore.{name}.page"), kind)
        for name, kind, _ in _PAGES
    ]
