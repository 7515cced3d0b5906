"""The result of a segmentation: labels, and the probabilities that a threshold is applied to."""

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

    The foreground probabilities of two-class models are kept as uint8, so a threshold
    acts without inference. Of models with more classes that of the label is kept.
    A worker writes while the window reads and moves the threshold.

    Parameters
    ----------
    slicing
        Shape of the stack, and how it falls into planes.
    classes
        Number of classes, background included.
    first
        Probability from which a pixel is foreground, as long as a plane is
        not whole.
    threshold
        The same for every plane from the start; None: each has its own.
    folder
        Where the arrays go as zarr, removed at exit; None keeps them in
        memory.

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
        Planes that hold something, planes that are complete, and those of the latter that are
        unlike any image that the model was validated on.
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
        self._own: dict[Index, float] = {}
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
        """Bytes that a result of that shape takes."""
        return 2 * int(np.prod(shape, dtype=np.int64))

    @staticmethod
    def plane_bytes(size: tuple[int, int], classes: int) -> int:
        """Bytes that the plane under way takes beside: its float32 maps, with several classes."""
        return 0 if classes == 2 else 4 * classes * size[0] * size[1]

    def write(self, index: Index, region: tuple[slice, slice], maps: NDArray[np.float32]) -> None:
        """Keep the probabilities (K, h, w) of a region of one plane."""
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
        """Mark a plane as complete: from now on it has a threshold of its own."""
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
        self._counts[index], self._own[index] = counts, best_threshold(counts)
        if self.threshold is None:
            for _ in self._apply(index):
                pass

    def threshold_at(self, index: Index) -> float:
        """Probability from which a pixel of a plane is foreground."""
        if self.threshold is not None:
            return self.threshold
        return self._own.get(index, self._first)

    def rethreshold(self, threshold: float | None, first: Index) -> Iterator[None]:
        """Apply a threshold to every plane, the plane `first` first; yields now and then.

        A later call takes over from an unfinished one.
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
        """Leave the present labels to their layer and go on with new ones."""
        self.labels = self._array(f"labels-{uuid4().hex[:6]}")

    def sums(self, index: Index) -> NDArray[np.float64]:
        """`label_sums` of the model's labels of a complete plane, for their expected Dice."""
        from src_training.inference.expected_dice import sums_of_counts

        if self.foreground is None:
            return self._sums[index]
        return sums_of_counts(self._counts[index], self.threshold_at(index))

    def probabilities(self, index: Index) -> NDArray[np.float32]:
        """Foreground probabilities (Y, X) of a plane, in steps of 1/`STEPS`."""
        return np.asarray(self.foreground[self.slicing.at(index)], np.float32) / STEPS

    def _plane(self, index: Index) -> NDArray[np.float32]:
        """The probabilities (K, Y, X) of the plane under way; background where no tile was yet."""
        if index not in self._maps:
            # Of a stopped run an incomplete plane may be left.
            self._maps = {index: np.zeros((self._classes, *self.slicing.size), np.float32)}
            self._maps[index][0] = 1
        return self._maps[index]

    def _array(self, name: str) -> Any:
        if self.folder is None:
            return np.zeros(self.slicing.shape, np.uint8)
        import zarr

        height, width = self.slicing.size
        lone = (1,) * len(self.slicing.stack)
        chunks = self.slicing.at(lone, (min(_CHUNK, height), min(_CHUNK, width)))
        store = self.folder / f"{name}.zarr"
        return zarr.create_array(store, shape=self.slicing.shape, chunks=chunks, dtype="uint8")


class Uncertainty:
    """Of each pixel the probability that its most probable class is the wrong one.

    An array that is computed where it is read, from the probabilities that a result keeps:
    it takes no memory, whether these lie in memory or on disk.

    Parameters
    ----------
    result
        Under way or complete; 0 where nothing is segmented yet.

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
        self._folds = result.foreground is not None
        self.shape: tuple[int, ...] = result.slicing.shape
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        steps = np.asarray(self._steps[key])
        if self._folds:
            steps = np.minimum(steps, STEPS - steps)
        return np.asarray(steps, np.float32) / np.float32(STEPS)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def __deepcopy__(self, _memo: Any) -> "Uncertainty":
        # A duplicate of the layer reads the same probabilities, which nobody paints on.
        return self


def new_folder(cache: Path) -> Path:
    """A folder for one result, removed when the program ends.

    Folders that programs on this computer left when they were killed are removed, too.
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
    """Rows at a time, about a million pixels, whole chunks."""
    rows = max(_CHUNK, _BAND // max(1, size[1]) // _CHUNK * _CHUNK)
    for top in range(0, size[0], rows):
        yield slice(top, min(size[0], top + rows))
