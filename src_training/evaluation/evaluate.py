"""Scores of a model over a domain."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.prepared import PreparedCase, prepare_cases, readable_cases
from src_training.errors import InputError, memory_of
from src_training.evaluation.bootstrap import bootstrap_by_patient, count_patients
from src_training.evaluation.metrics import Pooled, mean_defined, score
from src_training.evaluation.quality.agreement import Agreement, agreement, mean_entropy
from src_training.evaluation.volume_metrics import score_volume
from src_training.inference.bn_adaptation import Shift
from src_training.inference.expected_dice import (
    ExpectedDice,
    Quality,
    Sums,
    are_foreign,
    expected_dice,
    expected_sizes,
    label_sums,
)
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.volumes.grid import ResampledMask

Scores = dict[str, float]
Labels = NDArray[np.uint8]
OnImage = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DomainScores:
    """Scores of a model over a domain; undefined metrics are NaN.

    Attributes
    ----------
    domain
        Name of the domain.
    images
        Image -> metric -> value; see `score`.
    mean
        Metric -> mean over the images where it is defined.
    count
        Metric -> number of images in that mean.
    pooled
        Metric -> value over the pixels of all images; see `Pooled`.
    interval
        ``dice`` -> 95 % interval of its mean; see `bootstrap_by_patient`. NaN
        with one patient.
    thresholds
        Image -> foreground threshold.
    seconds
        Image -> seconds from the image to its labels: field of view,
        preprocessing, network and resampling. Not included in `to_dict`, so that
        scores of equal runs are equal.
    volumes
        Volume -> metric -> value; see `score_volume`. Only volumes
        whose slices are all in the domain.
    expected, expected_volumes
        Image or volume -> expected Dice, computed without the mask.
    milliliters
        Volume -> class -> ``real``, ``expected``, ``low`` and ``high``; see `expected_sizes`.
    entropy
        Image -> mean entropy of a pixel; see `mean_entropy`.
    resampled_masks
        Volume -> how its mask was resampled to the image's grid, if it was.
    mask_notes
        See `Domain`.
    left_out, left_out_volumes
        Image or volume -> why it could not be scored; no figure is over it.
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
    expected: dict[str, ExpectedDice] = field(default_factory=dict)
    expected_volumes: dict[str, ExpectedDice] = field(default_factory=dict)
    milliliters: dict[str, dict[str, Scores]] = field(default_factory=dict)
    entropy: Scores = field(default_factory=dict)
    resampled_masks: dict[str, ResampledMask] = field(default_factory=dict)
    mask_notes: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    left_out_volumes: dict[str, str] = field(default_factory=dict)

    @property
    def patients(self) -> int:
        """Number of patients; see `count_patients`."""
        return count_patients(self.images)

    @property
    def volume_mean(self) -> Scores:
        """Metric -> mean over the volumes where it is defined."""
        return _means(self.volumes)

    @property
    def agreement(self) -> dict[str, Agreement]:
        """Measure -> its agreement with real Dice; empty if there is no expected Dice.

        The measures are ``expected Dice``, ``soft Dice confidence`` and ``mean entropy``. For
        the last one, only fields of `Agreement` on the order of images are meaningful.
        """
        if not self.expected:
            return {}
        real = {name: self.images[name]["dice"] for name in self.expected}
        simple = {
            "soft Dice confidence": {name: e.confidence for name, e in self.expected.items()},
            "mean entropy": {name: -value for name, value in self.entropy.items()},
        }
        without_interval = {
            title: {name: ExpectedDice(v, math.nan, math.nan, v) for name, v in values.items()}
            for title, values in simple.items()
        }
        measures = {"expected Dice": self.expected, **without_interval}
        return {title: agreement(values, real) for title, values in measures.items()}

    def to_dict(self) -> dict[str, object]:
        """Convert to values for JSON, with None for undefined metrics."""
        return {
            "domain": self.domain,
            "thresholds": dict(self.thresholds),
            "mean": _json_scores(self.mean),
            "count": dict(self.count),
            "pooled": _json_scores(self.pooled),
            "interval": {
                name: [_none_if_nan(end) for end in ends] for name, ends in self.interval.items()
            },
            "patients": self.patients,
            "images": {name: _json_scores(scores) for name, scores in self.images.items()},
            "volumes": {name: _json_scores(scores) for name, scores in self.volumes.items()},
            "expected": {name: each.to_dict() for name, each in self.expected.items()},
            "expected_volumes": {
                name: each.to_dict() for name, each in self.expected_volumes.items()
            },
            "milliliters": {
                volume: {name: _json_scores(sizes) for name, sizes in classes.items()}
                for volume, classes in self.milliliters.items()
            },
            "entropy": dict(self.entropy),
            "agreement": {name: each.to_dict() for name, each in self.agreement.items()},
            "resampled_masks": {name: asdict(how) for name, how in self.resampled_masks.items()},
            "mask_notes": list(self.mask_notes),
            "left_out": dict(self.left_out),
            "left_out_volumes": dict(self.left_out_volumes),
        }


