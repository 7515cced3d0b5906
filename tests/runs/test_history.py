"""Following the events of a run by complete lines, and accumulating its history."""

import itertools
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src_training.config.stages import REQUIRED_STAGES
from src_training.runs.directory import RunDirectory
from src_training.runs.events import (
    BatchSplit,
    EventLog,
    Measured,
    MemoryUsed,
    Noted,
    Previewed,
    RunFinished,
    RunStarted,
    RunStopped,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
    read_events,
)
from src_training.runs.history import RunFollower, RunHistory, Series


def at(seconds):
    return f"2026-01-01T00:{seconds // 60:02d}:{seconds % 60:02d}.000+00:00"


def started(seconds=0):
    return RunStarted(
        time=at(seconds), device="cpu", precision="32-true", stages=list(REQUIRED_STAGES)
    )


def step(stage, number, seconds=0, **losses):
    total = sum(losses.values())
    return StepDone(time=at(seconds), stage=stage, step=number, total=total, losses=losses)


def told(*events):
    history = RunHistory()
    for event in events:
        history.take(event)
    return history


def running(stage="teacher", steps=10, done=3, pace=2):
    """A stage after some steps of so many seconds, the first one of 5."""
    yield started()
    yield StageStarted(time=at(0), stage=stage, step=0, steps=steps)
    for number in range(done):
        yield step(stage, number + 1, 5 + pace * number, ce=1.0)


@pytest.fixture
def log(tmp_path):
    log = EventLog(RunDirectory(tmp_path).events)
    yield log
    log.close()


def test_what_was_read_is_not_read_again(log, tmp_path):
    follower = RunFollower(tmp_path)
    first, second = started(), step("teacher", 1, ce=0.5)
    log.write(first)
    assert follower.poll() == [first] and follower.poll() == []
    log.write(second)
    assert follower.poll() == [second]


def test_a_run_that_is_not_there_yet_says_nothing(tmp_path):
    follower = RunFollower(tmp_path / "later")
    assert follower.poll() == []
    log = EventLog(RunDirectory(tmp_path / "later").events)
    log.write(event := started())
    log.close()
    assert follower.poll() == [event]


def test_no_more_than_the_limit_at_a_time_and_nothing_lost(log, tmp_path):
    said = [step("teacher", number, ce=0.5) for number in range(7)]
    for event in said:
        log.write(event)
    follower = RunFollower(tmp_path)
    parts = [follower.poll(limit=3) for _ in range(4)]
    assert [len(part) for part in parts] == [3, 3, 1, 0]
    assert list(itertools.chain(*parts)) == said


@given(cut=st.integers(min_value=1))
def test_a_half_written_line_waits_until_it_is_whole(tmp_path_factory, cut):
    folder = RunDirectory(tmp_path_factory.mktemp("run"))
    event = RunStopped(reason="é")
    line = event.model_dump_json().encode() + b"\n"
    cut %= len(line)
    folder.events.write_bytes(line[:cut])
    follower = RunFollower(folder.path)
    assert follower.poll() == []
    with folder.events.open("ab") as file:
        file.write(line[cut:])
    assert follower.poll() == [event]


def test_torn_lines_and_unknown_kinds_are_passed_over(log, tmp_path):
    with RunDirectory(tmp_path).events.open("ab") as file:
        file.write(b'{"kind":"step_d\n{"kind":"of_later","time":""}\n\n')
        file.write(b'{"kind":"run_stopped","t me":"","reason":"x"}\n')
    log.write(event := started())
    assert RunFollower(tmp_path).poll(limit=1) == [event]


def test_a_file_that_was_written_anew_is_read_anew(log, tmp_path):
    follower, path = RunFollower(tmp_path), RunDirectory(tmp_path).events
    for number in range(3):
        log.write(step("teacher", number, ce=0.5))
    assert len(follower.poll()) == 3
    log.close()
    path.unlink()
    assert follower.poll() == []
    again = EventLog(path)
    again.write(event := started())
    again.close()
    assert follower.poll() == [event]


