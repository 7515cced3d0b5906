"""The map that corrects the expected Dice of a model, and its interval.

It is fitted on its validation images, as they are and restyled as other scanners
might show them, up to thrice over, so that it sees bad results too. No test domain has a say.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit
from torch import Tensor

from src_training.data.augmentation import Augmentation, Augmenter
from src_training.data.prepared import PreparedCase
from src_training.evaluation.calibration import StyleAugmentation, style_augmented, update_card
from src_training.evaluation.metrics import dice
from src_training.inference.bn_adaptation import KnownInputs, Shift
from src_training.inference.expected_dice import (
    LEVEL,
    ClassQuality,
    Quality,
    SourceDice,
    Sums,
    bounded_logit,
    expected_dice,
    label_sums,
    soft_dice,
)
from src_training.inference.predictor import Predictor, labels_from

Array = NDArray[np.float64]

_RESTYLED = (1, 2, 3)
"""How many times over images are restyled: one style alone leaves most results good."""

_MOST_IMAGES = 60
"""Validation images that are enough, evenly chosen."""

_SLOPE_PRIOR = 0.1
"""Variance of logits at which validation has as much say in the slope as the prior, 1."""

_LEAST_SLOPE = 0.2

_DICE_PRIOR, _SIZE_PRIOR = 0.3, 0.1
"""Errors of one more image that the margins count, in logits and logarithms: one image by itself
would seem to have none."""


_AXES, _LEAST_VARIANCE = 10, 1e-9
"""Principal axes of the shifts, and what keeps the variance of equal ones above 0."""

_LEAST_IMAGES = 4
"""With fewer validation images it is not known which images are of another kind."""

_FALSE_ALARMS = 0.005
"""Share of images like those of validation, plain or restyled, that are called foreign."""


@dataclass(frozen=True)
class _Observation:
    """A validation image: sums, real Dice and real pixels of each foreground class, and `Shift`."""

    image: str
    sums: Sums
    dice: Array
    pixels: Array
    shift: Shift | None


def fit_quality(
    predictor: Predictor,
    validation: Sequence[PreparedCase],
    augment: StyleAugmentation | None = None,
) -> None:
    """Fit the map of expected Dice, and store it in the card of the model.

    Parameters
    ----------
    predictor
        Its calibration is finished; its card is changed.
    validation
        At least one image with mask that the model was not trained on.
    augment
        Styles of other scanners; None: the augmentation that the card names.

    Raises
    ------
    InputError
        If an image cannot be segmented.
    """
    card = predictor.model.card
    if augment is None:
        augmenter = Augmenter(card.augmentation or Augmentation(), card.patch)
        augment = augmenter.style_augmentation
    step = math.ceil(len(validation) / _MOST_IMAGES)
    chosen = validation[::step]
    plain = [_observe(predictor, case) for case in chosen]
    restyled = [_observe(predictor, case) for case in _restyled(chosen, augment)]
    both = plain + restyled
    classes = [_fit_class(both, plain, k) for k in range(len(card.classes) - 1)]
    quality = Quality(classes=classes, images=len(plain), restyled=len(restyled))
    added = {"source": _source_dice(plain, quality), "known": _known_inputs(both)}
    update_card(predictor, quality=quality.model_copy(update=added))


def _restyled(
    validation: Sequence[PreparedCase], augment: StyleAugmentation
) -> Iterator[PreparedCase]:
    for times in _RESTYLED:
        yield from style_augmented(validation, _repeated(augment, times))


def _repeated(augment: StyleAugmentation, times: int) -> Callable[[Tensor], Tensor]:
    def apply(pixels: Tensor) -> Tensor:
        for _ in range(times):
            pixels = augment(pixels)
        return pixels

    return apply


def _observe(predictor: Predictor, case: PreparedCase) -> _Observation:
    card, fov = predictor.model.card, case.original_fov
    shifts: list[Shift | None] = []
    maps = predictor.predict(case.original.image, fov, case.image, shifts)
    labels = labels_from(maps, card.threshold_for(maps))
    mask = np.asarray(case.original.mask)
    if fov is not None:
        mask = np.where(fov, mask, 0)
    sums = label_sums(maps, labels)
    pixels = np.array([np.count_nonzero(mask == k) for k in range(1, len(maps))], float)
    overlap = [np.count_nonzero((mask == k) & (labels == k)) for k in range(1, len(maps))]
    real = dice(overlap, sums[:, 0], pixels)
    return _Observation(case.original.name, sums, real, pixels, shifts[0])


def _fit_class(
    observations: Sequence[_Observation], plain: Sequence[_Observation], k: int
) -> ClassQuality:
    """The map of foreground class `k`, counted from 0."""
    confidence = np.array([soft_dice(each.sums)[k] for each in observations])
    truth = np.array([each.dice[k] for each in observations])
    labelled = np.array([each.sums[k, 0] > 0 for each in observations])
    images = np.array([each.image for each in observations])
    # What comes is as likely to be like the source as unlike it: plain images are half the weight.
    index = np.arange(len(observations))
    count = len(plain), max(1, len(observations) - len(plain))
    weights = np.where(index < count[0], 1 / count[0], 1 / count[1])
    without = np.array([each.pixels[k] == 0 for each in plain])
    # As many as were right, and one more image, for which the share of empty masks stands.
    right, empty = truth[~labelled].sum() + without.mean(), (~labelled).sum() + 1
    slope, offset, margin = _fit_line(
        bounded_logit(confidence[labelled]),
        bounded_logit(truth[labelled]),
        weights[labelled],
        images[labelled],
    )
    size, size_margin = _fit_size(observations, k)
    return ClassQuality(
        slope=slope,
        offset=offset,
        margin=margin,
        lowest=float(confidence[labelled].min()) if labelled.any() else 1.0,
        largest=max(float(each.sums[k, 0] / each.sums[k, 3]) for each in observations),
        empty=float(right / empty),
        size=size,
        size_margin=size_margin,
    )


def _source_dice(plain: Sequence[_Observation], quality: Quality) -> SourceDice | None:
    each = [expected_dice(one.sums, quality) for one in plain]
    logits = bounded_logit(np.array([one.value for one in each if not one.empty]))
    if not len(logits):
        return None
    mean = float(logits.mean())
    # Two ends of nine in ten: one in twenty lies below the lower one.
    low = mean - _margin(logits - mean, _DICE_PRIOR)
    return SourceDice(mean=float(expit(mean)), low=float(expit(low)))


def _known_inputs(observations: Sequence[_Observation]) -> KnownInputs | None:
    """The Gaussian of all shifts; its limit is that of images that are left out."""
    names = np.array([each.image for each in observations])
    shifts = [each.shift for each in observations if each.shift is not None]
    images = np.unique(names)
    if len(shifts) < len(observations) or len(images) < _LEAST_IMAGES:
        return None
    rows, logs = np.array(shifts), np.zeros(len(shifts))
    for image in images:
        out = names == image
        left = _gaussian(rows[~out])
        logs[out] = [math.log(left.distance(row)) for row in rows[out]]
    spread = logs.std() * math.sqrt(1 + 1 / len(images))
    beyond = float(stats.t.ppf(1 - _FALSE_ALARMS, len(images) - 1) * spread)
    limit = math.exp(logs.mean() + beyond)
    return _gaussian(rows).model_copy(update={"limit": float(f"{limit:.6g}")})


def _gaussian(rows: Array) -> KnownInputs:
    """Probabilistic principal components of rows (N, d), of six digits for a card; no limit yet."""
    mean = rows.mean(0)
    _, scales, axes = np.linalg.svd(rows - mean, full_matrices=False)
    variances = scales**2 / (len(rows) - 1) + _LEAST_VARIANCE
    count = min(_AXES, len(variances) // 2)
    noise = variances[count:].sum() / (rows.shape[1] - count)
    return KnownInputs(
        mean=_rounded(mean),
        axes=[_rounded(axis) for axis in axes[:count]],
        variances=_rounded(variances[:count]),
        noise=float(f"{noise:.6g}"),
        limit=1.0,
    )


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _fit_line(
    x: Array, y: Array, weights: Array, images: NDArray[np.str_]
) -> tuple[float, float, float]:
    """Slope, offset and margin of ``y`` by ``x``; its errors are of images that are left out."""
    names = np.unique(images)
    if not len(names):
        return 1.0, 0.0, _margin(np.array([2.0]), _DICE_PRIOR)
    slope, offset = _line(x, y, weights)
    squares = []
    for name in names:
        out = images == name
        left = _line(x[~out], y[~out], weights[~out]) if len(names) > 1 else (slope, offset)
        errors = y[out] - left[0] * x[out] - left[1]
        squares.append(np.average(errors**2, weights=weights[out]))
    return slope, offset, _margin(np.sqrt(squares), _DICE_PRIOR)


def _line(x: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Slope and offset of a ridge regression towards a slope of 1."""
    centre, mean = (float(np.average(each, weights=weights)) for each in (x, y))
    apart, rest = x - centre, y - x
    covariance, variance = (
        float(np.average(apart * other, weights=weights)) for other in (rest, apart)
    )
    slope = max(1 + covariance / (variance + _SLOPE_PRIOR), _LEAST_SLOPE)
    return slope, mean - slope * centre


def _fit_size(observations: Sequence[_Observation], k: int) -> tuple[float, float]:
    """Logarithm of real over expected foreground, and half its interval."""
    ratios: dict[str, list[float]] = {}
    for each in observations:
        if each.pixels[k]:
            ratio = math.log((each.pixels[k] + 1) / (each.sums[k, 2] + 1))
            ratios.setdefault(each.image, []).append(ratio)
    if not ratios:
        return 0.0, _margin(np.array([1.0]), _SIZE_PRIOR)
    means = np.array([np.mean(part) for part in ratios.values()])
    centre = float(means.mean())
    errors = [np.sqrt(np.mean((np.array(part) - centre) ** 2)) for part in ratios.values()]
    return centre, _margin(np.array(errors), _SIZE_PRIOR)


def _margin(errors: Array, prior: float) -> float:
    """Half the interval of an image that was not seen, by Student's t over images."""
    images = len(errors)
    variance = float((errors**2).sum() + prior**2) / (images + 1)
    spread = math.sqrt(variance * (1 + 1 / images))
    return float(stats.t.ppf((1 + LEVEL) / 2, max(1, images - 1)) * spread)
