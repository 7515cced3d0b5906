"""Make the pictures of the pages, ``docs/images/tutorial-*.png``, from the samples.

Run it on a display, or under ``xvfb-run -a -s "-screen 0 1600x1000x24"``; names of pictures
choose some. ``run`` and ``explore`` show the finished run that the variable ``PICTURED_RUN``
names, such as that of ``msankd distil phantom``.
"""

import os
import sys
from pathlib import Path

# After window_gif, which hides the models and runs of the person who makes the pictures.
import napari
import window_gif
from qtpy.QtWidgets import QApplication

from napari_msankd.sample_data import abdomen_ct, labelled_eyes
from napari_msankd.widgets.plugin_widget import open_widget
from src_training.data.phantom.camera import fundus_phantom

SIZE = (1280, 800)
SAMPLE_WAIT = 1200


def open_viewer() -> napari.Viewer:
    """An empty window of the size of the pictures."""
    viewer = napari.Viewer(title="napari", show=True)
    viewer.window.resize(*SIZE)
    return viewer


def save(viewer: napari.Viewer, name: str, folder: Path) -> None:
    """Write the window as it is."""
    window_gif.rest(1)
    file = folder / f"tutorial-{name}.png"
    viewer.screenshot(str(file), canvas_only=False, flash=False)
    print(file)


def segment(folder: Path) -> None:
    """A photograph before and after."""
    viewer = open_viewer()
    viewer.add_image(fundus_phantom(11, 512, "B").image, name="eye-11", rgb=True)
    widget = open_widget(viewer, "Segment")
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: "compatible" in widget.compatibility.text())
    viewer.reset_view()
    save(viewer, "segment-before", folder)
    widget.camera.setValue(30)
    window_gif.rest(1)
    widget.run.click()
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: bool(widget.expected.text()))
    save(viewer, "segment-after", folder)
    viewer.close()


def liver(folder: Path) -> None:
    """A CT and its liver."""
    viewer = open_viewer()
    for data, options, kind in abdomen_ct():
        viewer.add_layer(napari.layers.Layer.create(data, options, kind))
    viewer.layers.selection = {viewer.layers[0]}
    widget = open_widget(viewer, "Segment")
    [position] = [at for at in range(widget.model.count()) if "liver" in widget.model.itemText(at)]
    widget.model.setCurrentIndex(position)
    widget.model.activated.emit(position)
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: bool(widget.compatibility.text()))
    widget.run.click()
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: bool(widget.expected.text()))
    save(viewer, "liver", folder)
    viewer.close()


def open_labelled_eyes() -> napari.Viewer:
    """A window with three photographs and the labels of their vessels."""
    viewer = open_viewer()
    for image, mask, name in labelled_eyes():
        viewer.add_image(image, name=name, rgb=True)
        viewer.add_labels(mask, name=f"{name} vessels")
    return viewer


def train(folder: Path) -> None:
    """Three photographs with their labels as the source."""
    viewer = open_labelled_eyes()
    widget = open_widget(viewer, "Train & distil")
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: "min" in widget.prepare.cost.text())
    viewer.reset_view()
    save(viewer, "train", folder)
    viewer.close()


def run(folder: Path) -> None:
    """A finished run and its verdict, beside the photographs that it learned from."""
    viewer = open_labelled_eyes()
    runs = open_widget(viewer, "Train & distil")
    runs.pages.setCurrentWidget(runs.runs)
    runs.runs.choice.open(Path(os.environ["PICTURED_RUN"]).absolute())
    # The last page is that of the result, which opens once the run has been read.
    last = runs.runs.pages.count() - 1
    window_gif.rest(window_gif.LONGEST_WAIT, lambda: runs.runs.pages.currentIndex() == last)
    viewer.reset_view()
    save(viewer, "run", folder)
    viewer.close()


def explore(folder: Path) -> None:
    """The distances between the domains of a run, and the verdict above them."""
    viewer = open_viewer()
    widget = open_widget(viewer, "Explore")
    window_gif.rest(2)
    widget.setup.run.open(Path(os.environ["PICTURED_RUN"]).absolute())
    window_gif.rest(window_gif.LONGEST_WAIT, widget.setup.extract.isEnabled)
    widget.setup.extract.click()
    window_gif.rest(SAMPLE_WAIT, lambda: widget.state.suitability is not None)
    widget.pages.setCurrentWidget(widget.parts["fsd"])
    window_gif.rest(window_gif.LONGEST_WAIT, widget.parts["fsd"].save_button.isEnabled)
    viewer.reset_view()
    save(viewer, "explore", folder)
    viewer.close()


PICTURES = {each.__name__: each for each in (segment, liver, train, explore, run)}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or PICTURES:
        PICTURES[chosen](Path(__file__).parent / "images")
        QApplication.processEvents()
