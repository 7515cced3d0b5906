"""Fit a semantic encoder to a model without one, and save both as a new file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_msankd.explore.extraction import MissingEncoder, Progress, Request
from napari_msankd.settings import new_model_file
from napari_msankd.torch_import import gc_paused
from napari_msankd.widgets.layout import ElidingComboBox
from napari_msankd.widgets.wrapping_label import WrappingLabel
from src_training.formatting import format_number

if TYPE_CHECKING:
    from src_training.data.domain import Domain

_MISSING = "✕ {model} has no semantic encoder, so it makes no semantic vectors."
_OFFER = (
    "One can be fitted to images with masks (P-SAE and SAN). The network is not changed; the "
    "result is a new file in your folder of models."
)
_NO_MASKS = "Add a domain with masks to fit one here."


@dataclass(frozen=True)
class EncoderFitted:
    """Result of a fit.

    Attributes
    ----------
    path
        The new file, in the folder of models.
    request
        The request that lacked the encoder.
    """

    path: Path
    request: Request


class FitEncoderPanel(QWidget):
    """Explains that a model has no encoder, and offers to fit one to a labelled domain.

    Attributes
    ----------
    accepted
        Emitted with the `MissingEncoder` and the chosen `Domain`.
    """

    accepted = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self._lack: MissingEncoder | None = None
        self.text = WrappingLabel()
        self.text.setToolTip("What the model is missing")
        self.domain = ElidingComboBox()
        self.domain.setToolTip("Images with masks to train the semantic encoder on")
        self.domain.setAccessibleName("Domain to fit the semantic encoder to")
        self.button = QPushButton("&Fit one to")
        self.button.setToolTip("Takes a few minutes on a CPU; Stop discards it")
        self.button.clicked.connect(self._on_clicked)
        row = QHBoxLayout()
        row.addWidget(self.button)
        row.addWidget(self.domain, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row)
        self.hide()

    def show_lack(self, lack: MissingEncoder) -> None:
        """Show the panel for a model without an encoder."""
        self._lack = lack
        offer = _OFFER if lack.domains else _NO_MASKS
        self.text.setText(f"{_MISSING.format(model=_file_of(lack).name)} {offer}")
        self.domain.clear()
        self.domain.addItems([domain.name for domain in lack.domains])
        for part in (self.button, self.domain):
            part.setVisible(bool(lack.domains))
        self.show()

    def _on_clicked(self) -> None:
        assert self._lack is not None
        self.accepted.emit(self._lack, self._lack.domains[self.domain.currentIndex()])


def fit(lack: MissingEncoder, domain: "Domain") -> Iterator[Progress | EncoderFitted]:
    """Fit the encoder and save the model in a worker; the last item is an `EncoderFitted`.

    Raises
    ------
    InputError
        If the domain does not fit the model; see `fit_semantic_encoder`.
    OSError
        If the folder of models is not writable.
    """
    yield Progress(0, 0, "Preparing the images…")
    model = _file_of(lack)
    with gc_paused():
        from src_training.inference.model_file import load_model
        from src_training.training.semantic_encoder import STAGES, STEPS, fit_semantic_encoder
        from src_training.training.train_step import StepResult

    done, total = 0, STAGES * STEPS
    for step in fit_semantic_encoder(load_model(model), domain, steps=STEPS):
        if isinstance(step, StepResult):
            done += 1
            loss = format_number(step.total)
            text = f"Fitting to {domain.name}: step {done} of {total}, loss {loss}"
            yield Progress(done, total, text)
        else:
            file = new_model_file(f"{model.stem}-aligned")
            step.save(file)
            yield EncoderFitted(file, lack.request)


def _file_of(lack: MissingEncoder) -> Path:
    assert lack.request.model is not None
    return lack.request.model
