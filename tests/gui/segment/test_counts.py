"""Numbers of costly computations of the widget, tested by counts instead of times."""

import numpy as np
import pytest

from napari_msankd.segment import probability_store
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.inference import model_file
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.networks.enet import ENet
from tests.gui.conftest import PATIENCE


@pytest.fixture
def counted(monkeypatch):
    """Patch a function to record its calls; returns the growing list."""

    def count(owner, name):
        calls, function = [], getattr(owner, name)

        def counting(*args, **options):
            calls.append(name)
            return function(*args, **options)

        monkeypatch.setattr(owner, name, counting)
        return calls

    return count


@pytest.fixture
def checked(widget, viewer, qtbot):
    """Add an image, and wait until it has been checked."""

    def add(pixels):
        widget.state.compatibility = ""
        viewer.add_image(pixels, rgb=True)
        qtbot.waitUntil(lambda: "Untrained." in widget.compatibility.text(), timeout=PATIENCE)
        qtbot.waitUntil(lambda: "check" not in widget.workers, timeout=PATIENCE)

    return add


def test_a_second_image_loads_no_model_and_passes_no_network(image, checked, counted):
    checked(image)
    loads, passes = counted(model_file, "load_model"), counted(ENet, "forward")
    prepared = counted(IntensityPreprocessing, "prepare")
    checked(image[::-1].copy())
    assert not loads and not passes and not prepared


def test_a_run_passes_the_network_as_the_predictor_does(image, checked, counted, segmented, model):
    predictor = Predictor(load_model(model), "cpu", batch=1)
    predictor.predict(image)  # The first image folds the network.
    checked(image)
    segmented()
    passes, prepared = counted(ENet, "forward"), counted(IntensityPreprocessing, "prepare")
    predictor.predict(image)
    own = len(passes), len(prepared)
    passes.clear()
    prepared.clear()
    loads = counted(model_file, "load_model")
    segmented()
    assert (len(passes), len(prepared)) == own and own[0] > 0 and not loads


def test_a_threshold_reads_no_probability_for_figures(
    stack, viewer, widget, counted, segmented, qtbot
):
    counts, passes = counted(probability_store, "step_counts"), counted(ENet, "forward")
    viewer.add_image(stack)
    labels = segmented()
    qtbot.waitUntil(lambda: "Expected" in widget.expected.text(), timeout=PATIENCE)
    assert len(counts) == len(stack)
    before, passed = labels.features["expected Dice"][1], len(passes)
    widget.threshold.setValue(0.8)
    qtbot.waitUntil(lambda: labels.features["expected Dice"][1] != before, timeout=PATIENCE)
    assert len(counts) == len(stack) and len(passes) == passed
    assert np.asarray(labels.data).any()
