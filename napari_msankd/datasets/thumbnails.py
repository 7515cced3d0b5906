"""A strip of pictures that scrolls sideways."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from napari_msankd.datasets.summary import share_of

if TYPE_CHECKING:
    from src_training.data.summary import CaseSummary

_SIDE = 48
_BAR = 14
_MOST = 300


class ThumbnailStrip(QListWidget):
    """Cases at a glance, their masks outlined; the first few hundred of them."""

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setMovement(QListView.Movement.Static)
        self.setWrapping(False)
        self.setUniformItemSizes(True)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setGridSize(QSize(_SIDE + 6, _SIDE + 6))
        self.setFrameShape(QListWidget.Shape.NoFrame)
        self.setStyleSheet("ThumbnailStrip { background: transparent; padding: 0; }")
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.horizontalScrollBar().rangeChanged.connect(self._on_range)
        self._on_range(0, 0)
        self.setToolTip("What was found, masks outlined; the arrow keys go through it")
        self.setAccessibleName("Images found")
        self.take_all_away()

    def take_all_away(self) -> None:
        """Take every picture away."""
        self.clear()
        self.hide()

    def add(self, look: "CaseSummary") -> None:
        """Show one more case."""
        if self.count() >= _MOST:
            return
        item = QListWidgetItem(_icon(look), "")
        item.setToolTip(_told(look))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, _told(look))
        self.addItem(item)
        self.show()

    def _on_range(self, _low: int, high: int) -> None:
        """Make room for the scroll bar only where there is one."""
        self.setFixedHeight(_SIDE + 8 + _BAR * (high > 0))


def _icon(look: "CaseSummary") -> QIcon:
    height, width, _ = look.thumbnail.shape
    pixels = look.thumbnail.tobytes()
    image = QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888)
    icon, pixmap = QIcon(), QPixmap.fromImage(image)
    # The same when it is selected: a tint would hide the outlines.
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(pixmap, mode)
    return icon


def _told(look: "CaseSummary") -> str:
    slices = f"{look.slices:,} slices of " if look.slices else ""
    lines = [f"{look.name} · {slices}{look.size[0]} x {look.size[1]} pixels"]
    counts, volume = look.counts or {}, bool(look.slices)
    total = sum(counts.values())
    lines += [f"{name} {share_of(count, total, volume)}" for name, count in counts.items()]
    return "\n".join(lines)
