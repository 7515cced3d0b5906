"""Segmenting the slabs of a volume in several processes of this machine, or on a dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
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
from src_training.inference.volumes.process_pool import process_pool, run_task
from src_training.inference.volumes.segment import SlabProgress, segment_slab
from src_training.inference.volumes.slabs import Slab

_RETRIES = 5
"""Number of times that slabs are tried again after a worker died."""

Segment = Callable[[Slab], Slab | InputError]


def segment_slabs_in_processes(
    workers: int, model: Path, device: str, voxels: Any, store: LabelStore
) -> Iterator[SlabProgress]:
    """Segment every pending slab in processes of this machine; otherwise like `segment_slabs`.

    Processes read the volume and write the labels themselves. If one dies, the slabs that are
    not finished are tried again.

    Parameters
    ----------
    workers
        Number of processes (>= 1), each with one thread.
    model
        File of the job's model.
    device
        See `find_device`.
    voxels, store
        See `segment_slabs`.

    Raises
    ------
    InputError, OSError
        See `segment_slabs`; also `InputError` if processes die again and again.
    """
    for _ in range(1 + _RETRIES):
        try:
            yield from _in_pool(workers, _segment_in(store, model, device, voxels), store)
        except BrokenProcessPool:
            continue
        return
    raise InputError(
        f"a process of --workers {workers} was ended {1 + _RETRIES} times, as the system does "
        "where memory is full; expected fewer of them. The same command resumes"
    )


@contextmanager
def cluster_client(scheduler: str) -> Iterator[Any]:
    """Connect to a running dask cluster for the block.

    Raises
    ------
    InputError
        If `distributed` is not installed, or no scheduler answers at the address.
    """
    require("cluster", "segmenting on a cluster", "distributed")
    from distributed import Client

    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {scheduler}: nothing answers ({error}); "
            "expected the address of a dask scheduler, as in tcp://host:8786"
        ) from None
    with client:
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
    model, device, voxels, store
        See `segment_slabs_in_processes`.

    Raises
    ------
    InputError, OSError
        See `segment_slabs`; also `InputError` if the model file on a worker differs.
    """
    from distributed import as_completed

    # Binding the volume to the function sends it to every worker. If it were scattered, it
    # would be lost with the last worker that has a copy.
    segment = _segment_in(store, model, device, voxels)

    def results(pending: Sequence[Slab]) -> Iterator[Slab | InputError]:
        tasks = client.map(segment, pending, retries=_RETRIES, pure=False)
        try:
            yield from (task.result() for task in as_completed(tasks, loop=client.loop))
        finally:
            client.cancel(tasks)

    yield from _progress(results, store)


def _in_pool(workers: int, segment: Segment, store: LabelStore) -> Iterator[SlabProgress]:
    def results(pending: Sequence[Slab]) -> Iterator[Slab | InputError]:
        with process_pool(workers, segment) as pool:
            try:
                tasks = [pool.submit(run_task, slab) for slab in pending]
                yield from (task.result() for task in as_completed(tasks))
            finally:
                pool.shutdown(cancel_futures=True)

    yield from _progress(results, store)


def _progress(
    results: Callable[[Sequence[Slab]], Iterator[Slab | InputError]], store: LabelStore
) -> Iterator[SlabProgress]:
    """Progress of slabs as they are finished, then of averaging."""
    slabs, pending = store.slabs, store.pending
    done, total = len(slabs) - len(pending), len(slabs) + len(store.averaged_slabs)
    yield SlabProgress(done, total)
    for slab in results(pending) if pending else ():
        if isinstance(slab, InputError):
            raise slab
        done += 1
        yield SlabProgress(done, total, slab)
    for number, slab in enumerate(store.average(), done + 1):
        yield SlabProgress(number, total, slab)


def _segment_in(store: LabelStore, model: Path, device: str, voxels: Any) -> Segment:
    """A function that workers call with a slab."""
    return partial(
        _segment,
        voxels=voxels,
        job=store.job,
        folder=store.folder.resolve(),
        model=model.resolve(),
        device=device,
    )


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
