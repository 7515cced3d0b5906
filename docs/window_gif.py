"""Make ``docs/images/segment.gif``: the real window segments a synthetic photograph.

Run it on a display, or under ``xvfb-run -a -s "-screen 0 1600x1000x24"``.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# The picture shows a new user's window: no models or runs of the person who makes it.
_EMPTY = tempfile.mkdtemp()
os.environ |= {"MSANKD_RUNS": f"{_EMPTY}/runs", "MSANKD_MODELS": f"{_EMPTY}/models"}

import napari  # noqa: E402
from PIL import Image  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from napari_msankd.sample_data import fundus_a  # noqa: E402
from napari_msankd.widgets.plugin_widget import open_widget  # noqa: E402

SIZE = (1180, 730)
SHOWN = (885, 548)
COLORS = 72
LONGEST_WAIT = 120


class Film:
    """Pictures of the window, each with the milliseconds that it is shown."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.frames: list[Image.Image] = []
        self.durations: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        """Add the window as it is; what looks like the last picture lengthens it."""
        rest(0.1)
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS)
        if self.frames and picture.tobytes() == self.frames[-1].tobytes():
            self.durations[-1] += milliseconds
            return
        self.frames.append(picture)
        self.durations.append(milliseconds)

    def save(self, file: Path) -> None:
        """Write all pictures in one palette, so that what stays the same costs nothing."""
        strip = Image.new("RGB", (SHOWN[0], SHOWN[1] * 3))
        for row, index in enumerate((0, len(self.frames) // 2, -1)):
            strip.paste(self.frames[index], (0, row * SHOWN[1]))
        palette = strip.quantize(COLORS, dither=Image.Dither.NONE)
        frames = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in self.frames]
        file.parent.mkdir(exist_ok=True)
        frames[0].save(
            file,
            save_all=True,
            append_images=frames[1:],
            duration=self.durations,
            loop=0,
            optimize=False,
        )


def rest(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """Let the window work for some time, or until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()
        time.sleep(0.005)


def main(file: Path) -> None:
    """Open the photograph, choose its camera, run, and move the threshold."""
    viewer = napari.Viewer(title="napari", show=True)
    viewer.window.resize(*SIZE)
    for layer in fundus_a():
        viewer.add_layer(napari.layers.Layer.create(*layer))
    viewer.layers.selection = {viewer.layers[0]}
    film = Film(viewer)
    rest(2)
    film.shoot(900)
    widget = open_widget(viewer, "Segment")
    rest(LONGEST_WAIT, lambda: "compatible" in widget.compatibility.text())
    rest(1)
    viewer.reset_view()
    film.shoot(1300)
    widget.camera.setValue(45)
    rest(1.5)
    film.shoot(1100)
    widget.run.click()
    end = time.monotonic() + LONGEST_WAIT
    while widget.running and time.monotonic() < end:
        film.shoot(450)
        rest(0.9, lambda: not widget.running)
    rest(LONGEST_WAIT, lambda: bool(widget.expected.text()))
    rest(1)
    film.shoot(1500)
    automatic = widget.threshold.value()
    for value in (0.25, 0.1, 0.25, 0.4, 0.55, 0.7):
        widget.threshold.setValue(value)
        rest(0.4)
        film.shoot(380)
    widget.automatic.click()
    rest(0.8)
    film.shoot(900)
    widget.reference.layer = viewer.layers["fundus A true vessels"]
    rest(LONGEST_WAIT, lambda: "Dice" in widget.scores.text())
    rest(0.5)
    film.shoot(2500)
    assert abs(widget.threshold.value() - automatic) < 1e-6
    film.save(file)
    print(f"{file}: {len(film.frames)} pictures, {file.stat().st_size / 1e6:.2f} MB")
    viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images/segment.gif")
