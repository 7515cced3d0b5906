"""Verdict: which domains lie about as near to a source as the source's own images do.

FSD grows with the number of components and shrinks with the number of
vectors, and patches of one image are alike. A single distance therefore says
little, and its interval, which takes vectors for independent, too much.
Here images of the source are held out at random, again and again: the
distance of the rest to those held out is what the source measures of itself,
and the distance of the rest to as many images of a target, cut to as many
vectors, compares with it (*reconstruction*).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable
from src_training.explore.fsd import frechet_distance, is_collapsed
from src_training.explore.fsd_influence import leave_one_out_influence
from src_training.explore.fsd_matrix import dice_by_domain

Array = NDArray[np.float64]
Relation = Literal["near", "unclear", "further", "far", "unknown"]

MIN_SOURCE_IMAGES, MIN_TARGET_IMAGES = 4, 2
"""With fewer images no distance is judged."""

FEW_IMAGES = 10
"""With fewer images on either side the verdict is called a first impression."""

_SPLITS = 20
_LABEL_FIRST = 3
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
    label_first
        Images to label first: those that add most to the distance of a domain
        that is further or far; else none.
    dice
        Mean Dice of its patches; None without masks.
    """

    domain: str
    relation: Relation
    images: int
    source_images: int
    distance: Spread | None = None
    own: Spread | None = None
    label_first: tuple[str, ...] = ()
    dice: float | None = None


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
    dice
        Of the source; None without masks.
    """

    source: str
    domains: tuple[DomainVerdict, ...]
    collapsed: bool = False
    dice: float | None = None

    @property
    def method(self) -> str:
        """How it was measured, in a sentence or two."""
        return (
            f"Median FSD over {_SPLITS} random splits of {self.source}'s images, on equal "
            "numbers of vectors; the matrix uses all vectors, so that its values differ."
        )

    def sentences(
        self,
        name: Callable[[str], str] = str,
        link: Callable[[str, str], str] = lambda _domain, case: case,
        most: int | None = None,
    ) -> list[str]:
        """The verdict in plain English, a line for each domain.

        Parameters
        ----------
        name
            Formats the name of a domain.
        link
            Formats an image by the names of domain and image.
        most
            Largest number of domains that have a line, the furthest first; None: all, in order.
        """
        source = name(self.source)
        if self.collapsed:
            return [
                f"No verdict: the model's vectors of {source} are practically equal, so distances "
                "say nothing."
            ]
        if not self.domains:
            return [f"Add a second domain to compare it with {source}."]
        shown = self.domains
        if most is not None and len(shown) > most:
            shown = tuple(sorted(shown, key=_median, reverse=True)[:most])
        lines = [f"Compared with {source}'s own images:"]
        lines += [self._line(each, name, link) for each in shown]
        if len(shown) < len(self.domains):
            lines.append(f"{len(self.domains) - len(shown)} more domains lie nearer than these.")
        counts = {self.source: self.domains[0].source_images}
        counts |= {each.domain: each.images for each in shown}
        few = [f"{count} of {name(each)}" for each, count in counts.items() if count < FEW_IMAGES]
        if few and any(each.distance for each in shown):
            lines.append(f"A first impression, with few images: {', '.join(few)}.")
        return lines

    def _line(
        self, each: DomainVerdict, name: Callable[[str], str], link: Callable[[str, str], str]
    ) -> str:
        domain = name(each.domain)
        if each.distance is None or each.own is None:
            return (
                f"{domain}: no verdict. It has {_images(each.images)} and {name(self.source)} "
                f"{each.source_images}; expected at least {MIN_TARGET_IMAGES} and "
                f"{MIN_SOURCE_IMAGES}."
            )
        ratio = each.distance.median / max(each.own.median, np.finfo(float).tiny)
        claim = {
            "near": "lies about as near",
            "unclear": "may lie a little further, within chance",
            "further": "lies somewhat further",
            "far": f"lies far, {_times(ratio)} as far",
        }[each.relation]
        numbers = f"FSD {each.distance.median:.2g}, own {each.own.median:.2g}"
        if each.dice is not None and self.dice is not None:
            numbers += f"; Dice {each.dice:.2f}, own {self.dice:.2f}"
        images = ", ".join(link(each.domain, case) for case in each.label_first)
        first = "look at these first" if each.dice is not None else "label these first"
        return f"{domain} {claim} ({numbers})" + (f"; {first}: {images}." if images else ".")


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
    own, dice = images[source], dice_by_domain(table)
    whole = np.concatenate(list(own.values()))
    if len(whole) > 1 and is_collapsed(whole):
        return Verdict(source, (), collapsed=True)
    verdicts = []
    for domain, target in images.items():
        if domain == source:
            continue
        verdict = DomainVerdict(domain, "unknown", len(target), len(own), dice=dice.get(domain))
        if len(own) >= MIN_SOURCE_IMAGES and len(target) >= MIN_TARGET_IMAGES:
            rng = np.random.default_rng(seed)
            distance, within = _compare(list(own.values()), list(target.values()), rng)
            relation = _relation(distance, within)
            apart = relation in ("further", "far")
            first = _label_first(table, source, domain) if apart else ()
            verdict = replace(
                verdict, relation=relation, distance=distance, own=within, label_first=first
            )
        verdicts.append(verdict)
    return Verdict(source, tuple(verdicts), dice=dice.get(source))


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


def _label_first(table: EmbeddingTable, source: str, domain: str) -> tuple[str, ...]:
    ranked = leave_one_out_influence(table, source, domain)
    return tuple(each.case for each in ranked[:_LABEL_FIRST])


def _median(verdict: DomainVerdict) -> float:
    return -1.0 if verdict.distance is None else verdict.distance.median


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio < 100 else "over 100 times"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
