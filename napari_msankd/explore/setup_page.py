"""The Choose page: which models and domains are explored, and their vectors made."""

from collections.abc import Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from napari_msankd.explore.encoder_fit import EncoderFitted, fit
from napari_msankd.explore.extraction import Extraction, MissingEncoder, Progress, Request, explore
from napari_msankd.explore.setup_form import ExploreSetupForm
from napari_msankd.settings import preferences
from napari_msankd.shipped import shipped
from napari_msankd.widgets.error_dialog import show_traceback
from napari_msankd.widgets.export_button import ask_file
from napari_msankd.workers import Failure, WorkerGroup
from src_training.io.atomic import write_text

if TYPE_CHECKING:
    from napari.components import ViewerModel


Step = Progress | MissingEncoder | EncoderFitted | Extraction


class ExploreSetupPage(ExploreSetupForm):
    """Choose, and press Extract.

    Parameters
    ----------
    viewer
        Whose layers are to be had.

    Attributes
    ----------
    explored
        Emitted with the `Extraction` once every vector is there.
    """

    explored = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__(viewer)
        self.workers = WorkerGroup(self, self._fail)
        self._traceback = ""
        self._found: Extraction | None = None
        self.run.changed.connect(self._enable)
        self.with_run.toggled.connect(self._enable)
        self.model.changed.connect(self._enable)
        self.own_domains.toggled.connect(self._enable)
        self.domains.changed.connect(self._enable)
        self.extract.clicked.connect(self.begin)
        self.stop.clicked.connect(self.halt)
        self.sample.clicked.connect(self.begin_sample)
        self.report.clicked.connect(self._on_report)
        self.offer.accepted.connect(lambda lacks, domain: self._start(fit(lacks, domain)))
        self.details.clicked.connect(lambda: show_traceback(self, self._traceback))
        self._enable()

    @property
    def run_path(self) -> Path | None:
        """The run whose models are looked at, if any."""
        return self.run.path if self.with_run.isChecked() else None

    def begin(self) -> None:
        """Extract what is chosen; what the button does."""
        run = self.run_path
        request = Request(
            run=run,
            model=self.model.path,
            domains=tuple(self.domains.value() or ()),
            own_domains=run is not None and self.own_domains.isChecked(),
            views=self.views.value(),
            cache=preferences().cache / "vectors",
        )
        self._start(explore(request))

    def begin_sample(self) -> None:
        """Explore synthetic eyes with the first model that ships."""
        cache = preferences().cache / "vectors"
        model = self.model.path or shipped()[0]
        self._start(explore(Request(run=None, model=model, phantoms=True, cache=cache)))

    def save_report(self, file: Path) -> None:
        """Write a page on what was extracted, in a worker."""
        assert self._found is not None
        self.status.setText(f"Writing {file.name}…")
        self.workers.start("report", _reported(self._found, file), self.status.setText, self._tell)

    def halt(self) -> None:
        """Stop; what was cached stays."""
        self._rest("Stopped; vectors that were made are kept.")

    def end(self) -> None:
        """Work no more; called when the widget or napari goes."""
        self.run.end()
        self.domains.end()
        self.workers.cancel_all()

    def _start(self, steps: Iterator[Step]) -> None:
        self.details.hide()
        self.offer.hide()
        self.bar.setRange(0, 0)
        self.bar.show()
        self.workers.start("extract", steps, self._on_step)
        self._enable()

    def _on_step(self, step: Step) -> None:
        match step:
            case Progress():
                self.status.setText(step.words)
                self.bar.setRange(0, step.total)
                self.bar.setValue(step.done)
            case MissingEncoder():
                self._rest("")
                self.offer.show_lack(step)
            case EncoderFitted():
                self._rest("")
                self.model.open(step.path)
                self._start(explore(step.request))
            case Extraction():
                self._on_explored(step)

    def _on_explored(self, step: Extraction) -> None:
        table = next(iter(step.tables.values()))
        domains, models = _counted(step.domains, "domain"), _counted(step.models, "model")
        self._rest(f"✓ {len(table):,} vectors of {domains} by {models}.")
        self._found = step
        self.report.show()
        self.explored.emit(step)

    def _on_report(self) -> None:
        file = ask_file(self, "Save the report", "HTML (*.html)")
        if file is not None:
            self.save_report(file)

    def _rest(self, words: str) -> None:
        self.workers.cancel("extract")
        self.bar.hide()
        self.status.setText(words)
        self._enable()

    def _fail(self, failure: Failure) -> None:
        self._rest("")
        self._tell(failure)

    def _tell(self, failure: Failure) -> None:
        """Say what went wrong; what else is under way goes on."""
        self._traceback = failure.traceback
        self.status.setText(f"✕ {failure.sentence}")
        self.details.setVisible(bool(failure.traceback))

    def _enable(self, _what: object = None) -> None:
        working = "extract" in self.workers
        run, domains = self.run_path, self.domains.value()
        own = run is not None and self.own_domains.isChecked()
        ready = (run or self.model.path) is not None and domains is not None
        self.extract.setEnabled(not working and ready and (own or bool(domains)))
        self.sample.setEnabled(not working and bool(self.model.path or shipped()))
        self.stop.setEnabled(working)
        self.run.setEnabled(self.with_run.isChecked())
        self.own_domains.setEnabled(run is not None)


def _reported(found: Extraction, file: Path) -> Iterator[str]:
    from src_training.reports.domains import domains_page

    title = f"{', '.join(found.models)} on {', '.join(found.domains)}"
    write_text(file, domains_page(title, found.tables))
    yield f"✓ {file} is written."


def _counted(things: Sized, what: str) -> str:
    return f"1 {what}" if len(things) == 1 else f"{len(things)} {what}s"
