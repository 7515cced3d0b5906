"""Fitting the correction of a model's expected Dice, and its interval.

The fit uses validation images, plain and with style augmentation applied up to three times, so
that it includes bad results. It uses no test domain.
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
"""How often style augmentation is applied to an image; after one, most results are still good."""

_MAX_IMAGES = 60
"""Maximum number of validation images, evenly chosen."""

_SLOPE_PRIOR = 0.1
"""Variance of logits at which the validation images and the prior slope of 1 have equal weight."""

_MIN_SLOPE = 0.2

_DICE_PRIOR, _SIZE_PRIOR = 0.3, 0.1
"""Prior errors, in logits and logarithms, which count as one more image in the margins.

Without them, a single validation image would have an error of 0."""

_AXES, _MIN_VARIANCE = 10, 1e-9
"""Maximum number of principal axes of the shifts, and a lower bound of the variance along each."""

_MIN_IMAGES = 4
"""Minimum number of validation images for detecting foreign images."""

_FALSE_ALARMS = 0.005
"""Share of images like the validation images, plain or restyled, that count as foreign."""


@dataclass(frozen=True)
class _Observation:
    """Measurements of a validation image; arrays have one value for each foreground class."""

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
    """Fit the correction of expected Dice, and store it in the card of the model.

    Parameters
    ----------
    predictor
        Predictor with a calibrated model; its card is changed.
    validation
        At least one image with mask that the model was not trained on.
    augment
        Style augmentation; None: that of the card.

    Raises
    ------
    InputError
        If an image cannot be segmented.
    """
    card = predictor.model.card
    if augment is None:
        augmenter = Augmenter(card.augmentation or Augmentation(), card.patch)
        augment = augmenter.style_augmentation
    step = math.ceil(len(validation) / _MAX_IMAGES)
    subset = validation[::step]
    plain = [_observe(predictor, case) for case in subset]
    restyled = [_observe(predictor, case) for case in _restyle(subset, augment)]
    both = plain + restyled
    classes = [_fit_class(both, plain, k) for k in range(len(card.classes) - 1)]
    quality = Quality(classes=classes, images=len(plain), restyled=len(restyled))
    update = {"source": _source_dice(plain, quality), "known": _known_inputs(both)}
    update_card(predictor, quality=quality.model_copy(update=update))


def _restyle(
    validation: Sequence[PreparedCase], augment: StyleAugmentation
) -> Iterator[PreparedCase]:
    for times in _RESTYLED:
        yield from style_augmented(validation, _repeat(augment, times))


def _repeat(augment: StyleAugmentation, times: int) -> Callable[[Tensor], Tensor]:
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
    """Fit the correction of foreground class `k`, counted from 0."""
    confidence = np.array([soft_dice(each.sums)[k] for each in observations])
    truth = np.array([each.dice[k] for each in observations])
    labelled = np.array([each.sums[k, 0] > 0 for each in observations])
    images = np.array([each.image for each in observations])
    # New images are as likely to resemble the source as not, so plain images, which come first
    # in `observations`, get half the weight.
    index = np.arange(len(observations))
    count = len(plain), max(1, len(observations) - len(plain))
    weights = np.where(index < count[0], 1 / count[0], 1 / count[1])
    empty_masks = np.array([each.pixels[k] == 0 for each in plain])
    # The share of empty labels that are correct, with the share of empty masks as a prior that
    # counts as one more image.
    correct, empty = truth[~labelled].sum() + empty_masks.mean(), (~labelled).sum() + 1
    slope, offset, margin = _fit_line(
        bounded_logit(confidence[labelled]),
        bounded_logit(truth[labelled]),
        weights[labelled],
        images[labelled],
    )
    size, size_margin = _fit_size(observations, weights, len(plain), k)
    return ClassQuality(
        slope=slope,
        offset=offset,
        margin=margin,
        lowest=float(confidence[labelled].min()) if labelled.any() else 1.0,
        largest=max(float(each.sums[k, 0] / each.sums[k, 3]) for each in observations),
        empty=float(correct / empty),
        size=size,
        size_margin=size_margin,
    )


def _source_dice(plain: Sequence[_Observation], quality: Quality) -> SourceDice | None:
    each = [expected_dice(one.sums, quality) for one in plain]
    logits = bounded_logit(np.array([one.value for one in each if not one.empty]))
    if not len(logits):
        return None
    mean = float(logits.mean())
    # One in twenty is below the lower end of a 90 % interval.
    low = mean - _margin(logits - mean, _DICE_PRIOR)
    return SourceDice(mean=float(expit(mean)), low=float(expit(low)))


def _known_inputs(observations: Sequence[_Observation]) -> KnownInputs | None:
    """Fit a Gaussian to the shifts; leave-one-out distances of the images give its limit."""
    names = np.array([each.image for each in observations])
    shifts = [each.shift for each in observations if each.shift is not None]
    images = np.unique(names)
    if len(shifts) < len(observations) or len(images) < _MIN_IMAGES:
        return None
    rows, logs = np.array(shifts), np.zeros(len(shifts))
    for image in images:
        out = names == image
        gaussian = _gaussian(rows[~out])
        logs[out] = [math.log(gaussian.distance(row)) for row in rows[out]]
    spread = logs.std() * math.sqrt(1 + 1 / len(images))
    margin = float(stats.t.ppf(1 - _FALSE_ALARMS, len(images) - 1) * spread)
    limit = math.exp(logs.mean() + margin)
    return _gaussian(rows).model_copy(update={"limit": float(f"{limit:.6g}")})


def _gaussian(rows: Array) -> KnownInputs:
    """Probabilistic PCA of rows (N, d), rounded to six digits for the card; its limit is unset."""
    mean = rows.mean(0)
    _, scales, axes = np.linalg.svd(rows - mean, full_matrices=False)
    variances = scales**2 / (len(rows) - 1) + _MIN_VARIANCE
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
    """Slope, offset and margin of a line; the margin is from leave-one-out errors of the images."""
    names = np.unique(images)
    if not len(names):
        return 1.0, 0.0, _margin(np.array([2.0]), _DICE_PRIOR)
    slope, offset = _line(x, y, weights)
    squares = []
    for name in names:
        out = images == name
        line = _line(x[~out], y[~out], weights[~out]) if len(names) > 1 else (slope, offset)
        errors = y[out] - line[0] * x[out] - line[1]
        squares.append(np.average(errors**2, weights=weights[out]))
    return slope, offset, _margin(np.sqrt(squares), _DICE_PRIOR)


def _line(x: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Slope and offset of a ridge regression towards a slope of 1."""
    centre, mean = (float(np.average(each, weights=weights)) for each in (x, y))
    centered, residual = x - centre, y - x
    covariance, variance = (
        float(np.average(centered * other, weights=weights)) for other in (residual, centered)
    )
    slope = max(1 + covariance / (variance + _SLOPE_PRIOR), _MIN_SLOPE)
    return slope, mean - slope * centre


