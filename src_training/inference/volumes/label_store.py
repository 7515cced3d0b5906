"""Labels that grow on the disk, and what is done of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.inference.image_threshold import binarise
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.slabs import Slab, chunks, slabs_of
from src_training.io.atomic import naming, write_text

_MERGING_AXIS = 0


class LabelStore:
    """A folder with the labels of a volume as zarr, some portions of which are done.

    A portion is written whole and then marked as done by a file of its own,
    so that several processes may write, and any may be killed at any moment.

    Parameters
    ----------
    folder
        Made if missing; one that is there is gone on with.
    plan
        What the labels depend on.

    Attributes
    ----------
    labels
        zarr array (Z, Y, X), uint8 class indices.

    Raises
    ------
    InputError
        If the folder holds labels of another plan, or is no such folder.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        told = folder / "plan.json"
        if told.exists():
            plan.refuse_other(told.read_text(encoding="utf-8"), folder)
        elif any(folder.glob("[!.]*")):
            raise InputError(f"{folder} holds something else; expected labels that were begun")
        else:
            # Before all else, so that what a killed process leaves is known for its own.
            write_text(told, plan.to_json())
        self.labels = self._array("labels", plan.shape, chunks(plan.shape, plan.axes[0]))
        self._maps = {
            axis: self._array(
                f"probabilities-{axis}",
                (plan.maps, *plan.shape),
                (1, *chunks(plan.shape, axis)),
            )
            for axis in (plan.axes if plan.orthogonal else ())
        }
        (folder / "done").mkdir(exist_ok=True)

    @property
    def every(self) -> list[Slab]:
        """All portions to segment, in order."""
        return [each for axis in self.plan.axes for each in slabs_of(self.plan.shape, axis)]

    @property
    def merging(self) -> list[Slab]:
        """Where three axes are averaged, the portions to average once they are segmented."""
        return slabs_of(self.plan.shape, _MERGING_AXIS) if self.plan.orthogonal else []

    def left(self) -> list[Slab]:
        """The portions that are not segmented yet."""
        return [each for each in self.every if not self._mark(each).exists()]

    @property
    def done(self) -> int:
        """How many portions are segmented."""
        return len(self.every) - len(self.left())

    def keep(self, portion: Slab, found: NDArray[np.uint8]) -> None:
        """Write what was found in a portion, and mark it as done.

        Parameters
        ----------
        portion
            One of `every`.
        found
            Labels of its region; for an average (maps, *region), in steps.
        """
        with naming(self.folder):
            if self.plan.orthogonal:
                self._maps[portion.axis][(slice(None), *portion.region)] = found
            else:
                self.labels[portion.region] = found
        write_text(self._mark(portion), "")

    def merge(self) -> Iterator[Slab]:
        """Average the axes, portion by portion; again where that was interrupted."""
        for portion in self.merging:
            mark = self.folder / "done" / f"merged-{portion.start}"
            if not mark.exists():
                with naming(self.folder):
                    self.labels[portion.region] = self._merged(portion)
                write_text(mark, "")
            yield portion

    def _merged(self, portion: Slab) -> NDArray[np.uint8]:
        where = (slice(None), *portion.region)
        total = sum(np.asarray(maps[where]).astype(np.uint16) for maps in self._maps.values())
        counts = np.asarray(total)
        if self.plan.classes > 2:
            return np.asarray(counts.argmax(0), np.uint8)
        assert self.plan.threshold is not None  # see `plan_for`
        return binarise(counts[0], self.plan.threshold * len(self._maps))

    def _mark(self, portion: Slab) -> Path:
        return self.folder / "done" / f"{portion.axis}-{portion.start}"

    def _array(self, name: str, shape: tuple[int, ...], sides: tuple[int, ...]) -> Any:
        import zarr

        store = self.folder / f"{name}.zarr"
        with naming(self.folder):
            if (store / "zarr.json").exists():
                return zarr.open_array(store, mode="r+")
            return zarr.create_array(store, shape=shape, chunks=sides, dtype="uint8")
