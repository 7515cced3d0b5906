"""From a photograph to labels and scores, as ratios to the bare pass of its network.

``make bench`` prints the table of the page *How fast*. It needs the images of ``MSANKD_DATA``.
Times are CPU seconds of one thread, medians of runs of all rows in turn, so that a busy
machine slows all of them alike.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from src_training.data.domain import Domain
from src_training.data.preprocessing.geometry import PADDING
from src_training.evaluation.evaluate import evaluate
from src_training.inference.image_threshold import binarise, quantise
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.images import read_image, write_image

REPEATS = 5
BEFORE = {
    "HRF, adapted": 3.00,
    "HRF, not adapted": 1.73,
    "CHASE, adapted": 2.43,
    "CHASE, not adapted": 1.23,
    "liver slice, adapted": 2.34,
    "liver slice, not adapted": 1.17,
}
"""Ratios to the bare pass before freed memory was kept, see `keep_freed_memory`."""


def measured(rows: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of every row, after one run to warm up."""
    took: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(REPEATS + 1):
        for name, work in rows.items():
            began = time.process_time()
            work()
            if repeat:
                took[name].append(time.process_time() - began)
    return {name: statistics.median(each) for name, each in took.items()}


def bare_pass(predictor: Predictor, image: NDArray[np.generic]) -> Callable[[], object]:
    """One pass of the network as it is stored over the prepared image."""
    network = predictor.model.network
    prepared = torch.from_numpy(predictor.model.card.preprocessing.prepare(image).pixels)
    stack = network.pad(F.pad(prepared[None], [PADDING] * 4))
    stack = stack.contiguous(memory_format=torch.channels_last)

    def work() -> object:
        with torch.inference_mode():
            return network(stack)

    return work


def segmenting(predictor: Predictor, image: NDArray[np.generic]) -> Callable[[], object]:
    """All that `msankd segment` does between reading and writing."""

    def work() -> object:
        fov = predictor.model.card.preprocessing.find_fov(image)
        maps = predictor.predict(image, fov)
        predictor.check(image, fov)
        return labels_from(maps, predictor.model.card.threshold_for(maps))

    return work


def predictor_of(name: str, angle: float | None, adapted: bool) -> Predictor:
    model = load_model(name).for_camera(angle)
    if not adapted:
        model.card = model.card.model_copy(update={"bn_mixing": 0.0})
    return Predictor(model, "cpu")


def segmentation(data: Path) -> None:
    """One photograph and one slice, with and without adaptation, and their scores."""
    hrf = read_image(data / "retina/hrf/images/01_h.jpg").repeat(2, 0).repeat(2, 1)
    vessels = (read_image(data / "retina/hrf/masks/01_h.png") > 0).repeat(2, 0).repeat(2, 1)
    chase = read_image(data / "retina/chasedb1/images/Image_11L.jpg")
    liver = read_image(min((data / "liver/msd_ct_slices/images").iterdir()))
    cases = {
        "HRF": ("vessels", None, hrf),
        "HRF at its camera's angle": ("vessels", 45.0, hrf),
        "CHASE": ("vessels", None, chase),
        "liver slice": ("liver-msd", None, liver),
    }
    print("| what | s | bare pass, s | ratio | before |\n|---|---|---|---|---|")
    for what, (model, angle, image) in cases.items():
        adapted, plain = (predictor_of(model, angle, each) for each in (True, False))
        rows = {
            "bare": bare_pass(plain, image),
            f"{what}, adapted": segmenting(adapted, image),
            f"{what}, not adapted": segmenting(plain, image),
        }
        if what == "HRF":
            domain = Domain.from_arrays("hrf", [hrf], [vessels.astype(np.uint8)])
            rows["HRF, evaluated"] = lambda scoring=adapted, on=domain: evaluate(scoring, on)
        took = measured(rows)
        for name in list(rows)[1:]:
            ratio, before = took[name] / took["bare"], BEFORE.get(name)
            print(
                f"| {name} | {took[name]:.3f} | {took['bare']:.3f} | {ratio:.2f} | {before or ''} |"
            )
        if what == "HRF":
            ratio = took["HRF, evaluated"] / took["HRF, adapted"]
            print(f"evaluating HRF: {ratio:.2f} x segmenting it")
    steps = quantise(np.random.default_rng(0).random(hrf.shape[:2], np.float32))
    moved = measured({"threshold": lambda: binarise(steps, 0.37)})
    print(f"one move of the threshold on HRF: {1000 * moved['threshold']:.0f} ms")


def whole_commands(data: Path | None) -> None:
    """CPU seconds of whole commands, from the start of Python to its end."""
    msankd = ["-m", "src_training"]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "data", "images")
        images.mkdir(parents=True)
        commands = {
            "import torch": ["-c", "import torch"],
            "msankd --help": [*msankd, "--help"],
            "msankd models": [*msankd, "models"],
            "msankd runs": [*msankd, "runs", folder],
        }
        if data is not None:
            write_image(images / "photograph.png", read_image(data / "retina/drive/images/01.tif"))
            commands["msankd inspect"] = [*msankd, "inspect", str(images.parent)]
            labels = ["--out", str(Path(folder, "labels"))]
            commands["msankd segment"] = [
                *msankd, "segment", str(images), "--model", "vessels", *labels
            ]  # fmt: skip
        print("\n| whole command | CPU s |\n|---|---|")
        for name, command in commands.items():
            print(f"| {name} | {statistics.median(of_child(command) for _ in range(3)):.2f} |")


def of_child(arguments: list[str]) -> float:
    """CPU seconds of one Python with one thread; the error it ends with, if it does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=one_thread)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, CPU seconds")
    images = Path(os.environ["MSANKD_DATA"]) if "MSANKD_DATA" in os.environ else None
    if images is None:
        print("MSANKD_DATA is not set; expected the folder of images to segment")
    else:
        segmentation(images)
    whole_commands(images)
