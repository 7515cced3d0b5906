"""What a run leaves: models with their cards, and a report of how they do on every domain."""

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch.utils.flop_counter import FlopCounterMode

from src_training.alignment.alignment_network import AlignmentNetwork, SemanticEncoder
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.recipe import NetworkRecipe, Recipe
from src_training.data.augmentation import Augmenter
from src_training.data.domain import Domain
from src_training.data.prepared import prepared_images
from src_training.distillation import METHODS, active_parts
from src_training.evaluation.calibration import calibrate, style_augmented
from src_training.evaluation.evaluate import DomainScores, evaluate
from src_training.explore.embeddings import image_vectors, mask_vectors
from src_training.explore.fsd import FSD, all_alike, frechet_distance
from src_training.inference.model_card import ModelCard, SemanticSpace, TrainingDomain
from src_training.inference.model_file import SegmentationModel, read_card
from src_training.inference.predictor import Predictor
from src_training.io.atomic import write_text
from src_training.networks import SegmentationNetwork
from src_training.runs.data import source_notes
from src_training.runs.directory import RunDirectory
from src_training.runs.outcome import Outcome, as_markdown

if TYPE_CHECKING:
    from src_training.runs.pipeline import Pipeline, TrainedNetworks

Vectors = NDArray[np.float64]

FROM_MASKS = {
    "teacher": "teacher, from masks alone",
    "alone": "student, from masks alone, as many steps as the distilled one",
}
ROLES = (*FROM_MASKS, "distilled")
"""The models that a run leaves."""


@dataclass
class _Judged:
    """A model before its card is written, and what has been found of it so far."""

    predictor: Predictor
    source: Vectors
    scores: dict[str, DomainScores] = field(default_factory=dict)
    fsd: dict[str, FSD] = field(default_factory=dict)
    prior_fsd: dict[str, FSD] = field(default_factory=dict)


