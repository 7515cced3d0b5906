"""Segmenting the slabs of a volume on several machines, or in several processes of this one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.extras import require
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import VolumeJob
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.segment import SlabProgress, segment_slab
from src_training.inference.volumes.slabs import Slab

_RETRIES = 5
"""Number of times that a slab is tried again after its worker died."""


@contextmanager
def cluster_client(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """Connect to a running dask cluster, or start a local one for the block.

    Parameters
    ----------
    scheduler
        Address of a running scheduler; None starts a local cluster.
    workers
        Number of processes to start (>= 1), each with one thread; not used with
        `scheduler`.

    Raises
    ------
    InputError
        If `distributed` is not installed, no scheduler answers at the address, or
        neither an address nor a number of workers is given.
    """
    require("cluster", "segmenting on several processes", "distributed")
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--scheduler {scheduler}: nothing answers ({error}); "
                "expected the address of a dask scheduler, as in tcp://host:8786"
            ) from None
        with client:
            yield client
        return
    if workers is None or workers < 1:
        raise InputError(f"--workers is {workers}; expected at least 1")
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def segment_slabs_on(
    client: Any, model: Path, device: str, voxels: Any, store: LabelStore
) -> Iterator[SlabProgress]:
    """Segment every pending slab on the workers of a cluster; otherwise like `segment_slabs`.

    Workers read the volume and write the labels themselves, so both must have
    the same path on every worker. A slab whose worker died is tried again on
    another.

    Parameters
    ----------
    client
        See `cluster_client`.
    model
        File of the job's model.
    device
        See `find_device`.
    voxels, store
        See `segment_slabs`.

    Raises
    ------
    InputError, OSError
        See `segment_slabs`; also `InputError` if the model file on a worker differs.
    """
    from distributed import as_completed

    slabs, pending = store.slabs, store.pending
    done, total = len(slabs) - len(pending), len(slabs) + len(store.averaged_slabs)
    yield SlabProgress(done, total)
    if pending:
        # Binding the volume to the function sends it to every worker. If it were scattered, it
        # would be lost with the last worker that has a copy.
        segment = partial(
            _segment,
            voxels=voxels,
            job=store.job,
            folder=store.folder.resolve(),
            model=model.resolve(),
            device=device,
        )
        tasks = client.map(segment, pending, retries=_RETRIES, pure=False)
        try:
            for task in as_completed(tasks, loop=client.loop):
                slab = task.result()
                if isinstance(slab, InputError):
                    raise slab
                done += 1
                yield SlabProgress(done, total, slab)
        finally:
            client.cancel(tasks)
    for number, slab in enumerate(store.average(), done + 1):
        yield SlabProgress(number, total, slab)


def _segment(
    slab: Slab, *, voxels: Any, job: VolumeJob, folder: Path, model: Path, device: str
) -> Slab | InputError:
    """Segment and write a slab on a worker.

    An `InputError` is returned instead of raised, so that dask does not try again.
    """
    try:
        predictor = _cached_predictor(model, job.model, device, job.flips)
        LabelStore(folder, job, begun=True).write(slab, *segment_slab(predictor, voxels, job, slab))
    except InputError as error:
        return error
    return slab


@lru_cache(maxsize=1)
def _cached_predictor(model: Path, sha256: str, device: str, flips: bool) -> Predictor:
    """Load the predictor, once in each worker."""
    loaded = load_model(model)
    if loaded.sha256 != sha256:
        raise InputError(
            f"{model} is another model on this machine than where labels were begun "
            f"(SHA-256 {loaded.sha256}); expected {sha256}"
        )
    return Predictor(loaded, device=device, flips=flips)
