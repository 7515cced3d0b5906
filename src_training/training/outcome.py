"""What a run leaves: models with their cards, and a report of how they do on every domain."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from src_training.alignment.autoencoder import SemanticAutoencoder
from src_training.alignment.msan import AlignmentNetwork, SemanticEncoder
from src_training.atomic import write_text
from src_training.data.domain import Domain
from src_training.evaluation.evaluate import DomainScores, evaluate
from src_training.evaluation.features import image_vectors, mask_vectors
from src_training.evaluation.fsd import FSD, frechet_distance
from src_training.inference.model import ModelCard, SegmentationModel, SemanticSpace, TrainingDomain
from src_training.inference.predictor import Predictor
from src_training.networks import SegmentationNetwork
from src_training.recipe import NetworkRecipe, Recipe

if TYPE_CHECKING:
    from src_training.training.pipeline import Pipeline, TrainedNetworks

Vectors = NDArray[np.float64]

THRESHOLDS = np.arange(0.2, 0.81, 0.02)
METHODS = {
    "teacher": "teacher, from masks alone",
    "alone": "student, from masks alone, as many steps as the distilled one",
    "distilled": "student, distilled by GKD (arXiv 2207.12995)",
}


@dataclass(frozen=True)
class Outcome:
    """How one model of a run does.

    Attributes
    ----------
    parameters, gmac
        Size of the network, and 1e9 multiply-adds for a training patch.
    threshold
        Chosen on the validation split.
    scores
        Test domain -> scores; domains without masks are left out.
    fsd
        Test domain -> distance of its image vectors to the source's.
    prior_fsd
        Test domain -> distance of its image vectors to its masks'.
    """

    parameters: int
    gmac: float
    threshold: float
    scores: dict[str, DomainScores]
    fsd: dict[str, FSD]
    prior_fsd: dict[str, FSD]

    def to_dict(self) -> dict[str, object]:
        """As plain values, for JSON."""
        return {
            "parameters": self.parameters,
            "gmac": self.gmac,
            "threshold": self.threshold,
            "scores": {name: scores.to_dict() for name, scores in self.scores.items()},
            "fsd": {name: fsd.to_dict() for name, fsd in self.fsd.items()},
            "prior_fsd": {name: fsd.to_dict() for name, fsd in self.prior_fsd.items()},
        }


def write_outcome(pipeline: "Pipeline", networks: "TrainedNetworks") -> None:
    """Score teacher, student alone and distilled; write models, then report, then the model.

    ``model.safetensors`` comes last: where it is, everything is.
    """
    roles = {
        "teacher": (networks.teacher, networks.tan),
        "alone": (networks.alone, networks.san),
        "distilled": (networks.distilled, networks.san),
    }
    folder, outcomes = pipeline.folder, dict[str, Outcome]()
    masks = _mask_vectors(pipeline, networks.autoencoder)
    for role, (network, alignment) in roles.items():
        draft = _draft(pipeline, role, network, alignment)
        model, outcomes[role] = _judged(pipeline, draft, masks)
        model.save(folder.models / f"{role}.safetensors")
    report = {role: outcome.to_dict() for role, outcome in outcomes.items()}
    write_text(folder.report / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_text(folder.report / "report.md", as_markdown(pipeline.recipe, outcomes))
    model.save(folder.model)


def _draft(
    pipeline: "Pipeline", role: str, network: SegmentationNetwork, alignment: AlignmentNetwork
) -> SegmentationModel:
    """The model of a role before it is judged."""
    recipe, source = pipeline.recipe, pipeline.training
    used: NetworkRecipe = recipe.teacher if role == "teacher" else recipe.student
    learned_from = TrainingDomain(name=source.name, images=len(source), terms=recipe.source.terms)
    card = ModelCard(
        name=recipe.name if role == "distilled" else f"{recipe.name}-{role}",
        architecture=used.name,
        options=used.options,
        in_channels=recipe.preprocessing.in_channels,
        classes=list(source.classes),
        preprocessing=recipe.preprocessing,
        patch=recipe.patch,
        semantics=_space(alignment.encoder, recipe),
        domains=[learned_from],
        method=METHODS[role],
        recipe=recipe.portable().to_yaml(),
        licence=recipe.licence,
        description=recipe.description,
    )
    encoder = alignment.encoder.to(pipeline.fabric.device)
    return SegmentationModel(card, network.eval(), semantics=encoder.eval())


def _space(encoder: SemanticEncoder, recipe: Recipe) -> SemanticSpace:
    return SemanticSpace(grid=encoder.grid, latent=recipe.latent, hidden=recipe.hidden)


def _mask_vectors(pipeline: "Pipeline", autoencoder: SemanticAutoencoder) -> dict[str, Vectors]:
    """P-SAE's vectors of every labelled test domain: the same for each model."""
    preprocessing, patch = pipeline.recipe.preprocessing, pipeline.recipe.patch
    return {
        domain.name: mask_vectors(autoencoder, domain, preprocessing, patch).values
        for domain in pipeline.tests
        if domain.labelled
    }


