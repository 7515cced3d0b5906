"""Scores of a model over a domain."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.prepared import PreparedImage, prepared_images
from src_training.errors import InputError
from src_training.evaluation.metrics import Pooled, score
from src_training.evaluation.volume_metrics import score_volume
from src_training.inference.predictor import Predictor, labels_from

Scores = dict[str, float]
Labels = NDArray[np.uint8]
OnImage = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DomainScores:
    """Scores of a model over a domain; NaN where a metric is not defined.

    Attributes
    ----------
    domain
        Its name.
    images
        Image -> metric -> value, see `score`.
    mean
        Metric -> mean over the images where it is defined.
    count
        Metric -> how many images that mean is over.
    pooled
        Metric -> value over the pixels of all images, see `Pooled`.
    interval
        ``dice`` -> 95 % interval of its mean (percentile bootstrap over the
        images); NaN with one image.
    thresholds
        Image -> the one that was used.
    seconds
        Image -> seconds from the image to its labels: field of view,
        preparation, network and the way back. Not part of `to_dict`: two
        runs that agree in all else differ here.
    volumes
        Volume -> metric -> value, see `score_volume`; of the volumes all of
        whose slices are in the domain.
    """

    domain: str
    images: dict[str, Scores]
    mean: Scores
    count: dict[str, int]
    pooled: Scores
    interval: dict[str, tuple[float, float]]
    thresholds: dict[str, float]
    seconds: dict[str, float]
    volumes: dict[str, Scores]

    @property
    def volume_mean(self) -> Scores:
        """Metric -> mean over the volumes where it is defined; empty without volumes."""
        return _means(self.volumes)[0] if self.volumes else {}

    def to_dict(self) -> dict[str, object]:
        """As plain values for JSON, None where a metric is not defined."""
        return {
            "domain": self.domain,
            "thresholds": dict(self.thresholds),
            "mean": _plain(self.mean),
            "count": dict(self.count),
            "pooled": _plain(self.pooled),
            "interval": {
                name: [_or_none(end) for end in ends] for name, ends in self.interval.items()
            },
            "images": {name: _plain(scores) for name, scores in self.images.items()},
            "volumes": {name: _plain(scores) for name, scores in self.volumes.items()},
        }


def evaluate(
    predictor: Predictor,
    domain: Domain,
    on_image: OnImage | None = None,
    *,
    threshold: float | None = None,
    images: Iterable[PreparedImage] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> DomainScores:
    """Segment and score every image of a domain, on its original pixels; volumes as wholes too.

    Parameters
    ----------
    predictor
        What segments.
    domain
        Images with masks.
    on_image
        Called after each image with how many are done, how many there are,
        and its name.
    threshold
        Probability from which a pixel is foreground; None: the model's own.
    images
        What `prepared_images` makes of the domain, where it is there already.
    draws, seed
        Of the bootstrap.

    Raises
    ------
    InputError
        If the domain is empty, an image has no mask or cannot be prepared or
        segmented, or the mask and the model disagree; names the image.
    """
    card = predictor.model.card
    if len(domain) == 0:
        raise InputError(f"{domain.name}: the domain has no images; expected at least one")
    if images is None:
        images = prepared_images(domain, card.preprocessing)
    pooled, scores = Pooled(len(card.classes)), dict[str, Scores]()
    thresholds, seconds = dict[str, float](), dict[str, float]()
    stack = _Stack(card.classes)
    for done, image in enumerate(images, start=1):
        name = image.case.name
        scores[name], thresholds[name], seconds[name], labels = _score(
            predictor, image, threshold, pooled, domain.name
        )
        stack.add(image.case, labels)
        if on_image is not None:
            on_image(done, len(domain), name)
    mean, count = _means(scores)
    dice = _bootstrap([found["dice"] for found in scores.values()], draws, seed)
    return DomainScores(
        domain=domain.name,
        images=scores,
        mean=mean,
        count=count,
        pooled=pooled.result(),
        interval={"dice": dice},
        thresholds=thresholds,
        seconds=seconds,
        volumes=stack.scores,
    )


class _Stack:
    """Slices of one volume after another; each volume is scored when it is whole."""

    def __init__(self, classes: list[str]) -> None:
        self.scores = dict[str, Scores]()
        self._classes = classes
        self._volume = ""
        self._slices = dict[int, tuple[Labels, Labels]]()

    def add(self, case: Case, labels: Labels) -> None:
        position, mask = case.position, case.mask
        if position is None or mask is None:
            return
        if position.volume != self._volume:
            self._volume, self._slices = position.volume, {}
        self._slices[position.index] = labels, mask
        if len(self._slices) == position.depth:
            pairs = [self._slices[index] for index in range(position.depth)]
            found, truth = (np.stack(part) for part in zip(*pairs, strict=True))
            self.scores[position.volume] = score_volume(
                found, truth, position.spacing, self._classes
            )
            self._slices = {}


def _score(
    predictor: Predictor,
    image: PreparedImage,
    threshold: float | None,
    pooled: Pooled,
    domain: str,
) -> tuple[Scores, float, float, Labels]:
    """Scores of an image, the threshold used, the seconds from it to its labels, and those."""
    case, fov, card = image.case, image.fov, predictor.model.card
    if case.mask is None:
        raise InputError(f"{domain}: image {case.name} has no mask; expected one to score against")
    try:
        began = time.perf_counter()
        probabilities = predictor.predict(case.image, fov, image.prepared)
        used = card.threshold_for(probabilities) if threshold is None else threshold
        labels = labels_from(probabilities, used)
        took = time.perf_counter() - began
        pooled.add(probabilities, case.mask, fov, used)
        scores = score(probabilities, case.mask, fov, used, classes=card.classes)
    except InputError as error:
        raise InputError(f"{domain}: image {case.name}: {error}") from None
    return scores, used, image.seconds + took, labels


def _means(images: dict[str, Scores]) -> tuple[Scores, dict[str, int]]:
    names = next(iter(images.values())).keys()
    mean, count = Scores(), dict[str, int]()
    for name in names:
        defined = [s[name] for s in images.values() if not math.isnan(s[name])]
        mean[name] = float(np.mean(defined)) if defined else math.nan
        count[name] = len(defined)
    return mean, count


def _bootstrap(values: list[float], draws: int, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    chosen = random.integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(np.asarray(values)[chosen].mean(1), [2.5, 97.5])
    return float(low), float(high)


def _plain(scores: Scores) -> dict[str, float | None]:
    return {name: _or_none(value) for name, value in scores.items()}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
