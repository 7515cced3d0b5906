"""Devices, their memory, and the precision for training on them."""

import ctypes
from typing import Literal

import torch

from src_training.errors import InputError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of glibc's `mallopt`."""


def keep_freed_memory() -> None:
    """Let this process keep up to 256 MB of memory that it frees, for the next arrays.

    By default glibc returns what a pass of a network frees, and each page that is asked for
    anew has to be cleared: a fifth of the time of a network at full resolution.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # Another C library than glibc.
    mallopt(_TRIM_THRESHOLD, 2**28)
    mallopt(_MMAP_THRESHOLD, 2**27)


def find_device(name: str = "auto") -> torch.device:
    """Find a device by name; ``auto`` prefers CUDA to MPS to the CPU.

    Raises
    ------
    InputError
        If this machine has no such device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    available[:0] = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device(available[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise InputError(f"device is {name!r}; expected auto or one of {', '.join(available)}")
    return torch.device(wanted)


def training_precision(device: torch.device) -> Precision:
    """Return half precision if the hardware supports it; emulation would be many times slower."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    if device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    ):
        return "bf16-mixed"
    return "32-true"
