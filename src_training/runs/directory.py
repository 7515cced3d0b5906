"""The directory of a run: the paths of its files, and its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src_training.config.run_models import control_run, read_report, with_former_name
from src_training.io.folder_lock import HeldFolder, hold, is_held

ROLES = {
    "teacher": "teacher",
    "baseline": "student alone",
    "distilled": "student distilled",
    "student": "student",
}
"""Role of each model of a run -> its title; ``student`` is that of a run without distillation."""


def roles_of(distils: bool) -> tuple[str, ...]:
    """Roles of the models of a run with or without a distillation, the run's own model last."""
    return ("teacher", "baseline", "distilled") if distils else ("student",)


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run.

    The process of the run writes the files; windows, terminals and notebooks read them.

    Attributes
    ----------
    path
        Directory of the run; need not exist yet.
    held
        The lock, if this process holds it; see `locked`.
    """

    path: Path
    held: HeldFolder | None = field(default=None, compare=False, repr=False)

    @property
    def recipe(self) -> Path:
        """The recipe, including all defaults."""
        return self.path / "recipe.yaml"

    @property
    def title_file(self) -> Path:
        """File of the name that the user gave the finished run."""
        return self.path / "title.txt"

    @property
    def title(self) -> str:
        """Name of the run: the one that the user gave it, or that of its directory."""
        try:
            name = self.title_file.read_text(encoding="utf-8", errors="replace").strip()
            return name or self.path.name
        except OSError:
            return self.path.name

    @property
    def asked(self) -> Path:
        """The recipe that is passed to a new process, which then writes `recipe`."""
        return self.path / "asked.yaml"

    @property
    def cases(self) -> Path:
        """Sizes and SHA-256 of the image files that the run reads."""
        return self.path / "cases.json"

    @property
    def events(self) -> Path:
        """Events of the run, as JSON lines."""
        return self.path / "events.jsonl"

    @property
    def model(self) -> Path:
        """Model file of the distilled student, or of the student trained alone."""
        return self.path / "model.safetensors"

    @property
    def start(self) -> Path:
        """Folder of copies of the models that the networks start from."""
        return self.path / "start"

    def start_model(self, role: str) -> Path:
        """Path of the copy of the model that the teacher or the student starts from."""
        former = self.path / "start.safetensors"
        if role == "student" and former.exists():
            return former
        return self.start / f"{role}.safetensors"

    @property
    def models(self) -> Path:
        """Folder of the models of all `ROLES`."""
        return self.path / "models"

    def role_model(self, role: str) -> Path:
        """Path of the model of a role; in a run of a former version, its former path."""
        return with_former_name(self.models, role, ".safetensors")

    def offered_model(self, role: str) -> Path:
        """Path of the model of a role to use; of the last role, the run's own model if there."""
        final = role in ("distilled", "student") and self.model.exists()
        return self.model if final else self.role_model(role)

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    def outcome(self, role: str) -> Path:
        """Path of the `Outcome` of a model trained from masks alone, as JSON."""
        return with_former_name(self.report, role, ".json")

    def read_report(self) -> dict[str, Any]:
        """Read the report: role -> outcome; OSError or ValueError if there is none."""
        return read_report(self.path)

    @property
    def output(self) -> Path:
        """Standard error of the process, if the program that started it saves it."""
        return self.path / "output.log"

    @property
    def preview_input(self) -> Path:
        """Image (H, W) or (H, W, C) for the preview; any program may write it during the run."""
        return self.path / "preview" / "input.npy"

    @property
    def preview_labels(self) -> Path:
        """Labels (H, W) uint8 of the preview's image by the network as of the last validation."""
        return self.path / "preview" / "labels.npy"

    @property
    def control(self) -> "RunDirectory":
        """Control run, whose student trains without a teacher for as long as distillation took."""
        return RunDirectory(control_run(self.path))

    @property
    def estimate(self) -> Path:
        """Estimate of the run's cost, made before the run."""
        return self.path / "estimate.json"

    def stage(self, name: str) -> Path:
        """Folder of the checkpoints of a stage; in a run of a former version, its former path."""
        return with_former_name(self.path / "stages", name)

    @property
    def of_former_stages(self) -> bool:
        """Whether the run is by a former version, with one alignment network for all students."""
        return self.stage("san").exists() and not self.stage("san_baseline").exists()

    def begun(self, stage: str) -> bool:
        """Whether a stage has a checkpoint to resume from."""
        return (self.stage(stage) / "last.safetensors").exists()

    def clear_halves(self) -> None:
        """Remove temporary files of a killed process; requires the lock of the run."""
        for pattern in ("stages/**/.*", "models/.*", "start/.*"):
            for temporary in self.path.glob(pattern):
                temporary.unlink()

    @contextmanager
    def locked(self) -> Iterator["RunDirectory"]:
        """Lock the run; the operating system releases the lock if this process dies.

        Yields
        ------
        RunDirectory
            The same directory, with `held` set; see `require`.

        Raises
        ------
        InputError
            If another process holds the lock.
        """
        with hold(self.path) as held:
            yield replace(self, held=held)

    def require(self) -> None:
        """Raise InputError if this process has locked the run and its folder was moved since."""
        if self.held is not None:
            self.held.require()

    @property
    def in_use(self) -> bool:
        """Whether a process holds the lock of the run."""
        return is_held(self.path)