def _judged(
    pipeline: "Pipeline", draft: SegmentationModel, masks: dict[str, Vectors]
) -> tuple[SegmentationModel, Outcome]:
    """The model with its threshold and metrics, and the outcome they come from."""
    predictor = Predictor(draft, device=str(pipeline.fabric.device))
    threshold = choose_threshold(predictor, pipeline.held_out)
    scores = {
        domain.name: evaluate(predictor, domain, threshold=threshold)
        for domain in pipeline.tests
        if domain.labelled
    }
    source = image_vectors(draft, pipeline.training).values
    fsd, prior = dict[str, FSD](), dict[str, FSD]()
    for domain in pipeline.tests:
        vectors = image_vectors(draft, domain).values
        fsd[domain.name] = frechet_distance(vectors, source)
        if domain.labelled:
            prior[domain.name] = frechet_distance(vectors, masks[domain.name])
    metrics = {name: found.to_dict()["mean"] for name, found in scores.items()}
    card = draft.card.model_copy(update={"threshold": threshold, "metrics": metrics})
    parameters = sum(parameter.numel() for parameter in draft.network.parameters())
    outcome = Outcome(
        parameters, _gmac(draft.network, pipeline.recipe.patch), threshold, scores, fsd, prior
    )
    return SegmentationModel(card, draft.network, semantics=draft.semantics), outcome


def choose_threshold(predictor: Predictor, validation: Domain) -> float:
    """The threshold of the best mean Dice over the validation images; 0.5 with more classes."""
    if len(predictor.model.card.classes) > 2:
        return 0.5
    curves = []
    for case in validation:
        foreground = predictor.predict(case.image, case.fov)[1]
        curves.append(_dice_curve(foreground, np.asarray(case.mask) > 0))
    return round(float(THRESHOLDS[int(np.mean(curves, axis=0).argmax())]), 2)


def _dice_curve(
    foreground: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> list[float]:
    curve = []
    for threshold in THRESHOLDS:
        predicted = foreground >= threshold
        size = int(predicted.sum()) + int(mask.sum())
        curve.append(2 * int((predicted & mask).sum()) / size if size else 1.0)
    return curve


def _gmac(network: SegmentationNetwork, patch: int) -> float:
    example = torch.zeros(1, network.in_channels, patch, patch)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(example.to(next(network.parameters()).device))
    return counter.get_total_flops() / 2e9


def as_markdown(recipe: Recipe, outcomes: dict[str, Outcome]) -> str:
    """The report as two tables a person reads: the models, and how each does on each domain."""
    models = [
        (role, f"{found.parameters:,}", f"{found.gmac:.2f}", f"{found.threshold:.2f}")
        for role, found in outcomes.items()
    ]
    rows = [
        (domain, role, *_dice(found.scores.get(domain)), *_distance(found.fsd[domain]))
        for domain in next(iter(outcomes.values())).fsd
        for role, found in outcomes.items()
    ]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            *_table(("model", "parameters", "GMAC a patch", "threshold"), models),
            "",
            *_table(("domain", "model", "Dice", "95 %", "FSD", "95 %", "N"), rows),
            "",
            "Dice: mean over the images, inside the field of view, on the original pixels; its "
            "interval is a bootstrap over images. FSD: from the domain to the training images of "
            f"{recipe.source.name}; N patches of the domain, over which its interval is drawn.",
            "",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _dice(scores: DomainScores | None) -> tuple[str, str]:
    if scores is None:
        return "no masks", ""
    low, high = scores.interval["dice"]
    return f"{scores.mean['dice']:.3f}", f"{low:.3f} to {high:.3f}"


def _distance(fsd: FSD) -> tuple[str, str, str]:
    return f"{fsd.value:.3g}", f"{fsd.low:.3g} to {fsd.high:.3g}", str(fsd.n_a)
