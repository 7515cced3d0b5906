"""The Verdict page: suitability of the model for each domain, and images to annotate."""

from collections.abc import Iterator
from html import escape
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_msankd.explore.fsd.tables import NumberTable
from napari_msankd.explore.state import ExploreState
from napari_msankd.theme import LINES
from napari_msankd.widgets.export_button import ExportButton, save_and_report, save_rows, save_table
from napari_msankd.widgets.layout import ElidingComboBox, VerticalScrollArea
from napari_msankd.widgets.wrapping_label import WrappingLabel

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_msankd.explore.extraction import Extraction
    from src_training.evaluation.quality.images import ImageQuality
    from src_training.explore.suitability import RankedImage, Suitability

_TIP = (
    "Images of the domain, those to annotate first at the top: lowest expected Dice and largest "
    "share of FSD. Click an image to open it"
)


class VerdictPage(QWidget):
    """A text about all domains, and a table of one domain's images, ranked for annotation.

    Parameters
    ----------
    viewer
        The viewer of the dock.
    state
        State of the Explore widget, whose `suitability` is shown.
    """

    def __init__(self, viewer: "ViewerModel", state: ExploreState) -> None:
        super().__init__()
        self._state = state
        self.text, self.done = WrappingLabel(), WrappingLabel()
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.domain = ElidingComboBox()
        self.domain.setToolTip("Domain whose images are listed")
        self.images = NumberTable(("image", "expected Dice", "real", "share of FSD"), _TIP)
        self.save_button = ExportButton("The images of the domain shown, or those of all as CSV")
        row = QHBoxLayout()
        row.addWidget(self.domain, 1)
        row.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(VerticalScrollArea(self.text), 3)
        layout.addLayout(row)
        layout.addWidget(self.images, 2)
        layout.addWidget(self.done)
        self.text.linkActivated.connect(self._on_link)
        self.domain.currentIndexChanged.connect(self._fill)
        self.images.cellClicked.connect(lambda row, _: self._on_image(row))
        self.save_button.picture.connect(self._save_picture)
        self.save_button.numbers.connect(self._save_numbers)
        state.events.suitability.connect(self._show)
        self._show(state.suitability)

    def end(self) -> None:
        """Disconnect from the state."""
        self._state.events.suitability.disconnect(self._show)

    def _show(self, suitability: "Suitability | None") -> None:
        self.text.setText("" if suitability is None else suitability_html(suitability))
        self.text.setToolTip(
            "" if suitability is None or suitability.fsd is None else suitability.fsd.method
        )
        self.done.setText("")
        self.save_button.setEnabled(suitability is not None)
        self.domain.clear()
        if suitability is not None:
            self.domain.addItems([verdict.domain for verdict in suitability.domains])
            self.domain.setCurrentIndex(self.domain.count() - 1)

    @property
    def _images(self) -> "tuple[RankedImage, ...]":
        suitability, index = self._state.suitability, self.domain.currentIndex()
        return () if suitability is None or index < 0 else suitability.domains[index].images

    def _fill(self) -> None:
        self.images.fill(
            (
                image.quality.case,
                str(image.quality.expected),
                "" if image.quality.dice is None else f"{image.quality.dice:.2f}",
                "" if isnan(image.influence) else f"{image.influence:.1%}",
            )
            for image in self._images
        )
        for row, image in enumerate(self._images):
            self.images.item(row, 1).setToolTip(image.quality.expected.remark)

    def _on_image(self, row: int) -> None:
        self._open(self.domain.currentText(), self._images[row].quality.case)

    def _on_link(self, link: str) -> None:
        domain, case = map(unquote, link.split("/"))
        self._open(domain, case)

    def _open(self, domain: str, case: str) -> None:
        assert self._state.extraction is not None
        self._state.open_image(list(self._state.extraction.tables)[-1], domain, case)

    def _save_picture(self, file: Path) -> None:
        self.done.setText(save_and_report(lambda: save_table(self.images, file), file))

    def _save_numbers(self, file: Path) -> None:
        suitability = self._state.suitability
        assert suitability is not None
        self.done.setText(save_and_report(lambda: save_rows(file, suitability.rows()), file))


def link_html(domain: str, case: str) -> str:
    """A link to an image, in the form that `VerdictPage` opens."""
    target = f"{quote(domain, '')}/{quote(case, '')}"
    return f'<a href="{target}" style="color:{LINES[0]}">{escape(case)}</a>'


def suitability_html(suitability: "Suitability") -> str:
    """The verdict as rich text: a paragraph for each domain; images are links."""
    paragraphs = []
    for verdict in suitability.domains:
        claim, *details = suitability.sentences(verdict, escape, link_html)
        paragraphs.append(f"<p><b>{claim}</b><br>{'<br>'.join(details)}</p>")
    return "".join(paragraphs)


def headline_html(suitability: "Suitability", most: int = 3) -> str:
    """The claim about each domain except the source, a line each."""
    lines = [
        suitability.sentences(verdict, escape)[0]
        for verdict in suitability.domains
        if verdict.domain != suitability.source
    ]
    if not lines:
        return f"Add a second domain to compare it with {escape(suitability.source)}."
    hidden = len(lines) - most
    more = [f"{hidden} more domains: see Verdict."] if hidden > 0 else []
    return "<br>".join([*lines[:most], *more])


def judge(extraction: "Extraction") -> "Iterator[str | Suitability]":
    """Segment every image with the last model, and judge its suitability; for a worker.

    Yields a status text before each image, and the verdict at the end. The model uses its
    own normalization statistics and threshold.
    """
    from src_training.evaluation.quality.images import image_quality
    from src_training.explore.suitability import judge_suitability
    from src_training.inference.predictor import Predictor

    name, table = list(extraction.tables.items())[-1]
    model, domains = extraction.models[name], list(extraction.domains.values())
    device = next(model.network.parameters()).device
    predictor, total, done = Predictor(model, str(device)), sum(map(len, domains)), 0
    qualities: dict[str, list[ImageQuality]] = {}
    for domain in domains:
        qualities[domain.name] = []
        steps = image_quality(predictor, domain)
        for _ in domain.names:
            done += 1
            yield f"Expected Dice: segmenting image {done} of {total}…"
            qualities[domain.name].append(next(steps))
    yield judge_suitability(model.card, domains, qualities, table)
