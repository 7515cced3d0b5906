"""State of the Segment folder dialog, without Qt."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from psygnal import SignalGroupDescriptor

from src_training.errors import InputError
from src_training.formatting import format_duration

if TYPE_CHECKING:
    from src_training.reports.triage import TriageEntry

FolderPhase = Literal["idle", "running", "stopping"]


@dataclass(frozen=True)
class FolderRequest:
    """Folder, model and options of a run.

    Attributes
    ----------
    folder, out
        Folder of the images, and output folder for labels, table and page.
    model
        Model file.
    angle
        Angle of the fundus camera, degrees; None if unknown. Ignored by models without a
        training angle.
    flips
        Average over flips.
    device
        ``auto`` or a device of torch.
    """

    folder: Path
    out: Path
    model: Path
    angle: float | None
    flips: bool
    device: str


@dataclass(frozen=True)
class FolderProgress:
    """Progress of a run.

    Attributes
    ----------
    done, total
        Number of files done, and of all files.
    before
        Number of files done by an earlier run.
    seconds
        Time since the start of this run.
    """

    done: int = 0
    total: int = 0
    before: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """Text of the bar: ``12 of 40 · 1 min 5 s left``."""
        new = self.done - self.before
        remaining = ""
        if new > 0 and self.done < self.total:
            seconds = self.seconds * (self.total - self.done) / new
            remaining = f" · {format_duration(seconds)} left"
        return f"{self.done:,} of {self.total:,}{remaining}"


@dataclass
class FolderState:
    """Choices and progress of Segment folder; every field emits when it changes.

    Attributes
    ----------
    folder
        Folder of images, stacks or volumes.
    out
        Output folder; `default_out` until the user chooses another.
    model, angle, flips
        As in `FolderRequest`.
    phase, progress
        Phase and progress of the run.
    message, traceback
        Status text, and the traceback of an unexpected error.
    report
        HTML page with all results; None until it is written.
    """

    events = SignalGroupDescriptor()

    folder: Path | None = None
    out: Path | None = None
    model: Path | None = None
    angle: float | None = None
    flips: bool = False
    phase: FolderPhase = "idle"
    progress: FolderProgress = field(default_factory=FolderProgress)
    message: str = (
        "Segments every image of a folder, writes labels, a table and a page with thumbnails, and "
        "lists the least certain results first. Starting again resumes."
    )
    traceback: str = ""
    report: Path | None = None

    @property
    def running(self) -> bool:
        """Whether a folder is being segmented."""
        return self.phase != "idle"

    def choose_folder(self, folder: Path) -> None:
        """Choose the folder of images, and update the output folder if it is the default."""
        if self.out is None or self.out == default_out(self.folder):
            self.out = default_out(folder)
        self.folder = folder

    def request(self, device: str) -> FolderRequest:
        """The request that Start would run now.

        Raises
        ------
        InputError
            If something is not chosen, or the output lies in the folder of the images.
        """
        folder, out, model = self.folder, self.out, self.model
        if folder is None or not folder.is_dir():
            shown = f"{folder} is no folder" if folder else "No folder is chosen"
            raise InputError(f"{shown}; expected a folder of images, stacks or volumes")
        if out is None:
            raise InputError("No output folder is chosen; expected one for labels and table")
        if model is None:
            raise InputError("Select a model first, or use Model > Open model file…")
        if out.resolve() == folder.resolve():
            raise InputError(f"{out} holds the images; expected another folder for the labels")
        return FolderRequest(folder, out, model, self.angle, self.flips, device)


def default_out(folder: Path | None) -> Path | None:
    """Default output folder, a sibling of the folder of images.

    >>> default_out(Path("photos")).name
    'photos-segmented'
    """
    return None if folder is None else folder.with_name(f"{folder.name}-segmented")


def entry_cells(entry: "TriageEntry") -> tuple[str, str, str]:
    """Name, expected Dice with its interval, and remark of a file, for the table."""
    expected = "—" if entry.image is None else f"{entry.image.expected}".replace(" to ", "–")
    file = entry.triaged.file
    name = Path(file).name
    remarks = " ".join(filter(None, (entry.remark, *entry.triaged.notes)))
    return name, expected, remarks.replace(file, name)
