"""Segmenting a folder to see which results need a person: resumable, image by image."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from src_training.errors import InputError
from src_training.evaluation.quality.table import SegmentedImage
from src_training.evaluation.quality.thumbnails import write_thumbnail
from src_training.inference.expected_dice import Quality
from src_training.inference.image_files import segment_file
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import VolumeJob, VolumeOptions, fingerprint
from src_training.inference.volumes.segment import is_foreign, segment_slabs, segment_volume
from src_training.io.volumes.registry import format_of, open_volume

RECORD = "triage.jsonl"
"""What was done, a line for each file; the first line is what it depends on."""

LABELS, THUMBNAILS = "labels", "thumbnails"
"""Folders of what is written."""


@dataclass(frozen=True)
class TriageJob:
    """Everything that the labels of a folder depend on beside its files.

    Attributes
    ----------
    model
        SHA-256 of the model's file.
    flips, threshold, angle
        See `Predictor`, `segment_file` and `SegmentationModel.for_camera`.
    """

    model: str
    flips: bool = False
    threshold: float | None = None
    angle: float | None = None


@dataclass(frozen=True)
class TriagedFile:
    """What became of one file.

    Attributes
    ----------
    file
        The image, stack or volume.
    identity
        See `fingerprint`.
    labels, thumbnail
        Paths in the folder of the triage; empty where the file could not be segmented.
    sums
        See `label_sums`, of each slice.
    notes
        Sentences: whether the image suits the model.
    error
        Why it could not be segmented.
    voxel
        Volume of a voxel, ml; None for what has none.
    foreign
        Of each slice, see `are_foreign`.
    """

    file: str
    identity: str
    labels: str = ""
    thumbnail: str = ""
    sums: list[list[list[float]]] | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    voxel: float | None = None
    foreign: tuple[bool, ...] = ()


class TriageRecord:
    """The file that tells what was done; a killed process loses the image at hand at most.

    Parameters
    ----------
    folder
        Of the triage; made if missing.
    job
        Must be the one that the record was begun with.

    Raises
    ------
    InputError
        If the folder holds the record of another job.
    """

    def __init__(self, folder: Path, job: TriageJob) -> None:
        self.path = folder / RECORD
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        lines = self._lines()
        if lines:
            ours = asdict(job)
            for name, value in ours.items():
                if lines[0].get(name) != value:
                    raise InputError(
                        f"{folder} holds a triage that was begun with {name} "
                        f"{lines[0].get(name)!r}, not {value!r}; expected the same, "
                        "or another folder"
                    )
        else:
            self.path.write_text(json.dumps(asdict(job)) + "\n", encoding="utf-8")
        self._done = {each["file"]: TriagedFile(**each) for each in lines[1:]}

    def done(self, file: Path) -> TriagedFile | None:
        """What became of a file, if it is unchanged since, and its labels are still there."""
        found = self._done.get(str(file))
        if found is None or found.error or found.identity != fingerprint(file):
            return None
        return found if (self._folder / found.labels).exists() else None

    def add(self, triaged: TriagedFile) -> None:
        """Record a file, durably."""
        self._done[triaged.file] = triaged
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(triaged)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; the last one of a killed process may be torn, and is cut off."""
        if not self.path.exists():
            return []
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            with self.path.open("rb+") as file:
                file.truncate(len(whole))
        return [json.loads(line) for line in whole.decode("utf-8").splitlines()]


