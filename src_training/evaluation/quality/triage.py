"""Triage: segmenting a folder, resumably, to find the results that need a review."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from functools import cached_property, partial
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
from src_training.inference.volumes.process_pool import process_pool, run_task
from src_training.inference.volumes.segment import is_foreign, segment_slabs, segment_volume
from src_training.io.volumes.registry import format_of, open_volume

RECORD = "triage.jsonl"
"""Name of the record: the job as JSON, then a line for each file."""

LABELS, THUMBNAILS = "labels", "thumbnails"
"""Names of the output folders."""


@dataclass(frozen=True)
class TriageJob:
    """All settings that the labels of a folder depend on.

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
    """Results of one file.

    Attributes
    ----------
    file
        Path of the image, stack or volume.
    identity
        Fingerprint of the file; see `fingerprint`.
    labels, thumbnail
        Paths relative to the folder of the triage; empty if the file could not be segmented.
    sums
        `label_sums` of each slice.
    notes
        Warnings about the image, one sentence each.
    error
        Reason why the file could not be segmented; empty if it was.
    voxel
        Volume of a voxel in ml; None if unknown.
    foreign
        Whether each slice is foreign; see `are_foreign`.
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
    """The record of finished files; a killed process loses at most the current file.

    Parameters
    ----------
    folder
        Folder of the triage; created if missing.
    job
        Job, which must be equal to that of an existing record.

    Raises
    ------
    InputError
        If the folder contains the record of another job.
    """

    def __init__(self, folder: Path, job: TriageJob) -> None:
        self.path = folder / RECORD
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        lines = self._lines()
        if lines:
            for name, value in asdict(job).items():
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
        """Return the results of a file if it has not changed and its labels still exist."""
        result = self._done.get(str(file))
        if result is None or result.error or result.identity != fingerprint(file):
            return None
        return result if (self._folder / result.labels).exists() else None

    def add(self, triaged: TriagedFile) -> None:
        """Append the results of a file, and sync the record to the disk."""
        self._done[triaged.file] = triaged
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(triaged)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        """Read the complete lines; truncate a partial last line of a killed process."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            with self.path.open("rb+") as file:
                file.truncate(len(complete))
        return [json.loads(line) for line in complete.decode("utf-8").splitlines()]


class _Stopped(Exception):
    """Raised to stop within a volume, whose finished slabs are kept."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class _Worker:
    """Segments single files; can be pickled and sent to another process."""

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
            return self._segment(file, target, identity)
        except InputError as error:
            return TriagedFile(str(file), identity, error=str(error))

    def _segment(self, file: Path, target: Path, identity: str) -> TriagedFile:
        voxel, notes, foreign = None, list[str](), list[bool]()
        if format_of(file) is None:
            result = segment_file(self.predictor, file, target, self.job.threshold)
            labels, notes, sums, foreign = result
        else:
            volume = open_volume(file)
            options = VolumeOptions(flips=self.job.flips, threshold=self.job.threshold)
            job = VolumeJob.of(self.predictor.model, volume, options)
            steps = segment_volume(volume, job, target, partial(segment_slabs, self.predictor))
            for last in steps:
                if last.sums is None and self.stopped():
                    raise _Stopped
            if last.sums is None:
                raise InputError(
                    f"{file}: its labels were begun by a former version; "
                    f"expected {target}.part removed"
                )
            labels, sums = target, last.sums
            foreign = [is_foreign(self.predictor, volume.voxels, job, sums)] * len(sums)
            if volume.spacing is not None:
                voxel = float(np.prod(volume.spacing)) / 1000
        thumbnail = self.folder / THUMBNAILS / f"{labels.name}.jpg"
        write_thumbnail(file, labels, int(sums[:, :, 0].sum(1).argmax()), thumbnail)
        return TriagedFile(
            str(file),
            identity,
            f"{LABELS}/{labels.name}",
            f"{THUMBNAILS}/{thumbnail.name}",
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
        File -> path of its labels in the folder `LABELS` of `folder`; see `label_files`.
    folder
        Folder of the triage.
    model, device
        Model file, and device to run it on.
    job
        Settings that the labels depend on.
    workers
        Number of processes, each with a copy of the model; with 1, this process segments.
    stopped
        Returns whether to stop. Called before every file and, with one process, after each slab
        of a volume.

    Yields
    ------
    tuple
        Results of a file, and whether it was done before. A file that cannot be segmented
        has an error, and is tried again next time.

    Raises
    ------
    InputError
        If the folder contains the triage of another job.
    OSError
        If a file cannot be written.
    """
    record, pending = TriageRecord(folder, job), list[Path]()
    for file in targets:
        if known := record.done(file):
            yield known, True
        else:
            pending.append(file)
    worker = _Worker(model, device, job, folder, stopped if workers == 1 else _never)
    for result in _segment_all(worker, pending, targets, workers):
        record.add(result)
        yield result, False
        if stopped():
            return


def segmented_image(triaged: TriagedFile, quality: Quality | None) -> SegmentedImage | None:
    """Return the table entry of a file; None if it could not be segmented."""
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


def _segment_all(
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
    with process_pool(workers, worker) as pool:
        waiting, files = set[Future[TriagedFile]](), iter(pending)
        try:
            while True:
                # Submitting a few files ahead keeps the processes busy with bounded memory.
                while len(waiting) < 2 * workers and (file := next(files, None)) is not None:
                    waiting.add(pool.submit(run_task, file, targets[file]))
                if not waiting:
                    return
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in finished)
        finally:
            pool.shutdown(cancel_futures=True)