def evaluate(
    predictor: Predictor,
    domain: Domain,
    on_image: OnImage | None = None,
    *,
    threshold: float | None = None,
    cases: Iterable[PreparedCase] | None = None,
    others_go_on: bool = False,
) -> DomainScores:
    """Segment every image of a domain, and score images and volumes on their original pixels.

    Parameters
    ----------
    predictor
        Predictor that segments the images.
    domain
        Domain whose images have masks.
    on_image
        Called after each image with the number of images done, the number of
        images, and the image's name.
    threshold
        Foreground threshold; None: the model's own.
    cases
        Result of `prepare_cases` for this domain, if available.
    others_go_on
        Whether to leave an image that cannot be scored out of every figure, and add
        it to `DomainScores.left_out`, instead of raising the error.

    Raises
    ------
    InputError
        If the domain is empty, an image has no mask or cannot be prepared or
        segmented, or a mask does not match the model; the message names the image.
        If others go on, only if that is so of every image.
    """
    card = predictor.model.card
    if len(domain) == 0:
        raise InputError(f"{domain.name}: the domain has no images; expected at least one")
    left_out = dict[str, str]() if others_go_on else None
    if cases is None and left_out is not None:
        cases = readable_cases(domain, card.preprocessing, left_out)
    elif cases is None:
        cases = prepare_cases(domain, card.preprocessing)
    pooled, scores = Pooled(len(card.classes)), dict[str, Scores]()
    thresholds, seconds = dict[str, float](), dict[str, float]()
    expected, entropy = dict[str, ExpectedDice](), Scores()
    volumes = _VolumeScores(card.classes, card.quality)
    for done, case in enumerate(cases, start=1):
        name = case.original.name
        try:
            result = _score(predictor, case, threshold, pooled, domain.name)
        except InputError as error:
            if left_out is None:
                raise
            left_out[name] = str(error)
            continue
        scores[name], thresholds[name] = result.scores, result.threshold
        seconds[name], entropy[name] = result.seconds, result.entropy
        expected[name] = expected_dice(result.sums, card.quality, [result.foreign])
        volumes.add(case.original, result)
        if on_image is not None:
            on_image(done, len(domain), name)
    if left_out and not scores:
        why = next(iter(left_out.values()))
        raise InputError(f"{domain.name}: none of {len(domain)} images can be scored; {why}")
    dice = bootstrap_by_patient([{name: each["dice"] for name, each in scores.items()}])
    return DomainScores(
        domain=domain.name,
        images=scores,
        mean=_means(scores),
        count={name: int((~np.isnan(each)).sum()) for name, each in _columns(scores)},
        pooled=pooled.result(),
        interval={"dice": (dice.low, dice.high)},
        thresholds=thresholds,
        seconds=seconds,
        volumes=volumes.scores,
        expected=expected,
        expected_volumes=volumes.expected,
        milliliters=volumes.milliliters,
        entropy=entropy,
        resampled_masks=domain.resampled_masks,
        mask_notes=domain.mask_notes,
        left_out=left_out or {},
        left_out_volumes={
            volume: "one of its slices could not be scored"
            for volume in (domain.whole_volumes if left_out else ())
            if volume not in volumes.scores
        },
    )


