"""The learning rate schedule."""

import math

WARM_UP = 0.05


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate of a step: linear warm-up over the first twentieth, then cosine decay to 0.

    Parameters
    ----------
    step
        Number of steps done before this one.
    steps
        Number of steps of the stage.
    peak
        Rate at the end of the warm-up.
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
