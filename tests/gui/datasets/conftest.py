"""Fixtures for the choice of datasets without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_msankd.datasets.selector import DatasetSelector
from tests.gui.conftest import PATIENCE

SIDE = (40, 48)


@pytest.fixture
def viewer(qapp):
    """A viewer model without a window, which would take seconds."""
    return ViewerModel()


@pytest.fixture
def make_choice(viewer, qtbot):
    made = []

    def make(masks="required"):
        choice = DatasetSelector(viewer, masks)
        choice.resize(320, 400)
        qtbot.addWidget(choice)
        choice.show()
        made.append(choice)
        return choice

    yield make
    for choice in made:
        choice.end()


@pytest.fixture
def await_summary(qtbot):
    """Wait until a selector has read its dataset."""

    def wait(choice):
        # The rows are updated in the next cycle of the event loop.
        QApplication.processEvents()
        qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
        return choice

    return wait


@pytest.fixture
def add(viewer):
    """Add an image, and labels with a square unless `labels` is false."""

    def add(name, labels=True, shape=SIDE, value=1, **options):
        pixels = np.random.default_rng(len(name)).integers(0, 255, shape, np.uint8)
        image = viewer.add_image(pixels, name=name, **options)
        mask = np.zeros(shape, np.uint8)
        mask[..., 10:20, 10:22] = value
        return image, viewer.add_labels(mask, name=f"{name} mask") if labels else None

    return add
