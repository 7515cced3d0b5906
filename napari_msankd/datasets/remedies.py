"""Buttons with remedies for problems of a dataset, and a choice of the channel."""

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QPushButton, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_msankd.datasets.state import DatasetState
from napari_msankd.widgets.layout import push_button


class Remedies(QWidget):
    """A button for each remedy; those that do not apply are hidden.

    Parameters
    ----------
    state
        State of the dataset, which `update_from_state` shows.
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
        self.as_labels = push_button(
            "", "Turn image layers that hold masks into Labels layers", use_as_labels
        )
        self.otherwise = push_button(
            "", "As their numbers may also be meant; no file is changed", state.read_otherwise
        )
        self.resample = push_button(
            "", "Nearest neighbour, where both lie in one space; no file is changed", resample
        )
        self.leave_out = push_button(
            "", "Use the rest; no file is changed or deleted", state.leave_out
        )
        self.use_all = push_button(
            "",
            "They join the last stage without masks: the student learns from the teacher's answers",
            state.use_without_masks,
        )
        self.include = push_button("", "Use everything again", state.include_all)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.channel, alignment=Qt.AlignmentFlag.AlignLeft)
        for button, _ in self._texts():
            layout.addWidget(button, alignment=Qt.AlignmentFlag.AlignLeft)

    def update_from_state(self) -> None:
        """Show the remedies that apply."""
        for button, text in self._texts():
            button.setText(text.replace("&", "&&"))
            button.setVisible(bool(text))
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
