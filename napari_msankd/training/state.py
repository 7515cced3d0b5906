"""State of the Prepare page and texts derived from it, without Qt and torch."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_msankd.training.run_request import (
    NO_TEACHER,
    RECOMMENDED,
    Datasets,
    Kind,
    NetworkChoice,
    RunRequest,
)
from src_training.errors import InputError
from src_training.formatting import format_bytes, format_duration
from src_training.io.names import plain_name

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe

LONGEST_NAME = 80
"""Maximum length of a run's name, which keeps the paths in its folder short enough."""

_FANET, _RECOMMENDED = NetworkChoice("fanet"), NetworkChoice(RECOMMENDED)


@dataclass
class TrainingState:
    """Choices on the Prepare page, and the estimate of their cost.

    Attributes
    ----------
    sources, targets, unlabelled
        Datasets to train on, to report on, and to distil on without masks; None while one
        of them is invalid.
    teacher, student
        Networks, or models to start from.
    kind
        Preprocessing of the images.
    time
        Name of a preset, one of `TIMES`.
    name
        Name of the run as typed.
    edited
        Recipe edited under Advanced, or None.
    reset
        Whether a later choice discarded the edited recipe.
    progress, estimate, estimate_error
        Progress of the cost estimate, its result, and its error.
    training
        Names of active runs.
    starting, editing
        Whether a run is being prepared, and whether the recipe editor is open.
    failure
        Message of the last error.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        # Datasets hold arrays, for which `==` has no truth value.
        equality_operators=dict.fromkeys(("sources", "targets", "unlabelled"), operator.is_)
    )

    sources: Datasets | None = None
    targets: Datasets | None = ()
    unlabelled: Datasets | None = ()
    teacher: NetworkChoice = _FANET
    student: NetworkChoice = _RECOMMENDED
    kind: Kind = "auto"
    time: str = "quick"
    name: str = "student"
    edited: "Recipe | None" = None
    reset: bool = False
    progress: Mapping[str, Any] | None = None
    estimate: Mapping[str, Any] | None = None
    estimate_error: str = ""
    training: tuple[str, ...] = ()
    starting: bool = False
    editing: bool = False
    failure: str = ""

    def choose(self, **choices: Any) -> None:
        """Set choices; a change discards the edited recipe and the estimate."""
        changed = False
        for name, value in choices.items():
            former = getattr(self, name)
            changed |= value is not former and (name in _ROWS or value != former)
            setattr(self, name, value)
        if changed:
            self.reset = self.edited is not None
            self.failure = ""
            self.edit(None)

    def edit(self, recipe: "Recipe | None") -> None:
        """Set the recipe edited under Advanced, and discard the estimate."""
        self.edited = recipe
        if recipe is not None:
            self.reset = False
        self.clear_estimate()

    def clear_estimate(self) -> None:
        """Discard the estimate."""
        self.progress, self.estimate, self.estimate_error = None, None, ""

    def request(self) -> RunRequest:
        """The run with the current choices; raises InputError if any is missing."""
        if sentence := obstacle(self):
            raise InputError(sentence)
        assert self.sources is not None
        return RunRequest(
            run_name(self.name),
            self.sources,
            self.targets or (),
            self.unlabelled or (),
            self.teacher,
            self.student,
            self.kind,
            self.time,
        )


_ROWS = {"sources": "Sources", "targets": "Targets", "unlabelled": "Images without masks"}
"""Field of the state -> title of its datasets."""


def obstacle(state: TrainingState) -> str:
    """Reason why a run cannot start; empty if it can."""
    if state.sources is None or not state.sources:
        return "Sources are not ready; expected images with masks to train on."
    if state.targets is None:
        return "A target is not ready; expected usable images, or no such target."
    if state.unlabelled is None:
        return "Images without masks are not ready; expected usable images, or none."
    unlabelled = state.unlabelled or any(each.unmasked == "unlabelled" for each in state.sources)
    if unlabelled and state.teacher == NO_TEACHER:
        return "Images without masks need a teacher to learn from; expected one, or no such images."
    if sentence := overlap(state):
        return sentence
    if not run_name(state.name):
        return "The run has no name; expected letters or digits."
    if not state.teacher.train and state.teacher.start_from is None:
        return "The frozen teacher has no model; expected a model to use as it is."
    return ""


def overlap(state: TrainingState) -> str:
    """Message about images that are chosen twice; empty if there are none."""
    from napari_msankd.datasets.selection import shared_images

    chosen = [
        (row, dataset) for name, row in _ROWS.items() for dataset in getattr(state, name) or ()
    ]
    for (row, dataset), (other_row, other) in combinations(chosen, 2):
        if images := shared_images(dataset, other):
            where = f"twice in {row}" if row == other_row else f"in {row} and in {other_row}"
            return f"{images} is {where}; expected each image once."
    return ""


def run_name(text: str) -> str:
    """A file name from the typed text: letters, digits, ``.``, ``-`` and ``_``.

    >>> run_name(" My first run (2026) "), run_name("a/b"), run_name("..")
    ('My-first-run-2026', 'a-b', '')
    """
    return plain_name(text)[:LONGEST_NAME].strip("-.")


def name_note(text: str) -> str:
    """Note about the name of folder and model, if it differs from the typed text."""
    name = run_name(text)
    return f"Name of folder and model: {name}" if name and name != text.strip() else ""


def measurable(state: TrainingState) -> bool:
    """Whether to measure the cost of the run now; not while another run is training."""
    started = state.progress is not None or state.estimate is not None or state.estimate_error
    busy = state.training or state.starting or state.editing
    return not started and not busy and not obstacle(state)


def cost_text(state: TrainingState) -> str:
    """The estimated cost of the run, or the progress of the estimate.

    >>> cost_text(TrainingState(estimate={"seconds": 310, "memory": 12e8, "device": "cpu"}))
    'About 5 min 10 s and 1.2 GB of memory on cpu'
    >>> cost_text(TrainingState(progress={"done": 1, "part": "Teacher", "roughly": 130}))
    'Roughly 2 min; measuring: Teacher…'
    """
    if state.estimate is not None:
        seconds, memory = state.estimate["seconds"], int(state.estimate["memory"])
        cost = f"About {format_duration(seconds)} and {format_bytes(memory)} of memory"
        return "\n".join(
            [f"{cost} on {state.estimate['device']}", *state.estimate.get("notes", ())]
        )
    if state.estimate_error:
        return f"⚠ Time and memory could not be estimated: {state.estimate_error}"
    if state.training:
        return f"Time is not estimated while {_quote_names(state.training)} is training."
    if state.progress is None:
        return ""
    part, roughly = state.progress["part"], state.progress["roughly"]
    if not roughly:
        return f"Estimating time and memory: {part}…"
    time = format_duration(60 * max(1, round(roughly / 60)))
    return f"Roughly {time}; measuring: {part}…"


def message(state: TrainingState) -> str:
    """Status text for the current choices."""
    if state.starting:
        return "Writing images…"
    if state.failure:
        return f"✕ {state.failure}"
    if sentence := overlap(state):
        return f"✕ {sentence}"
    if state.reset:
        return "Advanced settings were reset because the selection changed."
    if state.edited is not None:
        return "Advanced settings were changed."
    return obstacle(state)


def _quote_names(names: tuple[str, ...]) -> str:
    quoted = [f"“{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{quoted[0]} or another run"
