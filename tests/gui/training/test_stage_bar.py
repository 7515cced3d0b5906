"""The bar of the stages of a run."""

from itertools import combinations

import pytest
from qtpy.QtCore import QPointF

from napari_msankd.training.monitor.stage_bar import StageBar, stage_tip
from src_training.runs.events import RunStopped, StepDone
from src_training.runs.history import RunHistory

from .event_log import run_events, stage_events, start_events


def history_of(events):
    history = RunHistory()
    for event in events:
        history.take(event)
    return history


@pytest.fixture
def stage_bar(viewer):
    made = StageBar(viewer)
    viewer.window.add_dock_widget(made, name="StageBar")
    return made


def test_stages_are_done_running_or_waiting(stage_bar):
    stage_bar.draw(
        history_of(
            [*start_events(), *stage_events("teacher"), *stage_events("autoencoder", steps=8, to=3)]
        )
    )
    text = stage_bar.accessibleDescription()
    assert "Teacher: ✓ 1:05" in text
    assert "P-SAE: 37 %" in text
    assert "vectors: waiting" in text
    assert "P-SAE: step 3 of 8" in stage_bar.text


def test_all_ten_stages_fit_in_two_rows(stage_bar):
    stage_bar.resize(1600, 60)
    stage_bar.draw(history_of(run_events()))
    assert len({box.top() for box in stage_bar.boxes()}) == 1
    low = stage_bar.minimumHeight()
    stage_bar.resize(420, 60)
    stage_bar.draw(history_of(run_events()))  # hidden, it hears of no new size
    boxes = stage_bar.boxes()
    assert len(boxes) == 10 and len({box.top() for box in boxes}) == 2
    assert not any(a.intersects(b) for a, b in combinations(boxes, 2))
    assert all(box.left() >= 0 and box.right() <= stage_bar.width() for box in boxes)
    assert boxes[-1].bottom() < stage_bar.minimumHeight() and stage_bar.minimumHeight() > low


def test_the_estimate_says_how_long_the_whole_run_takes(stage_bar):
    events = [*start_events(), *stage_events("teacher", steps=100, to=2)]
    history = history_of(events)
    stage_bar.draw(history)
    assert "of this stage" in stage_bar.text or "left" not in stage_bar.text
    estimate = dict.fromkeys(history.stages, 600.0)
    stage_bar.draw(history, estimate)
    assert stage_bar.text.endswith("left")
    assert " h " in stage_bar.text


def test_of_a_run_that_was_stopped_no_time_is_left(stage_bar):
    stopped = RunStopped(reason="stopped on request")
    history = history_of([*start_events(), *stage_events("teacher", steps=100, to=40), stopped])
    stage_bar.draw(history, dict.fromkeys(history.stages, 600.0))
    assert stage_bar.text == "Teacher: step 40 of 100"


def test_the_stage_bar_shows_the_report_after_the_last_stage(stage_bar):
    stage_bar.draw(history_of(run_events()[:-1]))
    assert stage_bar.text.startswith("Scoring")
    stage_bar.draw(history_of(run_events()))
    assert stage_bar.text == ""


def test_a_loss_said_again_after_a_resume_counts_once(stage_bar):
    history = history_of([*start_events(), *stage_events("teacher", steps=8, to=5)])
    history.take(StepDone(stage="teacher", step=3, total=1.0, losses={"ce": 1.0}))
    stage_bar.draw(history)
    assert "Teacher: 37 %" in stage_bar.accessibleDescription()


def test_a_stage_explains_itself_under_the_pointer(stage_bar, qtbot):
    stage_bar.draw(history_of(run_events()))
    stages = history_of(run_events()).stages
    assert "Best Dice on the validation images: 0.500" in stage_tip(stages["teacher"])
    assert "minus the loss" in stage_tip(stages["tan"])
    assert stage_bar.boxes()[0].contains(QPointF(5, 5))


def test_stages_that_were_taken_over_are_done(stage_bar):
    history = history_of([*start_events(), *stage_events("distil", to=3)])
    stage_bar.draw(history)
    assert "Teacher: ✓. P-SAE: ✓. " in stage_bar.accessibleDescription()
    assert "Taken from another run" in stage_tip(history.stages["teacher"])
    assert "Taken" not in stage_tip(history.stages["distil"])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_is_drawn_in_the_theme(stage_bar, viewer, theme):
    viewer.theme = theme
    stage_bar.draw(
        history_of([*start_events(), *stage_events("teacher"), *stage_events("autoencoder", to=2)])
    )
    picture = stage_bar.grab().toImage()
    seen = {picture.pixelColor(x, 30).name() for x in range(picture.width())}
    assert len(seen) > 3


def test_without_a_run_nothing_is_drawn(stage_bar):
    stage_bar.draw(history_of(run_events()))
    stage_bar.draw(None)
    assert stage_bar.text == "" and stage_bar.boxes() == []
