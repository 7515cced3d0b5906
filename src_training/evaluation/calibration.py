"""What a model does with an image beyond its weights, chosen on the validation split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor

from src_training.data.domain import Domain
from src_training.data.prepared import PreparedImage, prepared_images
from src_training.data.preprocessing import Float, Mask
from src_training.errors import InputError
from src_training.evaluation.evaluate import evaluate
from src_training.evaluation.thresholds import THRESHOLDS, dice_curve
from src_training.inference.image_threshold import quantise, threshold_of
from src_training.inference.predictor import Predictor
from src_training.networks import SegmentationNetwork
from src_training.seeds import drawing

SHARES = (0.0, 0.5, 1.0)
USUAL, _NOISE = 0.5, 0.01
"""The share that is taken unless another has a mean Dice that is higher by more than this."""

Restyle = Callable[[Tensor], Tensor]
"""Images (B, C, h, w) as other scanners would show them; see `Augmenter.restyle`."""

_STYLES, _ENOUGH = 3, 12
"""Styles of an image, where that makes no more than a dozen: those of four decide by chance."""

_EDGES = np.linspace(-16, 16, 513)
_COST = 0.005
"""Dice that own thresholds may cost on the images that the fixed one was fitted to."""


def tune(
    predictor: Predictor, validation: Sequence[PreparedImage], styled: Sequence[PreparedImage]
) -> None:
    """Choose how a model meets an image: its statistics, calibration and threshold.

    The weights of the network's head take the calibration, the card the rest.

    Parameters
    ----------
    predictor
        Its model is changed, and keeps what is chosen.
    validation
        Images with masks, at least one.
    styled
        See `in_other_styles`; none where these images are of the scanner that counts.

    Raises
    ------
    InputError
        If an image cannot be segmented.
    """
    update_card(predictor, own_statistics=choose_statistics(predictor, validation, styled))
    calibrate(predictor, validation)
    threshold, own = choose_threshold(predictor, validation)
    update_card(predictor, threshold=threshold, own_threshold=own)


def tune_to(predictor: Predictor, domain: Domain, file: Path) -> Iterator[str]:
    """`tune` a finished model to one scanner, by labelled images of it, and write the outcome.

    Nothing is trained: what experts there mark is met by another threshold,
    what the scanner shows by other statistics. Closed before its end, it
    writes nothing.

    Parameters
    ----------
    predictor
        Its model is changed, and has the name of `file` then; the card says
        what it was tuned to.
    domain
        At least one image, each with a mask of the model's classes.
    file
        ``.safetensors``, to make or to replace.

    Yields
    ------
    str
        What comes next; at the end what came of it, and the file is there.

    Raises
    ------
    InputError
        If `file` is the model's own, or an image cannot be prepared, segmented or scored.
    OSError
        If the file cannot be written.
    """
    model = predictor.model
    if model.source is not None and file.resolve() == model.source.resolve():
        raise InputError(f"{file} is the model that is tuned; expected another file")
    yield "Scoring the model as it is…"
    images = list(prepared_images(domain, model.card.preprocessing))
    before = evaluate(predictor, domain, images=images).mean["dice"]
    yield "Trying statistics, calibrations and thresholds…"
    tune(predictor, images, ())
    yield "Scoring the tuned model…"
    after = evaluate(predictor, domain, images=images).mean["dice"]
    said = f"Tuned to {len(images)} images of {domain.name}."
    # Scores on the card were those of other thresholds.
    told = {"description": f"{model.card.description} {said}".strip(), "metrics": {}}
    # Beside the model that it comes of, it has a name of its own.
    update_card(predictor, name=file.stem, **told)
    model.save(file)
    yield f"Dice {before:.3f} before, {after:.3f} on the images it was tuned to"


def in_other_styles(validation: Sequence[PreparedImage], restyle: Restyle) -> list[PreparedImage]:
    """The images as other scanners might show them, the same ones whenever they are asked for.

    Three of each but a dozen at most, or one of each where that is more. Field
    of view and mask are the image's own.
    """
    count = max(len(validation), min(_STYLES * len(validation), _ENOUGH))
    numbered = zip(range(count), cycle(validation), strict=False)
    return [_restyled(image, number, restyle) for number, image in numbered]


def choose_statistics(
    predictor: Predictor, validation: Sequence[PreparedImage], styled: Sequence[PreparedImage]
) -> float:
    """The share of the image's statistics, one of `SHARES`: `USUAL`, unless another is better.

    Dice is that of the validation images as they are and in other styles (see
    `in_other_styles`): of the source's own scanner a network knows the
    statistics, and what a share of the image's own is for would not be seen.
    Each share is taken with the thresholds that are best for it. On few
    images the shares differ by chance, and a mixture is what Schneider et al.
    2020, arXiv 2006.16971, advise for another scanner (*reconstruction*).
    The card is left with the last share that was tried.
    """
    looks = (validation, styled) if styled else (validation,)
    dice = {}
    for share in SHARES:
        update_card(predictor, own_statistics=share)
        dice[share] = np.mean([_best_dice(predictor, images) for images in looks])
    best = max(SHARES, key=dice.__getitem__)
    return best if dice[best] > dice[USUAL] + _NOISE else USUAL


def _best_dice(predictor: Predictor, images: Sequence[PreparedImage]) -> float:
    """Mean Dice at the threshold that is best for it."""
    curves = [_curve(_maps(predictor, image), image) for image in images]
    return float(np.mean(curves, axis=0).max())


def _restyled(image: PreparedImage, number: int, restyle: Restyle) -> PreparedImage:
    pixels = torch.from_numpy(image.prepared.pixels)[None]
    with drawing(number):
        shown = restyle(pixels)[0].numpy()
    # Beyond the field of view every scanner shows nothing.
    shown = np.where(image.prepared.fov, shown, image.prepared.pixels)
    return replace(image, prepared=replace(image.prepared, pixels=shown))


def calibrate(predictor: Predictor, validation: Sequence[PreparedImage]) -> None:
    """Calibrate the foreground probability of a two-class network.

    Platt's logistic regression of the mask on the logit, inside the field of
    view, folded into the weights of the network's head. Nothing happens with
    more than two classes, where the images hold one class only, or where the
    logit says nothing of the mask (a slope that is not positive).
    """
    if len(predictor.model.card.classes) > 2:
        return
    counts = np.sum([_by_logit(_maps(predictor, each)[1], each) for each in validation], axis=0)
    if not counts.any(axis=1).all():
        return
    slope, offset = _platt(counts)
    if slope > 0:
        _fold(predictor.model.network, slope, offset)


def choose_threshold(
    predictor: Predictor, validation: Sequence[PreparedImage]
) -> tuple[float, bool]:
    """The threshold of the best mean Dice, and whether each image may find its own.

    Returns
    -------
    float
        One of `THRESHOLDS`; 0.5 with more than two classes.
    bool
        Whether the thresholds that images find for themselves do as well, but
        for half a point of Dice: the fixed one was fitted to these images.
    """
    if len(predictor.model.card.classes) > 2:
        return 0.5, False
    curves, own = [], []
    for image in validation:
        maps = _maps(predictor, image)
        curves.append(_curve(maps, image))
        own.append(np.interp(threshold_of(quantise(maps[1])), THRESHOLDS, curves[-1]))
    mean = np.mean(curves, axis=0)
    return float(THRESHOLDS[int(mean.argmax())]), bool(np.mean(own) >= mean.max() - _COST)


def update_card(predictor: Predictor, **fields: Any) -> None:
    """Write fields of the card of a predictor's model."""
    predictor.model.card = predictor.model.card.model_copy(update=fields)


