"""A label store resumes after kills and damage, and refuses the labels of another job."""

import json
import os
import signal

import numpy as np
import pytest
import zarr

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes.job import VolumeJob
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.segment import segment_slabs
from src_training.inference.volumes.slabs import Slab


def job_of(model, voxels, **fields):
    return VolumeJob(tuple(voxels.shape), source="ct", model=model.sha256, classes=2, **fields)


def in_memory(predictor, voxels, axis=0):
    whole, count = np.asarray(voxels), predictor.model.card.preprocessing.neighbours
    slices = [
        labels_from(predictor.predict(neighbouring(whole, index, count, axis)), 0.5)
        for index in range(whole.shape[axis])
    ]
    return np.stack(slices, axis)


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of four slices, which do not align with the chunks of the source."""
    monkeypatch.setattr("src_training.inference.volumes.slabs.SLAB_SLICES", 4)


@pytest.fixture
def predictor(liver_file):
    return Predictor(load_model(liver_file), device="cpu")


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_that_was_being_made_is_resumed(ct, predictor, tmp_path, monkeypatch, empty):
    voxels, create = ct((4, 32, 32)), zarr.create_array
    job = job_of(predictor.model, voxels)

    def killed(store, **options):
        if empty:
            store.root.mkdir(parents=True)
        else:
            create(store, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(zarr, "create_array", killed)
        LabelStore(tmp_path / "labels", job)
    store = LabelStore(tmp_path / "labels", job)
    list(segment_slabs(predictor, voxels, store))
    np.testing.assert_array_equal(store.labels[:], in_memory(predictor, voxels))


def test_a_corrupt_chunk_is_one_sentence_and_finished_slabs_stay(
    ct, predictor, tmp_path, small_slabs
):
    voxels = ct()
    chunk = sorted((voxels.store.root / "c" / "2").rglob("*"))[-1]
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    job = job_of(predictor.model, voxels)
    store = LabelStore(tmp_path / "labels", job)
    with pytest.raises(InputError, match="slices 8 to 11 along z cannot be read") as caught:
        list(segment_slabs(predictor, voxels, store))
    assert "\n" not in str(caught.value)
    assert store.pending == store.slabs[2:]
    chunk.write_bytes(whole)
    assert len(list(segment_slabs(predictor, voxels, LabelStore(tmp_path / "labels", job)))) == 4
    np.testing.assert_array_equal(store.labels[:], in_memory(predictor, voxels))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_whose_only_worker_is_killed_loses_nothing(
    ct, predictor, liver_file, tmp_path, monkeypatch
):
    import dask.array as da
    from distributed import LocalCluster

    from src_training.inference.volumes.cluster import cluster_client, segment_slabs_on

    voxels = ct((45, 32, 32))
    monkeypatch.setattr("src_training.inference.volumes.slabs.SLAB_SLICES", 3)
    store = LabelStore(tmp_path / "labels", job_of(predictor.model, voxels))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        cluster_client(cluster.scheduler_address) as client,
    ):
        done = []
        for step in segment_slabs_on(client, liver_file, "cpu", da.from_zarr(voxels), store):
            done.append(step.done)
            if step.done == 4:
                victim = next(iter(client.run(os.getpid).values()))
                os.kill(victim, signal.SIGKILL)
    assert done[-1] == 15
    np.testing.assert_array_equal(store.labels[:], in_memory(predictor, voxels))


@pytest.mark.slow
def test_processes_share_a_lazy_volume(ct, predictor, liver_file, tmp_path, small_slabs):
    import dask.array as da

    from src_training.inference.volumes.cluster import segment_slabs_in_processes

    voxels = ct()
    store = LabelStore(tmp_path / "labels", job_of(predictor.model, voxels))
    steps = segment_slabs_in_processes(2, liver_file, "cpu", da.from_zarr(voxels), store)
    assert [step.done for step in steps] == list(range(1 + len(store.slabs)))
    np.testing.assert_array_equal(store.labels[:], in_memory(predictor, voxels))


def test_closing_the_iterator_stops_after_the_present_slab(ct, predictor, tmp_path, small_slabs):
    voxels = ct()
    store = LabelStore(tmp_path / "labels", job_of(predictor.model, voxels))
    steps = segment_slabs(predictor, voxels, store)
    next(steps)
    assert next(steps).slab == Slab(0, 0, 4)
    steps.close()
    assert store.pending == store.slabs[1:]


def test_labels_of_another_job_are_refused(ct, predictor, tmp_path):
    voxels = ct()
    LabelStore(tmp_path / "begun", job_of(predictor.model, voxels))
    with pytest.raises(InputError, match=r"begun with threshold None, not 0\.3; expected the same"):
        LabelStore(tmp_path / "begun", job_of(predictor.model, voxels, threshold=0.3))


def test_a_folder_of_something_else_is_refused_and_stays(ct, predictor, tmp_path):
    voxels = ct(name="scans/patient.zarr")
    with pytest.raises(InputError, match="scans holds something else"):
        LabelStore(tmp_path / "scans", job_of(predictor.model, voxels))
    assert voxels[:].any()


def test_labels_begun_by_a_former_version_are_resumed(tmp_path):
    folder = tmp_path / "labels"
    (folder / "done").mkdir(parents=True)
    stored = {
        "shape": [130, 8, 8],
        "source": "ct",
        "model": "sha",
        "classes": 2,
        "axis": 0,
        "orthogonal": False,
        "flips": False,
        "threshold": None,
        "largest": [1],
        "filled": [],
    }
    (folder / "plan.json").write_text(json.dumps(stored))
    array = zarr.create_array(
        folder / "labels.zarr", shape=(130, 8, 8), chunks=(64, 8, 8), dtype="uint8"
    )
    array[:64] = 1
    (folder / "done" / "0-0").touch()
    store = LabelStore(folder, VolumeJob((130, 8, 8), "ct", "sha", 2, largest=(1,)))
    assert store.pending == [Slab(0, 64, 128), Slab(0, 128, 130)]
    assert store.labels[:64].all()
