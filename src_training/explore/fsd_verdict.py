"""Verdict: comparison of a domain's distance from a source with the spread of the source.

FSD grows with the number of components and decreases with the number of
vectors, and patches of one image are correlated. A single distance is therefore
hard to interpret, and its interval, which assumes independent vectors, is too
narrow. Here random images of the source are held out repeatedly. The distance of
the remaining images to the held-out ones is the reference. The distance to
equally many images of a target, with equally many vectors, is compared with it
(*reconstruction*).
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
"""Smallest numbers of images for a verdict."""

FEW_IMAGES = 10
"""Number of images on either side below which the verdict is called a first impression."""

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
    """Distance of a domain from the source, compared with the source's own spread.

    Attributes
    ----------
    domain
        Name of the domain.
    relation
        Comparison of the 90 % ranges over the splits. ``near``: the median is at
        most the upper end of the source's own range, or at most 1.25 times its
        median. ``further``: the ranges do not overlap. ``far``: in addition the
        medians differ by a factor of 2 or more. ``unclear``: none of these.
        ``unknown``: too few images.
    images, source_images
        Number of images of the domain and of the source.
    distance, own
        FSD from the source to the domain, and to held-out images of the source;
        None if unknown.
    """

    domain: str
    relation: Relation
    images: int
    source_images: int
    distance: Spread | None = None
    own: Spread | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdicts on all domains by their distance from a source.

    Attributes
    ----------
    source
        Name of the source.
    domains
        Verdict on each other domain, in order.
    collapsed
        Whether the source's vectors are practically equal; then there are no verdicts.
    """

    source: str
    domains: tuple[DomainVerdict, ...]
    collapsed: bool = False

    @property
    def method(self) -> str:
        """Description of the measurement in one sentence."""
        return (
            f"Median FSD over {_SPLITS} random splits of {self.source}'s images, on equal "
            "numbers of vectors; the matrix uses all vectors, so that its values differ."
        )


def measure_verdict(table: EmbeddingTable, source: str | None = None, *, seed: int = 0) -> Verdict:
    """Compare all domains with a source by distance; see the module.

    Parameters
    ----------
    table
        Vectors of one model; only those of patches are used, not of augmented views.
    source
        Name of a domain; None for the first of the table.
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
    source_vectors = np.concatenate(list(own.values()))
    if len(source_vectors) > 1 and is_collapsed(source_vectors):
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
    """Distances of the source to a target, and to equally many held-out images of the source."""
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
        subsets = [side[rng.permutation(len(side))[:count]] for side in sides]
        distances.append([frechet_distance(rest, s, interval=False).value for s in subsets])
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
