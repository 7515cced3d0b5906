"""``python -m src_training`` is ``msankd``."""

import os
import sys

from src_training.cli import main

_STOPPED = 130

if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if end.code != _STOPPED:
            raise
        # Skip the regular shutdown: torch takes more than a second to unload.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_STOPPED)