@dataclass(frozen=True)
class _ImageScores:
    """Scores, labels and measurements of an image."""

    scores: Scores
    threshold: float
    seconds: float
    labels: Labels
    sums: Sums
    entropy: float
    foreign: bool


class _VolumeScores:
    """Collects the slices of one volume after another, and scores each complete volume."""

    def __init__(self, classes: list[str], quality: Quality | None) -> None:
        self.scores = dict[str, Scores]()
        self.expected = dict[str, ExpectedDice]()
        self.milliliters = dict[str, dict[str, Scores]]()
        self._classes, self._quality = classes, quality
        self._volume = ""
        self._slices = dict[int, tuple[Labels, Labels]]()
        self._sums: Sums = np.zeros(())
        self._foreign = list[bool]()

    def add(self, case: Case, image: _ImageScores) -> None:
        position, mask = case.position, case.mask
        if position is None or mask is None:
            return
        if position.volume != self._volume:
            self._volume, self._slices, self._foreign = position.volume, {}, []
            self._sums = np.zeros_like(image.sums)
        self._slices[position.index] = image.labels, mask
        self._sums = self._sums + image.sums
        self._foreign.append(image.foreign)
        if len(self._slices) == position.depth:
            pairs = [self._slices[index] for index in range(position.depth)]
            predicted, true = (np.stack(part) for part in zip(*pairs, strict=True))
            self.scores[position.volume] = score_volume(
                predicted, true, position.spacing, self._classes
            )
            self.expected[position.volume] = expected_dice(self._sums, self._quality, self._foreign)
            self.milliliters[position.volume] = self._sizes(true, math.prod(position.spacing))
            self._slices = {}

    def _sizes(self, true: Labels, voxel: float) -> dict[str, Scores]:
        """Milliliters of each foreground class; `voxel` is the volume of a voxel in mm³."""
        expected = expected_sizes(self._sums, self._quality)
        sizes = {}
        for k, (name, size) in enumerate(zip(self._classes[1:], expected, strict=True), start=1):
            counts = {"real": float(np.count_nonzero(true == k)), "expected": size.value}
            counts |= {"low": size.low, "high": size.high}
            sizes[name] = {what: count * voxel / 1000 for what, count in counts.items()}
        return sizes


def _score(
    predictor: Predictor,
    case: PreparedCase,
    threshold: float | None,
    pooled: Pooled,
    domain: str,
) -> _ImageScores:
    original, fov, card = case.original, case.original_fov, predictor.model.card
    if original.mask is None:
        raise InputError(
            f"{domain}: image {original.name} has no mask; expected one to score against"
        )
    try:
        began = time.perf_counter()
        shifts: list[Shift | None] = []
        with memory_of("it", "a smaller image"):
            probabilities = predictor.predict(original.image, fov, case.image, shifts)
            if threshold is None:
                threshold = card.threshold_for(probabilities)
            labels = labels_from(probabilities, threshold)
            elapsed = time.perf_counter() - began
            sums, entropy = label_sums(probabilities, labels), mean_entropy(probabilities)
            scores = score(
                probabilities, original.mask, fov, threshold, classes=card.classes, pooled=pooled
            )
    except InputError as error:
        raise InputError(f"{domain}: image {original.name}: {error}") from None
    [foreign] = are_foreign(card.quality, shifts)
    seconds = case.seconds + elapsed
    return _ImageScores(scores, threshold, seconds, labels, sums, entropy, foreign)


def _columns(images: Mapping[str, Scores]) -> list[tuple[str, list[float]]]:
    """Each metric with its values over the images."""
    rows = list(images.values())
    return [(name, [row[name] for row in rows]) for name in (rows[0] if rows else ())]


def _means(images: Mapping[str, Scores]) -> Scores:
    return {name: mean_defined(values) for name, values in _columns(images)}


def _json_scores(scores: Scores) -> dict[str, float | None]:
    return {name: _none_if_nan(value) for name, value in scores.items()}


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
