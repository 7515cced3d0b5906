"""Will a model work on a domain: expected Dice and FSD together, and what would help.

Neither needs a mask. Expected Dice tells how sure the model is, corrected by what it was right
about on validation images; FSD tells how far its semantic vectors lie from those of the source.
They see different things, so both are said.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from src_training.data.domain import Domain
from src_training.errors import InputError
from src_training.evaluation.quality.images import ImageQuality, mean_over_images
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
from src_training.inference.expected_dice import (
    ExpectedDice,
    SourceComparison,
    compare_with_source,
)
from src_training.inference.model_card import ModelCard
from src_training.io.tables import Cell

Help = Literal["angle", "units", "train", "calibrate", "unlabelled", "nothing"]

FIRST = 3
"""Images to annotate that a sentence names."""

_FEW_UNLABELLED = 10
"""With fewer images a run learns little of how a scanner shows things."""

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
    """An image in the order in which annotating it tells most.

    Attributes
    ----------
    quality
        Expected Dice, and real Dice where there is a mask.
    influence
        Share of the domain's FSD that the image adds; NaN where FSD is not known.
    """

    quality: ImageQuality
    influence: float = math.nan


@dataclass(frozen=True)
class DomainSuitability:
    """Whether a model will work on a domain.

    Attributes
    ----------
    domain
        Its name.
    expected
        Mean over its images; its interval is that of errors which all go the same way.
    compared
        `expected` against the source's validation images; None where the file lacks those.
    fsd
        How near it lies to the source; None for the source itself, and without vectors.
    images
        All images, those to annotate first at the front: lowest expected Dice and highest
        influence on FSD, by the sum of both ranks; what cannot be trusted before all.
    help
        What would help, most first.
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
    def first(self) -> tuple[str, ...]:
        """Names of the images to annotate first."""
        return tuple(each.quality.case for each in self.images[:FIRST])


@dataclass(frozen=True)
class Suitability:
    """The verdict on all domains.

    Attributes
    ----------
    source
        Name of the domain that distances are measured from, the first.
    scanner
        What took the training images, see `ModelCard`.
    domains
        The source first.
    fsd
        What the distances come to; None without vectors.
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
        """The verdict on a domain: the claim, the numbers, the images, and what would help.

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
        """A line for each image, with a head; for CSV."""
        head = ["domain", "image", "rank", "expected Dice", "low", "high", "remark", "real Dice"]
        rows: list[list[Cell]] = [[*head, "share of FSD"]]
        for domain in self.domains:
            for rank, each in enumerate(domain.images, start=1):
                found = each.quality.expected
                value = None if found.foreign else found.value
                numbers = (value, found.low, found.high, found.remark, each.quality.dice)
                rows.append([domain.domain, each.quality.case, rank, *numbers, each.influence])
        return rows

    def to_dict(self) -> dict[str, object]:
        """As values for JSON."""
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
            return f"{domain} is what the others are compared with."
        relation = None if each.compared is None else each.compared.relation
        if relation == "unknown":
            return f"{domain}: how well the model works cannot be told ({each.expected.remark})."
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
        """How far the domain lies off, and what to think of that."""
        far, own = fsd.distance, fsd.own
        if far is None or own is None:
            return (
                f"FSD takes {MIN_TARGET_IMAGES} images and {MIN_SOURCE_IMAGES} of {source}; there "
                f"are {fsd.images} and {fsd.source_images}."
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
    """A distance with its 5th and 95th percentile.

    >>> format_spread(Spread(0.731, 0.4, 137.2))
    '0.73 (0.4 to 137)'
    """
    ends = (spread.median, spread.low, spread.high)
    median, low, high = (f"{end:.0f}" if end >= 100 else f"{end:.2g}" for end in ends)
    return f"{median} ({low} to {high})"


def judge_suitability(
    card: ModelCard,
    domains: Sequence[Domain],
    qualities: Mapping[str, Sequence[ImageQuality]],
    table: EmbeddingTable | None = None,
    *,
    seed: int = 0,
) -> Suitability:
    """Bring expected Dice and FSD together, domain by domain.

    Parameters
    ----------
    card
        Of the model.
    domains
        The first is the source, or stands for it.
    qualities
        Domain -> what `image_quality` found of its images.
    table
        Vectors of the same domains; None: nothing is said of FSD.
    seed
        See `measure_verdict`.

    Raises
    ------
    InputError
        If a vector is not finite.
    """
    source = domains[0].name
    verdict = None if table is None else measure_verdict(table, source, seed=seed)
    near = {} if verdict is None else {each.domain: each for each in verdict.domains}
    judged = []
    for domain in domains:
        found = qualities[domain.name]
        expected = mean_over_images([each.expected for each in found])
        fsd = near.get(domain.name)
        influences = {} if table is None or fsd is None else _influences(table, source, domain.name)
        compared = compare_with_source(expected, card.quality)
        needed = () if domain.name == source else _help(card, domain, compared, fsd)
        ranked = _ranked(found, influences)
        judged.append(DomainSuitability(domain.name, expected, compared, fsd, ranked, needed))
    return Suitability(source, card.scanner, tuple(judged), verdict)


def _influences(table: EmbeddingTable, source: str, domain: str) -> dict[str, float]:
    try:
        return {one.case: one.share for one in leave_one_out_influence(table, source, domain)}
    except InputError:  # too few vectors
        return {}


def _ranked(
    found: Sequence[ImageQuality], influences: Mapping[str, float]
) -> tuple[RankedImage, ...]:
    images = [RankedImage(each, influences.get(each.case, math.nan)) for each in found]
    by_dice = sorted(images, key=lambda one: one.quality.expected.value)
    by_fsd = sorted(images, key=lambda one: -np.nan_to_num(one.influence, nan=-np.inf))
    places = {id(one): place for place, one in enumerate(by_dice)}
    if any(not math.isnan(one.influence) for one in images):
        for place, one in enumerate(by_fsd):
            places[id(one)] += place
    trusted = {id(one): not one.quality.expected.remark for one in images}
    return tuple(sorted(images, key=lambda one: (trusted[id(one)], places[id(one)])))


def _help(
    card: ModelCard,
    domain: Domain,
    compared: SourceComparison | None,
    fsd: DomainVerdict | None,
) -> tuple[Help, ...]:
    relation = None if compared is None else compared.relation
    apart = fsd is not None and fsd.relation in ("further", "far")
    needed = list[Help]()
    if relation == "unknown":
        return ("units", "train") if card.preprocessing.kind == "window" else ("train",)
    if getattr(card.preprocessing, "angle", None) is not None and domain.angle is None:
        needed.append("angle")
    if relation == "below" or apart:
        needed.append("calibrate")
    if apart and len(domain) >= _FEW_UNLABELLED:
        needed.append("unlabelled")
    return tuple(needed) or ("nothing",)
