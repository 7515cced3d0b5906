"""Random seeds that depend on their purpose, not on numbers that were drawn before."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_GENERATOR_LOCK = threading.Lock()


def step_seed(seed: int, stage: str, step: int | str) -> int:
    """Return a seed below 2**56 for one step of one stage, independent of other steps' seeds."""
    text = f"{seed}/{stage}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Seed torch's global generator for a block, and restore its state afterwards.

    All threads share this generator, so only one of them can be in such a block at a time.
    """
    with _GENERATOR_LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