class _Stopped(Exception):
    """Raised within a volume: its finished slabs stay, and are not segmented again."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class _Worker:
    """Segments one file after another; what it takes to do so in another process."""

    model: Path
    device: str
    job: TriageJob
    folder: Path
    stopped: Callable[[], bool] = _never

    @cached_property
    def predictor(self) -> Predictor:
        loaded = load_model(self.model)
        if loaded.sha256 != self.job.model:
            raise InputError(f"{self.model} has changed since it was opened; expected it unchanged")
        return Predictor(
            loaded.for_camera(self.job.angle), device=self.device, flips=self.job.flips
        )

    def __call__(self, file: Path, target: Path) -> TriagedFile:
        identity = fingerprint(file)
        try:
            return self._segmented(file, target, identity)
        except InputError as error:
            return TriagedFile(str(file), identity, error=str(error))

    def _segmented(self, file: Path, target: Path, identity: str) -> TriagedFile:
        voxel, notes, foreign = None, list[str](), list[bool]()
        if format_of(file) is None:
            done = segment_file(self.predictor, file, target, self.job.threshold)
            written, sums, notes, foreign = done.labels, done.sums, done.notes, done.foreign
        else:
            volume = open_volume(file)
            options = VolumeOptions(flips=self.job.flips, threshold=self.job.threshold)
            job = VolumeJob.of(self.predictor.model, volume, options)
            steps = segment_volume(
                volume, job, target, lambda v, s: segment_slabs(self.predictor, v.voxels, s)
            )
            for last in steps:
                if last.sums is None and self.stopped():
                    raise _Stopped
            if last.sums is None:
                raise InputError(
                    f"{file}: its labels were begun by a former version; "
                    f"expected {target}.part removed"
                )
            written, sums = target, last.sums
            foreign = [is_foreign(self.predictor, volume.voxels, job, sums)] * len(sums)
            if volume.spacing is not None:
                voxel = float(np.prod(volume.spacing)) / 1000
        shown = self.folder / THUMBNAILS / f"{written.name}.jpg"
        write_thumbnail(file, written, int(sums[:, :, 0].sum(1).argmax()), shown)
        return TriagedFile(
            str(file),
            identity,
            f"{LABELS}/{written.name}",
            f"{THUMBNAILS}/{shown.name}",
            sums.tolist(),
            tuple(notes),
            voxel=voxel,
            foreign=tuple(foreign),
        )


def triage(
    targets: Mapping[Path, Path],
    folder: Path,
    model: Path,
    job: TriageJob,
    device: str = "auto",
    workers: int = 1,
    stopped: Callable[[], bool] = _never,
) -> Iterator[tuple[TriagedFile, bool]]:
    """Segment the files that are not done yet; memory does not grow with their number.

    Parameters
    ----------
    targets
        File -> where its labels go, in the folder `LABELS` of `folder`; see `label_files`.
    folder
        Of the triage.
    model, device
        A model file, and where to run it.
    job
        What the labels depend on.
    workers
        Processes, each with a copy of the model; 1: this one.
    stopped
        Asked before every file, and with one process between the slabs of a volume, too:
        whether to end here.

    Yields
    ------
    tuple
        What became of a file, and whether it was done before. A file that cannot be segmented
        has an error, and is tried again the next time.

    Raises
    ------
    InputError
        If the folder holds the triage of another job.
    OSError
        If something cannot be written.
    """
    record, pending = TriageRecord(folder, job), list[Path]()
    for file in targets:
        if known := record.done(file):
            yield known, True
        else:
            pending.append(file)
    worker = _Worker(model, device, job, folder, stopped if workers == 1 else _never)
    for done in _each(worker, pending, targets, workers):
        record.add(done)
        yield done, False
        if stopped():
            return


def segmented_image(triaged: TriagedFile, quality: Quality | None) -> SegmentedImage | None:
    """Its line in the table; None where it could not be segmented."""
    if triaged.sums is None:
        return None
    return SegmentedImage.of(
        Path(triaged.file),
        Path(triaged.labels),
        np.asarray(triaged.sums),
        quality,
        triaged.voxel,
        triaged.foreign,
    )


def _each(
    worker: _Worker, pending: list[Path], targets: Mapping[Path, Path], workers: int
) -> Iterator[TriagedFile]:
    if workers == 1:
        for path in pending:
            if worker.stopped():
                return
            try:
                triaged = worker(path, targets[path])
            except _Stopped:
                return
            yield triaged
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (worker,)) as pool:
        waiting, files = set[Future[TriagedFile]](), iter(pending)
        try:
            while True:
                # A few ahead, so that no process waits; never all of them.
                while len(waiting) < 2 * workers and (file := next(files, None)) is not None:
                    waiting.add(pool.submit(_work, file, targets[file]))
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in finished)
        finally:
            pool.shutdown(cancel_futures=True)


_worker_here: _Worker | None = None


def _start(worker: _Worker) -> None:
    global _worker_here
    import torch

    torch.set_num_threads(1)
    _worker_here = worker


def _work(file: Path, target: Path) -> TriagedFile:
    assert _worker_here is not None
    return _worker_here(file, target)
