"""Devices, and the precision for training on them."""

from typing import Literal

import torch

from src_training.errors import InputError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


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
