"""From an image that is added to its labels, in a real window and in one that is hidden.

What a window's drawing costs depends on the graphics card; here software may draw.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

from tests.bench.row import BenchRow, Rows, images, of_child

RUNS = 4


def rows() -> Rows:
    """The window, in processes of their own, which have not imported torch yet."""
    cold, warm, run, _, predictor = figures("shown")
    yield BenchRow("first image added, engine imported: ✓", cold, "s", "≤ 4", "9 to 11 s")
    yield BenchRow("next image added: ✓", warm, "s", "≤ 2")
    yield BenchRow("CHASE: Run until labels and figures / predictor", run / predictor, "×", "≤ 1.3")
    _, _, run, worker, predictor = figures("hidden")
    yield BenchRow("the same, nothing drawn", run / predictor)
    yield BenchRow("of it the worker / predictor", worker / predictor)


def figures(window: str) -> list[float]:
    """What `main` prints."""
    _, printed = of_child("-m", "tests.bench.window", window)
    return [float(figure) for figure in printed.split()]


def main(show: bool) -> None:
    """Print seconds until the outlook, cold and warm, of a run, its worker and the predictor."""
    import napari
    from qtpy.QtCore import QEventLoop, QTimer

    from napari_msankd.widgets.plugin_widget import open_widget
    from src_training.io.images import read_image

    photographs = sorted((images() / "retina/chasedb1/images").iterdir())[:2]
    pixels = [read_image(file) for file in photographs]
    viewer = napari.Viewer(show=show)
    widget = open_widget(viewer, "Segment")

    def until(done: Callable[[], bool]) -> None:
        loop, look = QEventLoop(), QTimer()
        look.timeout.connect(lambda: done() and not widget.workers and loop.quit())
        look.start(50)
        loop.exec()
        look.stop()

    def added(number: int) -> float:
        widget.state.compatibility = ""
        before = time.process_time()
        viewer.add_image(pixels[number], name=str(number), rgb=True)
        until(lambda: widget.state.compatibility[-1:] != "…" and bool(widget.state.info))
        return time.process_time() - before

    outlook = added(0), added(1)
    used = []
    for _ in range(1 + RUNS):
        before, main = time.process_time(), time.thread_time()
        widget.run.click()
        until(lambda: not widget.running and bool(widget.state.expected.text))
        used.append((time.process_time() - before, time.thread_time() - main))
        viewer.layers.remove(widget.result)
        until(lambda: True)
    whole, of_main = (median(column) for column in zip(*used[1:], strict=True))
    print(*outlook, whole, whole - of_main, alone(pixels[1]))
    widget.end()
    viewer.close()


def alone(image: object) -> float:
    """Median seconds of the predictor, as the window makes it."""
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor
    from tests.bench.row import medians

    predictor = Predictor(load_model("vessels"), "cpu", batch=1)
    return medians({"alone": lambda: predictor.predict(image)})["alone"]


if __name__ == "__main__":
    main(show=sys.argv[1] == "shown")
