"""Import torch in a worker without freezing the window."""

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

_lock = Lock()
_MODULES = (
    "src_training.inference.predictor",
    "src_training.evaluation.metrics",
    # The first layer of labels and the first convolution import these, at the same time.
    "pandas",
    "torch._dynamo",
)
# Without libtorch_python, whose initialization needs the GIL.
_LIBRARIES = ("libtorch_global_deps.so", "libtorch_cpu.so", "libtorch.so")


def preload() -> None:
    """Import torch and the modules for segmentation; call it in a worker.

    A plain import in a thread still freezes the window: the dynamic loader holds
    the GIL (0.3 s for torch), and each full garbage collection takes 0.1 s. This
    function avoids both.
    """
    with _lock:
        if all(module in sys.modules for module in _MODULES):
            return
        # CPU fallback for operations that Apple's GPUs lack; torch reads it on import.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
        with gc_paused():
            _preload_torch()
            for module in _MODULES:
                importlib.import_module(module)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector during large imports, which trigger slow full collections."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _preload_torch() -> None:
    """Load torch's shared libraries through ctypes, which releases the GIL."""
    torch = importlib.util.find_spec("torch")
    if not sys.platform.startswith("linux") or "torch" in sys.modules or not torch:
        return
    # By default idle OpenMP threads spin and starve the main thread: on two busy cores, networks
    # with small patches took five times as long. OpenMP reads it once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    folder = Path(str(torch.origin)).parent / "lib"
    for name in _LIBRARIES:
        # If loading fails, torch's own import reports the error.
        dlopen(os.fsencode(folder / name), os.RTLD_NOW | os.RTLD_GLOBAL * name.endswith("deps.so"))
