"""The models of a person, in one list: shipped ones, those of finished runs, and model files.

Nothing here loads torch: a window lists models at its start.
"""

import os
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from src_training.errors import InputError
from src_training.evaluation.verdict import VALIDATION, Verdict, judge
from src_training.inference.shipped import shipped_models
from src_training.io.atomic import write_text
from src_training.io.names import LONGEST_NAME, name_fault
from src_training.io.yaml_json import LONGEST_JSON, parse_json
from src_training.runs.directory import RunDirectory

Origin = Literal["shipped", "run", "file"]

SUFFIX = ".safetensors"

_DATA = user_data_path("napari-msankd", appauthor=False)


def runs_folder() -> Path:
    """Folder of the runs: ``MSANKD_RUNS``, or one among the person's own data."""
    return Path(os.environ.get("MSANKD_RUNS") or _DATA / "runs").expanduser()


def models_folder() -> Path:
    """Folder of the model files: ``MSANKD_MODELS``, or one among the person's own data."""
    return Path(os.environ.get("MSANKD_MODELS") or _DATA / "models").expanduser()


@dataclass(frozen=True)
class ModelEntry:
    """A model in the list.

    Attributes
    ----------
    path
        The model file.
    origin
        ``shipped``, ``run`` or ``file``.
    name
        Name in the list: of the file, or of the run.
    role
        Of a run's model: ``teacher``, ``baseline`` or ``distilled``; else empty.
    better
        Of a run's model: whether it has the higher Dice of the two students.
    created
        ISO 8601 in UTC; empty if it is not known.
    sources
        Names of the domains that trained it.
    classes
        Names of the classes, background first.
    architecture
        Name of the network.
    dice
        Domain -> Dice, as far as it was scored; the validation splits come first.
    run
        Directory of the run that it belongs to.
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
        """Name, and role in its run: ``"mine · distilled"``."""
        return f"{self.name} · {self.role}" if self.role else self.name

    @property
    def validation_dice(self) -> tuple[str, float] | None:
        """The first validation split, and its Dice; None if there is none."""
        return self._first(validation=True)

    @property
    def test_dice(self) -> tuple[str, float] | None:
        """The first test domain, and its Dice; None if there is none."""
        return self._first(validation=False)

    def _first(self, validation: bool) -> tuple[str, float] | None:
        found = (item for item in self.dice.items() if item[0].endswith(VALIDATION) == validation)
        return next(found, None)


@dataclass(frozen=True)
class Library:
    """The folders in which a person's models are looked for.

    Attributes
    ----------
    runs
        Folders of runs.
    models
        Folder of model files; it also remembers those that lie elsewhere.
    """

    runs: tuple[Path, ...]
    models: Path

    @classmethod
    def default(cls) -> "Library":
        """The person's own folders, see `runs_folder` and `models_folder`."""
        return cls((runs_folder(),), models_folder())

    @property
    def opened(self) -> Path:
        """A list of model files that were opened from elsewhere, one path a line."""
        return self.models / "opened.txt"

    def list_models(self) -> list[ModelEntry]:
        """Every model: shipped, of finished runs (the newest first), and files by name.

        Files that are no model of this package are left out; see `unreadable`.
        """
        shipped = [_entry(path, "shipped", path.stem) for path in shipped_models().values()]
        own = [entry for run in self._finished_runs() for entry in run_models(run)]
        single = [_entry(path, "file", path.stem) for path in self._files()]
        return [entry for entry in (*shipped, *own, *single) if entry is not None]

    def unreadable(self) -> list[str]:
        """One sentence for each file in the list that is no model of this package."""
        return [
            f"{path}: not a model file written by msankd"
            for path in self._files()
            if _entry(path, "file", path.stem) is None
        ]

    def remember(self, path: Path) -> None:
        """Keep a run, or a model file with all of its run, that lies elsewhere in the list."""
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
        """Directories of the runs that were opened from elsewhere and are still there."""
        runs = (run_of(path) for path in self._opened())
        return list(dict.fromkeys(run for run in runs if run is not None))

    def forget(self, entry: ModelEntry) -> None:
        """Take a model that lies elsewhere, with all of its run, off the list; files stay."""
        gone = entry.run or entry.path
        self._write_opened([path for path in self._opened() if (run_of(path) or path) != gone])

    def is_elsewhere(self, entry: ModelEntry) -> bool:
        """Whether an entry was opened from a folder that is not looked in."""
        if entry.run is not None:
            return not self._is_inside(entry.run)
        return entry.origin == "file" and entry.path.parent != self.models.absolute()

    def rename(self, entry: ModelEntry, name: str) -> Path:
        """Give a model file, or all models of a run, another name.

        A run keeps its directory, which its recipe may point into.

        Returns
        -------
        Path
            Where the model is now.

        Raises
        ------
        InputError
            If the model ships with the package, or the name is empty, taken, or none
            that a file can have.
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
        """What has to go if a model is deleted: its file, or the directory of its run.

        Raises
        ------
        InputError
            If the model ships with the package, or a process is at its run.
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
        found = {}
        for run in (*inside, *self.opened_runs()):
            try:
                found[run] = RunDirectory(run).model.stat().st_mtime
            except OSError:  # not finished, or gone
                continue
        return sorted(found, key=lambda run: -found[run])

    def _files(self) -> list[Path]:
        own = sorted(self.models.absolute().glob(f"*{SUFFIX}"), key=lambda path: path.stem.lower())
        opened = [path for path in self._opened() if run_of(path) is None and path.exists()]
        return [*own, *opened]

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
    """The models of a finished run: the better student first, then the other, then the teacher."""
    directory = RunDirectory(run)
    verdict = run_verdict(run)
    better = "distilled" if verdict is None else verdict.better
    roles = dict.fromkeys([better, "distilled", "baseline", "teacher"])
    found = []
    for role in roles:
        path = directory.role_model(role)
        if role == "distilled" and directory.model.exists():
            path = directory.model
        is_better = verdict is not None and not verdict.tied and role == better
        found.append(_entry(path, "run", directory.title, role, is_better, run))
    return [entry for entry in found if entry is not None]


