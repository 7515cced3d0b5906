"""Explore: why a student works on one scanner and not on another, linked to the images."""

from collections.abc import Iterator
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from qtpy.QtCore import Qt, QTimer
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
from napari_msankd.layers import WidgetLayers
from napari_msankd.theme import LINES
from napari_msankd.widgets.line_plot import load_pyqtgraph
from napari_msankd.widgets.plugin_widget import PluginWidget
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    import napari

    from src_training.explore.fsd_verdict import Verdict

_PAGES = (
    ("embedding", "EmbeddingPage", "&Vectors"),
    ("fsd", "FsdPage", "&FSD"),
    ("graphs", "GraphPage", "&Graphs"),
    ("feature_maps", "FeatureMapPage", "&Maps"),
)
"""Package, class and title of each picture's page; pyqtgraph comes with them."""

_MOST_DOMAINS = 3


class ExploreWidget(PluginWidget):
    """The Explore widget: choose models and images, then compare.

    Parameters
    ----------
    viewer
        The viewer it is docked in.

    Attributes
    ----------
    state
        What is chosen, extracted and selected.
    setup
        The first page.
    parts
        The pages of the pictures by module; empty until they were loaded.
    verdict
        What the distances come to, above all pages.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self.state = ExploreState()
        self.own = WidgetLayers(viewer)
        self.workers = WorkerGroup(self, self._show_failure)
        self.parts: dict[str, Any] = {}
        self._classes: list[Any] = []
        # A child: it ends with the widget, however that goes.
        self._next_page = QTimer(self)
        self._next_page.setSingleShot(True)
        self._next_page.timeout.connect(self._make_page)
        self.setup = ExploreSetupPage(viewer, self.state)
        self.pages = QTabWidget()
        self.pages.addTab(self.setup, "&Choose")
        for _, _, title in _PAGES:
            self.pages.addTab(QWidget(), title)
            self.pages.setTabEnabled(self.pages.count() - 1, False)
        self.verdict = WrappingLabel()
        self.verdict.setTextFormat(Qt.TextFormat.RichText)
        self.verdict.linkActivated.connect(self._on_link)
        self.status = WrappingLabel()
        self.status.setToolTip("Errors")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for part in (self.verdict, self.pages, self.status):
            layout.addWidget(part)
        layout.setStretch(1, 1)
        self.setMinimumWidth(360)
        self.setup.first_image.connect(self._on_first_image)
        self.state.events.extraction.connect(self._on_extraction)
        self.state.events.verdict.connect(self._show_verdict)
        self.state.open_requested.connect(self._open_sample)

    def on_end(self) -> None:
        """Cancel workers, and give the viewer back as it was."""
        self._next_page.stop()
        self.workers.cancel_all()
        self.setup.end()
        for page in self.parts.values():
            page.end()
        clear_samples(self.own)

    def showEvent(self, event: QShowEvent) -> None:
        """Load the pages once the widget is visible."""
        super().showEvent(event)
        if not self.parts and "load" not in self.workers:
            self.workers.start("load", _load_pages(), self._make_pages)

    def _make_pages(self, classes: list[Any]) -> None:
        """Make the pages, one a turn of the event loop."""
        self._classes = classes
        self._make_page()

    def _make_page(self) -> None:
        place = len(self.parts) + 1
        name, _, title = _PAGES[place - 1]
        own = (self.own,) if name in ("graphs", "feature_maps") else ()
        page = self.parts[name] = self._classes[place - 1](self.viewer, self.state, *own)
        former = self.pages.widget(place)
        self.pages.removeTab(place)
        former.deleteLater()
        self.pages.insertTab(place, page, title)
        self.pages.setTabEnabled(place, False)
        if place < len(self._classes):
            self._next_page.start(0)
        elif self.state.extraction is not None:
            self.state.events.extraction.emit(self.state.extraction, None)

    def _on_first_image(self, step: FirstImage) -> None:
        clear_samples(self.own)
        show_image(self.viewer, self.own, step.extraction, step.sample, step.image)

    def _on_extraction(self, extraction: Extraction | None) -> None:
        """Open the pages and the first sample, as soon as both are there."""
        if extraction is None or len(self.parts) < len(_PAGES):
            return
        for place in range(1, self.pages.count()):
            self.pages.setTabEnabled(place, True)
        if self.pages.currentWidget() is self.setup:
            self.pages.setCurrentIndex(1)
        self.state.verdict, self.state.selection = None, Selection()
        model, table = list(extraction.tables.items())[-1]
        first = samples_of(table)[0]
        self.state.select([first], first)
        self.state.open(first, model)
        self.verdict.setText("Comparing the domains…")
        self.workers.start("verdict", _measure_verdict(table), self._on_verdict)

    def _open_sample(self, sample: Sample, model: str, view: Any) -> None:
        extraction = self.state.extraction
        assert extraction is not None
        self.status.setText("")
        steps = read_sample(extraction, sample, model, view)
        self.workers.start("open", steps, lambda opened: self._on_opened(extraction, opened))

    def _on_opened(self, extraction: Extraction, opened: OpenedSample) -> None:
        show_sample(self.viewer, self.own, extraction, opened)

    def _on_verdict(self, verdict: "Verdict") -> None:
        self.state.verdict = verdict

    def _show_verdict(self, verdict: "Verdict | None") -> None:
        self.verdict.setText("" if verdict is None else verdict_html(verdict))
        self.verdict.setToolTip("" if verdict is None else verdict.method)

    def _on_link(self, link: str) -> None:
        domain, case = map(unquote, link.split("/"))
        assert self.state.extraction is not None
        self.state.open_image(list(self.state.extraction.tables)[-1], domain, case)

    def _show_failure(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")


def verdict_html(verdict: "Verdict") -> str:
    """A verdict as rich text; each image that it names is a link."""

    def link(domain: str, case: str) -> str:
        target = f"{quote(domain, '')}/{quote(case, '')}"
        return f'<a href="{target}" style="color:{LINES[0]}">{escape(case)}</a>'

    return "<br>".join(verdict.sentences(escape, link, most=_MOST_DOMAINS))


def _load_pages() -> Iterator[list[Any]]:
    """The classes of the pages, pyqtgraph imported before them."""
    for _ in load_pyqtgraph():
        pass
    yield [
        getattr(import_module(f"napari_msankd.explore.{name}.page"), kind)
        for name, kind, _ in _PAGES
    ]


def _measure_verdict(table: Any) -> "Iterator[Verdict]":
    from src_training.explore.fsd_verdict import measure_verdict

    yield measure_verdict(table)
