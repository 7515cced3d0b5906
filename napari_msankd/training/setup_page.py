"""The Prepare page: a view of `TrainingState` that starts runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from superqt.utils import QSignalDebouncer, signals_blocked

from napari_msankd.formatting import literal
from napari_msankd.settings import preferences
from napari_msankd.training.cost_estimate import CostEstimate
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.recipe_editor.dialog import RecipeEditor
from napari_msankd.training.run_request import (
    RunRequest,
    discard,
    make_recipe,
    new_folder,
    with_datasets_of,
)
from napari_msankd.training.setup_form import SetupForm
from napari_msankd.training.state import (
    TrainingState,
    cost_text,
    measurable,
    message,
    name_note,
    obstacle,
)
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError
from src_training.io.atomic import write_text
from src_training.runs.directory import RunDirectory

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.config.recipe import Recipe

_REST_MS = 600
"""Delay between the last choice and the cost estimate."""

_START_TIP = "Train and distil in a process of its own; the window stays free"


class SetupPage(SetupForm):
    """Choose datasets and networks, estimate the cost, edit the recipe, start a run.

    Parameters
    ----------
    viewer
        The viewer whose layers can be trained on.

    Attributes
    ----------
    started
        Emitted with the `RunWatcher` of a started run.
    state
        State of the page.
    editor
        Recipe editor of the last Advanced; None before.
    """

    started = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__(viewer)
        self.state = TrainingState()
        self.workers = WorkerGroup(self, self._fail)
        self.editor: RecipeEditor | None = None
        self._scratch_root = preferences().cache / f"setup-{uuid4().hex[:8]}"
        self._scratch = self._scratch_root
        self._estimate = CostEstimate(self)
        self._pause = QSignalDebouncer(parent=self)
        self._pause.setTimeout(_REST_MS)
        self._connect()
        self._on_datasets()
        self._redraw()

    def start_run(self) -> None:
        """Write images and recipe, and start the run, as Start does."""
        try:
            request = self.state.request()
            folder = new_folder(preferences().runs, request.name)
        except (InputError, OSError) as error:
            self._fail(as_failure(error))
            return
        self.state.failure, self.state.starting, self.state.progress = "", True, None

        def failed(failure: Failure) -> None:
            discard(folder)
            self.state.starting = False
            self._fail(failure)

        steps = make_recipe(request, folder)
        self.workers.start("start", steps, lambda recipe: self._start(recipe, folder), failed)

    def edit(self) -> None:
        """Open the recipe editor, as Advanced does."""
        self.state.editing, self.state.progress = True, None
        if self.state.edited is not None:
            self._open_editor(self.state.edited)
            return
        self._make_recipe("recipe", self._open_editor)

    def end(self) -> None:
        """Cancel all work and remove temporary files, when the widget or napari closes."""
        self._pause.cancel()
        self._estimate.stop()
        for part in (self.sources, self.targets, self.unlabelled):
            part.end()
        self.workers.cancel_all()
        discard(self._scratch_root)

    def _connect(self) -> None:
        for part in (self.sources, self.targets, self.unlabelled):
            part.changed.connect(self._on_datasets)
        for selector in (self.teacher, self.student):
            selector.changed.connect(self._on_choice)
        for box in (self.kind, self.time):
            box.changed.connect(self._on_choice)
        self.name.textChanged.connect(self._on_name)
        self.advanced.clicked.connect(self.edit)
        self.start.clicked.connect(self.start_run)
        self._pause.triggered.connect(self._measure)
        self._estimate.progressed.connect(self._on_progress)
        self._estimate.done.connect(self._on_estimate)
        self._estimate.failed.connect(self._on_estimate_failed)
        self.state.events.connect(self._redraw)

    def _on_datasets(self) -> None:
        chosen = {
            name: None if (value := part.value()) is None else tuple(value)
            for name, part in (
                ("sources", self.sources),
                ("targets", self.targets),
                ("unlabelled", self.unlabelled),
            )
        }
        self.state.choose(**chosen)

    def _on_choice(self) -> None:
        self.state.choose(
            teacher=self.teacher.value(),
            student=self.student.value(),
            kind=self.kind.value,
            time=self.time.value,
        )

    def _on_name(self, text: str) -> None:
        self.state.name, self.state.failure = text, ""

    def _redraw(self, *_event: object) -> None:
        """Show the state, and schedule a cost estimate if needed."""
        state = self.state
        missing = obstacle(state)
        self.start.setEnabled(not missing and not state.starting)
        self.start.setToolTip(literal(missing) or _START_TIP)
        self.advanced.setEnabled(not missing and not state.starting)
        if self.name.text() != state.name:
            with signals_blocked(self.name):
                self.name.setText(state.name)
        self.cost.setText(cost_text(state))
        self.name_note.setText(name_note(state.name))
        progress = state.progress or {"done": 0, "total": 0}
        self.show_progress(progress["done"], progress["total"])
        self.status.setText(message(state))
        if state.progress is None:
            self._estimate.stop()
            self.workers.cancel("estimate")
        self._measure_soon()

    def showEvent(self, event: QShowEvent) -> None:
        """Estimate the cost when the page is shown; active runs are looked up again."""
        super().showEvent(event)
        self.state.training = ()
        self._measure_soon()

    def _measure_soon(self) -> None:
        if measurable(self.state) and self.isVisible():
            self._pause.throttle()
        else:
            self._pause.cancel()

    def _measure(self) -> None:
        """Time a few steps of the run with the current choices."""
        if not measurable(self.state):
            return
        self.state.progress = {"done": 0, "total": 1, "part": "Reading images", "roughly": 0.0}
        self._make_recipe("estimate", self._measure_recipe)

    def _measure_recipe(self, recipe: "Recipe | tuple[str, ...]") -> None:
        if isinstance(recipe, tuple):
            self.state.progress, self.state.training = None, recipe
            return
        file = self._scratch / "recipe.yaml"
        try:
            (self.state.edited or recipe).save(file)
        except OSError as error:
            self._on_estimate_failed(as_failure(error).sentence)
            return
        self._estimate.start(file, preferences().device)

    def _on_progress(self, progress: dict[str, Any]) -> None:
        self.state.progress = progress

    def _on_estimate(self, estimate: dict[str, Any]) -> None:
        self.state.estimate, self.state.progress = estimate, None

    def _on_estimate_failed(self, sentence: str) -> None:
        self.state.estimate_error, self.state.progress = sentence, None

    def _make_recipe(self, key: str, then: Any) -> None:
        """Make the recipe with copies of the layers in a worker, and call `then` with it."""
        try:
            request = self.state.request()
        except InputError as error:
            self._fail(as_failure(error))
            return
        discard(self._scratch)
        # Use a new folder, because a cancelled worker may still write to the former one.
        self._scratch = self._scratch_root / uuid4().hex[:8]
        exclusive = key == "estimate"
        steps = _recipe_unless_training(request, self._scratch, preferences().runs, exclusive)
        self.workers.start(key, steps, then)

    def _open_editor(self, recipe: "Recipe") -> None:
        self.editor = RecipeEditor(recipe, self, self._scratch_root)
        self.editor.accepted.connect(self._on_edited)
        self.editor.finished.connect(self._on_editor_closed)
        self.editor.open()

    def _on_edited(self) -> None:
        assert self.editor is not None
        self.state.edit(self.editor.recipe)

    def _on_editor_closed(self) -> None:
        self.state.editing = False

    def _start(self, recipe: "Recipe", folder: Path) -> None:
        """Start the run, with the edited recipe if there is one."""
        try:
            if self.state.edited is not None:
                recipe = with_datasets_of(self.state.edited, recipe)
            watcher = RunWatcher.start(recipe, folder, preferences().device)
        except (InputError, OSError) as error:
            discard(folder)
            self.state.starting = False
            self._fail(as_failure(error))
            return
        if self.state.estimate is not None:
            try:
                write_text(watcher.folder.estimate, json.dumps(dict(self.state.estimate)))
            except OSError as error:
                self._fail(as_failure(error))
        self.state.training, self.state.starting = (folder.name,), False
        self.started.emit(watcher)

    def _fail(self, failure: Failure) -> None:
        self.state.editing, self.state.failure = False, failure.sentence


def training_runs(root: Path) -> tuple[str, ...]:
    """Names of the active runs in a folder."""
    recipes = root.glob("*/recipe.yaml")
    return tuple(file.parent.name for file in recipes if RunDirectory(file.parent).in_use)


def _recipe_unless_training(
    request: RunRequest, folder: Path, runs: Path, exclusive: bool
) -> "Iterator[Recipe | tuple[str, ...]]":
    """Yield the recipe; if `exclusive` and runs are active, yield their names instead."""
    if exclusive and (names := training_runs(runs)):
        yield names
    else:
        yield from make_recipe(request, folder)
