"""State of the Runs page: its texts and possible actions."""

import pytest

from napari_msankd.training.monitor.state import MonitorState
from src_training.evaluation.verdict import Verdict
from src_training.runs.events import MemoryUsed, Noted, RunStarted, RunStopped
from src_training.runs.history import RunHistory
from src_training.runs.state import run_state

from .event_log import run_events, start_events, write_report, write_run


def history_of(events):
    history = RunHistory()
    for event in events:
        history.take(event)
    return history


@pytest.fixture
def opened(tmp_path):
    """Open a synthetic run in a state."""

    def open_run(events, **report):
        run = write_run(tmp_path / "run", events)
        write_report(run, **report)
        state = MonitorState()
        state.open(run, history_of(events))
        state.advance()
        return state

    return open_run


def test_before_a_run_is_chosen_nothing_can_be_done():
    state = MonitorState()
    assert (state.status, state.can_stop, state.can_resume) == ("", False, False)


def test_a_run_without_events_is_starting(tmp_path):
    state = MonitorState()
    state.open(tmp_path / "coming", RunHistory())
    assert state.status == "Starting…" and state.can_stop


def test_a_run_that_goes_on_names_device_precision_and_memory(opened):
    note = Noted(stage="teacher", step=1, sentence="Memory is short.")
    state = opened([*start_events(), MemoryUsed(host=3 * 10**9, device=0), note])
    assert state.status == "Running on cpu in float32 · memory 3.0 GB\n⚠ Memory is short."
    assert state.can_stop and not state.can_resume


def test_a_stop_is_awaited_and_can_be_resumed(opened):
    events = [*start_events(), RunStopped(reason="stopped on request")]
    state = opened(events)
    state.stop()
    state.advance()
    assert state.status == "Stopping…" and not state.can_stop
    state.finish(run_state(state.run))
    assert state.status == "Stopped on request"
    assert state.can_resume and not state.can_preview
    state.resume()
    assert state.status == "Resuming…" and state.can_stop and not state.can_resume


def test_a_run_that_ended_is_not_shown_as_running(opened):
    assert opened([*start_events(), RunStopped(reason="x")]).status == "Loading run…"


def test_a_run_that_another_window_resumes_goes_on_here_too(opened):
    state = opened([*start_events(), RunStopped(reason="stopped on request")])
    state.finish(run_state(state.run))
    state.history.take(RunStarted(device="cpu", precision="32-true", stages=["teacher"]))
    state.advance()
    assert state.outcome is None and state.status.startswith("Running on cpu")


def test_a_run_that_ended_without_a_word_says_so(opened):
    state = opened(start_events())
    state.finish(run_state(state.run))
    assert state.status.startswith("✕ Ended unexpectedly: ")


@pytest.mark.parametrize(
    "distilled, first", [(0.9, "✓ Distillation helped"), (0.1, "⚠ Distillation did not help")]
)
def test_a_finished_run_begins_with_its_verdict(opened, distilled, first):
    state = opened(run_events(), dice={"teacher": 0.9, "baseline": 0.5, "distilled": distilled})
    state.finish(run_state(state.run))
    assert state.status.startswith(first)


def test_a_message_lasts_until_something_else_happens(opened):
    state = opened(start_events())
    state.message = "✓ Exported."
    assert state.status == "✓ Exported."
    state.advance()
    assert state.status.startswith("Running")


def test_listeners_hear_of_every_change(opened):
    state, seen = opened(run_events()), []
    state.events.verdict.connect(seen.append)
    state.finish(run_state(state.run))
    assert [type(verdict) for verdict in seen] == [Verdict]
