"""Whole commands, from the start of Python to its end."""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from src_training.io.images import read_image, write_image
from tests.bench.row import ROOT, BenchRow, Rows, images, of_child

REPEATS = 3
SCRIPT = Path(__file__).with_name("bare_script.py")


def rows() -> Rows:
    """Commands that only list; then those that load torch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, photograph = folder / "small.png", folder / "data/images/photograph.png"
        photograph.parent.mkdir(parents=True)
        write_image(small, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
        write_image(photograph, read_image(images() / "retina/drive/images/01.tif"))
        listing = {
            "--help": ["--help"],
            "models": ["models"],
            "runs": ["runs", name],
            "inspect": ["inspect", photograph.parent.parent],
        }
        torch_loaded = 0
        for what, command in listing.items():
            before = "4.8 s" if what == "models" else ""
            seconds = msankd(*command)
            yield BenchRow(f"msankd {what}", seconds, "s", "≤ 1", before)
            torch_loaded += loads_torch(*command)
        yield BenchRow("of these four, load torch", torch_loaded, "", "≤ 0")
        torch = child("-c", "import torch")
        out = ["--model", "vessels", "--out", folder / "labels"]
        tiny = ["segment", small, "--model", "liver-msd", "--out", folder / "small"]
        what = "msankd segment, a slice of 64 x 64 px - import torch"
        yield BenchRow(what, msankd(*tiny) - torch, "s", "≤ 1.5", "6 to 9 s")
        whole = msankd("segment", photograph, *out)
        for passes, aim, before in (("4 passes", "≤ 1", "1.5 ×"), ("1 pass", "", "")):
            bare = child(SCRIPT, photograph, folder / "bare.png", passes[0])
            what = f"msankd segment, 565 x 584 px / bare script of {passes}"
            yield BenchRow(what, whole / bare, "×", aim, before)


def msankd(*arguments: str | Path) -> float:
    """CPU seconds of a command."""
    return child("-m", "src_training", *arguments)


def child(*arguments: str | Path) -> float:
    """Median CPU seconds of a Python."""
    return median(of_child(*arguments)[0] for _ in range(REPEATS))


def loads_torch(*arguments: str | Path) -> bool:
    """Whether a command imports torch."""
    command = [sys.executable, "-X", "importtime", "-m", "src_training", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return any(line.split("|")[-1].strip() == "torch" for line in done.stderr.splitlines())
