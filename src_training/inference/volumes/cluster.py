"""Portions of a volume on many machines, or in several processes of this one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.extras import require
from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import Plan
from src_training.inference.volumes.label_store import LabelStore
from src_training.inference.volumes.segment import segment_portion
from src_training.inference.volumes.slabs import Slab
from src_training.inference.volumes.streaming import Grown

_TRIES = 5
"""How many workers may die over one portion before it is given up."""


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """A client of a running dask cluster, or of one that is started here.

    Parameters
    ----------
    scheduler
        Address of a running one; None starts one.
    workers
        Processes to start, >= 1, each with one thread; of no account with
        `scheduler`.

    Raises
    ------
    InputError
        If `distributed` is not installed, nothing answers at the address, or
        there is neither an address nor a worker.
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


def stream_on(
    client: Any, model: Path, device: str, voxels: Any, growing: LabelStore
) -> Iterator[Grown]:
    """As `stream`, its portions segmented by the workers of a cluster.

    Workers read the volume and write the labels themselves, so both must lie
    where every one of them finds them. A portion whose worker died is done
    by another.

    Parameters
    ----------
    client
        See `connected`.
    model
        File of the plan's model.
    device
        See `find_device`.
    voxels, growing
        As `stream`.

    Raises
    ------
    InputError, OSError
        As `stream`; the former also where a worker has another model.
    """
    from distributed import as_completed

    left, done = growing.left(), growing.done
    total = done + len(left) + len(growing.merging)
    yield Grown(done, total)
    if left:
        # Within the function the volume is told anew to every worker; scattered, it would
        # be lost with the last one that held it.
        segment = partial(
            _segment,
            voxels=voxels,
            plan=growing.plan,
            folder=growing.folder.resolve(),
            model=model.resolve(),
            device=device,
        )
        tasks = client.map(segment, left, retries=_TRIES, pure=False)
        try:
            for task in as_completed(tasks, loop=client.loop):
                found = task.result()
                if isinstance(found, InputError):
                    raise found
                done += 1
                yield Grown(done, total, found)
        finally:
            client.cancel(tasks)
    for number, portion in enumerate(growing.merge(), 1):
        yield Grown(done + number, total, portion)


def _segment(
    portion: Slab, *, voxels: Any, plan: Plan, folder: Path, model: Path, device: str
) -> Slab | InputError:
    """On a worker: segment a portion and keep it; what is wrong with it is no reason to retry."""
    try:
        growing = LabelStore(folder, plan)
        predictor = _loaded(model, plan.model, device, plan.flips)
        growing.keep(portion, segment_portion(predictor, voxels, plan, portion))
    except InputError as error:
        return error
    return portion


@lru_cache(maxsize=1)
def _loaded(model: Path, sha256: str, device: str, flips: bool) -> Predictor:
    """The predictor, loaded once in each worker."""
    from src_training.inference.model_file import load_model

    loaded = load_model(model)
    if loaded.sha256 != sha256:
        raise InputError(
            f"{model} is another model on this machine than where labels were begun "
            f"(SHA-256 {loaded.sha256}); expected {sha256}"
        )
    return Predictor(loaded, device=device, flips=flips)
