"""Cost estimates of recipes in another process."""

import psutil
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QObject

from napari_msankd.training import cost_estimate
from napari_msankd.training.cost_estimate import CostEstimate
from tests.gui.conftest import PATIENCE


@pytest.fixture
def parent(qapp):
    return QObject()


def children():
    return [child for child in psutil.Process().children() if child.status() != "zombie"]


def test_an_estimate_that_fails_emits_the_sentence(parent, qtbot, tmp_path, monkeypatch):
    # A module in the current directory must not shadow an installed one.
    started = tmp_path / "started"
    started.mkdir()
    (started / "yaml.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(started)
    estimating = CostEstimate(parent)
    with qtbot.waitSignal(estimating.failed, timeout=PATIENCE) as failed:
        estimating.start(tmp_path / "none.yaml", "cpu")
    assert "there is no such recipe" in failed.args[0]
    assert not estimating.running


def test_an_estimate_tells_its_progress_then_the_cost(parent, qtbot, tmp_path, make_recipe):
    make_recipe(3).save(tmp_path / "tiny.yaml")
    estimating, progress = CostEstimate(parent), []
    estimating.progressed.connect(progress.append)
    with qtbot.waitSignal(estimating.done, timeout=PATIENCE) as done:
        estimating.start(tmp_path / "tiny.yaml", "cpu")
    assert progress[0]["done"] == 0 and progress[-1]["part"] == "Scoring"
    assert progress[0]["roughly"] > 0 and done.args[0]["seconds"] > 0
    assert not estimating.running


def test_what_was_cancelled_emits_nothing(parent, qtbot, tmp_path):
    estimating, messages = CostEstimate(parent), []
    estimating.failed.connect(messages.append)
    estimating.start(tmp_path / "first.yaml", "cpu")
    with qtbot.waitSignal(estimating.failed, timeout=PATIENCE):
        estimating.start(tmp_path / "second.yaml", "cpu")
    assert len(messages) == 1 and "second.yaml" in messages[0]


def test_no_process_is_destroyed_while_it_is_running(parent, qtbot, qtlog, tmp_path):
    estimating = CostEstimate(parent)
    # The first is cancelled but may still be ending when the widget is deleted with the second.
    for name in ("first", "second"):
        estimating.start(tmp_path / f"{name}.yaml", "cpu")
        qtbot.waitUntil(lambda: bool(children()), timeout=PATIENCE)
    parent.deleteLater()
    QCoreApplication.sendPostedEvents(parent, QEvent.Type.DeferredDelete)
    qtbot.waitUntil(lambda: not children() and not cost_estimate._PROCESSES, timeout=PATIENCE)
    assert not [record.message for record in qtlog.records if "QProcess" in record.message]
