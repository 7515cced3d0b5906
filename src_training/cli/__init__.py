"""The command line, `msankd`."""

import os
import sys
from io import TextIOWrapper

from cyclopts import App, Parameter

import src_training
from src_training.cli import console
from src_training.cli.compare import compare
from src_training.cli.domains import evaluate, fsd, inspect
from src_training.cli.explore import align, features, report
from src_training.cli.models import export, models, tune
from src_training.cli.runs import distil, estimate, recipe, runs
from src_training.cli.sample import sample
from src_training.cli.segment import segment
from src_training.cli.triage import triage
from src_training.cli.usage import EPILOGUE, describe
from src_training.errors import MEMORY_IS_FULL, InputError, is_out_of_memory

app = App(
    name="msankd",
    version=src_training.__version__,
    help="Distil small segmentation networks that still work on another scanner, and use them.",
    help_epilogue=EPILOGUE,
    error_console=console.err,
    error_formatter=describe,
    default_parameter=Parameter(negative_iterable=()),
)
for command in (
    sample,
    inspect,
    recipe,
    estimate,
    distil,
    compare,
    runs,
    segment,
    triage,
    models,
    evaluate,
    fsd,
    features,
    report,
    align,
    tune,
    export,
):
    app.command(command)
app.register_install_completion_command(help="Complete commands, options and models in your shell.")


def main() -> None:
    """Run the command line, and exit with one of `EXIT_CODES`."""
    # If the console's encoding lacks a character, print a question mark instead of failing.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Otherwise torch's idle threads spin, which makes it three times as slow on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Operations that MPS lacks run on the CPU. Torch reads the variable when it is imported.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    try:
        app(sys.argv[1:])
    except InputError as error:
        console.refuse(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if is_out_of_memory(error):
            console.refuse(MEMORY_IS_FULL)
            raise SystemExit(1) from None
        if not isinstance(error, OSError):
            raise
        where = f"{error.filename}: " if error.filename else ""
        console.refuse(f"{where}{error.strerror or error}")
        raise SystemExit(1) from None
