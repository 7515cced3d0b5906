"""The learning rate and the seed of a step: they follow from its number alone."""

import hashlib
import math

WARM_UP = 0.05


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine towards zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def step_seed(seed: int, stage: str, step: int | str) -> int:
    """A seed for one step of one stage, independent of every other's."""
    text = f"{seed}/{stage}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
