"""What a frame of 10,000 semantic vectors costs: ``xvfb-run python -m tests.bench_explore``.

It prints milliseconds that the main thread computes, so that a busy machine changes
little; nothing here passes or fails. 33 ms are 30 frames a second.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from napari import Viewer
from qtpy.QtWidgets import QApplication, QWidget

from napari_msankd.explore.embedding.point_colors import PointColors
from napari_msankd.theme import LINES, theme_colors
from napari_msankd.widgets.line_plot import load_pyqtgraph

POINTS, FRAMES, SIDE = 10_000, 60, 500


def frames(scatter: QWidget, move: Callable[[], None]) -> list[float]:
    """Milliseconds of each frame, painted by the processor."""
    took = []
    for _ in range(FRAMES):
        began = time.thread_time()
        move()
        scatter.grab()
        QApplication.processEvents()
        took.append(1000 * (time.thread_time() - began))
    return took


def main() -> None:
    """Measure panning and zooming."""
    list(load_pyqtgraph())
    from napari_msankd.explore.embedding.scatter import Scatter

    viewer = Viewer(show=False)
    random = np.random.default_rng(0)
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
        ("zoom in", lambda: scatter.box.scaleBy((0.97, 0.97))),
        ("zoom out", lambda: scatter.box.scaleBy((1.03, 1.03))),
    ):
        took = frames(scatter, move)
        print(f"{what}, {POINTS:,} vectors: median {median(took):.1f} ms, most {max(took):.1f} ms")
    scatter.close()
    viewer.close()


if __name__ == "__main__":
    main()
