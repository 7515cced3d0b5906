import re
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src_training.runs.events import (
    VERSION,
    BatchSplit,
    Event,
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

finite = st.floats(allow_nan=False, allow_infinity=False)
EVERY = [
    RunStarted(device="cpu", precision="32-true", stages=["teacher"]),
    StageStarted(stage="teacher", step=0, steps=2),
    StepDone(stage="teacher", step=1, total=0.5, losses={"ce": 0.5}),
    Validated(stage="teacher", step=1, score=-0.25, best=True),
    Measured(stage="distil", step=1, fsd={"B": 0.5}),
    Previewed(stage="teacher", step=1, file="preview/labels.npy"),
    BatchSplit(stage="teacher", step=1, batch=8, parts=2),
    MemoryUsed(host=1, device=0),
    Noted(stage="teacher", step=1, sentence="The preview's image cannot be read."),
    StageFinished(stage="teacher", score=-0.25, seconds=1.5),
    RunFinished(model="model.safetensors", seconds=2.0),
    RunStopped(reason="stopped on request"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def write(path, *events):
    log = EventLog(path)
    for event in events:
        log.write(event)
    log.close()


def test_every_kind_of_event_comes_back_as_it_was(path):
    write(path, *EVERY)
    assert read_events(path) == EVERY


def test_each_event_is_one_line_that_is_there_at_once(path):
    log = EventLog(path)
    for count, event in enumerate(EVERY, start=1):
        log.write(event)
        assert path.read_bytes().count(b"\n") == count
    log.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(reason=st.text(), losses=st.dictionaries(st.text(), finite, max_size=3), total=finite)
def test_any_words_and_numbers_come_back(path, reason, losses, total):
    path.unlink(missing_ok=True)
    events = [RunStopped(reason=reason), StepDone(stage="s", step=1, total=total, losses=losses)]
    write(path, *events)
    assert read_events(path) == events


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_torn_last_line_swallows_no_later_event(path, kept):
    write(path, EVERY[0], RunStopped(reason="torn"))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept].rstrip(b"}\n"))
    assert read_events(path) == EVERY[:1]
    write(path, EVERY[1])
    assert read_events(path) == EVERY[:2]


def test_a_line_torn_within_a_character_is_left_out(path):
    write(path, EVERY[0], RunStopped(reason="é"))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index("é".encode()) + 1])
    assert read_events(path) == EVERY[:1]


def test_kinds_and_fields_of_a_later_version_are_passed_over(path):
    later = EVERY[0].model_dump_json()[:-1] + ',"later":1}\n'
    path.write_text('{"kind":"of_later","time":""}\n' + later)
    assert read_events(path) == EVERY[:1]


def test_a_run_that_has_said_nothing_has_no_events(path):
    assert read_events(path) == []


def test_every_kind_is_tried_here():
    assert {type(event) for event in EVERY} == set(typing.get_args(Event))


def test_the_format_is_written_down_field_by_field():
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    assert f"version {VERSION}\n" in text.partition("\n")[0] + "\n"
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([^|]*) \|", text, flags=re.MULTILINE)
    written = {kind: set(re.findall(r"`(\w+)`", fields)) for kind, fields in rows}
    built = {
        event.kind: type(event).model_fields.keys() - {"kind", "time", "clock"} for event in EVERY
    }
    assert written == built


def test_events_of_version_1_are_read_as_they_are(path):
    line = (
        '{"time":"2026-01-01T00:00:00.000+00:00","kind":"run_started","version":1,"process":7,'
        '"device":"cpu","precision":"32-true","stages":["teacher"]}\n'
    )
    path.write_text(line)
    (event,) = read_events(path)
    assert (event.version, event.process, event.processes) == (1, 7, 1)
