"""Expected Dice of every image of a domain, and real Dice of those with masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from src_training.data.domain import Domain
from src_training.data.prepared import PreparedCase, prepare_cases
from src_training.errors import InputError
from src_training.evaluation.metrics import class_dice
from src_training.inference.bn_adaptation import Shift
from src_training.inference.expected_dice import (
    ExpectedDice,
    are_foreign,
    expected_dice,
    label_sums,
    mean_expected_dice,
)
from src_training.inference.predictor import Predictor, labels_from


@dataclass(frozen=True)
class ImageQuality:
    """Expected Dice of an image, and its real Dice if known.

    Attributes
    ----------
    case
        Name of the image.
    expected
        Expected Dice.
    dice
        Real Dice, mean over the foreground classes; None without mask.
    """

    case: str
    expected: ExpectedDice
    dice: float | None = None


def image_quality(predictor: Predictor, domain: Domain) -> Iterator[ImageQuality]:
    """Segment the images of a domain lazily, and yield the quality of each.

    Raises
    ------
    InputError
        If an image cannot be prepared or segmented, or a mask does not match the model; the
        message names the image.
    """
    for case in prepare_cases(domain, predictor.model.card.preprocessing):
        try:
            yield _quality(predictor, case)
        except InputError as error:
            raise InputError(f"{domain.name}: image {case.original.name}: {error}") from None


def mean_over_images(each: Sequence[ExpectedDice]) -> ExpectedDice:
    """Average the expected Dice of a domain over the images that are not foreign.

    The interval assumes that all errors have the same sign. A remark that applies to most of
    the images applies to the domain.

    Examples
    --------
    >>> known = ExpectedDice(0.8, 0.7, 0.9, 0.8)
    >>> foreign = ExpectedDice(0.9, 0, 1, 0.9, foreign=True)
    >>> print(mean_over_images([known, known, foreign]))
    0.80 (0.70 to 0.90)
    >>> print(mean_over_images([known, foreign, foreign]))
    cannot be told
    """
    known = [one for one in each if not one.foreign]
    if 2 * len(known) < len(each):
        return mean_expected_dice(each)
    most = len(known) / 2
    return replace(
        mean_expected_dice(known),
        oversized=sum(one.oversized for one in known) > most,
        extrapolated=sum(one.extrapolated for one in known) > most,
        empty=sum(one.empty for one in known) > most,
    )


def _quality(predictor: Predictor, case: PreparedCase) -> ImageQuality:
    card, original, fov = predictor.model.card, case.original, case.original_fov
    shifts: list[Shift | None] = []
    maps = predictor.predict(original.image, fov, case.image, shifts)
    labels = labels_from(maps, card.threshold_for(maps))
    foreign = are_foreign(card.quality, shifts)
    expected = expected_dice(label_sums(maps, labels), card.quality, foreign)
    if original.mask is None:
        return ImageQuality(original.name, expected)
    inside = np.ones(labels.shape, bool) if fov is None else fov.astype(bool)
    each = class_dice(labels[inside], original.mask[inside], len(card.classes))
    return ImageQuality(original.name, expected, float(each.mean()))