def run_of(model: Path) -> Path | None:
    """The run that a model file, or the directory itself, is of; None for a file by itself."""
    above = model.parent
    folders = (model, above, above.parent if above.name == "models" else above)
    return next((run for run in folders if RunDirectory(run).recipe.exists()), None)


def run_verdict(run: Path) -> Verdict | None:
    """Which student of a finished run is better; None without a report that says so.

    Its gain is compared with that of its control at equal time, where that was trained.
    """
    directory = RunDirectory(run)
    own, control = _stamp(directory), _stamp(directory.control)
    return None if own is None else _verdict(directory, own, control)


def better_student(run: Path) -> Path:
    """The model file of the better student of a finished run.

    Raises
    ------
    InputError
        If the run has left no student; it has not finished.
    """
    students = (entry.path for entry in run_models(run) if entry.role != "teacher")
    if (path := next(students, None)) is None:
        raise InputError(f"{run}: there is no model of a student; expected a finished run")
    return path


_Stamp = tuple[int, int]


def _stamp(directory: RunDirectory) -> _Stamp | None:
    """Time and size of a report; None where there is none."""
    try:
        found = (directory.report / "report.json").stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=512)
def _verdict(directory: RunDirectory, _own: _Stamp, control: _Stamp | None) -> Verdict | None:
    try:
        beside = directory.control.read_report() if control else None
        return judge(directory.read_report(), beside)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _entry(
    path: Path,
    origin: Origin,
    name: str,
    role: str = "",
    better: bool = False,
    run: Path | None = None,
) -> ModelEntry | None:
    """The entry of a model file; None where it is none of ours, or gone."""
    try:
        stamp = path.stat()
        card = _card(path, stamp.st_mtime_ns, stamp.st_size)
        return None if card is None else _entry_of(card, path, origin, name, role, better, run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # anything may stand in it
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
    """The card in the header of a model file, as plain values; None where there is none."""
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
