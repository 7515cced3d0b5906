"""Base class of the plugin's three widgets: tabbed docks and cleanup."""

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from napari.plugins import menu_item_template
from npe2 import PluginManager
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QDockWidget, QLabel, QMainWindow, QWidget

from napari_msankd.workers import timer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.viewer import Viewer

PLUGIN = "napari-msankd"


class PluginWidget(QWidget):
    """A widget whose dock is tabbed with the plugin's others, and that ends with its dock.

    Neither a dock's × nor closing the viewer fires a widget's ``closeEvent``, so the end is
    detected from the parent and the application. An ended widget has no connections, and is
    deleted.

    Parameters
    ----------
    viewer
        The viewer of the dock.

    Attributes
    ----------
    ended
        Whether the dock or napari was closed.
    """

    _count = count()

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        self.ended = False
        self._serial = next(self._count)
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        # The dock is added to the window only after it becomes the parent, so wait a cycle.
        self._tab_timer = timer(self, self._tabify)
        app = QApplication.instance()
        assert app is not None
        app.aboutToQuit.connect(self.end)

    def listen(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect to an event of the viewer or a layer until the widget ends."""
        emitter.connect(callback)
        self._connections.append((emitter, callback))

    def on_end(self) -> None:
        """Cancel workers, end children and restore the viewer; for subclasses to override."""

    def end(self) -> None:
        """Clean up once: call `on_end`, disconnect, delete."""
        if self.ended:
            return
        self.ended = True
        self.on_end()
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        self._connections.clear()
        if self.parent() is None:
            self.deleteLater()

    def event(self, event: QEvent) -> bool:
        """Tabify a new dock; end when the dock is closed."""
        if event.type() == QEvent.Type.ParentChange:
            dock = self.parent()
            if dock is None:
                self.end()
            elif isinstance(dock, QDockWidget):
                # Tabs and menus interpret a single & as the mark of a shortcut.
                dock.setWindowTitle(dock.windowTitle().replace("&&", "&").replace("&", "&&"))
                self._tab_timer.start()
        return super().event(event)

    def _tabify(self) -> None:
        """Tabify the dock with the plugin's other docks, if neither floats; shorten its title."""
        dock = self.parent()
        if self.ended or not isinstance(dock, QDockWidget):
            return
        for label in dock.titleBarWidget().findChildren(QLabel):
            # The plugin's name after it is cut in a narrow dock; tabs and menus have it.
            label.setText(label.text().partition(" (")[0])
        if dock.isFloating():
            return
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        former = [x for x in window.findChildren(PluginWidget) if x._serial < self._serial]
        others = [x.parent() for x in sorted(former, key=lambda x: x._serial)]
        docked = [x for x in others if isinstance(x, QDockWidget) and not x.isFloating()]
        # Always use the first dock: three that open at once would otherwise move each other.
        if docked and docked[0] not in window.tabifiedDockWidgets(dock):
            window.tabifyDockWidget(docked[0], dock)
            dock.raise_()


def open_widget(viewer: "Viewer", name: str) -> Any:
    """Raise the open widget of a name, such as ``Segment``, or create it.

    The dock has the title that napari's menu gives it, so that the menu finds it, too;
    `add_plugin_dock_widget` gives it another one.
    """
    manifest = PluginManager.instance().get_manifest(PLUGIN)
    title = menu_item_template.format(manifest.display_name, name)
    widget: Any = viewer.window.dock_widgets.get(title)
    if widget is None:
        widgets = manifest.contributions.widgets or []
        [contribution] = [each for each in widgets if each.display_name == name]
        widget = contribution.get_callable()(viewer)
        viewer.window.add_dock_widget(widget, name=title)
    dock = widget.parent()
    dock.show()
    dock.raise_()
    return widget
