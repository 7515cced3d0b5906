"""The user's models in one list: shipped models, models of finished runs, and model files.

This module does not import torch, because the window lists models when it opens.
"""

import os
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from src_training.config.run_models import run_verdict
from src_training.errors import InputError
from src_training.evaluation.verdict import VALIDATION
from src_training.inference.shipped import shipped_models
from src_training.io.atomic import write_text
from src_training.io.names import LONGEST_NAME, name_fault
from src_training.io.yaml_json import LONGEST_JSON, parse_json
from src_training.runs.directory import RunDirectory, roles_of

Origin = Literal["shipped", "run", "file"]

SUFFIX = ".safetensors"

_DATA = user_data_path("napari-msankd", appauthor=False)


def runs_folder() -> Path:
    """Folder of the runs: ``MSANKD_RUNS``, or a folder in the user's data directory."""
    return Path(os.environ.get("MSANKD_RUNS") or _DATA / "runs").expanduser()


def models_folder() -> Path:
    """Folder of the model files: ``MSANKD_MODELS``, or a folder in the user's data directory."""
    return Path(os.environ.get("MSANKD_MODELS") or _DATA / "models").expanduser()


@dataclass(frozen=True)
class ModelEntry:
    """A model in the list.

    Attributes
    ----------
    path
        Path of the model file.
    origin
        ``shipped``, ``run`` or ``file``.
    name
        Name in the list: that of the file or of the run.
    role
        Role in its run, one of `src_training.runs.directory.ROLES`; empty without a run.
    better
        Whether it has the higher Dice of the two students of its run.
    created
        Time of creation, ISO 8601 in UTC; empty if unknown.
    sources
        Names of the training domains.
    classes
        Names of the classes, background first.
    architecture
        Name of the network.
    dice
        Domain -> Dice, for the domains that it was scored on; validation splits come first.
    run
        Directory of its run, if any.
    """

    path: Path
    origin: Origin
    name: str
    role: str = ""
    better: bool = False
    created: str = ""
    sources: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    architecture: str = ""
    dice: dict[str, float] = field(default_factory=dict)
    run: Path | None = None

    @property
    def title(self) -> str:
        """Name and role, as in ``"mine · distilled"``."""
        return f"{self.name} · {self.role}" if self.role else self.name

    @property
    def validation_dice(self) -> tuple[str, float] | None:
        """Name and Dice of the first validation split, if any."""
        return self._first(validation=True)

    @property
    def test_dice(self) -> tuple[str, float] | None:
        """Name and Dice of the first test domain, if any."""
        return self._first(validation=False)

    def _first(self, validation: bool) -> tuple[str, float] | None:
        items = (item for item in self.dice.items() if item[0].endswith(VALIDATION) == validation)
        return next(items, None)