def test_watching_needs_no_torch():
    code = (
        "import sys, src_training.runs.history, src_training.runs.run;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_stages_are_those_that_the_run_named_in_its_order():
    history, named = RunHistory(), [*REQUIRED_STAGES[:-2], "paraphraser", *REQUIRED_STAGES[-2:]]
    history.take(RunStarted(device="cpu", precision="32-true", stages=named))
    history.take(step("paraphraser", 1))
    assert list(history.stages) == named
    history.take(RunStarted(device="cpu", precision="32-true", stages=named))
    assert history.stages["paraphraser"].step == 1


def test_before_the_first_event_every_stage_waits():
    history = RunHistory()
    assert tuple(history.stages) == REQUIRED_STAGES
    assert {stage.state for stage in history.stages.values()} == {"waiting"}
    assert history.state == "waiting" and history.seconds_left() is None


def test_a_history_holds_what_was_said():
    history = told(
        started(),
        StageStarted(stage="distil", step=0, steps=2),
        Measured(stage="distil", step=0, fsd={"B": 3.0, "C": 4.0}),
        step("distil", 1, ce=0.5, cross=0.25),
        MemoryUsed(host=10, device=20),
        step("distil", 2, ce=0.25, cross=0.25),
        Validated(stage="distil", step=2, score=0.75, best=True),
        Measured(stage="distil", step=2, fsd={"B": 2.0}),
        Previewed(stage="distil", step=2, file="preview/labels.npy"),
    )
    assert history.losses["distil"]["ce"] == Series([1, 2], [0.5, 0.25])
    assert history.losses["distil"]["total"] == Series([1, 2], [0.75, 0.5])
    assert history.scores == {"distil": Series([2], [0.75])}
    assert history.fsd == {"B": Series([0, 2], [3.0, 2.0]), "C": Series([0], [4.0])}
    assert history.memory == (10, 20)
    assert history.preview == ("distil", 2, "preview/labels.npy")
    assert (history.device, history.precision, history.state) == ("cpu", "32-true", "running")
    distil = history.stages["distil"]
    assert (distil.state, distil.step, distil.steps, distil.score) == ("running", 2, 2, 0.75)


def test_a_sleep_and_a_jump_of_the_clock_cost_no_time():
    """Steps of two seconds; the machine sleeps for an hour, then its clock is set back by two."""
    events = list(running(done=4))
    jumps = (0, 0, 0, 0, 3600, -7200)
    asleep = told(
        *(
            event.model_copy(
                update={
                    "clock": datetime.fromisoformat(event.time).timestamp(),
                    "time": (datetime.fromisoformat(event.time) + timedelta(seconds=j)).isoformat(),
                }
            )
            for event, j in zip(events, jumps, strict=True)
        )
    )
    awake = told(*events)
    assert asleep.stage_seconds_left() == awake.stage_seconds_left() == 2 * 6
    assert asleep.stages["teacher"].seconds == awake.stages["teacher"].seconds == 11
    asleep.take(RunStopped(reason="killed"))  # by a window, whose clock is another
    assert asleep.stages["teacher"].seconds == 11


def test_only_the_best_score_is_that_of_the_stage():
    scores = [(2, 0.5, True), (4, 0.25, False)]
    history = told(
        *(Validated(stage="san", step=s, score=score, best=best) for s, score, best in scores)
    )
    assert history.stages["san"].score == 0.5
    assert history.scores["san"].values == [0.5, 0.25]


def test_repeated_steps_replace_the_first_ones():
    history = told(
        *running(done=4),
        Validated(stage="teacher", step=4, score=0.5, best=True),
        started(60),
        StageStarted(time=at(60), stage="teacher", step=2, steps=10),
        step("teacher", 3, 61, ce=2.0),
    )
    assert history.losses["teacher"]["ce"] == Series([1, 2, 3], [1.0, 1.0, 2.0])
    assert history.stages["teacher"].step == 3


def test_a_split_batch_and_a_note_are_one_sentence_each():
    split = BatchSplit(stage="teacher", step=7, batch=8, parts=2)
    note = Noted(stage="teacher", step=8, sentence="The preview's image cannot be read.")
    history = told(split, note, note)
    assert history.notes == [
        "Memory was full at step 7 of teacher: its batch of 8 goes in 2 parts, "
        "their gradients summed.",
        "The preview's image cannot be read.",
    ]


def test_the_end_of_a_run_is_told():
    finished = told(started(), RunFinished(model="m", seconds=1.0))
    assert (finished.state, finished.seconds_left()) == ("finished", 0.0)
    stopped = told(started(), RunStopped(reason="stopped on request"))
    assert (stopped.state, stopped.stop_reason) == ("stopped", "stopped on request")
    stopped.take(started())
    assert (stopped.state, stopped.stop_reason) == ("running", "")


def test_time_between_two_processes_is_no_ones():
    history = told(
        *running(done=3),
        RunStopped(time=at(10), reason="x"),
        started(600),
        StageStarted(time=at(600), stage="teacher", step=3, steps=10),
        step("teacher", 4, 607, ce=1.0),
    )
    assert history.stages["teacher"].seconds == 17


def test_a_finished_stage_has_the_seconds_it_said():
    history = told(*running(), StageFinished(stage="teacher", score=0.5, seconds=42.0))
    teacher = history.stages["teacher"]
    assert (teacher.state, teacher.seconds, teacher.step) == ("done", 42.0, 10)


def test_time_left_follows_the_pace_without_the_first_step():
    assert told(*running(done=0)).stage_seconds_left() is None
    assert told(*running(done=1)).stage_seconds_left() is None
    assert told(*running(done=3, pace=2)).stage_seconds_left() == 7 * 2


def test_the_time_left_of_a_run_needs_an_estimate_of_what_waits():
    history = told(*running())
    thought = dict.fromkeys(REQUIRED_STAGES, 100.0) | {"report": 30.0}
    assert history.seconds_left() is None
    assert history.seconds_left({"teacher": 100.0}) is None
    assert history.seconds_left(thought) == 7 * 2 + 9 * 100 + 30
    assert told(*running(done=1)).seconds_left(thought) == 95 + 9 * 100 + 30


def test_an_estimate_is_put_right_by_the_stages_that_are_done():
    history = told(*running(), StageFinished(time=at(9), stage="teacher", score=0.5, seconds=150.0))
    assert history.seconds_left(dict.fromkeys(REQUIRED_STAGES, 100.0)) == 9 * 150


def test_the_last_stage_needs_no_estimate():
    done = (StageFinished(stage=name, score=0.0, seconds=1.0) for name in REQUIRED_STAGES[:-1])
    history = told(*done, *running(stage="san_distilled", done=3, pace=2))
    assert history.seconds_left() == 14


def test_shared_stages_are_done_and_tell_no_pace():
    history = told(*running(stage="san", done=3, pace=2))
    *earlier, _, _, _, _ = history.stages.values()
    assert {stage.state for stage in earlier} == {"done"}
    assert {(stage.steps, stage.seconds) for stage in earlier} == {(0, 0.0)}
    assert history.stages["distil"].state == "waiting"
    assert history.seconds_left(dict.fromkeys(REQUIRED_STAGES, 100.0)) == 7 * 2 + 3 * 100


def test_a_whole_run_is_followed_to_its_end(finished_run):
    history = told(*RunFollower(finished_run.path).poll(limit=10_000))
    assert history.state == "finished"
    assert {stage.state for stage in history.stages.values()} == {"done"}
    assert history.losses.keys() == set(REQUIRED_STAGES)
    assert [len(history.losses[name]["total"].steps) for name in REQUIRED_STAGES] == [3] * len(
        REQUIRED_STAGES
    )


def test_a_run_of_version_1_is_read(tmp_path):
    folder = RunDirectory(tmp_path)
    folder.events.write_text(
        '{"time":"2026-01-01T00:00:00.000+00:00","kind":"run_started","version":1,"process":7,'
        '"device":"cpu","precision":"32-true","stages":["teacher"]}\n'
        '{"time":"2026-01-01T00:00:01.000+00:00","kind":"stage_started","stage":"teacher",'
        '"step":0,"steps":2}\n'
        '{"time":"2026-01-01T00:00:02.000+00:00","kind":"step_done","stage":"teacher","step":1,'
        '"total":0.5,"losses":{"ce":0.5}}\n'
    )
    history = told(*RunFollower(tmp_path).poll())
    assert len(read_events(folder.events)) == 3
    assert (history.process, history.processes, history.stages["teacher"].step) == (7, 1, 1)