def _maps(predictor: Predictor, image: PreparedImage) -> Float:
    return predictor.predict(image.case.image, image.fov, image.prepared)


def _mask(image: PreparedImage) -> NDArray[np.integer]:
    return np.asarray(image.case.mask)


def _curve(maps: Float, image: PreparedImage) -> Float:
    """Dice at each of `THRESHOLDS` in the field of view; nothing where nothing is is perfect."""
    return np.nan_to_num(dice_curve(maps, _mask(image), _seen(image)), nan=1.0)


def _seen(image: PreparedImage) -> Mask | None:
    return None if image.fov is None else image.fov.astype(np.bool_)


def _by_logit(foreground: Float, image: PreparedImage) -> NDArray[np.int64]:
    """Pixels of the field of view (2, bins), by mask and logit."""
    positive = _mask(image) > 0
    seen = _seen(image)
    if seen is None:
        seen = np.ones_like(positive)
    # Resizing may round a probability to just above 1.
    logits = logit(np.clip(foreground.astype(np.float64), 0, 1)).clip(_EDGES[0], _EDGES[-1])
    return np.stack([np.histogram(logits[seen & of], _EDGES)[0] for of in (~positive, positive)])


def _platt(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset of a logistic regression on pixels (2, bins)."""
    from sklearn.linear_model import LogisticRegression

    centres = (_EDGES[:-1] + _EDGES[1:]) / 2
    truth = np.repeat([0, 1], len(centres))
    fitted = LogisticRegression().fit(np.tile(centres, 2)[:, None], truth, counts.ravel())
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


@torch.no_grad()
def _fold(network: SegmentationNetwork, slope: float, offset: float) -> None:
    """Make the difference of two logits slope times what it was, plus offset."""
    bias = network.head.bias
    assert bias is not None
    network.head.weight.mul_(slope)
    bias.mul_(slope).add_(torch.tensor([-offset / 2, offset / 2], device=bias.device))
