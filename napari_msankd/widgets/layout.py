"""How controls are arranged, and how they look."""

from typing import TYPE_CHECKING
from weakref import ref

from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel


def make_primary(button: QPushButton, viewer: "ViewerModel") -> None:
    """Let a button stand out, in the colour the viewer's theme has for what is chosen."""
    # Nothing of Python may hang on `destroyed`: a button that the garbage collector takes would
    # call what has been cleared already.
    reference = ref(button)

    def dress(_event: object = None) -> None:
        target = reference()
        if target is not None and isalive(target):
            color = get_theme(viewer.theme).current.as_hex()
            target.setStyleSheet(
                f"QPushButton:enabled {{ background-color: {color}; font-weight: bold; }}"
            )

    viewer.events.theme.connect(dress)
    dress()


def elide_combo(box: QComboBox) -> None:
    """Let a long name not widen the dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def scroll_area(inside: QWidget) -> QScrollArea:
    """A frameless area that scrolls what is too tall for a dock, and never sideways."""
    area = QScrollArea()
    area.setWidget(inside)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area


def group_box(title: str) -> tuple[QGroupBox, QFormLayout, QVBoxLayout]:
    """A box with rows of controls, and room below them."""
    box, form = QGroupBox(title), QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    below = QVBoxLayout(box)
    below.setContentsMargins(8, 12, 8, 8)
    below.addLayout(form)
    return box, form, below
