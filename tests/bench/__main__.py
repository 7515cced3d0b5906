"""``python -m tests.bench [NAME …]``: one table of what is measured, row by row as it comes.

Nothing here passes or fails. Without names all run, which takes six minutes on a quiet machine.
Some need the images of ``MSANKD_DATA``, and those of the window a display.
"""

import argparse
import os
from importlib import import_module

from tests.bench.row import line

BENCHES = (
    "segment",
    "commands",
    "volumes",
    "window",
    "explore",
    "distillation",
    "watching",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all by default")
    parser.add_argument("--slices", type=int, default=400, help="of the volume of two processes")
    options = parser.parse_args()
    names = options.names or BENCHES
    if unknown := set(names) - set(BENCHES):
        parser.error(f"no bench is called {', '.join(unknown)}; expected {', '.join(BENCHES)}")
    # Threads that wait for each other count as work. Read when the libraries are imported.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(line("what", "aim", "before", "now", "reached"))
    print("|---|---|---|---|---|", flush=True)
    for name in names:
        arguments = [options.slices] if name == "volumes" else []
        for row in import_module(f"tests.bench.{name}").rows(*arguments):
            print(row, flush=True)


if __name__ == "__main__":
    main()
