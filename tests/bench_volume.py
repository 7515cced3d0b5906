"""What streaming costs in memory and time: ``python -m tests.bench_volume 50 200 2000``.

It segments zarr volumes of so many slices of 512 x 512 along z, each in a process
of its own, and prints the most memory that this held and the time per slice; nothing
here passes or fails. The network is the smallest there is, untrained: memory for the
volume is what is asked about.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

SIDE, CHUNK = 512, 8


def write_volume(path: Path, slices: int) -> None:
    """HU of noise, the same few slices over and over."""
    noise = np.random.default_rng(0).integers(-1000, 400, (CHUNK, SIDE, SIDE)).astype(np.int16)
    shape = (slices, SIDE, SIDE)
    array = zarr.create_array(path, shape=shape, chunks=(CHUNK, SIDE, SIDE), dtype="int16")
    for first in range(0, slices, CHUNK):
        array[first : first + CHUNK] = noise[: slices - first]


def peak() -> int:
    """Most bytes that this process has held resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def stream_in_this_process(source: Path, labels: Path) -> None:
    """Segment a volume; prints its peak, bytes, and seconds."""
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
    began = time.perf_counter()
    for _ in segment_slabs(Predictor(model, device="cpu"), voxels, store):
        pass
    print(peak(), time.perf_counter() - began)


def measured(slices: int, folder: Path) -> tuple[int, float]:
    """Peak bytes and seconds of a volume of so many slices, streamed in a child."""
    source = folder / f"{slices}.zarr"
    write_volume(source, slices)
    command = [sys.executable, "-m", "tests.bench_volume", "--here", source, folder / str(slices)]
    root = Path(__file__).parents[1]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(said.stderr)
    most, seconds = said.stdout.split()
    return int(most), float(seconds)


def main(arguments: list[str]) -> None:
    """Measure volumes of so many slices each."""
    if arguments[:1] == ["--here"]:
        stream_in_this_process(Path(arguments[1]), Path(arguments[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for slices in map(int, arguments):
            most, seconds = measured(slices, Path(folder))
            print(
                f"{slices} slices of {SIDE} x {SIDE}: {most / 1e6:.0f} MB at most, "
                f"{1000 * seconds / slices:.0f} ms a slice",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
