"""Timing a recipe in another process."""

import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QObject

from napari_msankd.training.cost_estimate import CostEstimate
from tests.gui.conftest import PATIENCE


@pytest.fixture
def parent(qapp):
    return QObject()


def test_an_estimate_that_fails_emits_the_sentence(parent, qtbot, tmp_path, monkeypatch):
    # Of no account, though napari was started beside it.
    started = tmp_path / "started"
    started.mkdir()
    (started / "yaml.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(started)
    estimating = CostEstimate(parent)
    with qtbot.waitSignal(estimating.failed, timeout=PATIENCE) as failed:
        estimating.start(tmp_path / "none.yaml", "cpu")
    assert "there is no such recipe" in failed.args[0]
    assert not estimating.running


def test_what_was_dropped_says_nothing(parent, qtbot, tmp_path):
    estimating, messages = CostEstimate(parent), []
    estimating.failed.connect(messages.append)
    estimating.start(tmp_path / "first.yaml", "cpu")
    with qtbot.waitSignal(estimating.failed, timeout=PATIENCE):
        estimating.start(tmp_path / "second.yaml", "cpu")
    assert len(messages) == 1 and "second.yaml" in messages[0]


def test_a_window_that_goes_takes_its_process_along_silently(parent, qtbot, tmp_path):
    estimating = CostEstimate(parent)
    estimating.start(tmp_path / "none.yaml", "cpu")
    assert estimating._process.waitForStarted(PATIENCE)
    with qtbot.captureExceptions() as raised, qtbot.waitSignal(estimating._process.destroyed):
        parent.deleteLater()
        QCoreApplication.sendPostedEvents(parent, QEvent.Type.DeferredDelete)
    assert not raised
