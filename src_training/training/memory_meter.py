"""How much memory a run holds."""

import time

import psutil
import torch

from src_training.runs.events import MemoryUsed

APART = 2.0
"""Least seconds between two looks."""


class MemoryMeter:
    """Reads the memory of this process, now and then.

    Parameters
    ----------
    device
        Whose memory is read beside the computer's own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._read = -APART

    def read(self) -> MemoryUsed | None:
        """Bytes in use; None within `APART` seconds of the last time."""
        now = time.monotonic()
        if now - self._read < APART:
            return None
        self._read = now
        return MemoryUsed(host=self._process.memory_info().rss, device=self._on_device())

    def _on_device(self) -> int:
        """What torch has taken from the device; 0 for the CPU."""
        if self._device.type == "cuda":
            return torch.cuda.memory_reserved(self._device)
        return torch.mps.driver_allocated_memory() if self._device.type == "mps" else 0
