"""``python -m src_training`` is ``msankd``."""

import atexit
import os
import sys

from src_training.cli import main

_status = 1


def run() -> None:
    """Run the command line, and end the process."""
    global _status
    atexit.register(_exit_without_unloading)  # first registered, last called
    try:
        main()
        _status = 0
    except SystemExit as end:
        _status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _exit_without_unloading() -> None:
    """Exit before Python unloads torch, which takes half a second or more."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python reports it
    os._exit(_status)


if __name__ == "__main__":
    run()
