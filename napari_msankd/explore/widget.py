"""Explore: why a student works on one scanner and not on another, linked to the images."""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QTabWidget, QVBoxLayout

from napari_msankd.explore.extraction import Extraction
from napari_msankd.explore.sample_layers import Opened, read_sample, show_sample
from napari_msankd.explore.selection import Sample, Selection
from napari_msankd.explore.setup_page import ExploreSetupPage
from napari_msankd.widgets.line_plot import load_pyqtgraph
from napari_msankd.widgets.plugin_widget import PluginWidget
from napari_msankd.widgets.wrapping_label import WrappingLabel
from napari_msankd.workers import Failure, WorkerGroup

if TYPE_CHECKING:
    import napari

_PAGES = (
    ("embedding", "EmbeddingPage", "&Vectors"),
    ("fsd", "FsdPage", "&FSD"),
    ("graphs", "GraphPage", "&Graphs"),
    ("feature_maps", "FeatureMapPage", "&Maps"),
)
"""Package, class and title of each picture's page; pyqtgraph comes with them."""


class ExploreWidget(PluginWidget):
    """The Explore widget: choose, then look.

    Parameters
    ----------
    viewer
        The viewer it is docked in.

    Attributes
    ----------
    choose
        The first page.
    selection
        What is chosen in one picture and seen in all.
    parts
        The pages of the pictures by module; empty until they were loaded.
    """

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__(viewer)
        self.selection = Selection(self)
        self.workers = WorkerGroup(self, self._fail)
        self.parts: dict[str, Any] = {}
        self._explored: Extraction | None = None
        self._modules: list[tuple[str, Any, str]] = []
        self.choose = ExploreSetupPage(viewer)
        self.pages = QTabWidget()
        self.pages.addTab(self.choose, "&Choose")
        for _, _, title in _PAGES:
            self.pages.addTab(QLabel("Loading…"), title)
            self.pages.setTabEnabled(self.pages.count() - 1, False)
        self.status = WrappingLabel()
        self.status.setToolTip("What went wrong")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.pages)
        layout.addWidget(self.status)
        self.setMinimumWidth(360)
        self.choose.explored.connect(self._on_explored)

    def open_sample(self, sample: Sample, model: str, seen: Any = None) -> None:
        """Show a sample in the viewer: image, patch and view; a view that was `seen` as it was."""
        if self._explored is not None:
            self.status.setText("")
            steps = read_sample(self._explored, sample, model, seen)
            self.workers.start("open", steps, self._on_opened)

    def on_end(self) -> None:
        """Work no more."""
        self.workers.cancel_all()
        self.choose.end()
        for page in self.parts.values():
            page.end()

    def showEvent(self, event: QShowEvent) -> None:
        """Load what draws, once the widget is in sight."""
        super().showEvent(event)
        self._load()

    def _load(self) -> None:
        if not self._modules and "load" not in self.workers:
            self.workers.start("load", _loaded(), self._on_loaded)

    def _on_loaded(self, modules: list[tuple[str, Any, str]]) -> None:
        self._modules = modules
        QTimer.singleShot(0, self._make_page)

    def _make_page(self) -> None:
        """Make the pages, one a turn of the event loop."""
        if self.ended or len(self.parts) == len(self._modules):
            self._hand_on()
            return
        name, kind, title = self._modules[len(self.parts)]
        page = self.parts[name] = kind(self.viewer, self.selection)
        if hasattr(page, "clicked"):
            page.clicked.connect(self.open_sample)
        place = len(self.parts)
        former = self.pages.widget(place)
        self.pages.removeTab(place)
        former.deleteLater()
        self.pages.insertTab(place, page, title)
        self.pages.setTabEnabled(place, self._explored is not None)
        QTimer.singleShot(0, self._make_page)

    def _on_explored(self, explored: Extraction) -> None:
        self._explored = explored
        self.selection.clear()
        self._load()
        self._hand_on()

    def _hand_on(self) -> None:
        """Give the pictures what there is to draw, as soon as both are there."""
        if self.ended or self._explored is None or len(self.parts) < len(_PAGES):
            return
        for place, page in enumerate(self.parts.values(), 1):
            self.pages.setTabEnabled(place, True)
            page.show_explored(self._explored)
        if self.pages.currentWidget() is self.choose:
            self.pages.setCurrentIndex(1)

    def _on_opened(self, opened: Opened) -> None:
        if self._explored is not None:
            show_sample(self.viewer, self._explored, opened)

    def _fail(self, failure: Failure) -> None:
        self.status.setText(f"✕ {failure.sentence}")


def _loaded() -> Iterator[list[tuple[str, Any, str]]]:
    """The classes of the pages, pyqtgraph imported before them."""
    for _ in load_pyqtgraph():
        pass
    yield [
        (name, getattr(import_module(f"napari_msankd.explore.{name}.page"), kind), title)
        for name, kind, title in _PAGES
    ]
