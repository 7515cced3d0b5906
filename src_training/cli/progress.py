"""Progress bars on a terminal, for files and for the events of runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from src_training.config.stages import STAGES
from src_training.errors import printable
from src_training.formatting import format_duration, format_number
from src_training.runs.events import (
    BatchSplit,
    Event,
    Measured,
    Noted,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
)
from src_training.runs.history import describe_split

if TYPE_CHECKING:
    from src_training.runs.estimate import EstimateProgress


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def counted(console: Console, what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar; the yielded function advances it by one and shows a note."""
    with _bar(console) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda note: bar.update(task, advance=1, note=printable(note))


class _Bars:
    """A context that shows progress bars on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = _bar(console)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the bars, and restore the terminal."""
        self._bar.stop()


class RunDisplay(_Bars):
    """Shows a run's events: one bar for each stage, with its loss and its validation score.

    Parameters
    ----------
    console
        Console to print to. Without a terminal, a line is printed at each validation and at the
        end of a stage.

    Attributes
    ----------
    stepping
        Whether a stage is between its first step and its end, so that there may be steps that
        are not saved yet.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._task = self._bar.add_task("preparing", total=None, note="")
        self._score, self._steps, self._last_stage = "", 0, ""
        self.stepping = False

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self._bar.remove_task(self._task)
                self._last_stage = event.stages[-1] if event.stages else ""
                count = f"{event.processes} x " if event.processes > 1 else ""
                self._say(f"On {count}{event.device} in {event.precision}")
            case StageStarted():
                self._score, self._steps = "", event.steps
                self._task = self._bar.add_task(
                    event.stage, total=event.steps, completed=event.step, note=""
                )
            case StepDone():
                self.stepping = True
                note = f"loss {event.total:.3f}{self._score}"
                self._bar.update(self._task, completed=event.step, note=note)
            case Validated():
                score = f"validation {_score(event.stage, event.score)}"
                self._score = f", {score}"
                self._bar.update(self._task, note=score)
                if not self._console.is_terminal:
                    self._say(f"{event.stage}, step {event.step} of {self._steps}: {score}")
            case Measured():
                fsd = {name: format_number(value) for name, value in event.fsd.items()}
                distances = ", ".join(f"{name} {value}" for name, value in fsd.items())
                self._say(f"{event.stage}, step {event.step}: FSD to the source {distances}")
            case BatchSplit():
                self._say(describe_split(event))
            case Noted():
                self._say(event.sentence)
            case StageFinished():
                self.stepping = False
                note = (
                    f"best {_score(event.stage, event.score)} in {format_duration(event.seconds)}"
                )
                self._bar.update(self._task, note=note)
                if not self._console.is_terminal:
                    self._say(f"{event.stage}: {note}")
                if event.stage == self._last_stage:
                    self._say("Scoring the models on every domain")

    def _say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False, soft_wrap=True)


def _score(stage: str, score: float) -> str:
    """Format the score of a stage as Dice, or as a loss, which is minus the score."""
    is_loss = stage in STAGES and STAGES[stage].scored_by == "loss"
    return f"loss {-score:.3f}" if is_loss else f"Dice {score:.3f}"


class EstimateDisplay(_Bars):
    """Shows the progress of an estimate.

    Parameters
    ----------
    console
        Console to print to. Without a terminal, nothing is printed.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._task = self._bar.add_task("estimating", total=None, note="")

    def show(self, progress: "EstimateProgress") -> None:
        """Show the current progress."""
        note = f"{progress.part}; roughly {format_duration(progress.roughly)}"
        self._bar.update(self._task, completed=progress.done, total=progress.total, note=note)


class RunsDisplay(_Bars):
    """Shows several runs at once, with a bar for the current stage of each.

    Parameters
    ----------
    console
        Console to print to. Without a terminal, only starts, ends and notes are printed.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._tasks: dict[str, TaskID] = {}

    def begin(self, name: str) -> None:
        """Add a run whose process has started."""
        self._tasks[name] = self._bar.add_task(name, total=None, note="preparing")

    def show(self, name: str, event: Event) -> None:
        """Show one event of a run."""
        task = self._tasks[name]
        match event:
            case RunStarted():
                self._say(name, f"on {event.device} in {event.precision}")
            case StageStarted():
                self._bar.reset(task, total=event.steps, completed=event.step, note=event.stage)
            case StepDone():
                note = f"{event.stage}, loss {event.total:.3f}"
                self._bar.update(task, completed=event.step, note=note)
            case BatchSplit():
                self._say(name, describe_split(event))
            case Noted():
                self._say(name, event.sentence)
            case RunFinished():
                self._say(name, f"finished in {format_duration(event.seconds)}")

    def end(self, name: str, why: str) -> None:
        """Remove a run whose process has ended, and print `why` if it failed."""
        self._bar.remove_task(self._tasks.pop(name))
        if why:
            self._say(name, why)

    def _say(self, name: str, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(f"{name}: {text}", highlight=False, soft_wrap=True)
