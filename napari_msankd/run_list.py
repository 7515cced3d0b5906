"""How all runs of a folder stand, looked at again and again at little cost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from src_training.errors import InputError
from src_training.training.follow import RunFollower, RunHistory
from src_training.training.run import RunFolder, RunState, run_state

Stamp = tuple[float, float, int]


@dataclass
class _Seen:
    """A run as it stood, and what it had written by then."""

    stamp: Stamp
    state: RunState
    follower: RunFollower
    history: RunHistory


class RunList:
    """The runs directly below a folder, newest first, and others that were added.

    Events of a run are read once: what ended is not read again until it is
    resumed, and of what runs only the new lines are.

    Parameters
    ----------
    root
        The folder; need not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._added: list[Path] = []
        self._seen: dict[Path, _Seen] = {}

    def add(self, path: Path) -> None:
        """List a run that lies elsewhere."""
        if path not in self._added and path.parent != self.root:
            self._added.append(path)

    def look(self) -> Iterator[list[RunState]]:
        """How every run stands; for a worker, one at a time."""
        listed = [*self.root.glob("*/recipe.yaml"), *(path / "recipe.yaml" for path in self._added)]
        recipes = {recipe: _written(recipe)[0] for recipe in listed if recipe.exists()}
        newest = sorted(recipes, key=lambda recipe: -recipes[recipe])
        yield [self._stand(recipe.parent, recipes[recipe]) for recipe in newest]

    def _stand(self, path: Path, recipe_written: float) -> RunState:
        stamp = (recipe_written, *_written(RunFolder(path).events))
        seen = self._seen.get(path)
        if seen is not None and seen.stamp == stamp and seen.state.state != "running":
            return seen.state
        if seen is not None and seen.stamp != stamp and seen.state.state == "running":
            seen.stamp = stamp
            if (state := _advanced(seen)) is not None:
                return state
        state = _judged(path)
        self._seen[path] = _Seen(stamp, state, RunFollower(path), RunHistory())
        return state


def _advanced(seen: _Seen) -> RunState | None:
    """A run that ran and has said more since; None where it said its end."""
    while events := seen.follower.poll():
        for event in events:
            seen.history.take(event)
    running = [stage for stage in seen.history.stages.values() if stage.state == "running"]
    if seen.history.state != "running" or not running:
        return None
    stage = running[0]
    seen.state = replace(seen.state, stage=stage.name, step=stage.step, steps=stage.steps)
    return seen.state


def _judged(path: Path) -> RunState:
    try:
        return run_state(path)
    except (InputError, OSError) as error:
        return RunState(path, path.name, "unreadable", "", 0, 0, (), str(error))


def _written(file: Path) -> tuple[float, int]:
    """When a file was written, and its size; zeros where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return 0.0, 0
    return found.st_mtime, found.st_size
