"""Streaming a volume: the labels of the in-memory path, whatever is killed or broken."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import zarr

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.slabs import Slab
from src_training.inference.volumes.streaming import stream


def plan_of(model, voxels, **wishes):
    return Plan(tuple(voxels.shape), source="ct", model=model.sha256, classes=2, **wishes)


def in_memory(predictor, voxels, axis=0):
    whole, count = np.asarray(voxels), predictor.model.card.preprocessing.neighbours
    planes = [
        labels_from(predictor.predict(neighbouring(whole, index, count, axis)), 0.5)
        for index in range(whole.shape[axis])
    ]
    return np.stack(planes, axis)


@pytest.fixture
def small_portions(monkeypatch):
    """Portions of four planes, which no chunk of the source ends with."""
    monkeypatch.setattr("src_training.inference.volumes.slabs.planes_each", lambda *_: 4)


@pytest.fixture
def predictor(liver_file):
    return Predictor(load_model(liver_file), device="cpu")


CHILD = """
import json, sys, zarr
import src_training.inference.volumes.slabs as portions
portions.planes_each = lambda *_: 4
from pathlib import Path
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.inference.volumes.label_store import GrowingLabels
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.streaming import stream
model, source, labels, wishes = sys.argv[1:]
predictor, voxels = Predictor(load_model(Path(model)), device="cpu"), zarr.open_array(source)
plan = Plan(tuple(voxels.shape), "ct", predictor.model.sha256, 2, **json.loads(wishes))
for grown in stream(predictor, voxels, GrowingLabels(Path(labels), plan)):
    print(grown.done, flush=True)
"""


@pytest.mark.slow
# Averages over three axes are cut at one threshold; see `plan_for`.
@pytest.mark.parametrize("wishes", [{}, {"orthogonal": True, "threshold": 0.5}])
def test_a_killed_process_is_gone_on_with_and_finished_portions_are_not_redone(
    ct, predictor, liver_file, tmp_path, small_portions, wishes
):
    voxels, killed, whole = ct(), tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", CHILD, liver_file, voxels.store.root, killed]
    command.append(json.dumps(wishes))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) == 3:
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    plan = plan_of(predictor.model, voxels, **wishes)
    growing = LabelStore(killed, plan)
    before = growing.done
    assert 3 <= before < len(growing.every)
    steps = list(stream(predictor, voxels, growing))
    assert steps[0].done == before
    assert len(steps) - 1 == len(growing.every) - before + len(growing.merging)
    unbroken = LabelStore(whole, plan)
    list(stream(predictor, voxels, unbroken))
    np.testing.assert_array_equal(growing.labels[:], unbroken.labels[:])


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_whose_process_was_killed_while_making_it_is_gone_on_with(
    ct, predictor, tmp_path, monkeypatch, empty
):
    voxels, create = ct((4, 32, 32)), zarr.create_array
    plan = plan_of(predictor.model, voxels)

    def killed(store, **options):
        if empty:
            store.mkdir(parents=True)
        else:
            create(store, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(zarr, "create_array", killed)
        LabelStore(tmp_path / "labels", plan)
    growing = LabelStore(tmp_path / "labels", plan)
    list(stream(predictor, voxels, growing))
    np.testing.assert_array_equal(growing.labels[:], in_memory(predictor, voxels))


def test_a_corrupt_chunk_is_one_sentence_and_finished_portions_are_kept(
    ct, predictor, tmp_path, small_portions
):
    voxels = ct()
    chunk = sorted((voxels.store.root / "c" / "2").rglob("*"))[-1]
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    plan = plan_of(predictor.model, voxels)
    growing = LabelStore(tmp_path / "labels", plan)
    with pytest.raises(InputError, match="planes 8 to 11 along z cannot be read") as caught:
        list(stream(predictor, voxels, growing))
    assert "\n" not in str(caught.value)
    assert growing.done == 2
    chunk.write_bytes(whole)
    assert len(list(stream(predictor, voxels, LabelStore(tmp_path / "labels", plan)))) == 4
    np.testing.assert_array_equal(growing.labels[:], in_memory(predictor, voxels))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_only_worker_that_is_killed_loses_nothing(
    ct, predictor, liver_file, tmp_path, monkeypatch
):
    import dask.array as da

    from src_training.inference.volumes.cluster import connected, stream_on

    voxels = ct((45, 32, 32))
    plan = plan_of(predictor.model, voxels)
    monkeypatch.setattr("src_training.inference.volumes.slabs.planes_each", lambda *_: 3)
    growing = LabelStore(tmp_path / "labels", plan)
    with connected(None, 1) as client:
        lazy = da.from_zarr(voxels)
        steps = stream_on(client, liver_file, "cpu", lazy, growing)
        done = []
        for step in steps:
            done.append(step.done)
            if step.done == 4:
                victim = next(iter(client.run(os.getpid).values()))
                os.kill(victim, signal.SIGKILL)
    assert done[-1] == 15
    np.testing.assert_array_equal(growing.labels[:], in_memory(predictor, voxels))


def test_closing_the_iterator_stops_after_the_present_portion(
    ct, predictor, tmp_path, small_portions
):
    voxels = ct()
    growing = LabelStore(tmp_path / "labels", plan_of(predictor.model, voxels))
    steps = stream(predictor, voxels, growing)
    next(steps)
    assert next(steps).portion == Slab(0, 0, 4)
    steps.close()
    assert growing.done == 1


def test_a_folder_of_something_else_is_refused_and_stays(ct, predictor, tmp_path):
    voxels = ct(name="scans/patient.zarr")
    with pytest.raises(InputError, match="scans holds something else"):
        LabelStore(tmp_path / "scans", plan_of(predictor.model, voxels))
    assert voxels[:].any()
