"""Suitability of a model for a domain, by expected Dice and FSD, and recommendations.

Neither needs masks. Expected Dice measures the model's confidence, calibrated on validation
images; FSD measures the distance of its semantic vectors from those of the source. They detect
different problems, so both are reported.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from src_training.data.domain import Domain
from src_training.errors import InputError
from src_training.evaluation.quality.images import ImageQuality, mean_over_images
from src_training.evaluation.verdict import USELESS_DICE
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd_influence import leave_one_out_influence
from src_training.explore.fsd_verdict import (
    FEW_IMAGES,
    MIN_SOURCE_IMAGES,
    MIN_TARGET_IMAGES,
    DomainVerdict,
    Spread,
    Verdict,
    measure_verdict,
)
from src_training.formatting import format_number, format_range
from src_training.inference.expected_dice import (
    ExpectedDice,
    SourceComparison,
    compare_with_source,
)
from src_training.inference.model_card import ModelCard
from src_training.io.tables import Cell

Help = Literal["angle", "units", "train", "calibrate", "unlabelled", "nothing"]

FIRST = 3
"""Number of images to annotate that a sentence lists."""

_FEW_UNLABELLED = 10
"""Smallest number of images to recommend for training without masks; fewer have little effect."""

_HELP: dict[Help, str] = {
    "angle": (
        "give the angle of the camera (--angle, or Camera angle in Segment); nothing is to be "
        "annotated"
    ),
    "units": "give the images in Hounsfield units if they are CT, not as pictures",
    "train": "annotate some images of this kind and train on them; no setting makes up for that",
    "calibrate": (
        "annotate the first two images and calibrate the model to them (msankd tune, or Calibrate "
        "in Segment); half a minute, nothing is trained"
    ),
    "unlabelled": (
        "add the images without masks to a training run (unlabelled: in its recipe, or "
        "Unlabelled images in Train & distil)"
    ),
    "nothing": "use the model as it is, and look at the first images",
}


@dataclass(frozen=True)
class RankedImage:
    """An image, ranked by the benefit of annotating it.

    Attributes
    ----------
    quality
        Expected Dice, and real Dice if there is a mask.
    influence
        Share of the domain's FSD due to the image; NaN if FSD is unknown.
    """

    quality: ImageQuality
    influence: float = math.nan


@dataclass(frozen=True)
class DomainSuitability:
    """Suitability of a model for a domain.

    Attributes
    ----------
    domain
        Name of the domain.
    expected
        Mean expected Dice over the images; the interval assumes fully correlated errors.
    compared
        Comparison of `expected` with the source's validation images; None if the model file
        does not have them.
    fsd
        Distance from the source; None for the source itself, and without vectors.
    images
        All images, in the order in which to annotate them: first those with a remark, which
        are unreliable, then by the sum of the ranks of low expected Dice and of high
        influence on FSD.
    help
        Recommendations, most effective first.
    """

    domain: str
    expected: ExpectedDice
    compared: SourceComparison | None
    fsd: DomainVerdict | None
    images: tuple[RankedImage, ...]
    help: tuple[Help, ...]

    @property
    def dice(self) -> float | None:
        """Mean real Dice; None unless every image has a mask."""
        dice = [each.quality.dice for each in self.images]
        return None if None in dice else float(np.mean([each for each in dice if each is not None]))

    @property
    def useless(self) -> bool:
        """Whether the model is expected to find next to nothing of what it was trained to find."""
        return self.expected.value < USELESS_DICE

    @property
    def first(self) -> tuple[str, ...]:
        """Names of the images to annotate first."""
        return tuple(each.quality.case for each in self.images[:FIRST])


@dataclass(frozen=True)
class Suitability:
    """Suitability of a model for all domains.

    Attributes
    ----------
    source
        Name of the first domain, which distances are measured from.
    scanner
        Scanner of the training images, see `ModelCard`.
    domains
        Suitability for each domain, the source first.
    fsd
        Verdict by the distances; None without vectors.
    """

    source: str
    scanner: str
    domains: tuple[DomainSuitability, ...]
    fsd: Verdict | None = None

    def sentences(
        self,
        each: DomainSuitability,
        name: Callable[[str], str] = str,
        link: Callable[[str, str], str] = lambda _domain, case: case,
    ) -> list[str]:
        """Describe a domain: conclusion, numbers, images to annotate, and recommendations.

        Parameters
        ----------
        each
            One of `domains`.
        name
            Formats the name of a domain.
        link
            Formats an image by the names of domain and image.
        """
        images = ", ".join(link(each.domain, case) for case in each.first)
        sentences = [self._claim(each, name), self._numbers(each, name)]
        sentences.append(
            f"{'Annotate' if each.dice is None else 'Look at'} first: {images}."
            if each.domain != self.source or each.dice is None
            else ""
        )
        if each.help:
            helping = "; then ".join(_HELP[kind] for kind in each.help)
            sentences.append(f"What would help most: {helping}.")
        return [sentence for sentence in sentences if sentence]

    def rows(self) -> list[list[Cell]]:
        """Header, and a row for each image, for CSV."""
        head = ["domain", "image", "rank", "expected Dice", "low", "high", "remark", "real Dice"]
        rows: list[list[Cell]] = [[*head, "share of FSD"]]
        for domain in self.domains:
            for rank, each in enumerate(domain.images, start=1):
                expected = each.quality.expected
                value = None if expected.foreign else expected.value
                interval = (expected.low, expected.high)
                cells = (value, *interval, expected.remark, each.quality.dice, each.influence)
                rows.append([domain.domain, each.quality.case, rank, *cells])
        return rows

    def to_dict(self) -> dict[str, object]:
        """Convert to JSON values."""
        return {"source": self.source, "domains": [self._as_dict(each) for each in self.domains]}

    def _as_dict(self, each: DomainSuitability) -> dict[str, object]:
        return {
            "domain": each.domain,
            "verdict": self.sentences(each),
            "expected": each.expected.to_dict(),
            "compared_with_source": None if each.compared is None else each.compared.relation,
            "dice": each.dice,
            "fsd": None if each.fsd is None else asdict(each.fsd),
            "annotate_first": list(each.first),
            "help": list(each.help),
            "images": [
                {
                    "image": one.quality.case,
                    "expected": one.quality.expected.to_dict(),
                    "dice": one.quality.dice,
                    "share_of_fsd": None if math.isnan(one.influence) else one.influence,
                }
                for one in each.images
            ],
        }

    def _claim(self, each: DomainSuitability, name: Callable[[str], str]) -> str:
        domain = name(each.domain)
        if each.domain == self.source:
            fails = ", and the model finds next to nothing in it" * each.useless
            return f"{domain} is what the others are compared with{fails}."
        relation = None if each.compared is None else each.compared.relation
        if relation == "unknown":
            return f"{domain}: how well the model works cannot be told ({each.expected.remark})."
        if each.useless:
            own = f", as on the training {self.scanner}" * (relation == "as")
            return f"{domain}: the model is expected to find next to nothing{own}."
        claim = {
            None: "the model file has no figure of its source to compare with",
            "as": f"expected to work as on the training {self.scanner}",
            "below": f"expected to work less well than on the training {self.scanner}",
        }[relation]
        far = each.fsd is not None and each.fsd.relation == "far" and relation == "as"
        but = f", but its images lie far from those of {name(self.source)}" if far else ""
        return f"{domain}: {claim}{but}."

    def _numbers(self, each: DomainSuitability, name: Callable[[str], str]) -> str:
        dice = "" if each.dice is None else f", real {each.dice:.2f}"
        foreign = sum(one.quality.expected.foreign for one in each.images)
        numbers = f"Expected Dice {each.expected}{dice}."
        if foreign and not each.expected.foreign:
            numbers += f" Of {foreign} of the {len(each.images)} images it cannot be told."
        if self.fsd is not None and self.fsd.collapsed:
            return f"{numbers} The model's vectors are practically equal, so FSD says nothing."
        if each.fsd is None:
            return numbers
        return f"{numbers} {self._distance(each.fsd, each.compared, name(self.source))}"

    def _distance(self, fsd: DomainVerdict, compared: SourceComparison | None, source: str) -> str:
        """Describe the distance of the domain from the source."""
        far, own = fsd.distance, fsd.own
        if far is None or own is None:
            return (
                f"There are too few images for FSD: {fsd.images}, and {fsd.source_images} of "
                f"{source}; expected {MIN_TARGET_IMAGES} and {MIN_SOURCE_IMAGES}."
            )
        place = {
            "near": "about as near as its own images",
            "unclear": "perhaps a little further than its own images",
            "further": "somewhat further than its own images",
            "far": "far off",
        }[fsd.relation]
        text = (
            f"From {source} it lies {place}: FSD {format_spread(far)}, own images "
            f"{format_spread(own)}"
        )
        few = min(fsd.images, fsd.source_images)
        text += f"; a first impression, by {few} images." if few < FEW_IMAGES else "."
        if fsd.relation == "far" and compared is not None and compared.relation == "as":
            text += " The two disagree: check some results before you rely on expected Dice."
        return text


def format_spread(spread: Spread) -> str:
    """Format a distance with its 5th and 95th percentile.

    >>> format_spread(Spread(0.731, 0.4, 137.2))
    '0.73 (0.4 to 137)'
    """
    ends = format_range(spread.low, spread.high, digits=2)
    return f"{format_number(spread.median, digits=2)} ({ends})"


def judge_suitability(
    card: ModelCard,
    domains: Sequence[Domain],
    qualities: Mapping[str, Sequence[ImageQuality]],
    table: EmbeddingTable | None = None,
    *,
    seed: int = 0,
) -> Suitability:
    """Combine expected Dice and FSD for each domain.

    Parameters
    ----------
    card
        Card of the model.
    domains
        Domains; the first is, or represents, the source.
    qualities
        Domain -> results of `image_quality` for its images.
    table
        Vectors of the same domains; without them FSD is not reported.
    seed
        See `measure_verdict`.

    Raises
    ------
    InputError
        If a vector is not finite.
    """
    source = domains[0].name
    verdict = None if table is None else measure_verdict(table, source, seed=seed)
    distances = {} if verdict is None else {each.domain: each for each in verdict.domains}
    results = []
    for domain in domains:
        images = qualities[domain.name]
        expected = mean_over_images([each.expected for each in images])
        fsd = distances.get(domain.name)
        influences = {} if table is None or fsd is None else _influences(table, source, domain.name)
        compared = compare_with_source(expected, card.quality)
        ranked = _ranked(images, influences)
        suitability = DomainSuitability(domain.name, expected, compared, fsd, ranked, ())
        if domain.name != source:
            suitability = replace(suitability, help=_help(card, domain, suitability))
        results.append(suitability)
    return Suitability(source, card.scanner, tuple(results), verdict)


def _influences(table: EmbeddingTable, source: str, domain: str) -> dict[str, float]:
    try:
        return {one.case: one.share for one in leave_one_out_influence(table, source, domain)}
    except InputError:  # There are too few vectors.
        return {}


def _ranked(
    qualities: Sequence[ImageQuality], influences: Mapping[str, float]
) -> tuple[RankedImage, ...]:
    images = [RankedImage(each, influences.get(each.case, math.nan)) for each in qualities]
    by_dice = sorted(images, key=lambda image: image.quality.expected.value)
    by_fsd = sorted(images, key=lambda image: -np.nan_to_num(image.influence, nan=-np.inf))
    ranks = {id(image): rank for rank, image in enumerate(by_dice)}
    if any(not math.isnan(image.influence) for image in images):
        for rank, image in enumerate(by_fsd):
            ranks[id(image)] += rank
    reliable = {id(image): not image.quality.expected.remark for image in images}
    return tuple(sorted(images, key=lambda image: (reliable[id(image)], ranks[id(image)])))


def _help(card: ModelCard, domain: Domain, suitability: DomainSuitability) -> tuple[Help, ...]:
    compared, fsd = suitability.compared, suitability.fsd
    relation = None if compared is None else compared.relation
    distant = fsd is not None and fsd.relation in ("further", "far")
    kinds = list[Help]()
    if relation == "unknown":
        return ("units", "train") if card.preprocessing.kind == "window" else ("train",)
    if getattr(card.preprocessing, "angle", None) is not None and domain.angle is None:
        kinds.append("angle")
    if suitability.useless:
        return (*kinds, "train")
    if relation == "below" or distant:
        kinds.append("calibrate")
    if distant and len(domain) >= _FEW_UNLABELLED:
        kinds.append("unlabelled")
    return tuple(kinds) or ("nothing",)
