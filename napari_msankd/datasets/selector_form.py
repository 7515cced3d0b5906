"""The controls of a domain's choice; what they do is in `domain_choice`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_msankd.datasets.layer_table import LayerTable
from napari_msankd.datasets.summary import Masks
from napari_msankd.datasets.thumbnails import ThumbnailStrip
from napari_msankd.widgets.camera_angle import CameraAngle
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

RED = {"dark": "#ff8a8a", "light": "#b00020"}
"""Colour of a problem, for either type of theme."""

_LAYERS = "Open layers"
_IN_SIGHT = 3


class DatasetForm(QFrame):
    """Everything a person sees of a domain's choice.

    Parameters
    ----------
    viewer
        Whose theme is followed.
    masks
        ``required`` where a network is to learn from them.

    Attributes
    ----------
    dropped
        Emitted with the `Path` of what was dropped here.
    """

    dropped = Signal(object)

    def __init__(self, viewer: "ViewerModel", masks: Masks) -> None:
        super().__init__()
        self.viewer = viewer
        self.masks = masks
        self.setAcceptDrops(True)
        self.rows = LayerTable(masks)
        self.strip = ThumbnailStrip()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self._line())
        layout.addWidget(self.rows)
        layout.addWidget(self._words())
        layout.addWidget(self.sample, alignment=Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.strip)
        layout.addWidget(self._camera())
        layout.addWidget(self.faults)
        layout.addWidget(self.more, alignment=Qt.AlignmentFlag.AlignLeft)
        layout.addStretch(1)
        viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    @property
    def folder(self) -> Path | None:
        """The chosen folder; None where it is the layers."""
        data = self.where.currentData()
        return data if isinstance(data, Path) else None

    def choose_folder(self, path: Path) -> None:
        """Take a folder."""
        known = [self.where.itemData(i) for i in range(self.where.count())]
        if path not in known:
            self.where.addItem(f"{path.parent.name}/{path.name}".strip("/") or str(path), path)
            self.where.setItemData(len(known), str(path), Qt.ItemDataRole.ToolTipRole)
            known.append(path)
        self.where.setCurrentIndex(known.index(path))

    def choose_layers(self) -> None:
        """Take the layers that are open."""
        self.where.setCurrentIndex(0)

    def show_problems(self, problems: Sequence[str]) -> None:
        """The first three in red, and a way to all of them."""
        self._problems = tuple(problems)
        shown = "\n".join(f"✕ {sentence}" for sentence in problems[:_IN_SIGHT])
        self.faults.setText(_breakable(shown))
        self.more.setText(f"All {len(problems):,} problems…")
        self.more.setVisible(len(problems) > _IN_SIGHT)

    def _line(self) -> QHBoxLayout:
        self.where = QComboBox()
        self.where.addItem(_LAYERS, None)
        self.where.setToolTip("Layers that are open, or a folder; a folder can be dropped here too")
        self.where.setAccessibleName("Where the images are")
        self.where.setMinimumContentsLength(12)
        self.where.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.browse = QPushButton("Folder…")
        inside = "images/ and masks/" if self.masks == "required" else "images/, perhaps masks/"
        self.browse.setToolTip(f"Choose a folder with {inside}; files belong together by name")
        self.line = QHBoxLayout()
        self.line.setSpacing(4)
        self.line.addWidget(self.where, 1)
        self.line.addWidget(self.browse)
        return self.line

    def _words(self) -> WrappingLabel:
        self.found, self.faults = WrappingLabel(), WrappingLabel()
        self.found.setToolTip("What was found")
        self.faults.setToolTip("What stands in the way, by file or layer")
        for words in (self.found, self.faults):
            # A long path must not widen the dock.
            policy = words.sizePolicy()
            policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
            words.setSizePolicy(policy)
        self.sample = QPushButton("Open sample eyes")
        self.sample.setToolTip("Three synthetic fundus photographs and their vessels, to try it")
        self.sample.hide()
        self.more = QPushButton()
        self.more.setToolTip("Every problem, to be read and copied")
        self.more.setVisible(False)
        self.more.clicked.connect(lambda: show_traceback(self, "\n".join(self._problems)))
        return self.found

    def show_camera(self, shown: bool) -> None:
        """Ask for the angle of a fundus camera, or neither ask for nor know one."""
        self._camera_line.setVisible(shown)
        if not shown:
            self.camera.setValue(0)

    def _camera(self) -> QWidget:
        self.camera = CameraAngle()
        self._camera_line = QWidget()
        row = QHBoxLayout(self._camera_line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(QLabel("Fundus camera"))
        row.addWidget(self.camera)
        row.addStretch(1)
        return self._camera_line

    def _on_theme(self, _event: object = None) -> None:
        self.rows.dress(self.viewer.theme)
        self.faults.setStyleSheet(f"color: {RED[get_theme(self.viewer.theme).type]};")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Show that a folder may be dropped here."""
        if path_of(event) is not None:
            event.acceptProposedAction()
            edge = get_theme(self.viewer.theme).current.as_hex()
            self.setStyleSheet(f"DatasetForm {{ border: 2px dashed {edge}; }}")

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Look as before."""
        self.setStyleSheet("")
        event.accept()

    def dropEvent(self, event: QDropEvent) -> None:
        """Tell of the folder."""
        self.setStyleSheet("")
        path = path_of(event)
        if path is not None:
            event.acceptProposedAction()
            self.dropped.emit(path)


def path_of(event: QDropEvent) -> Path | None:
    """The first file or folder of this computer that is dragged; None if there is none."""
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return Path(paths[0]) if paths else None


def _breakable(text: str) -> str:
    """A text whose paths may go on in the next line."""
    return text.replace("/", "/\u200b").replace("\\", "\\\u200b")