@dataclass(frozen=True)
class Library:
    """The folders of the user's models.

    Attributes
    ----------
    runs
        Folders of runs.
    models
        Folder of model files, and of the list of models that were opened from other folders.
    """

    runs: tuple[Path, ...]
    models: Path

    @classmethod
    def default(cls) -> "Library":
        """The default folders; see `runs_folder` and `models_folder`."""
        return cls((runs_folder(),), models_folder())

    @property
    def opened(self) -> Path:
        """File that lists the models and runs opened from other folders, one path a line."""
        return self.models / "opened.txt"

    def list_models(self) -> list[ModelEntry]:
        """List all models: shipped ones, those of finished runs (newest first), files by name.

        Files that are no model of this package are left out; see `unreadable`.
        """
        shipped = [_entry(path, "shipped", path.stem) for path in shipped_models().values()]
        of_runs = [entry for run in self._finished_runs() for entry in run_models(run)]
        files = [_entry(path, "file", path.stem) for path in self._files()]
        return [entry for entry in (*shipped, *of_runs, *files) if entry is not None]

    def unreadable(self) -> list[str]:
        """Return one sentence for each listed file that is no model of this package."""
        return [
            f"{path}: not a model file written by msankd"
            for path in self._files()
            if _entry(path, "file", path.stem) is None
        ]

    def remember(self, path: Path) -> None:
        """Add a run, a model file, or the run of a model file to the list of opened models."""
        path = path.absolute()
        run = run_of(path)
        if run is not None:
            listed = self._is_inside(run) or run in self.opened_runs()
        else:
            unreadable = _entry(path, "file", path.stem) is None
            listed = unreadable or any(path == entry.path for entry in self.list_models())
        if not listed:
            self._write_opened([*self._opened(), run or path])

    def opened_runs(self) -> list[Path]:
        """Return the directories of runs opened from other folders that still exist."""
        runs = (run_of(path) for path in self._opened())
        return list(dict.fromkeys(run for run in runs if run is not None))

    def forget(self, entry: ModelEntry) -> None:
        """Remove a model from another folder, or its whole run, from the list; keep the files."""
        removed = entry.run or entry.path
        self._write_opened([path for path in self._opened() if (run_of(path) or path) != removed])

    def is_elsewhere(self, entry: ModelEntry) -> bool:
        """Whether an entry was opened from a folder that is not one of the library."""
        if entry.run is not None:
            return not self._is_inside(entry.run)
        return entry.origin == "file" and entry.path.parent != self.models.absolute()

    def rename(self, entry: ModelEntry, name: str) -> Path:
        """Rename a model file, or a run with all its models.

        The directory of a run is not renamed, because its recipe may refer to it.

        Returns
        -------
        Path
            New path of the model.

        Raises
        ------
        InputError
            If the model ships with the package, or the name is empty, in use, or not
            valid for a file.
        """
        name = name.strip()
        if fault := name_fault(name):
            raise InputError(
                f"{name[:LONGEST_NAME]!r} cannot be a name, as it {fault}; expected letters, "
                "digits, spaces, dots and dashes"
            )
        if entry.origin == "shipped":
            raise InputError(f"{entry.name} comes with the package; expected a model of your own")
        if entry.run is not None:
            write_text(RunDirectory(entry.run).title_file, name)
            return entry.path
        target = entry.path.with_name(f"{name}{SUFFIX}")
        if target.exists():
            raise InputError(f"{target} exists already; expected another name")
        entry.path.rename(target)
        self._write_opened([target if path == entry.path else path for path in self._opened()])
        return target

    def removable(self, entry: ModelEntry) -> Path:
        """Return the path to delete with a model: its file, or the directory of its run.

        Raises
        ------
        InputError
            If the model ships with the package, or its run is in progress.
        """
        if entry.origin == "shipped":
            raise InputError(f"{entry.name} comes with the package; it cannot be deleted")
        if entry.run is None:
            return entry.path
        if RunDirectory(entry.run).in_use:
            raise InputError(f"{entry.name}: the run is still training; stop it first")
        return entry.run

    def _is_inside(self, run: Path) -> bool:
        return run.parent in [root.absolute() for root in self.runs]

    def _finished_runs(self) -> list[Path]:
        inside = [run for root in self.runs for run in root.absolute().glob("*")]
        modified = {}
        for run in (*inside, *self.opened_runs()):
            try:
                modified[run] = RunDirectory(run).model.stat().st_mtime
            except OSError:  # not finished, or gone
                continue
        return sorted(modified, key=lambda run: -modified[run])

    def _files(self) -> list[Path]:
        files = self.models.absolute().glob(f"*{SUFFIX}")
        opened = [path for path in self._opened() if run_of(path) is None and path.exists()]
        return [*sorted(files, key=lambda path: path.stem.lower()), *opened]

    def _opened(self) -> list[Path]:
        try:
            lines = self.opened.read_text("utf-8", errors="replace").splitlines()
            return [Path(line) for line in lines if line and "\0" not in line]
        except FileNotFoundError:
            return []

    def _write_opened(self, paths: list[Path]) -> None:
        if paths != self._opened():
            write_text(self.opened, "".join(f"{path}\n" for path in paths))


def run_models(run: Path) -> list[ModelEntry]:
    """List the models of a finished run: the better student, the other student, the teacher.

    Of a run without distillation it is the student.
    """
    directory = RunDirectory(run)
    verdict = run_verdict(run)
    *others, last = roles_of(distils=not directory.role_model("student").exists())
    better = last if verdict is None else verdict.better
    entries = []
    for role in dict.fromkeys([better, last, *reversed(others)]):
        path = directory.offered_model(role)
        is_better = verdict is not None and not verdict.tied and role == better
        entries.append(_entry(path, "run", directory.title, role, is_better, run))
    return [entry for entry in entries if entry is not None]


def run_of(model: Path) -> Path | None:
    """Return the run of a model file, or of the run's directory itself; None without a run."""
    parent = model.parent
    folders = (model, parent, parent.parent if parent.name == "models" else parent)
    return next((run for run in folders if RunDirectory(run).recipe.exists()), None)


def _entry(
    path: Path,
    origin: Origin,
    name: str,
    role: str = "",
    better: bool = False,
    run: Path | None = None,
) -> ModelEntry | None:
    """The entry of a model file; None if it is gone, or no model of this package."""
    try:
        status = path.stat()
        card = _card(path, status.st_mtime_ns, status.st_size)
        return None if card is None else _entry_of(card, path, origin, name, role, better, run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # invalid values in the card
        return None


def _entry_of(
    card: dict[str, Any],
    path: Path,
    origin: Origin,
    name: str,
    role: str,
    better: bool,
    run: Path | None,
) -> ModelEntry:
    sources = card.get("sources", card.get("domains")) or []
    metrics = card.get("metrics") or {}
    scored = {domain: scores.get("dice") for domain, scores in metrics.items()}
    return ModelEntry(
        path=path,
        origin=origin,
        name=name,
        role=role,
        better=better,
        created=str(card.get("created", "")),
        sources=tuple(str(source["name"]) for source in sources),
        classes=tuple(map(str, card["classes"])),
        architecture=str(card["architecture"]),
        dice={domain: float(dice) for domain, dice in scored.items() if dice is not None},
        run=run,
    )


@lru_cache(maxsize=2048)
def _card(path: Path, _modified: int, _size: int) -> dict[str, Any] | None:
    """The card in the header of a model file, as plain values; None if there is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_JSON:
                return None
            header = parse_json(file.read(length))
        card = parse_json(header["__metadata__"]["msankd"])
        return card if {"classes", "architecture"} <= card.keys() else None
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        return None
