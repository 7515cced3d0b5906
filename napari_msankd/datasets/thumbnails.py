"""A strip of thumbnails that scrolls sideways."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from napari_msankd.datasets.summary import share_of
from napari_msankd.formatting import literal

if TYPE_CHECKING:
    from src_training.data.summary import CaseSummary

_SIDE = 48
_BAR = 14
_MOST = 300


class ThumbnailStrip(QListWidget):
    """Thumbnails of the first few hundred cases, with outlines of the masks."""

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
        self.setToolTip("The images, masks outlined; use the arrow keys to go through them")
        self.setAccessibleName("Images found")
        self.remove_all()

    def remove_all(self) -> None:
        """Remove every thumbnail."""
        self.clear()
        self.hide()

    def add(self, summary: "CaseSummary") -> None:
        """Add the thumbnail of a case."""
        if self.count() >= _MOST:
            return
        item = QListWidgetItem(_icon(summary), "")
        item.setToolTip(literal(_text(summary)))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, _text(summary))
        self.addItem(item)
        self.show()

    def _on_range(self, _low: int, high: int) -> None:
        """Fit the height to whether the scroll bar is visible."""
        self.setFixedHeight(_SIDE + 8 + _BAR * (high > 0))


def _icon(case: "CaseSummary") -> QIcon:
    height, width, _ = case.thumbnail.shape
    pixels = case.thumbnail.tobytes()
    image = QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888)
    icon, pixmap = QIcon(), QPixmap.fromImage(image)
    # Without an icon of its own the selected state gets a tint, which hides the outlines.
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(pixmap, mode)
    return icon


def _text(case: "CaseSummary") -> str:
    from src_training.io.volumes.grid import format_size

    size = (case.slices, *case.size) if case.slices else case.size
    lines = [f"{case.name} · {format_size(size)}"]
    counts, volume = case.counts or {}, bool(case.slices)
    total = sum(counts.values())
    lines += [f"{name} {share_of(count, total, volume)}" for name, count in counts.items()]
    return "\n".join(lines)
