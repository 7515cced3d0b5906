"""Which device and which precision a run uses."""

from typing import Literal

import torch
from lightning_fabric import Fabric

from src_training.errors import InputError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def make_fabric(device: str = "auto", devices: int = 1) -> Fabric:
    """A Fabric on the named device, in the precision that is fastest there.

    Parameters
    ----------
    device
        ``auto`` (CUDA, then Apple's MPS, then the CPU), ``cpu``, ``cuda`` or ``mps``.
    devices
        How many processes share each batch.

    Raises
    ------
    InputError
        If the device is unknown or not on this machine.
    """
    chosen = choose_device(device)
    return Fabric(accelerator=chosen, devices=devices, precision=best_precision(chosen))


def choose_device(device: str = "auto") -> str:
    """``cuda``, ``mps`` or ``cpu``; see `make_fabric`."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, there in present.items() if there)
    if device not in present:
        raise InputError(f"device {device!r} is unknown; expected auto, {', '.join(present)}")
    if not present[device]:
        raise InputError(f"device {device!r} is not on this machine; expected auto or cpu")
    return device


def best_precision(device: str) -> Precision:
    """Half precision where the hardware computes in it; emulated, it is many times slower."""
    if device == "cuda":
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        )
    if device == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    ):
        return "bf16-mixed"
    return "32-true"
