"""Calibration of a trained model on validation images: batch-norm mixing, Platt scaling, threshold.

Nothing is trained. The results are stored in the card and in the head of the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor

from src_training.data.prepared import PreparedCase
from src_training.data.preprocessing.geometry import Float, Mask
from src_training.evaluation.dice_curve import THRESHOLDS, dice_curve
from src_training.inference.image_threshold import expected_dice_threshold, quantise
from src_training.inference.predictor import Predictor
from src_training.networks import SegmentationNetwork
from src_training.seeds import drawing

BN_MIXINGS = (0.0, 0.5, 1.0)
"""Candidate shares of the image's own statistics in batch normalisation."""

DEFAULT_BN_MIXING, _MIN_GAIN = 0.5, 0.01
"""Default share, and the gain in mean Dice above which another share is chosen."""

StyleAugmentation = Callable[[Tensor], Tensor]
"""Images (B, C, h, w) -> the same in another style; see `Augmenter.style_augmentation`."""

_STYLES, _MAX_STYLED = 3, 12
"""Number of styles of each validation image, unless there are more than this number of images."""

_LOGIT_EDGES = np.linspace(-16, 16, 513)
"""Bin edges of the histograms of logits for Platt scaling."""

_IMAGE_THRESHOLD_COST = 0.005
"""Loss in Dice at which image thresholds are still preferred to the fixed threshold.

The fixed threshold has an advantage, because it is fitted to the same images."""


def calibrate(
    predictor: Predictor, validation: Sequence[PreparedCase], styled: Sequence[PreparedCase] = ()
) -> None:
    """Choose batch-norm mixing, then Platt scaling, then the threshold of a model.

    Parameters
    ----------
    predictor
        Predictor whose model is changed: the Platt scaling goes into the weights of the
        network's head, the rest into the card.
    validation
        At least one image with mask that the model was not trained on.
    styled
        See `style_augmented`; empty if the validation images are of the
        scanner that the model will be used on.

    Raises
    ------
    InputError
        If an image cannot be segmented.
    """
    update_card(predictor, bn_mixing=choose_bn_mixing(predictor, validation, styled))
    fit_platt_scaling(predictor, validation)
    threshold, by_image = choose_threshold(predictor, validation)
    update_card(predictor, threshold=threshold, per_image_threshold=by_image)


def style_augmented(
    validation: Sequence[PreparedCase], augment: StyleAugmentation
) -> list[PreparedCase]:
    """Apply style augmentation to images; their fields of view and masks do not change.

    There are three styles of each image but at most twelve images, or one style of each
    of more than twelve images. The styles are the same in every call.
    """
    count = max(len(validation), min(_STYLES * len(validation), _MAX_STYLED))
    numbered = zip(range(count), cycle(validation), strict=False)
    return [_augment_style(image, seed, augment) for seed, image in numbered]


def choose_bn_mixing(
    predictor: Predictor, validation: Sequence[PreparedCase], styled: Sequence[PreparedCase]
) -> float:
    """Choose the share of the image's statistics in batch normalisation, one of `BN_MIXINGS`.

    Each candidate is scored by its mean Dice at its best threshold, over the
    validation images and over the styled ones, because the benefit of mixing does not
    show on images of the source's own scanner, which match the training statistics.
    `DEFAULT_BN_MIXING` is chosen unless another candidate is
    clearly better: on few images they differ by chance, and Schneider et al. 2020,
    arXiv 2006.16971, advise a mixture for another scanner
    (*reconstruction*). The card keeps the last candidate; callers have to set the result.
    """
    groups = (validation, styled) if styled else (validation,)
    dice = {}
    for share in BN_MIXINGS:
        update_card(predictor, bn_mixing=share)
        dice[share] = np.mean([best_dice(predictor, images) for images in groups])
    best = max(BN_MIXINGS, key=dice.__getitem__)
    return best if dice[best] > dice[DEFAULT_BN_MIXING] + _MIN_GAIN else DEFAULT_BN_MIXING


def best_dice(predictor: Predictor, images: Sequence[PreparedCase]) -> float:
    """Mean Dice of images at the best common threshold."""
    curves = [_dice_curve(_probabilities(predictor, image), image) for image in images]
    return float(np.mean(curves, axis=0).max())


