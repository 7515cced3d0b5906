"""The harness injects faults, and changes nothing without one."""

import errno
import os
import signal

import pytest

from src_training.io.atomic import write_text
from tests.faults.harness import Fault, in_child, linux, mutated, posix, small_disk


def write_two(folder):
    for name in ("a", "b"):
        write_text(folder / name, name * 10_000)


def take(size):
    bytearray(size)


@posix
def test_a_child_is_killed_before_the_change_that_is_chosen(tmp_path):
    whole = in_child(write_two, tmp_path, fault=Fault("killed", tmp_path, 10**6))
    assert whole.code == 0 and whole.changes >= 4
    for file in tmp_path.iterdir():
        file.unlink()
    killed = in_child(write_two, tmp_path, fault=Fault("killed", tmp_path, whole.changes - 1))
    assert killed.code == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "a" * 10_000 and not (tmp_path / "b").exists()


@posix
def test_a_disk_that_is_full_from_a_change_on_is_named(tmp_path):
    full = in_child(write_two, tmp_path, fault=Fault("full", tmp_path, 1))
    assert full.code == 1 and os.strerror(errno.ENOSPC) in full.said
    assert not list(tmp_path.iterdir())


@linux
def test_a_child_has_no_more_memory_than_it_is_given():
    assert in_child(take, 10**6, memory=10**8).code == 0
    lacking = in_child(take, 10**9, memory=10**8)
    assert lacking.code == 1 and "MemoryError" in lacking.said


def test_a_small_disk_fills(tmp_path):
    with small_disk(tmp_path / "disk", 100_000) as disk, pytest.raises(OSError) as caught:
        (disk / "large").write_bytes(bytes(200_000))
    assert caught.value.errno == errno.ENOSPC


def test_mutations_follow_from_their_seed():
    content = bytes(range(256))
    found = [mutated(content, seed) for seed in range(200)]
    assert found == [mutated(content, seed) for seed in range(200)]
    assert sum(each == content for each in found) < 10 and len(set(found)) > 150
