import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src_training.events import (
    EventLog,
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
def test_a_torn_last_line_is_left_out_and_swallows_no_later_event(path, kept):
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