def fit_platt_scaling(predictor: Predictor, validation: Sequence[PreparedCase]) -> None:
    """Calibrate the foreground probability of a two-class network.

    This fits Platt's logistic regression of the mask on the logit, inside the field of
    view, and folds it into the weights of the network's head. The network does not
    change if it has more than two classes, if all pixels are of one class,
    or if the fitted slope is not positive (the logit does not predict the
    mask).
    """
    if len(predictor.model.card.classes) > 2:
        return
    counts = np.sum(
        [_logit_histograms(_probabilities(predictor, each)[1], each) for each in validation],
        axis=0,
    )
    if not counts.any(axis=1).all():
        return
    slope, offset = _fit_logistic(counts)
    if slope > 0:
        fold_platt_scaling(predictor.model.network, slope, offset)


@torch.no_grad()
def fold_platt_scaling(network: SegmentationNetwork, slope: float, offset: float) -> None:
    """Change the head of a two-class network so that its logit is ``slope * logit + offset``.

    The logit is the difference between the network's two outputs.
    """
    bias = network.head.bias
    assert bias is not None
    network.head.weight.mul_(slope)
    bias.mul_(slope).add_(torch.tensor([-offset / 2, offset / 2], device=bias.device))


def choose_threshold(
    predictor: Predictor, validation: Sequence[PreparedCase]
) -> tuple[float, bool]:
    """Choose the threshold of the best mean Dice, and whether to use image thresholds instead.

    Returns
    -------
    float
        One of `THRESHOLDS`; 0.5 with more than two classes.
    bool
        Whether image thresholds (`expected_dice_threshold`) have a mean Dice at most
        0.005 lower. Unlike the fixed threshold they are not fitted to these images.
    """
    if len(predictor.model.card.classes) > 2:
        return 0.5, False
    curves, by_image = [], []
    for image in validation:
        maps = _probabilities(predictor, image)
        curves.append(_dice_curve(maps, image))
        threshold = expected_dice_threshold(quantise(maps[1]))
        by_image.append(np.interp(threshold, THRESHOLDS, curves[-1]))
    mean = np.mean(curves, axis=0)
    threshold = float(THRESHOLDS[int(mean.argmax())])
    return threshold, bool(np.mean(by_image) >= mean.max() - _IMAGE_THRESHOLD_COST)


def update_card(predictor: Predictor, **fields: Any) -> None:
    """Set fields of the card of a predictor's model."""
    predictor.model.card = predictor.model.card.model_copy(update=fields)


def _augment_style(case: PreparedCase, seed: int, augment: StyleAugmentation) -> PreparedCase:
    pixels = torch.from_numpy(case.image.pixels)[None]
    with drawing(seed):
        styled = augment(pixels)[0].numpy()
    # Style augmentation does not apply outside the field of view.
    styled = np.where(case.image.fov, styled, case.image.pixels)
    return replace(case, image=replace(case.image, pixels=styled))


def _probabilities(predictor: Predictor, case: PreparedCase) -> Float:
    return predictor.predict(case.original.image, case.original_fov, case.image)


def _mask(case: PreparedCase) -> NDArray[np.integer]:
    return np.asarray(case.original.mask)


def _dice_curve(probabilities: Float, case: PreparedCase) -> Float:
    """Dice at each of `THRESHOLDS`; an empty prediction of an empty mask scores 1."""
    return np.nan_to_num(dice_curve(probabilities, _mask(case), _field_of_view(case)), nan=1.0)


def _field_of_view(case: PreparedCase) -> Mask | None:
    return None if case.original_fov is None else case.original_fov.astype(np.bool_)


def _logit_histograms(foreground: Float, case: PreparedCase) -> NDArray[np.int64]:
    """Histograms (2, bins) of the logits of background and foreground, in the field of view."""
    positive = _mask(case) > 0
    inside = _field_of_view(case)
    if inside is None:
        inside = np.ones_like(positive)
    # Resizing may round a probability to just above 1.
    logits = logit(np.clip(foreground.astype(np.float64), 0, 1))
    logits = logits.clip(_LOGIT_EDGES[0], _LOGIT_EDGES[-1])
    return np.stack(
        [np.histogram(logits[inside & chosen], _LOGIT_EDGES)[0] for chosen in (~positive, positive)]
    )


def _fit_logistic(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset of a logistic regression on `_logit_histograms` (2, bins)."""
    from sklearn.linear_model import LogisticRegression

    centres = (_LOGIT_EDGES[:-1] + _LOGIT_EDGES[1:]) / 2
    positive = np.repeat([0, 1], len(centres))
    model = LogisticRegression().fit(np.tile(centres, 2)[:, None], positive, counts.ravel())
    return float(model.coef_[0, 0]), float(model.intercept_[0])
