"""Kills, full disks, removed and damaged files never lose labels of a volume silently."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import zarr

from src_training.evaluation.calibration import update_card
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.inference.volumes import slabs
from src_training.inference.volumes.job import VolumeJob, VolumeOptions
from src_training.inference.volumes.segment import segment_slabs, segment_volume
from src_training.io.folder_lock import hold
from src_training.io.volumes.registry import open_volume
from tests.faults.harness import Fault, in_child, moments, msankd, posix, small_disk

SHAPE, SLICES = (10, 40, 36), 2


@pytest.fixture
def scan(tmp_path):
    """A zarr array with noise in its first half and air in the second."""
    noise = np.random.default_rng(1).integers(-900, 900, SHAPE).astype(np.int16)
    noise[5:] = -900
    array = zarr.create_array(
        tmp_path / "scan.zarr", shape=SHAPE, chunks=(5, *SHAPE[1:]), dtype="int16"
    )
    array[:] = noise
    return tmp_path / "scan.zarr"


@pytest.fixture
def model_file(tiny_model, tmp_path):
    """A model that labels half of the voxels of noise as vessel."""
    model = tiny_model()
    noise = np.random.default_rng(1).integers(-900, 900, SHAPE[1:]).astype(np.int16)
    median = float(np.median(Predictor(model, "cpu").predict(noise)[1]))
    update_card(Predictor(model, "cpu"), threshold=median)
    model.save(tmp_path / "half.safetensors")
    return tmp_path / "half.safetensors"


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_SLICES", SLICES)


def steps_of(scan, model_file, target, **options):
    """The generator of `segment_volume` for a scan."""
    predictor, volume = Predictor(load_model(model_file), "cpu"), open_volume(scan)
    fields = {name: options.pop(name) for name in ("orthogonal",) if name in options}
    job = VolumeJob.of(predictor.model, volume, VolumeOptions(**fields))
    return segment_volume(volume, job, target, partial(segment_slabs, predictor), **options)


def labels_in(target):
    return np.asarray(zarr.open(target, mode="r")["0"][:])


@pytest.fixture
def whole(scan, model_file, small_slabs, tmp_path):
    """Labels of an undisturbed run."""
    list(steps_of(scan, model_file, tmp_path / "whole.zarr"))
    labels = labels_in(tmp_path / "whole.zarr")
    assert 0 < labels.mean() < 1
    return labels


def part_of(target):
    return target.with_name(f"{target.name}.part")


def chunks_of(part):
    return sorted(file for file in (part / "labels.zarr" / "c").rglob("*") if file.is_file())


def refused(steps, *words):
    with pytest.raises(ValueError) as caught:
        list(steps)
    sentence = str(caught.value)
    assert type(caught.value).__name__ == "InputError" and "\n" not in sentence
    assert all(str(word) in sentence for word in words), sentence


def test_labels_are_made_by_one_process_at_a_time(scan, model_file, small_slabs, tmp_path):
    target = tmp_path / "out.zarr"
    with hold(part_of(target)):
        refused(steps_of(scan, model_file, target), part_of(target), "in use by another process")
    list(steps_of(scan, model_file, target))
    assert target.exists() and not part_of(target).exists()


@pytest.mark.parametrize("renamed", [False, True])
def test_a_folder_of_labels_that_goes_away_is_not_made_again(
    scan, model_file, whole, tmp_path, renamed
):
    out, away = tmp_path / "out", tmp_path / "away"
    steps = steps_of(scan, model_file, out / "scan.zarr")
    for _ in range(3):
        next(steps)
    shutil.move(out, away) if renamed else shutil.rmtree(out)
    refused(steps, out, "renamed or removed")
    assert not out.exists()
    if renamed:
        assert len(list(steps_of(scan, model_file, away / "scan.zarr"))) == 5 - 2 + 2
        np.testing.assert_array_equal(labels_in(away / "scan.zarr"), whole)


@pytest.mark.parametrize("damage", ["gone", "empty", "mark gone", "mark cut"])
def test_what_a_power_cut_loses_is_segmented_again(scan, model_file, whole, tmp_path, damage):
    target = tmp_path / "out.zarr"
    steps = steps_of(scan, model_file, target)
    for _ in range(4):
        next(steps)
    steps.close()
    chunk, mark = chunks_of(part_of(target))[0], part_of(target) / "done" / "0-0"
    if damage == "empty":
        chunk.write_bytes(b"")
    elif damage == "mark cut":
        mark.write_text(mark.read_text()[:9])
    else:
        (mark if damage == "mark gone" else chunk).unlink()
    found = list(steps_of(scan, model_file, target))
    assert found[0].done == 2
    np.testing.assert_array_equal(labels_in(target), whole)


@pytest.mark.parametrize("lost", ["labels.zarr/c", "done", "plan.json"])
def test_no_labels_are_written_from_parts_that_were_lost(scan, model_file, whole, tmp_path, lost):
    target = tmp_path / "out.zarr"
    steps = steps_of(scan, model_file, target)
    for _ in range(6):
        next(steps)
    path = part_of(target) / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    refused(steps, part_of(target))
    assert not target.exists()
    if lost == "plan.json":  # without it, the folder is not recognized as a partial result
        refused(steps_of(scan, model_file, target), "holds something else")
        return
    list(steps_of(scan, model_file, target))
    np.testing.assert_array_equal(labels_in(target), whole)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_damaged_chunk_is_said_and_done_anew(scan, model_file, small_slabs, tmp_path, orthogonal):
    target, expected = tmp_path / "out.zarr", tmp_path / "expected.zarr"
    list(steps_of(scan, model_file, expected, orthogonal=orthogonal))
    steps = steps_of(scan, model_file, target, orthogonal=orthogonal)
    while (step := next(steps)).done < (15 if orthogonal else 5):
        assert step.done < step.total
    array = "probabilities-1.zarr" if orthogonal else "labels.zarr"
    chunk = max((part_of(target) / array / "c").rglob("*"))
    content = bytearray(chunk.read_bytes())
    content[-6] ^= 1
    chunk.write_bytes(content)
    refused(steps, part_of(target), "damaged", "the same command again")
    assert not target.exists()
    list(steps_of(scan, model_file, target, orthogonal=orthogonal))
    np.testing.assert_array_equal(labels_in(target), labels_in(expected))


def test_memory_that_is_full_is_no_damaged_chunk(
    scan, model_file, small_slabs, tmp_path, monkeypatch
):
    target = tmp_path / "out.zarr"
    steps = steps_of(scan, model_file, target)
    while next(steps).done < 5:
        continue
    found = [ValueError("a checksum differs")]  # and from then on the memory is full

    def read(_array, _region):
        raise found.pop() if found else MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(zarr.Array, "__getitem__", read)
        list(steps)
    assert next(steps_of(scan, model_file, target)).done == 5


@pytest.mark.parametrize("content", [b"", b"[]", b'{"shape', b"[" * 9000])
@pytest.mark.parametrize("file", ["plan.json", "labels.zarr/zarr.json"])
def test_damaged_files_of_a_part_are_one_sentence(
    scan, model_file, small_slabs, tmp_path, file, content
):
    target = tmp_path / "out.zarr"
    steps = steps_of(scan, model_file, target)
    next(steps), next(steps)
    steps.close()
    (part_of(target) / file).write_bytes(content)
    refused(steps_of(scan, model_file, target), file, f"removing {part_of(target)} starts")


@pytest.mark.parametrize("removed", [False, True])
def test_a_volume_that_changes_meanwhile_gives_no_labels(
    scan, model_file, small_slabs, tmp_path, removed
):
    target, array = tmp_path / "out.zarr", zarr.open_array(scan, mode="r+")
    steps = steps_of(scan, model_file, target)
    next(steps), next(steps)
    if removed:
        shutil.rmtree(scan / "c" / "1")  # its voxels read as zeros from now on
    else:
        array[5:] = 7
        os.utime(scan / "zarr.json", (4e9, 4e9))
    refused(steps, scan, "changed while it was segmented", "--changed-source")
    assert not target.exists()
    refused(steps_of(scan, model_file, target), "--changed-source to go on")
    list(steps_of(scan, model_file, target, changed_source=True))
    assert target.exists() and not part_of(target).exists()


@posix
def test_chunks_are_on_the_disk_before_their_mark(
    scan, model_file, small_slabs, tmp_path, monkeypatch
):
    synced, fsync = set(), os.fsync

    def noted(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    steps = steps_of(scan, model_file, tmp_path / "out.zarr")
    part = part_of(tmp_path / "out.zarr")
    for _ in steps:
        for file in part.rglob("*"):
            if file.is_file() and file.name != ".lock":
                assert file.stat().st_ino in synced, file


def segment_in_slabs(*arguments):
    """Run the command with slabs of a few slices."""
    slabs.SLAB_SLICES = SLICES
    msankd("segment", *arguments)


def command(scan, model_file, out, *options):
    return segment_in_slabs, scan, "--model", model_file, "--out", out, *options


def changes_of(scan, model_file, out, *options):
    """Number of changes to the output folder in an undisturbed command."""
    done = in_child(*command(scan, model_file, out, *options), fault=Fault("killed", out, 10**6))
    assert done.code == 0, done.said
    return done.changes


def survives_kills(scan, model_file, out, whole, changes, *options):
    """Check that a command completes after kills before each of these changes in turn."""
    segment = command(scan, model_file, out, *options)
    for change in changes:
        killed = in_child(*segment, fault=Fault("killed", out, change))
        assert killed.code in (0, -signal.SIGKILL), killed.said
    done = in_child(*segment)
    assert done.code == 0, done.said
    np.testing.assert_array_equal(labels_in(out / "scan.zarr"), whole)


@posix
def test_kills_at_any_change_cost_no_label(scan, model_file, whole, tmp_path):
    last = changes_of(scan, model_file, tmp_path / "count")
    survives_kills(scan, model_file, tmp_path / "out", whole, moments(27, 3, last))


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_at_many_changes_cost_no_label(scan, model_file, whole, tmp_path):
    last = changes_of(scan, model_file, tmp_path / "count")
    for change in moments(29, 16, last):
        survives_kills(scan, model_file, tmp_path / f"out {change}", whole, [change])


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_cost_no_label_of_three_axes(scan, model_file, small_slabs, tmp_path):
    list(steps_of(scan, model_file, tmp_path / "whole.zarr", orthogonal=True))
    whole, options = labels_in(tmp_path / "whole.zarr"), (scan, model_file)
    last = changes_of(*options, tmp_path / "count", "--orthogonal")
    survives_kills(*options, tmp_path / "out", whole, moments(27, 5, last), "--orthogonal")


def survives_a_full_disk(scan, model_file, out, whole, change):
    full = in_child(*command(scan, model_file, out), fault=Fault("full", out, change))
    assert full.code == 1 and "Traceback" not in full.said, full.said
    assert os.strerror(28) in full.said and str(out) in full.said
    done = in_child(*command(scan, model_file, out))
    assert done.code == 0, done.said
    np.testing.assert_array_equal(labels_in(out / "scan.zarr"), whole)


@posix
def test_a_disk_full_at_any_change_costs_no_label(scan, model_file, whole, tmp_path):
    last = changes_of(scan, model_file, tmp_path / "count")
    for change in moments(28, 2, last):
        survives_a_full_disk(scan, model_file, tmp_path / f"out {change}", whole, change)


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_disk_full_at_many_changes_costs_no_label(scan, model_file, whole, tmp_path):
    last = changes_of(scan, model_file, tmp_path / "count")
    for change in moments(30, 16, last):
        survives_a_full_disk(scan, model_file, tmp_path / f"out {change}", whole, change)


def test_labels_go_on_once_a_small_disk_has_space(scan, model_file, whole, tmp_path):
    with small_disk(tmp_path / "disk", 2**20) as disk:
        other = disk / "other"
        other.write_bytes(bytes(2**20 - 40_000))
        full = in_child(*command(scan, model_file, disk / "out"))
        assert full.code == 1 and os.strerror(28) in full.said and "Traceback" not in full.said
        other.unlink()
        done = in_child(*command(scan, model_file, disk / "out"))
        assert done.code == 0, done.said
        np.testing.assert_array_equal(labels_in(disk / "out" / "scan.zarr"), whole)


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_commands_begun_at_once_one_writes_the_labels(scan, model_file, whole, tmp_path):
    for race in range(3):
        out = tmp_path / f"out {race}"
        with ThreadPoolExecutor(3) as pool:
            begun = [pool.submit(in_child, *command(scan, model_file, out)) for _ in range(3)]
            ends = [each.result() for each in begun]
        refused = [end for end in ends if end.code]
        assert all(end.code == 2 and "in use by another process" in end.said for end in refused)
        assert len(refused) < 3
        np.testing.assert_array_equal(labels_in(out / "scan.zarr"), whole)