def finalise(pipeline: "Pipeline", networks: "TrainedNetworks") -> None:
    """Score teacher, student alone and distilled; write models, then report, then the model.

    Every image is prepared once for all three, and one domain at a time is
    held. What is known of a model from masks alone is not found again: all
    runs of a comparison have the same. ``model.safetensors`` comes last:
    where it is, everything is.

    Raises
    ------
    InputError
        If an image cannot be prepared or scored; names it.
    OSError
        If a file cannot be written.
    """
    folder, outcomes = pipeline.folder, _known(pipeline.folder)
    trained = {
        "teacher": (networks.teacher, networks.tan),
        "alone": (networks.alone, networks.san),
        "distilled": (networks.distilled, networks.san),
    }
    drafts = {
        role: _draft(pipeline, role, *parts)
        for role, parts in trained.items()
        if role not in outcomes
    }
    judged = _begun(pipeline, drafts)
    for domain in _domains(pipeline):
        _judge(pipeline, domain, judged, networks.autoencoder)
    for role, found in judged.items():
        model, file = _with_metrics(found), folder.models / f"{role}.safetensors"
        model.save(file)
        outcomes[role] = _outcome(found, file.stat().st_size)
        if role in FROM_MASKS:
            write_text(folder.outcome(role), json.dumps(asdict(outcomes[role])))
    report = {role: outcomes[role].to_dict() for role in ROLES}
    write_text(folder.report / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_text(folder.report / "report.md", _said(pipeline, outcomes))
    model.save(folder.model)


def _known(folder: RunDirectory) -> dict[str, Outcome]:
    """How the models from masks alone do, where it was found before."""
    outcome, files = TypeAdapter(Outcome), {role: folder.outcome(role) for role in FROM_MASKS}
    return {
        role: outcome.validate_json(file.read_bytes())
        for role, file in files.items()
        if file.exists()
    }


def _draft(
    pipeline: "Pipeline", role: str, network: SegmentationNetwork, alignment: AlignmentNetwork
) -> SegmentationModel:
    """The model of a role before it is judged."""
    recipe, source = pipeline.recipe, pipeline.training
    used: NetworkRecipe = recipe.teacher if role == "teacher" else recipe.student
    learned_from = [TrainingDomain(name=source.name, images=len(source), terms=recipe.source.terms)]
    if role == "distilled":
        learned_from += [
            TrainingDomain(name=domain.name, images=len(domain), terms=each.terms)
            for each, domain in pipeline.unlabelled
        ]
    titles = [str(METHODS[each.method]) for each in recipe.distillation if active_parts(each)]
    method = FROM_MASKS.get(role, f"student, distilled by {' + '.join(titles)}")
    if recipe.start_from is not None and role != "teacher":
        # Its images, and their terms, are in the weights still.
        start = read_card(pipeline.folder.start)
        learned_from = [*start.sources, *learned_from]
        method += f", begun from {start.name}"
    card = ModelCard(
        name=recipe.name if role == "distilled" else f"{recipe.name}-{role}",
        architecture=used.name,
        options=used.options,
        in_channels=recipe.preprocessing.in_channels,
        classes=list(source.classes),
        preprocessing=recipe.preprocessing,
        patch=recipe.patch,
        spacing=source.spacing,
        semantics=_space(alignment.encoder, recipe),
        sources=learned_from,
        method=method,
        augmentation=recipe.augmentation,
        recipe=recipe.portable().to_yaml(),
        licence=recipe.licence,
        description=recipe.description,
    )
    encoder = alignment.encoder.to(pipeline.fabric.device)
    # A copy: calibration changes its weights, and the networks are the run's.
    return SegmentationModel(card, copy.deepcopy(network).eval(), semantics=encoder.eval())


def _space(encoder: SemanticEncoder, recipe: Recipe) -> SemanticSpace:
    return SemanticSpace(grid=encoder.grid, latent=recipe.latent, hidden=recipe.hidden)


def _begun(pipeline: "Pipeline", drafts: dict[str, SegmentationModel]) -> dict[str, _Judged]:
    """Calibration and threshold from the validation images, vectors of the training images."""
    preprocessing, device = pipeline.recipe.preprocessing, str(pipeline.fabric.device)
    held_out = list(prepared_images(pipeline.held_out, preprocessing))
    images = list(prepared_images(pipeline.training, preprocessing))
    views = Augmenter(pipeline.recipe.augmentation, pipeline.recipe.patch)
    styled = style_augmented(held_out, views.restyle)
    judged = {}
    for role, draft in drafts.items():
        predictor = Predictor(draft, device=device)
        calibrate(predictor, held_out, styled)
        vectors = image_vectors(predictor.model, pipeline.training, images)
        judged[role] = _Judged(predictor, vectors)
    return judged


def _domains(pipeline: "Pipeline") -> Iterator[Domain]:
    """What is reported on: the validation split, then the test domains."""
    yield replace(pipeline.held_out, name=f"{pipeline.held_out.name}, validation")
    yield from pipeline.tests


def _judge(
    pipeline: "Pipeline",
    domain: Domain,
    judged: dict[str, _Judged],
    autoencoder: SemanticAutoencoder,
) -> None:
    """Add what each model makes of a domain."""
    preprocessing, patch = pipeline.recipe.preprocessing, pipeline.recipe.patch
    images = list(prepared_images(domain, preprocessing))
    # P-SAE's vectors of the masks are the same for each model.
    masks = None
    if domain.labelled:
        masks = mask_vectors(autoencoder, domain, preprocessing, patch, images)
    for found in judged.values():
        vectors = image_vectors(found.predictor.model, domain, images)
        if distance := _distance(vectors, found.source):
            found.fsd[domain.name] = distance
        if masks is None:
            continue
        found.scores[domain.name] = evaluate(found.predictor, domain, images=images)
        if distance := _distance(vectors, masks):
            found.prior_fsd[domain.name] = distance


def _distance(a: Vectors, b: Vectors) -> FSD | None:
    """FSD, where both sides have the two vectors it takes."""
    return frechet_distance(a, b) if min(len(a), len(b)) > 1 else None


def _with_metrics(found: _Judged) -> SegmentationModel:
    """The model, its metrics on its card."""
    metrics = {name: scores.to_dict()["mean"] for name, scores in found.scores.items()}
    model = found.predictor.model
    return replace(model, card=model.card.model_copy(update={"metrics": metrics}))


def _outcome(found: _Judged, size: int) -> Outcome:
    network, card = found.predictor.model.network, found.predictor.model.card
    seconds = [took for scores in found.scores.values() for took in scores.seconds.values()]
    return Outcome(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gmac=_gmac(network, card.patch),
        bytes=size,
        threshold=card.threshold,
        own_threshold=card.per_image_threshold,
        own_statistics=card.bn_mixing,
        seconds_per_image=median(seconds),
        scores=found.scores,
        fsd=found.fsd,
        prior_fsd=found.prior_fsd,
        vectors_alike=all_alike(found.source),
    )


def _said(pipeline: "Pipeline", outcomes: dict[str, Outcome]) -> str:
    validation, *tests = [domain.name for domain in _domains(pipeline)]
    notes = [f"{validation}: chose checkpoints, calibration and thresholds, so its Dice flatters"]
    notes += source_notes(pipeline.recipe, pipeline.training, pipeline.held_out)
    notes += [
        f"{role}: its semantic vectors are all alike, since the network makes nothing of its "
        "bottleneck; its FSD says nothing"
        for role in ROLES
        if outcomes[role].vectors_alike
    ]
    ordered = {role: outcomes[role] for role in ROLES}
    return as_markdown(pipeline.recipe.name, [validation, *tests], ordered, notes)


def _gmac(network: SegmentationNetwork, patch: int) -> float:
    example = torch.zeros(1, network.in_channels, patch, patch)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(example.to(next(network.parameters()).device))
    return counter.get_total_flops() / 2e9
