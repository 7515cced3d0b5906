"""A resumable on-disk store for the labels of a volume."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.inference.expected_dice import Sums, label_sums
from src_training.inference.image_threshold import STEPS, binarise
from src_training.inference.volumes.durable_array import chunk_keys, chunk_sizes, open_array
from src_training.inference.volumes.job import AXES, VolumeJob
from src_training.inference.volumes.slabs import Slab, chunk_shape, slabs_along
from src_training.io.atomic import naming, write_text
from src_training.io.folder_lock import HeldFolder

_AVERAGING_AXIS = 0


class LabelStore:
    """A folder with the labels of a volume as zarr, and a mark file for each finished slab.

    The mark of a slab is written after all its chunks are on the disk. Several processes
    may therefore write, and be killed, or lose power, at any moment. A slab counts as finished if
    its mark is readable and none of its chunks is missing.

    Parameters
    ----------
    folder
        Folder of the store; created if missing. Labels of the same job are resumed.
    job
        All settings that the labels depend on.
    held
        Lock of the folder, if this process holds it; checked before each write.
    begun
        Whether the store must exist already, as on a worker.

    Attributes
    ----------
    labels
        zarr array (Z, Y, X), uint8 class indices.

    Raises
    ------
    InputError
        If the folder contains labels of another job or other files, or is damaged.
    """

    def __init__(
        self, folder: Path, job: VolumeJob, held: HeldFolder | None = None, *, begun: bool = False
    ) -> None:
        self.folder, self.job, self._held = folder, job, held
        stored = folder / "plan.json"
        if stored.exists():
            job.refuse_other(stored, folder)
        elif begun:
            raise InputError(f"{folder} was removed while it was written to; expected it to stay")
        elif any(folder.glob("[!.]*")):
            raise InputError(f"{folder} holds something else; expected labels that were begun")
        else:
            # Written before anything else, so that the folder of a killed process is recognised.
            write_text(stored, job.to_json())
        self.labels = self._array("labels", job.shape, chunk_shape(job.shape, job.axes[0]))
        self._probabilities = {
            axis: self._array(
                f"probabilities-{axis}",
                (job.maps, *job.shape),
                (1, *chunk_shape(job.shape, axis)),
            )
            for axis in (job.axes if job.orthogonal else ())
        }
        (folder / "done").mkdir(exist_ok=True)

    @property
    def slabs(self) -> list[Slab]:
        """All slabs to segment, in order."""
        return [slab for axis in self.job.axes for slab in self._slabs_along(axis)]

    @property
    def averaged_slabs(self) -> list[Slab]:
        """The slabs of `average`; empty unless three axes are averaged."""
        return self._slabs_along(_AVERAGING_AXIS) if self.job.orthogonal else []

    @property
    def pending(self) -> list[Slab]:
        """The slabs that are not segmented yet, or have a missing chunk."""
        return self._unfinished(self.slabs, self._mark)

    def write(self, slab: Slab, values: NDArray[np.uint8], sums: Sums | None = None) -> None:
        """Write a segmented slab, and mark it as finished.

        Parameters
        ----------
        slab
            One of `slabs`.
        values
            Labels of its region, uint8; or quantised probabilities (maps, *region) if three axes
            are averaged.
        sums
            `label_sums` of its slices; stored in the mark.

        Raises
        ------
        InputError
            If the folder was removed.
        OSError
            If the disk is full; the slab is then not marked.
        """
        self._require_folder()
        with naming(self.folder):
            self._array_of(slab)[self._region(slab)] = values
        self._require_folder()
        write_text(self._mark(slab), _as_text(sums))

    def average(self) -> Iterator[Slab]:
        """Average the axes into labels, slab by slab; finished slabs are skipped."""
        slabs = self.averaged_slabs
        unfinished = self._unfinished(slabs, self._mark_averaged)
        for slab in slabs:
            if slab in unfinished:
                self._require_folder()
                with naming(self.folder), self.readable():
                    labels, sums = self._averaged(slab)
                with naming(self.folder):
                    self.labels[slab.region] = labels
                self._require_folder()
                write_text(self._mark_averaged(slab), _as_text(sums))
            yield slab

    def require_whole(self) -> None:
        """Check that the folder still exists, and that no mark or chunk of a slab is missing.

        Raises
        ------
        InputError
            If the check fails; the same job can then be resumed.
        """
        self._require_folder()
        self.job.refuse_other(self.folder / "plan.json", self.folder)
        missing = self.pending + self._unfinished(self.averaged_slabs, self._mark_averaged)
        if missing:
            others = f" and {len(missing) - 1} more parts" if len(missing) > 1 else ""
            raise InputError(
                f"{self.folder} lost {_slices(missing[0])}{others} while it was written to; the "
                "same command again segments what is missing"
            )

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Convert errors from damaged chunks in the block to `InputError`.

        The marks of damaged slabs are removed, so that they are segmented again.

        Raises
        ------
        InputError
            If a chunk cannot be read; other exceptions are not converted.
        """
        try:
            yield
        except (OSError, MemoryError):
            raise
        except Exception:  # zarr raises errors of many types for a broken chunk
            damaged = [slab for slab in self.slabs if not self._can_be_read(slab)]
            for slab in damaged:
                self._mark(slab).unlink(missing_ok=True)
            if self.job.orthogonal:
                for slab in self.averaged_slabs:
                    self._mark_averaged(slab).unlink(missing_ok=True)
            if not damaged:
                raise
            raise InputError(
                f"{self.folder}: {_slices(damaged[0])} cannot be read, as a file there is damaged; "
                "the same command again segments them anew, and removing the folder starts over"
            ) from None

    def remove(self) -> None:
        """Remove the folder.

        The plan is removed last, so that the remains are recognised if the process is killed.
        """
        for path in self.folder.glob("[!.]*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        (self.folder / "plan.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def sums(self) -> Sums | None:
        """Return `label_sums` of every slice, (slices, K - 1, 4), along the axis of the labels.

        None if a slab is not finished, or was finished by a version that did not store them.
        """
        marks = [self._mark(slab) for slab in self.slabs]
        if self.job.orthogonal:
            marks = [self._mark_averaged(slab) for slab in self.averaged_slabs]
        stored = [_read_mark(mark) for mark in marks]
        return np.concatenate([np.array(each) for each in stored]) if all(stored) else None

    def _averaged(self, slab: Slab) -> tuple[NDArray[np.uint8], Sums]:
        region = (slice(None), *slab.region)
        parts = (np.asarray(each[region]) for each in self._probabilities.values())
        total = np.asarray(sum(part.astype(np.uint16) for part in parts))
        axes = len(self._probabilities)
        if self.job.classes > 2:
            labels = np.asarray(total.argmax(0), np.uint8)
        else:
            assert self.job.threshold is not None  # see `VolumeJob.of`
            labels = binarise(total[0], self.job.threshold * axes)
            total = np.concatenate([np.zeros_like(total), total])
        sums = []
        for index in range(labels.shape[_AVERAGING_AXIS]):
            steps = total[:, index].astype(np.float32)
            # Quantising rounds down, so a step represents its centre; step 0 represents 0.
            maps = np.where(steps > 0, np.minimum((steps + axes / 2) / (STEPS * axes), 1), 0)
            sums.append(label_sums(maps, labels[index]))
        return labels, np.stack(sums)

    def _slabs_along(self, axis: int) -> list[Slab]:
        """Slabs of whole chunks, which are larger in labels begun by a former version."""
        array = self._probabilities.get(axis, self.labels)
        return slabs_along(self.job.shape, axis, array.chunks[array.ndim - 3 + axis])

    def _mark(self, slab: Slab) -> Path:
        return self.folder / "done" / f"{slab.axis}-{slab.start}"

    def _mark_averaged(self, slab: Slab) -> Path:
        return self.folder / "done" / f"merged-{slab.start}"

    def _array_of(self, slab: Slab) -> Any:
        return self._probabilities[slab.axis] if self.job.orthogonal else self.labels

    def _region(self, slab: Slab) -> tuple[slice, ...]:
        return (slice(None), *slab.region) if self.job.orthogonal else slab.region

    def _can_be_read(self, slab: Slab) -> bool:
        try:
            self._array_of(slab)[self._region(slab)]
        except (OSError, MemoryError):  # as in `readable`
            raise
        except Exception:  # zarr raises errors of many types for a broken chunk
            return False
        return True

    def _unfinished(self, slabs: list[Slab], mark_of: Callable[[Slab], Path]) -> list[Slab]:
        """Slabs without a readable mark, or with a missing chunk."""
        if not slabs:
            return []
        averaged = mark_of == self._mark_averaged
        arrays = {0: self.labels} if averaged else {s.axis: self._array_of(s) for s in slabs}
        sizes = {axis: chunk_sizes(array) for axis, array in arrays.items()}
        return [
            slab
            for slab in slabs
            if _read_mark(mark_of(slab)) is None
            or not all(
                sizes[slab.axis].get(key)
                for key in chunk_keys(arrays[slab.axis], slab.axis - 3, slab.start, slab.stop)
            )
        ]

    def _require_folder(self) -> None:
        if self._held is not None:
            self._held.require()
        if not (self.folder / "done").is_dir():
            raise InputError(
                f"{self.folder} was removed while it was written to; expected it to stay"
            )

    def _array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
        with naming(self.folder):
            return open_array(self.folder / f"{name}.zarr", shape, chunks)


def _read_mark(mark: Path) -> list[Any] | None:
    """Content of a mark, an empty list for an empty file; None if it is missing or damaged."""
    try:
        text = mark.read_text("utf-8")
        content = json.loads(text) if text else []
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, list) else None


def _slices(slab: Slab) -> str:
    return f"slices {slab.start} to {slab.stop - 1} along {AXES[slab.axis]}"


def _as_text(sums: Sums | None) -> str:
    return "" if sums is None else json.dumps(sums.tolist())
