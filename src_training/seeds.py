"""Seeds that follow from what they are for: nothing depends on what was drawn before."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_DRAWING = threading.Lock()


def step_seed(seed: int, stage: str, step: int | str) -> int:
    """A seed for one step of one stage, independent of every other's; below 2**56."""
    text = f"{seed}/{stage}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Draw from torch's generator as `seed` has it, then leave it as it was.

    There is one generator for all threads, hence one drawing at a time.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
