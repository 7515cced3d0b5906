"""The stages of a run in a row."""

from itertools import pairwise

import pytest
from qtpy.QtCore import QPointF

from napari_msankd.training.monitor.stage_bar import StageBar
from src_training.runs.events import RunStopped, StepDone
from src_training.runs.history import RunHistory

from .event_log import run_events, stage_events, start_events


def history_of(events):
    history = RunHistory()
    for event in events:
        history.take(event)
    return history


@pytest.fixture
def timeline(viewer):
    made = StageBar(viewer)
    viewer.window.add_dock_widget(made, name="StageBar")
    return made


def test_stages_are_done_running_or_waiting(timeline):
    timeline.draw(
        history_of(
            [*start_events(), *stage_events("teacher"), *stage_events("autoencoder", steps=8, to=3)]
        )
    )
    text = timeline.accessibleDescription()
    assert "Teacher: ✓ 1:05" in text
    assert "P-SAE: 37 %" in text
    assert "vectors: waiting" in text
    assert "P-SAE: step 3 of 8" in timeline.words


def test_all_eight_stages_fit_beside_each_other(timeline):
    timeline.draw(history_of(run_events()))
    timeline.resize(380, timeline.height())
    boxes = timeline._boxes()
    assert len(boxes) == 8
    assert all(a.right() <= b.left() for a, b in pairwise(boxes))
    assert boxes[-1].right() <= timeline.width()
    assert timeline.height() <= 60


def test_the_estimate_says_how_long_the_whole_run_takes(timeline):
    events = [*start_events(), *stage_events("teacher", steps=100, to=2)]
    history = history_of(events)
    timeline.draw(history)
    assert "of this stage" in timeline.words or "left" not in timeline.words
    estimate = dict.fromkeys(history.stages, 600.0)
    timeline.draw(history, estimate)
    assert timeline.words.endswith("left")
    assert " h " in timeline.words


def test_of_a_run_that_was_stopped_no_time_is_left(timeline):
    stopped = RunStopped(reason="stopped on request")
    history = history_of([*start_events(), *stage_events("teacher", steps=100, to=40), stopped])
    timeline.draw(history, dict.fromkeys(history.stages, 600.0))
    assert timeline.words == "Teacher: step 40 of 100"


def test_the_timeline_shows_the_report_after_the_last_stage(timeline):
    timeline.draw(history_of(run_events()[:-1]))
    assert timeline.words.startswith("Scoring")
    timeline.draw(history_of(run_events()))
    assert timeline.words == ""


def test_a_loss_said_again_after_a_resume_counts_once(timeline):
    history = history_of([*start_events(), *stage_events("teacher", steps=8, to=5)])
    history.take(StepDone(stage="teacher", step=3, total=1.0, losses={"ce": 1.0}))
    timeline.draw(history)
    assert "Teacher: 37 %" in timeline.accessibleDescription()


def test_a_stage_explains_itself_under_the_pointer(timeline, qtbot):
    from napari_msankd.training.monitor.stage_bar import _tip

    timeline.draw(history_of(run_events()))
    stages = history_of(run_events()).stages
    assert "Best Dice on the source's validation images: 0.500" in _tip(stages["teacher"])
    assert "negative loss" in _tip(stages["tan"])
    assert timeline._boxes()[0].contains(QPointF(5, 5))


def test_stages_that_were_taken_over_are_done(timeline):
    from napari_msankd.training.monitor.stage_bar import _tip

    history = history_of([*start_events(), *stage_events("distil", to=3)])
    timeline.draw(history)
    assert "Teacher: ✓. P-SAE: ✓. " in timeline.accessibleDescription()
    assert "Taken over from another run" in _tip(history.stages["teacher"])
    assert "Taken over" not in _tip(history.stages["distil"])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_is_drawn_in_the_theme(timeline, viewer, theme):
    viewer.theme = theme
    timeline.draw(
        history_of([*start_events(), *stage_events("teacher"), *stage_events("autoencoder", to=2)])
    )
    picture = timeline.grab().toImage()
    seen = {picture.pixelColor(x, 30).name() for x in range(picture.width())}
    assert len(seen) > 3


def test_other_words_take_the_place_of_the_line(timeline):
    timeline.draw(history_of(start_events()))
    timeline.say("Stopped on request.")
    assert timeline.words == "Stopped on request."
    timeline.draw(None)
    assert timeline.words == ""
    assert timeline._boxes() == []
