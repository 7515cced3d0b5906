"""Verdict: which domains lie about as near to a source as the source's own images do.

FSD grows with the number of components and shrinks with the number of
vectors, and patches of one image are alike. A single distance therefore says
little, and its interval, which takes vectors for independent, too much.
Here images of the source are held out at random, again and again: the
distance of the rest to those held out is what the source measures of itself,
and the distance of the rest to as many images of a target, cut to as many
vectors, compares with it (*reconstruction*).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import frechet_distance, is_collapsed

Array = NDArray[np.float64]
Relation = Literal["near", "unclear", "further", "far", "unknown"]

MIN_SOURCE_IMAGES, MIN_TARGET_IMAGES = 4, 2
"""With fewer images no distance is judged."""

FEW_IMAGES = 10
"""With fewer images on either side the verdict is called a first impression."""

_SPLITS = 20
_NEAR_RATIO, _FAR_RATIO = 1.25, 2.0
_LIMITS = 5, 95


@dataclass(frozen=True)
class Spread:
    """A distance over random splits.

    Attributes
    ----------
    median
        FSD, >= 0.
    low, high
        5th and 95th percentile.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class DomainVerdict:
    """How near a domain lies to the source.

    Attributes
    ----------
    domain
        Its name.
    relation
        By the 90 % ranges over the splits. ``near``: the median is in the
        source's own range, or at most 1.25 times its median; ``further``: the
        ranges do not overlap; ``far``: nor are they less than a factor of 2
        apart by their medians; ``unclear``: in between; ``unknown``: too few images.
    images, source_images
        How many there are of either.
    distance, own
        FSD from the source to the domain, and to the source's own held-out
        images; None if unknown.
    """

    domain: str
    relation: Relation
    images: int
    source_images: int
    distance: Spread | None = None
    own: Spread | None = None


@dataclass(frozen=True)
class Verdict:
    """What the distances of all domains from a source come to.

    Attributes
    ----------
    source
        Name of the source.
    domains
        A verdict on each other domain, in order.
    collapsed
        Whether the source's vectors are practically equal; nothing is judged then.
    """

    source: str
    domains: tuple[DomainVerdict, ...]
    collapsed: bool = False

    @property
    def method(self) -> str:
        """How it was measured, in a sentence or two."""
        return (
            f"Median FSD over {_SPLITS} random splits of {self.source}'s images, on equal "
            "numbers of vectors; the matrix uses all vectors, so that its values differ."
        )


def measure_verdict(table: EmbeddingTable, source: str | None = None, *, seed: int = 0) -> Verdict:
    """Compare every domain with a source by its distance, see the module.

    Parameters
    ----------
    table
        Vectors of one model; of each image the patches count, not augmented views.
    source
        A domain; None: the first of the table.
    seed
        Seed of the splits.

    Raises
    ------
    InputError
        If there is no such domain, or a vector is not finite.
    """
    images = _vectors_by_image(table)
    source = source or next(iter(images), "")
    if source not in images:
        raise InputError(f"there is no domain {source!r}; expected one of {', '.join(images)}")
    own = images[source]
    whole = np.concatenate(list(own.values()))
    if len(whole) > 1 and is_collapsed(whole):
        return Verdict(source, (), collapsed=True)
    verdicts = []
    for domain, target in images.items():
        if domain == source:
            continue
        verdict = DomainVerdict(domain, "unknown", len(target), len(own))
        if len(own) >= MIN_SOURCE_IMAGES and len(target) >= MIN_TARGET_IMAGES:
            rng = np.random.default_rng(seed)
            distance, within = _compare(list(own.values()), list(target.values()), rng)
            relation = _relation(distance, within)
            verdict = replace(verdict, relation=relation, distance=distance, own=within)
        verdicts.append(verdict)
    return Verdict(source, tuple(verdicts))


def _vectors_by_image(table: EmbeddingTable) -> dict[str, dict[str, Array]]:
    """Vectors (n, d) of the patches of each image, by domain and image."""
    patches = table.where(kind="image", view=0)
    domains, cases = np.array(patches.domains), np.array(patches.cases)
    return {
        domain: {
            case: patches.values[(domains == domain) & (cases == case)]
            for case in dict.fromkeys(cases[domains == domain].tolist())
        }
        for domain in dict.fromkeys(patches.domains)
    }


def _compare(
    own: list[Array], target: list[Array], rng: np.random.Generator
) -> tuple[Spread, Spread]:
    """Distances of the source to a target, and to as many of its own images held out."""
    held_out = min(len(own) // 2, len(target))
    distances = []
    for _ in range(_SPLITS):
        order = rng.permutation(len(own))
        drawn = rng.permutation(len(target))[:held_out]
        rest = np.concatenate([own[i] for i in order[held_out:]])
        sides = (
            np.concatenate([target[i] for i in drawn]),
            np.concatenate([own[i] for i in order[:held_out]]),
        )
        count = min(map(len, sides))
        equal = [side[rng.permutation(len(side))[:count]] for side in sides]
        distances.append([frechet_distance(rest, s, interval=False).value for s in equal])
    to_target, to_own = np.array(distances).T
    return _spread(to_target), _spread(to_own)


def _spread(distances: Array) -> Spread:
    return Spread(float(np.median(distances)), *np.percentile(distances, _LIMITS).tolist())


def _relation(distance: Spread, own: Spread) -> Relation:
    if distance.median <= max(own.high, _NEAR_RATIO * own.median):
        return "near"
    if distance.low <= own.high:
        return "unclear"
    return "far" if distance.median >= _FAR_RATIO * own.median else "further"
