"""Memory and time of a volume by its slices, and what a second process gains.

The network that memory is measured with is the smallest there is, untrained: memory for the
volume is what is asked about.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import zarr

from tests.bench.row import ROOT, BenchRow, Rows, of_child

SIDE, CHUNK = 512, 8


def rows(slices: int) -> Rows:
    """Volumes of few and many slices, in processes of their own, then one in several."""
    with tempfile.TemporaryDirectory() as name:
        folder, most = Path(name), list[float]()
        for count in (50, 200):
            volume = write_volume(folder, count)
            _, printed = of_child("-m", "tests.bench.volumes", volume, folder / f"{count}")
            megabytes, seconds = map(float, printed.split())
            most.append(megabytes)
            yield BenchRow(f"{count} slices of 512 x 512: a slice", 1000 * seconds / count, "ms")
        yield BenchRow("200 slices: most memory", most[1], "MB")
        yield BenchRow("200 slices / 50: most memory", most[1] / most[0], "×", "≤ 1.1")
        volume = write_volume(folder, slices)
        alone, one, two = (path_seconds(volume, folder / str(n), n) for n in (None, 1, 2))
        yield BenchRow(f"{slices} slices: one process", alone, "s")
        yield BenchRow(f"{slices} slices: one process / --workers 1", alone / one)
        what = f"{slices} slices: one process / --workers 2"
        yield BenchRow(what, alone / two, "×", "≥ 1.7", "0.3 ×")


def write_volume(folder: Path, slices: int) -> Path:
    """HU of noise, the same few slices over and over."""
    noise = np.random.default_rng(0).integers(-1000, 400, (CHUNK, SIDE, SIDE)).astype(np.int16)
    path, shape = folder / f"{slices}.zarr", (slices, SIDE, SIDE)
    array = zarr.create_array(path, shape=shape, chunks=(CHUNK, SIDE, SIDE), dtype="int16")
    for first in range(0, slices, CHUNK):
        array[first : first + CHUNK] = noise[: slices - first]
    return path


def path_seconds(volume: Path, out: Path, workers: int | None) -> float:
    """CPU seconds that `msankd segment` takes one after another.

    They are those of the command's own process and of a worker, which on free cores is the time
    on the clock. The process that workers are forked from starts beside the command, and is left
    out.
    """
    options = [] if workers is None else ["--workers", str(workers)]
    command = ["segment", volume, "--model", "liver-msd", "--out", out, *options]
    process = psutil.Popen(
        [sys.executable, "-m", "src_training", *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    used: dict[int, float] = {}
    while process.poll() is None:
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[each.pid] = times.user + times.system
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"msankd {' '.join(map(str, command))} ended with {process.returncode}")
    own = used.pop(process.pid)
    return own + sum(sorted(used.values())[-workers:]) / workers if workers else own


def stream(source: Path, labels: Path) -> None:
    """Segment a volume in this process; prints the most megabytes that it held, and seconds."""
    from src_training.data.preprocessing import WindowPreprocessing
    from src_training.inference.model_card import ModelCard
    from src_training.inference.model_file import SegmentationModel
    from src_training.inference.predictor import Predictor
    from src_training.inference.volumes.job import VolumeJob
    from src_training.inference.volumes.label_store import LabelStore
    from src_training.inference.volumes.segment import segment_slabs
    from src_training.networks import build_network

    card = ModelCard(
        name="tiny",
        architecture="fanet",
        options={"width": 2},
        in_channels=3,
        classes=["background", "liver"],
        preprocessing=WindowPreprocessing(window="liver", neighbours=3, side=192),
        patch=192,
    )
    model = SegmentationModel(card, build_network("fanet", 3, 2, width=2).eval())
    voxels = zarr.open_array(source)
    store = LabelStore(labels, VolumeJob(voxels.shape, str(source), "", 2))
    began = time.process_time()
    for _ in segment_slabs(Predictor(model, device="cpu"), voxels, store):
        pass
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = int(status.split("VmHWM:")[1].split()[0])
    print(kilobytes / 1000, time.process_time() - began)


if __name__ == "__main__":
    stream(Path(sys.argv[1]), Path(sys.argv[2]))
