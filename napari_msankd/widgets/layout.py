"""Layout and style of controls."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import ref

from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel


def make_primary(button: QPushButton, viewer: "ViewerModel") -> None:
    """Highlight a button in the accent color of the viewer's theme."""
    # A weak reference instead of a callback on `destroyed`: during garbage collection that
    # callback's own objects may be cleared already.
    reference = ref(button)

    def apply_style(_event: object = None) -> None:
        target = reference()
        if target is not None and isalive(target):
            color = get_theme(viewer.theme).current.as_hex()
            target.setStyleSheet(
                f"QPushButton:enabled {{ background-color: {color}; font-weight: bold; }}"
            )

    viewer.events.theme.connect(apply_style)
    apply_style()


def push_button(text: str, tip: str, slot: Callable[[], object] | None = None) -> QPushButton:
    """A button with a tooltip, and a slot that is called without arguments."""
    button = QPushButton(text)
    button.setToolTip(tip)
    if slot is not None:
        button.clicked.connect(lambda _checked=False: slot())
    return button


def buddy_label(text: str, control: QWidget) -> QLabel:
    """A label whose mnemonic moves the focus to a control."""
    label = QLabel(text)
    label.setBuddy(control)
    return label


def keep_narrow(box: QComboBox) -> None:
    """Let a combobox be narrower than its entries, so that they do not widen the dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class ElidingComboBox(QComboBox):
    """A narrow combobox that ends a long choice in an ellipsis; Qt's own cuts it off."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        keep_narrow(self)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the frame, and as much of the choice as fits."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        if self.currentIndex() < 0:
            option.currentText = self.placeholderText()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideRight, field.width()
        )
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class VerticalScrollArea(QScrollArea):
    """A frameless area that is as wide as its contents need, whatever the font.

    It scrolls horizontally only where they need more than `WIDEST` pixels.
    """

    WIDEST = 520

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)

    def minimumSizeHint(self) -> QSize:
        """The width of the contents and of the scroll bar."""
        inside, bar = self.widget().minimumSizeHint(), self.verticalScrollBar().sizeHint()
        frame = self.width() - self.contentsRect().width()
        width = min(inside.width() + bar.width() + frame, self.WIDEST)
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take over a new width of the contents."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def group_box(title: str) -> tuple[QGroupBox, QFormLayout, QVBoxLayout]:
    """A box with a form, and its outer layout for widgets below the form."""
    box, form = QGroupBox(title), QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    below = QVBoxLayout(box)
    below.setContentsMargins(8, 12, 8, 8)
    below.addLayout(form)
    return box, form, below
