"""The learning rate of a step: it follows from its number alone."""

import math

WARM_UP = 0.05


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine towards zero.

    Parameters
    ----------
    step
        Steps done before this one, from 0.
    steps
        Of the whole stage.
    peak
        The rate at the end of the warm-up.
    """
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
