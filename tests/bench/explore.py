"""FSD against the square root of a matrix, and frames of 10,000 semantic vectors."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import scipy.linalg
from napari import Viewer
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication, QWidget

from napari_msankd.explore.embedding.point_colors import PointColors
from napari_msankd.theme import LINES, theme_colors
from napari_msankd.widgets.line_plot import load_pyqtgraph
from src_training.explore.fsd import frechet_distance
from tests.bench.row import BenchRow, Rows, medians

POINTS, FRAMES, SIDE = 10_000, 60, 500


def rows() -> Rows:
    """Distances, then the scatter plot."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(512, 512)) / 512**0.5
    for count, before in ((2000, "1.2 ×"), (200, "")):
        a, b = (random.normal(size=(count, 512)) @ mixing + shift for shift in (0.0, 0.1))
        took = medians(
            {
                "sqrtm": partial(by_sqrtm, a, b),
                "fsd": partial(frechet_distance, a, b, "empirical"),
            }
        )
        ratio = took["sqrtm"] / took["fsd"]
        what = f"scipy.linalg.sqrtm / FSD with interval, 2 x {count} vectors"
        yield BenchRow(what, ratio, "×", "≥ 3", before)
    yield from scatter_frames(random)


def by_sqrtm(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The textbook formula."""
    first, second = (np.cov(vectors, rowvar=False) for vectors in (a, b))
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    root = scipy.linalg.sqrtm(first @ second).real
    return float(shift + np.trace(first + second - 2 * root))


def scatter_frames(random: np.random.Generator) -> Rows:
    """Pan and zoom, painted by the processor; 33 ms are 30 frames a second."""
    list(load_pyqtgraph())
    from napari_msankd.explore.embedding.scatter import Scatter

    viewer = Viewer(show=False)
    points = random.normal(size=(POINTS, 2))
    kinds = ["mask" if each < 0.2 else "image" for each in random.random(POINTS)]
    scatter = Scatter("vectors", theme_colors(viewer))
    scatter.resize(SIDE, SIDE)
    scatter.show()
    scatter.draw(points, [str(number) for number in range(POINTS)], kinds)
    scatter.color(PointColors(LINES, random.integers(0, len(LINES), POINTS), ""))
    QApplication.processEvents()
    for what, move in (
        ("pan", lambda: scatter.box.translateBy(x=0.01, y=0.01)),
        ("zoom", lambda: scatter.box.scaleBy((0.97, 0.97))),
    ):
        yield BenchRow(f"{what}, {POINTS:,} vectors, a frame", frame(scatter, move), "ms", "≤ 33")
    scatter.close()
    viewer.close()


def frame(scatter: QWidget, move: Callable[[], None]) -> float:
    """Median milliseconds of the main thread."""
    took = []
    for _ in range(FRAMES):
        began = time.thread_time()
        move()
        scatter.grab()
        QApplication.processEvents()
        took.append(1000 * (time.thread_time() - began))
    return median(took)
