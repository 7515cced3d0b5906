"""Following a run's events while they are written, truncated, or rejected by a full disk."""

import errno
import random
import shutil

import pytest

from src_training.runs.events import EventLog, Noted, StepDone, read_events
from src_training.runs.history import RunFollower, RunHistory
from tests.faults.harness import mutated, small_disk


def step(number):
    return StepDone(stage="teacher", step=number, total=0.5, losses={"ce": 0.5})


@pytest.mark.parametrize("seed", range(5))
def test_events_written_piece_by_piece_arrive_whole_and_once(tmp_path, seed):
    events = [step(number) for number in range(40)] + [
        Noted(stage="teacher", step=1, sentence="Gefäße 血管 \u2028 🩸")
    ]
    content = b"".join(event.model_dump_json().encode() + b"\n" for event in events)
    chance, follower, found = random.Random(seed), RunFollower(tmp_path), []
    with (tmp_path / "events.jsonl").open("ab", buffering=0) as file:
        while content:
            size = chance.randrange(1, 300)
            file.write(content[:size])
            content = content[size:]
            found += follower.poll(chance.randrange(1, 5))
    while more := follower.poll():
        found += more
    assert found == events


@pytest.mark.parametrize("seed", range(20))
def test_damaged_events_are_passed_over(finished_run, tmp_path, seed):
    file = tmp_path / "events.jsonl"
    shutil.copy(finished_run.path / "events.jsonl", file)
    file.write_bytes(mutated(file.read_bytes(), seed))
    history, follower = RunHistory(), RunFollower(tmp_path)
    history.read(file)
    followed = []
    while more := follower.poll():
        followed += more
    assert followed == read_events(file)[: len(followed)]
    assert len(read_events(file)) - len(followed) <= 1  # the last line may be truncated


def write_until_full(path):
    log, written = EventLog(path), 0
    with pytest.raises(OSError) as caught:
        while written < 10_000:
            log.write(step(written))
            written += 1
    assert caught.value.filename == str(path)
    return log, written, caught.value.errno


def test_an_event_that_the_disk_refuses_spoils_no_other(tmp_path, largest_file):
    path = tmp_path / "events.jsonl"
    with largest_file(5000):
        log, written, _ = write_until_full(path)
    log.write(step(10_001))
    log.close()
    assert [event.step for event in read_events(path)] == [*range(written), 10_001]
    assert path.read_bytes().count(b"\n") == written + 1


def test_events_go_on_once_a_small_disk_has_space(tmp_path):
    with small_disk(tmp_path / "disk", 16 * 4096) as disk:
        (disk / "other").write_bytes(bytes(8 * 4096))
        log, written, number = write_until_full(disk / "events.jsonl")
        assert number == errno.ENOSPC
        (disk / "other").unlink()
        log.write(step(10_001))
        log.close()
        found = [event.step for event in read_events(disk / "events.jsonl")]
        assert found == [*range(written), 10_001]
