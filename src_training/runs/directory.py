"""Where everything of a run lies: a window, a terminal or a notebook only watches it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src_training.config.stages import STAGES, stage_name
from src_training.io.folder_lock import HeldFolder, hold, is_held
from src_training.io.yaml_json import parse_json

ROLES = {
    "teacher": "teacher",
    "baseline": "student alone",
    "distilled": "student distilled",
}
"""The models that a run leaves, and what they are called."""


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run; a window, a terminal or a notebook only watch them.

    Attributes
    ----------
    path
        Directory of the run; need not be there yet.
    held
        Where this process holds it; see `locked`.
    """

    path: Path
    held: HeldFolder | None = field(default=None, compare=False, repr=False)

    @property
    def recipe(self) -> Path:
        """The recipe, with every default written out."""
        return self.path / "recipe.yaml"

    @property
    def title_file(self) -> Path:
        """The name that a person gave the run later."""
        return self.path / "title.txt"

    @property
    def title(self) -> str:
        """What the run is called: as a person named it later, or as its directory."""
        try:
            named = self.title_file.read_text(encoding="utf-8", errors="replace").strip()
            return named or self.path.name
        except OSError:
            return self.path.name

    @property
    def asked(self) -> Path:
        """The recipe that a new process is given, before it claims the directory with its own."""
        return self.path / "asked.yaml"

    @property
    def cases(self) -> Path:
        """The files that the run reads, with their sizes and SHA-256."""
        return self.path / "cases.json"

    @property
    def events(self) -> Path:
        """What the run said, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def model(self) -> Path:
        """The distilled student."""
        return self.path / "model.safetensors"

    @property
    def start(self) -> Path:
        """The run's copies of the models that its networks start from."""
        return self.path / "start"

    def start_model(self, role: str) -> Path:
        """The run's copy of the model that its teacher or student starts from."""
        former = self.path / "start.safetensors"
        if role == "student" and former.exists():
            return former
        return self.start / f"{role}.safetensors"

    @property
    def models(self) -> Path:
        """Models of all `ROLES`."""
        return self.path / "models"

    def role_model(self, role: str) -> Path:
        """The model of a role; in a run of a former version under its former name."""
        return _with_former_name(self.models, role, ".safetensors")

    @property
    def report(self) -> Path:
        """Tables of scores."""
        return self.path / "report"

    def outcome(self, role: str) -> Path:
        """How a model trained from masks alone does, an `Outcome` as JSON."""
        return _with_former_name(self.report, role, ".json")

    def read_report(self) -> dict[str, Any]:
        """Role -> how its model does, as JSON has it; OSError or ValueError if there is none."""
        content = parse_json((self.report / "report.json").read_text(encoding="utf-8"))
        return {stage_name(role): outcome for role, outcome in content.items()}

    @property
    def output(self) -> Path:
        """What the process printed, where whoever started it kept that."""
        return self.path / "output.log"

    @property
    def preview_input(self) -> Path:
        """An image (H, W) or (H, W, C) that anyone may put here, at any time."""
        return self.path / "preview" / "input.npy"

    @property
    def preview_labels(self) -> Path:
        """Its labels (H, W) uint8 by the network in training, as of the last validation."""
        return self.path / "preview" / "labels.npy"

    @property
    def control(self) -> "RunDirectory":
        """The run whose student, without a teacher, takes as long as this one's distillation."""
        return RunDirectory(self.path.with_name(f"{self.path.name}-equal-time"))

    @property
    def estimate(self) -> Path:
        """What the run was thought to cost before it began."""
        return self.path / "estimate.json"

    def stage(self, name: str) -> Path:
        """Checkpoints of a stage; in a run of a former version under its former name."""
        return _with_former_name(self.path / "stages", name)

    @property
    def of_former_stages(self) -> bool:
        """Whether it is by a version that fitted one alignment network for all its students."""
        return self.stage("san").exists() and not self.stage("san_baseline").exists()

    def begun(self, stage: str) -> bool:
        """Whether a stage has a checkpoint to go on from."""
        return (self.stage(stage) / "last.safetensors").exists()

    def clear_halves(self) -> None:
        """Remove what a killed process left half written; for who holds the run."""
        for pattern in ("stages/**/.*", "models/.*", "start/.*"):
            for half in self.path.glob(pattern):
                half.unlink()

    @contextmanager
    def locked(self) -> Iterator["RunDirectory"]:
        """Hold the run against other processes; released by the system if this one dies.

        Yields
        ------
        RunDirectory
            The same, which knows that it is held; see `require`.

        Raises
        ------
        InputError
            If another process holds it.
        """
        with hold(self.path) as held:
            yield replace(self, held=held)

    def require(self) -> None:
        """Raise InputError if this process holds the run, and it was renamed or removed since."""
        if self.held is not None:
            self.held.require()

    @property
    def in_use(self) -> bool:
        """Whether a process holds it."""
        return is_held(self.path)


def _with_former_name(folder: Path, name: str, suffix: str = "") -> Path:
    """A path below a folder, or the one of a former name where only that exists."""
    path = folder / f"{name}{suffix}"
    former = STAGES[name].former_names if name in STAGES else ()
    if not path.exists():
        for each in former:
            if (folder / f"{each}{suffix}").exists():
                return folder / f"{each}{suffix}"
    return path
