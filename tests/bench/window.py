"""From an image that is added to its labels, in a real window.

CPU seconds of all threads but those in which software draws in place of a graphics card.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.bench.row import BenchRow, Rows, images, of_child

RUNS = 4


def rows() -> Rows:
    """The window, in a process of its own, which has not imported torch yet."""
    _, printed = of_child("-m", "tests.bench.window")
    cold, warm, run, worker, predictor = map(float, printed.split())
    yield BenchRow("first image added, engine imported: ✓", cold, "s", "≤ 4", "9 to 11 s")
    yield BenchRow("next image added: ✓", warm, "s", "≤ 2")
    yield BenchRow("CHASE: Run - labels and figures / predictor", run / predictor, "×", "≤ 1.3")
    yield BenchRow("CHASE: of it the worker / predictor", worker / predictor)


def main() -> None:
    """Print seconds until the outlook, cold and warm, of a run, its worker and the predictor."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_msankd.widgets.plugin_widget import open_widget
    from src_training.io.images import read_image

    photographs = sorted((images() / "retina/chasedb1/images").iterdir())[:2]
    pixels = [read_image(file) for file in photographs]
    viewer = napari.Viewer()
    widget = open_widget(viewer, "Segment")

    def until(done: Callable[[], bool]) -> None:
        while not done() or widget.workers:
            QApplication.processEvents()
            time.sleep(0.002)

    def added(number: int) -> float:
        widget.state.compatibility = ""
        before = spent()
        viewer.add_image(pixels[number], name=str(number), rgb=True)
        until(lambda: widget.state.compatibility[-1:] != "…" and bool(widget.state.info))
        return spent() - before

    outlook = added(0), added(1)
    used = []
    for _ in range(1 + RUNS):
        before, main = spent(), time.thread_time()
        widget.run.click()
        until(lambda: not widget.running and bool(widget.state.expected.text))
        used.append((spent() - before, time.thread_time() - main))
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


def spent() -> float:
    """CPU seconds of this process without the threads of llvmpipe, OpenGL in software."""
    drawn = 0
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith("llvmpipe"):
            drawn += int((task / "schedstat").read_text().split()[0])
    return time.process_time() - drawn / 1e9


if __name__ == "__main__":
    sys.exit(main())
