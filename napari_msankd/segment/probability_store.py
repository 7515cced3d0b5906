"""The result of a segmentation: labels, and the probabilities behind them."""

import atexit
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_msankd.planes import Index, Slicing
from src_training.inference.image_threshold import (
    STEPS,
    best_threshold,
    binarise,
    quantise,
    step_counts,
)

_CHUNK = 512
_BAND = 2**20


class Result:
    """Labels of a stack of planes, and the probabilities behind them.

    With two classes, foreground probabilities are stored as uint8, so that a new
    threshold needs no inference. With more classes, the probability of the label is
    stored. A worker writes while the main thread reads and changes the threshold.

    Parameters
    ----------
    slicing
        Shape of the stack and its division into planes.
    classes
        Number of classes, background included.
    first
        Foreground threshold of a plane that is not complete yet.
    threshold
        Threshold of all planes; None if each has its own.
    folder
        Folder for zarr arrays, removed at exit; None keeps the arrays in memory.

    Attributes
    ----------
    labels
        uint8 class indices (..., Y, X), NumPy or zarr.
    foreground
        uint8 probabilities in steps of 1/`STEPS`, same shape; None with more
        than two classes.
    doubt
        With more than two classes, uint8: 1 less the probability of the label, in steps of
        1/`STEPS`; None with two.
    written, finished, foreign
        Planes with any tile, complete planes, and complete planes that are unlike the
        model's validation images.
    threshold
        As above.
    """

    def __init__(
        self,
        slicing: Slicing,
        classes: int,
        first: float,
        threshold: float | None = None,
        folder: Path | None = None,
    ) -> None:
        self.slicing = slicing
        self.threshold = threshold
        self._first = first
        self._plane_thresholds: dict[Index, float] = {}
        self.folder = folder
        self.labels = self._array("labels")
        self.foreground = self._array("probabilities") if classes == 2 else None
        self.doubt = self._array("probabilities") if classes > 2 else None
        self._classes = classes
        self._counts: dict[Index, NDArray[np.int64]] = {}
        self._sums: dict[Index, NDArray[np.float64]] = {}
        self._maps: dict[Index, NDArray[np.float32]] = {}
        self.written: set[Index] = set()
        self.finished: set[Index] = set()
        self.foreign: set[Index] = set()
        self._lock = Lock()

    @staticmethod
    def bytes(shape: tuple[int, ...]) -> int:
        """Bytes of a result of this shape."""
        return 2 * int(np.prod(shape, dtype=np.int64))

    @staticmethod
    def plane_bytes(size: tuple[int, int], classes: int) -> int:
        """Bytes of the float32 maps of the current plane, needed with several classes."""
        return 0 if classes == 2 else 4 * classes * size[0] * size[1]

    def write(self, index: Index, region: tuple[slice, slice], maps: NDArray[np.float32]) -> None:
        """Store the probabilities (K, h, w) of a region of one plane."""
        where = self.slicing.at(index, region)
        self.written.add(index)
        if self.foreground is None:
            self.labels[where] = maps.argmax(0).astype(np.uint8)
            self.doubt[where] = quantise(1 - maps.max(0))
            self._plane(index)[:, *region] = maps
            return
        steps = quantise(maps[1])
        with self._lock:
            self.foreground[where] = steps
            self.labels[where] = binarise(steps, self.threshold_at(index))

    def finish(self, index: Index, foreign: bool = False) -> None:
        """Mark a plane as complete, and compute its own threshold."""
        self.finished.add(index)
        if foreign:
            self.foreign.add(index)
        if self.foreground is None:
            from src_training.inference.expected_dice import label_sums

            maps = self._plane(index)
            self._sums[index] = label_sums(maps, maps.argmax(0))
            self._maps.clear()
            return
        counts = step_counts(np.asarray(self.foreground[self.slicing.at(index)]))
        self._counts[index], self._plane_thresholds[index] = counts, best_threshold(counts)
        if self.threshold is None:
            for _ in self._apply(index):
                pass

    def threshold_at(self, index: Index) -> float:
        """Foreground threshold of a plane."""
        if self.threshold is not None:
            return self.threshold
        return self._plane_thresholds.get(index, self._first)

    def rethreshold(self, threshold: float | None, first: Index) -> Iterator[None]:
        """Apply a threshold to every plane, starting with `first`; yields after each band.

        A later call supersedes an unfinished one.
        """
        self.threshold = threshold
        rest = (index for index in self.slicing.indices if index != first)
        for index in (first, *rest):
            yield from self._apply(index)

    def _apply(self, index: Index) -> Iterator[None]:
        for band in _bands(self.slicing.size):
            with self._lock:
                where = self.slicing.at(index, (band, slice(None)))
                threshold = self.threshold_at(index)
                self.labels[where] = binarise(np.asarray(self.foreground[where]), threshold)
            yield

    def detach(self) -> None:
        """Continue with a new labels array; the layer keeps the present one."""
        self.labels = self._array(f"labels-{uuid4().hex[:6]}")

    def sums(self, index: Index) -> NDArray[np.float64]:
        """`label_sums` of a complete plane, for its expected Dice."""
        from src_training.inference.expected_dice import sums_of_counts

        if self.foreground is None:
            return self._sums[index]
        return sums_of_counts(self._counts[index], self.threshold_at(index))

    def _plane(self, index: Index) -> NDArray[np.float32]:
        """Probabilities (K, Y, X) of the current plane; background where no tile is written."""
        if index not in self._maps:
            # Replace the maps of a plane that a stopped run did not complete.
            self._maps = {index: np.zeros((self._classes, *self.slicing.size), np.float32)}
            self._maps[index][0] = 1
        return self._maps[index]

    def _array(self, name: str) -> Any:
        if self.folder is None:
            return np.zeros(self.slicing.shape, np.uint8)
        import zarr

        height, width = self.slicing.size
        one_plane = (1,) * len(self.slicing.stack)
        chunks = self.slicing.at(one_plane, (min(_CHUNK, height), min(_CHUNK, width)))
        store = self.folder / f"{name}.zarr"
        return zarr.create_array(store, shape=self.slicing.shape, chunks=chunks, dtype="uint8")


