"""A row of the table, and seconds of the processor, which a busy machine changes little."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPEATS = 5


@dataclass(frozen=True)
class BenchRow:
    """A figure, its aim, and what it was when the aim was set.

    Attributes
    ----------
    what
        What is measured, and against what.
    now
        Figure of this run.
    unit
        ``×`` for ratios.
    aim
        Bound with its sign, such as ``≤ 2.2``; empty if there is none.
    before
        Figure when the aim was set, in words; empty if unknown.
    """

    what: str
    now: float
    unit: str = "×"
    aim: str = ""
    before: str = ""

    @property
    def reached(self) -> str:
        """``yes`` or ``no``; empty without an aim."""
        if not self.aim:
            return ""
        sign, bound = self.aim.split()
        within = self.now <= float(bound) if sign == "≤" else self.now >= float(bound)
        return "yes" if within else "no"

    def __str__(self) -> str:
        aim = f"{self.aim} {self.unit}" if self.aim else ""
        return line(self.what, aim, self.before, f"{self.now:.3g} {self.unit}", self.reached)


Rows = Iterator[BenchRow]


def line(*cells: str) -> str:
    """A line of a table in Markdown."""
    padded = (f"{cell:{width}}" for cell, width in zip(cells, (60, 9, 9, 9, 7), strict=True))
    return f"| {' | '.join(padded)} |"


def medians(works: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Median CPU seconds of each work, which take turns; the first turn warms up."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + repeats):
        for name, work in works.items():
            began = time.process_time()
            work()
            took[name].append(time.process_time() - began)
    return {name: statistics.median(each[1:]) for name, each in took.items()}


def of_child(*arguments: str | Path) -> tuple[float, str]:
    """CPU seconds of a Python with one thread, its own children included, and its output.

    The seconds of children count only once they have ended.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, done.stdout


def images() -> Path:
    """Folder of images."""
    if "MSANKD_DATA" not in os.environ:
        raise SystemExit("MSANKD_DATA is not set; expected the folder of the images to segment")
    return Path(os.environ["MSANKD_DATA"])
