"""What the three widgets of the plugin have in common: one sidebar, and an end."""

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.viewer import Viewer

PLUGIN = "napari-msankd"


class PluginWidget(QWidget):
    """A widget that tabs together with the others, and ends with its dock or with napari.

    Neither a dock's × nor closing the viewer fires a widget's ``closeEvent``: what ends is
    seen here. After its end a widget does nothing, is connected to nothing, and is deleted.

    Parameters
    ----------
    viewer
        The viewer it is docked in.

    Attributes
    ----------
    ended
        Whether its dock or napari let go of it.
    """

    _count = count()

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__()
        self.viewer = viewer
        self.ended = False
        self._serial = next(self._count)
        self._connections: list[tuple[Any, Callable[..., Any]]] = []
        # A dock has no place in the window yet when it takes the widget in.
        self._docked = QTimer(self)
        self._docked.setSingleShot(True)
        self._docked.timeout.connect(self._join)
        app = QApplication.instance()
        assert app is not None
        app.aboutToQuit.connect(self.end)

    def listen(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect to an event of the viewer or a layer, until the end."""
        emitter.connect(callback)
        self._connections.append((emitter, callback))

    def on_end(self) -> None:
        """Cancel workers, end children and take back what was changed in the viewer."""

    def end(self) -> None:
        """End once, in the order: `on_end`, connections, deletion."""
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
        """Join the other widgets in a new dock; end when a dock lets go."""
        if event.type() == QEvent.Type.ParentChange:
            dock = self.parent()
            if dock is None:
                self.end()
            elif isinstance(dock, QDockWidget):
                # Tabs and menus take a single & for the mark of a shortcut.
                dock.setWindowTitle(dock.windowTitle().replace("&&", "&").replace("&", "&&"))
                self._docked.start(0)
        return super().event(event)

    def _join(self) -> None:
        """Let a dock lie behind a tab with the plugin's others, where they are docked alike."""
        dock = self.parent()
        if self.ended or not isinstance(dock, QDockWidget) or dock.isFloating():
            return
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        former = [x for x in window.findChildren(PluginWidget) if x._serial < self._serial]
        others = [x.parent() for x in sorted(former, key=lambda x: x._serial)]
        docked = [x for x in others if isinstance(x, QDockWidget) and not x.isFloating()]
        # All join the first, else three that open at once would chase each other.
        if docked and docked[0] not in window.tabifiedDockWidgets(dock):
            window.tabifyDockWidget(docked[0], dock)
            dock.raise_()


def open_widget(viewer: "Viewer", name: str) -> Any:
    """The open widget of a name, such as ``Segment``, brought to the front, or a new one."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    dock.show()
    dock.raise_()
    return widget