class Uncertainty:
    """For each pixel, the probability that its most probable class is wrong.

    A lazy array, computed on reading from the probabilities of a result, so that it takes
    no memory.

    Parameters
    ----------
    result
        Complete or not; the uncertainty is 0 where nothing is segmented yet.

    Examples
    --------
    >>> result = Result(Slicing((1, 3)), 2, 0.5)
    >>> foreground = np.array([[0.1, 0.5, 0.9]])
    >>> result.write((), (slice(0, 1), slice(0, 3)), np.stack([1 - foreground, foreground]))
    >>> [f"{chance:.1f}" for chance in Uncertainty(result)[0]]
    ['0.1', '0.5', '0.1']
    """

    dtype = np.dtype(np.float32)

    def __init__(self, result: Result) -> None:
        self._steps = result.doubt if result.foreground is None else result.foreground
        self._two_classes = result.foreground is not None
        self.shape: tuple[int, ...] = result.slicing.shape
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        steps = np.asarray(self._steps[key])
        if self._two_classes:
            steps = np.minimum(steps, STEPS - steps)
        return np.asarray(steps, np.float32) / np.float32(STEPS)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def __deepcopy__(self, _memo: Any) -> "Uncertainty":
        # A duplicate of the layer can share the probabilities, which are read-only for layers.
        return self


def new_folder(cache: Path) -> Path:
    """Create a folder for one result, removed when the process exits.

    Also removes folders of processes on this computer that were killed.
    """
    prefix = f"result-{platform.node()}-"
    for former in cache.glob(f"{prefix}*"):
        process = former.name.removeprefix(prefix).split("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(former, ignore_errors=True)
    folder = cache / f"{prefix}{os.getpid()}-{uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _bands(size: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows, of about a million pixels and whole chunks each."""
    rows = max(_CHUNK, _BAND // max(1, size[1]) // _CHUNK * _CHUNK)
    for top in range(0, size[0], rows):
        yield slice(top, min(size[0], top + rows))
