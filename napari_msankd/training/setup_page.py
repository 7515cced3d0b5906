"""The Prepare page: from what a person chose to a run that has begun."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QShowEvent

from napari_msankd.datasets.selection import shared
from napari_msankd.settings import preferences
from napari_msankd.training.cost_estimate import CostEstimate, cost
from napari_msankd.training.monitor.run_watcher import RunWatcher
from napari_msankd.training.recipe_editor.dialog import RecipeEditor
from napari_msankd.training.run_request import (
    RunRequest,
    discard,
    new_folder,
    recipe_of,
    with_domains_of,
)
from napari_msankd.training.setup_form import SetupForm
from napari_msankd.workers import Failure, WorkerGroup, as_failure
from src_training.errors import InputError
from src_training.io.atomic import write_text

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from src_training.config.recipe import Recipe

_REST_MS = 600


class SetupPage(SetupForm):
    """Choose, look, change, start.

    Parameters
    ----------
    viewer
        Whose layers can be learned from.

    Attributes
    ----------
    started
        Emitted with the `RunWatcher` of the run that was begun.
    edited
        The recipe as it was changed under Advanced; None if it was not.
    """

    started = Signal(object)

    def __init__(self, viewer: "ViewerModel") -> None:
        super().__init__(viewer)
        self.workers = WorkerGroup(self, self._fail)
        self.edited: Recipe | None = None
        self.editor: RecipeEditor | None = None
        self._estimate: dict[str, Any] | None = None
        self._scratches = preferences().cache / f"plan-{uuid4().hex[:8]}"
        self._scratch = self._scratches
        self._estimating = CostEstimate(self)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_REST_MS)
        self._connect()
        self._on_domains()

    def begin(self) -> None:
        """Write what must be written and start the run; what Start does."""
        try:
            plan = self._plan()
            folder = new_folder(preferences().runs, plan.name)
        except (InputError, OSError) as error:
            self._fail(as_failure(error))
            return
        self._leave_off_reckoning()
        self.start.setEnabled(False)
        self._say("Writing the images…")

        def failed(failure: Failure) -> None:
            discard(folder)
            self.start.setEnabled(True)
            self._fail(failure)

        steps = recipe_of(plan, folder)
        self.workers.start("start", steps, lambda recipe: self._start(recipe, folder), failed)

    def edit(self) -> None:
        """Open the whole recipe; what Advanced does."""
        self._leave_off_reckoning()
        if self.edited is not None:
            self._open_editor(self.edited)
            return
        self._with_recipe(self._open_editor)

    def end(self) -> None:
        """Stop whatever is under way; called when the widget or napari goes."""
        self._soon.stop()
        self._estimating.end()
        self.source.end()
        self.targets.end()
        self.workers.cancel_all()
        discard(self._scratches)

    def _connect(self) -> None:
        for part in (self.source, self.targets):
            part.changed.connect(self._on_domains)
        for box in (self.kind, self.student, self.time):
            box.currentIndexChanged.connect(self._on_choice)
        self.start_from.changed.connect(self._on_choice)
        self.advanced.clicked.connect(self.edit)
        self.start.clicked.connect(self.begin)
        self._soon.timeout.connect(self._reckon)
        self._estimating.done.connect(self._on_estimate)
        self._estimating.failed.connect(lambda words: self.cost.setText(f"⚠ {words}"))

    @property
    def _ready(self) -> bool:
        """Whether every domain can be used, and no target is learned from."""
        domains = self.source.value(), self.targets.value()
        return None not in domains and not self._clash

    @property
    def _clash(self) -> str:
        """What the source and a target have in common, in a sentence."""
        source = self.source.value()
        targets = self.targets.value() or [] if source is not None else []
        return next(filter(None, (shared(source, target) for target in targets)), "")

    def _plan(self) -> RunRequest:
        source, targets = self.source.value(), self.targets.value()
        if source is None or targets is None:
            raise InputError("A domain is not ready; expected images with masks to learn from")
        name = self.name.text().strip()
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"The name is {name!r}; expected letters, digits, '.', '-' and '_'")
        return RunRequest(
            name,
            source,
            tuple(targets),
            self.kind.currentData(),
            self.student.currentData(),
            self.time.currentData(),
            self.start_from.path,
        )

    def _on_domains(self) -> None:
        self._on_choice()
        clash = self._clash
        self.clash.setText(f"✕ {clash}" if clash else "")
        for button in (self.start, self.advanced):
            button.setEnabled(self._ready and "start" not in self.workers)

    def _on_choice(self) -> None:
        """A choice was made: what was edited and estimated for another is of no use."""
        if self.edited is not None:
            self._say("Another choice was made: the changes under Advanced are gone.")
        self.edited = self._estimate = None
        self._estimating.stop()
        self.cost.setText("")
        self._reckon_soon()

    def showEvent(self, event: QShowEvent) -> None:
        """Time the plan once it is in sight: beside a run it would only be in the way."""
        super().showEvent(event)
        self._reckon_soon()

    def _reckon_soon(self) -> None:
        if self._estimate is None and self._ready and self.isVisible():
            self._soon.start()

    def _reckon(self) -> None:
        """Time a few steps of the plan as it is now."""
        if not self._ready:
            return
        self.cost.setText("Measuring what it costs on this machine…")
        if self.edited is not None:
            self._estimate_of(self.edited)
        else:
            self._with_recipe(self._estimate_of)

    def _leave_off_reckoning(self) -> None:
        """Time no steps, now or soon: beside a run or an editor it would be in the way."""
        self._soon.stop()
        self.workers.cancel("recipe")
        self._estimating.stop()
        if self._estimate is None:
            self.cost.setText("")

    def _estimate_of(self, recipe: "Recipe") -> None:
        file = self._scratch / "recipe.yaml"
        try:
            recipe.save(file)
        except OSError as error:
            self.cost.setText(f"⚠ {as_failure(error).sentence}")
            return
        self._estimating.start(file, preferences().device)

    def _on_estimate(self, estimate: dict[str, Any]) -> None:
        self._estimate = estimate
        self.cost.setText(cost(estimate))

    def _with_recipe(self, then: Callable[["Recipe"], None]) -> None:
        """Make the recipe of the plan on a copy of the layers, and hand it on."""
        try:
            plan = self._plan()
        except InputError as error:
            self._fail(as_failure(error))
            return
        discard(self._scratch)
        # A worker that is not listened to any more may still write into the last one.
        self._scratch = self._scratches / uuid4().hex[:8]
        self.workers.start("recipe", recipe_of(plan, self._scratch), then)

    def _open_editor(self, recipe: "Recipe") -> None:
        self.editor = RecipeEditor(recipe, self, self._scratches)
        self.editor.accepted.connect(self._on_edited)
        self.editor.rejected.connect(self._reckon_soon)
        self.editor.open()

    def _on_edited(self) -> None:
        assert self.editor is not None
        self.edited, self._estimate = self.editor.recipe, None
        self._estimating.stop()
        self.cost.setText("")
        self._say("The recipe was changed under Advanced.")
        self._soon.start()

    def _start(self, recipe: "Recipe", folder: Path) -> None:
        """Begin the run, on the edited recipe where there is one."""
        self.start.setEnabled(True)
        try:
            if self.edited is not None:
                recipe = with_domains_of(self.edited, recipe)
            job = RunWatcher.start(recipe, folder, preferences().device)
        except (InputError, OSError) as error:
            discard(folder)
            self._fail(as_failure(error))
            return
        self._say("")
        if self._estimate is not None:
            try:
                write_text(job.folder.estimate, json.dumps(self._estimate))
            except OSError as error:
                self._fail(as_failure(error))
        self.started.emit(job)

    def _say(self, words: str) -> None:
        self.status.setText(words)

    def _fail(self, failure: Failure) -> None:
        self._say(f"✕ {failure.sentence}")
