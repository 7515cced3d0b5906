"""Seeds that follow from what they are for: nothing depends on what was drawn before."""

import hashlib


def step_seed(seed: int, stage: str, step: int | str) -> int:
    """A seed for one step of one stage, independent of every other's."""
    text = f"{seed}/{stage}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
