"""What can be done about what was found in a dataset: buttons, and a choice of the channel."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QPushButton, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_msankd.datasets.state import DatasetState


class Remedies(QWidget):
    """A button for each remedy; those that would change nothing are hidden.

    Parameters
    ----------
    state
        Of the dataset; `update_from_state` shows it.
    use_as_labels, resample
        Slots of the two remedies that change layers.
    """

    def __init__(
        self,
        state: DatasetState,
        use_as_labels: Callable[[], None],
        resample: Callable[[], None],
    ) -> None:
        super().__init__()
        self._state = state
        self.channel = QComboBox()
        self.channel.setAccessibleName("Channel")
        self.channel.setToolTip("Which image of each case is read")
        self.channel.setPlaceholderText("Choose a channel")
        self.channel.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.channel.setMinimumContentsLength(14)
        self.channel.activated.connect(lambda: state.choose_channel(self.channel.currentData()))
        self.as_labels = button(
            "", use_as_labels, "Turn image layers that hold masks into Labels layers"
        )
        self.otherwise = button(
            "",
            state.read_otherwise,
            "As their numbers may also be meant; no file is changed",
        )
        self.resample = button(
            "", resample, "Nearest neighbour, where both lie in one space; no file is changed"
        )
        self.leave_out = button("", state.leave_out, "Use the rest; no file is changed or deleted")
        self.use_all = button(
            "",
            state.use_without_masks,
            "They join the last stage without masks: the student learns from the teacher's answers",
        )
        self.include = button("", state.include_all, "Use everything again")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.channel, alignment=Qt.AlignmentFlag.AlignLeft)
        for each, _ in self._texts():
            layout.addWidget(each, alignment=Qt.AlignmentFlag.AlignLeft)

    def update_from_state(self) -> None:
        """Show what can be done now."""
        for each, text in self._texts():
            each.setText(text.replace("&", "&&"))
            each.setVisible(bool(text))
        state = self._state
        with signals_blocked(self.channel):
            self.channel.clear()
            for name in state.channels:
                self.channel.addItem(f"Channel {name}", name)
            self.channel.setCurrentIndex(self.channel.findData(state.channel))
        self.channel.setVisible(bool(state.channels))

    def _texts(self) -> list[tuple[QPushButton, str]]:
        state = self._state
        return [
            (self.as_labels, state.labels_text),
            (self.otherwise, state.reading_text),
            (self.resample, state.resample_text),
            (self.leave_out, state.leave_out_text),
            (self.use_all, state.use_text),
            (self.include, state.include_text),
        ]


def button(text: str, slot: Callable[[], Any] | None = None, tip: str = "") -> QPushButton:
    """A push button."""
    made = QPushButton(text)
    made.setToolTip(tip)
    if slot is not None:
        made.clicked.connect(lambda _checked=False: slot())
    return made
