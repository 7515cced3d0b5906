"""Torch, imported by a worker without holding up the window."""

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
)
# Not libtorch_python: what it sets up needs the lock itself.
_LIBRARIES = ("libtorch_global_deps.so", "libtorch_cpu.so", "libtorch.so")


def preload() -> None:
    """Import torch and what segmenting needs; call it in a worker.

    An import elsewhere than in the main thread still freezes the window: the
    dynamic loader runs with the interpreter's lock held (0.3 s for torch), and
    each full garbage collection takes 0.1 s. Here both are kept away.
    """
    with _lock:
        if all(module in sys.modules for module in _MODULES):
            return
        # What a GPU of Apple's cannot compute, the CPU does; read when torch is imported.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
        with gc_paused():
            _preload_torch()
            for module in _MODULES:
                importlib.import_module(module)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the garbage collector from its full rounds while much is imported."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _preload_torch() -> None:
    """Load torch's libraries; a foreign call releases the interpreter's lock."""
    torch = importlib.util.find_spec("torch")
    if not sys.platform.startswith("linux") or "torch" in sys.modules or not torch:
        return
    # Idle threads of torch would spin, and the window's thread wait: on two busy cores networks of
    # small patches took five times as long. Read once, when the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    folder = Path(str(torch.origin)).parent / "lib"
    for name in _LIBRARIES:
        # What cannot be loaded here, torch's own import reports in its words.
        dlopen(os.fsencode(folder / name), os.RTLD_NOW | os.RTLD_GLOBAL * name.endswith("deps.so"))
