"""A resumable store for the labels of a volume on the disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.inference.expected_dice import Sums, label_sums
from src_training.inference.image_threshold import STEPS, binarise
from src_training.inference.volumes.job import VolumeJob
from src_training.inference.volumes.slabs import Slab, chunk_shape, slabs_along
from src_training.io.atomic import naming, write_text

_AVERAGING_AXIS = 0


class LabelStore:
    """A folder with the labels of a volume as zarr, and marks of the slabs that are finished.

    A slab is written whole and then marked by a file of its own, so that
    several processes may write, and any may be killed at any moment.

    Parameters
    ----------
    folder
        Made if missing; one with labels of the same job is resumed.
    job
        Everything that the labels depend on.

    Attributes
    ----------
    labels
        zarr array (Z, Y, X), uint8 class indices.

    Raises
    ------
    InputError
        If the folder holds labels of another job, or something else.
    """

    def __init__(self, folder: Path, job: VolumeJob) -> None:
        self.folder, self.job = folder, job
        stored = folder / "plan.json"
        if stored.exists():
            job.refuse_other(stored.read_text(encoding="utf-8"), folder)
        elif any(folder.glob("[!.]*")):
            raise InputError(f"{folder} holds something else; expected labels that were begun")
        else:
            # First of all, so that a folder left by a killed process is recognised.
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
        """The slabs of `average`; none unless three axes are averaged."""
        return self._slabs_along(_AVERAGING_AXIS) if self.job.orthogonal else []

    @property
    def pending(self) -> list[Slab]:
        """The slabs that are not segmented yet."""
        return [slab for slab in self.slabs if not self._mark(slab).exists()]

    def write(self, slab: Slab, values: NDArray[np.uint8], sums: Sums | None = None) -> None:
        """Write a segmented slab, and mark it as finished.

        Parameters
        ----------
        slab
            One of `slabs`.
        values
            Labels of its region, uint8; where three axes are averaged,
            quantised probabilities (maps, *region).
        sums
            `label_sums` of its slices; they are stored in the mark.
        """
        with naming(self.folder):
            if self.job.orthogonal:
                self._probabilities[slab.axis][(slice(None), *slab.region)] = values
            else:
                self.labels[slab.region] = values
        write_text(self._mark(slab), _as_text(sums))

    def average(self) -> Iterator[Slab]:
        """Average the axes into labels, slab by slab; finished slabs are skipped."""
        for slab in self.averaged_slabs:
            mark = self._mark_averaged(slab)
            if not mark.exists():
                with naming(self.folder):
                    labels, sums = self._averaged(slab)
                    self.labels[slab.region] = labels
                write_text(mark, _as_text(sums))
            yield slab

    def sums(self) -> Sums | None:
        """`label_sums` of every slice, (slices, K - 1, 4), along the axis of the labels.

        None where slabs were finished by a version that did not store them, or are not finished.
        """
        marks = [self._mark(slab) for slab in self.slabs]
        if self.job.orthogonal:
            marks = [self._mark_averaged(slab) for slab in self.averaged_slabs]
        texts = [mark.read_text("utf-8") if mark.exists() else "" for mark in marks]
        return np.concatenate([json.loads(text) for text in texts]) if all(texts) else None

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
            # Steps were rounded down, so that each stands for its centre; none of them is none.
            maps = np.where(steps > 0, np.minimum((steps + axes / 2) / (STEPS * axes), 1), 0)
            sums.append(label_sums(maps, labels[index]))
        return labels, np.stack(sums)

    def _slabs_along(self, axis: int) -> list[Slab]:
        """Those that the chunks allow: labels begun by a former version have larger ones."""
        array = self._probabilities.get(axis, self.labels)
        return slabs_along(self.job.shape, axis, array.chunks[array.ndim - 3 + axis])

    def _mark(self, slab: Slab) -> Path:
        return self.folder / "done" / f"{slab.axis}-{slab.start}"

    def _mark_averaged(self, slab: Slab) -> Path:
        return self.folder / "done" / f"merged-{slab.start}"

    def _array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
        import zarr

        store = self.folder / f"{name}.zarr"
        with naming(self.folder):
            if (store / "zarr.json").exists():
                return zarr.open_array(store, mode="r+")
            return zarr.create_array(store, shape=shape, chunks=chunks, dtype="uint8")


def _as_text(sums: Sums | None) -> str:
    return "" if sums is None else json.dumps(sums.tolist())