def _fit_size(
    observations: Sequence[_Observation], weights: Array, plain: int, k: int
) -> tuple[float, float]:
    """Mean logarithm of real over expected foreground, and half its interval.

    The mean is that of the `plain` images, which come first. Restyled ones are in the interval
    alone: where the model fails on them, the foreground that it expects is several times too large.
    """
    present = np.array([each.pixels[k] > 0 for each in observations])
    if not present[:plain].any():
        return 0.0, _margin(np.array([1.0]), _SIZE_PRIOR)
    real = np.array([each.pixels[k] + 1 for each in observations])
    ratios = np.log(real / np.array([each.sums[k, 2] + 1 for each in observations]))
    centre = float(ratios[:plain][present[:plain]].mean())
    images = np.array([each.image for each in observations])
    errors = []
    for image in np.unique(images[present]):
        own = present & (images == image)
        errors.append(math.sqrt(np.average((ratios[own] - centre) ** 2, weights=weights[own])))
    return centre, _margin(np.array(errors), _SIZE_PRIOR)


def _margin(errors: Array, prior: float) -> float:
    """Half the prediction interval for a new image, by Student's t over images."""
    images = len(errors)
    variance = float((errors**2).sum() + prior**2) / (images + 1)
    spread = math.sqrt(variance * (1 + 1 / images))
    return float(stats.t.ppf((1 + LEVEL) / 2, max(1, images - 1)) * spread)
