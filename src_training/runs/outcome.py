"""The report on the models of a run, as JSON and as Markdown tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from src_training.evaluation.evaluate import DomainScores
from src_training.explore.fsd import FSD
from src_training.formatting import format_number, format_range
from src_training.inference.model_card import DomainKind
from src_training.io.tables import markdown_table, markdown_text


@dataclass(frozen=True)
class Outcome:
    """Size, speed and scores of one model of a run.

    Attributes
    ----------
    parameters, gmac
        Number of parameters, and 1e9 multiply-adds (MACs) for a training patch.
    bytes
        Size of the model file.
    threshold, own_threshold, own_statistics
        Settings chosen on the validation split; see `threshold`, `per_image_threshold` and
        `bn_mixing` of `ModelCard`.
    seconds_per_image
        Median time from an image to its labels over the scored images, on the device of the run.
    scores
        Domain -> scores; domains with missing masks are left out.
    fsd
        Domain -> distance of its image vectors to those of the training
        images; domains of a single patch are left out.
    prior_fsd
        Domain -> distance of its image vectors to those of its masks.
    vectors_alike
        Whether all training images have the same vector, which makes the distances
        meaningless; see `is_collapsed`.
    domain_kinds
        Domain -> its part in the training of the model; see `DomainKind`.
    taught
        Whether the model was distilled from a teacher.
    steps, step_seconds
        Number of steps of the stage that trained the model, and median seconds of a step without
        validations; None if the run has not timed them.
    """

    parameters: int
    gmac: float
    bytes: int
    threshold: float
    own_threshold: bool
    own_statistics: float
    seconds_per_image: float
    scores: dict[str, DomainScores]
    fsd: dict[str, FSD]
    prior_fsd: dict[str, FSD]
    vectors_alike: bool
    domain_kinds: dict[str, DomainKind] = field(default_factory=dict)
    taught: bool = False
    steps: int | None = None
    step_seconds: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Convert to plain values for JSON."""
        return {
            "parameters": self.parameters,
            "gmac": self.gmac,
            "bytes": self.bytes,
            "threshold": self.threshold,
            "own_threshold": self.own_threshold,
            "own_statistics": self.own_statistics,
            "seconds_per_image": self.seconds_per_image,
            "scores": {name: scores.to_dict() for name, scores in self.scores.items()},
            "fsd": {name: fsd.to_dict() for name, fsd in self.fsd.items()},
            "prior_fsd": {name: fsd.to_dict() for name, fsd in self.prior_fsd.items()},
            "vectors_alike": self.vectors_alike,
            "domain_kinds": dict(self.domain_kinds),
            "taught": self.taught,
            "steps": self.steps,
            "step_seconds": self.step_seconds,
        }


def as_markdown(
    title: str,
    domains: Sequence[str],
    outcomes: Mapping[str, Outcome],
    notes: Sequence[str],
    verdict: str = "",
) -> str:
    """Format the report as two tables: the models, and their scores on each domain.

    Parameters
    ----------
    title
        Name of the run.
    domains
        Domains in the order of the table; one without masks has a distance only.
    outcomes
        Model -> its size, speed and scores.
    notes
        Sentences on how to read the scores.
    verdict
        First sentence of the page, on which student is better.
    """
    models = [
        (
            role,
            f"{found.parameters:,}" if found.parameters else "not known",
            f"{found.bytes / 1e6:.1f}",
            f"{found.gmac:.2f}" if found.gmac else "not known",
            f"{found.seconds_per_image * 1000:.0f}",
            "each image's own" if found.own_threshold else f"{found.threshold:.2f}",
        )
        for role, found in outcomes.items()
    ]
    head = ("model", "parameters", "MB", "GMAC a patch", "ms an image", "threshold")
    rows = [
        (
            domain,
            role,
            found.domain_kinds.get(domain, ""),
            *_dice(found.scores.get(domain)),
            *_distance(found.fsd.get(domain)),
        )
        for domain in domains
        for role, found in outcomes.items()
    ]
    notes = (
        "Milliseconds: from an image to its labels, the median of those that were scored.",
        "Dice: mean over the images, inside the field of view, on the original pixels; its "
        "interval is a bootstrap over patients, as the names of images tell them. FSD: from the "
        "domain to the training images, with an interval for want of more patches; N patches of "
        "the domain.",
        "Kind: what the model knows of the domain. Unseen: no image of that scanner trained it; "
        "adapted: images of it without masks did; source: images with masks did; validation: "
        "images held out of the sources, which chose checkpoint, calibration and thresholds.",
        *(f"{note}." for note in notes),
        *(
            f"{domain}, {role}: as {_counted(len(scores.volumes))} Dice "
            f"{scores.volume_mean['dice']:.3f}, HD95 {scores.volume_mean['hd95']:.1f} mm, "
            f"average surface distance {scores.volume_mean['assd']:.1f} mm."
            for domain in domains
            for role, found in outcomes.items()
            if (scores := found.scores.get(domain)) and scores.volumes
        ),
    )
    return "\n".join(
        [
            f"# {markdown_text(title)}",
            "",
            *([markdown_text(verdict), ""] if verdict else []),
            *markdown_table(head, models),
            "",
            *markdown_table(("domain", "model", "kind", "Dice", "95 %", "FSD", "95 %", "N"), rows),
            *(line for paragraph in notes for line in ("", markdown_text(paragraph))),
            "",
        ]
    )


def _counted(volumes: int) -> str:
    return "one whole volume" if volumes == 1 else f"{volumes} whole volumes, on average"


def _dice(scores: DomainScores | None) -> tuple[str, str]:
    if scores is None:
        return "no masks", ""
    low, high = scores.interval["dice"]
    interval = "one patient" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return f"{scores.mean['dice']:.3f}", interval


def _distance(fsd: FSD | None) -> tuple[str, str, str]:
    if fsd is None:
        return "too few patches", "", ""
    return format_number(fsd.value), format_range(fsd.low, fsd.high), str(fsd.n_a)
