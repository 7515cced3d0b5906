"""The results of a run: models with their cards, and a report of their scores on every domain."""

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch.utils.flop_counter import FlopCounterMode

from src_training.alignment.alignment_network import AlignmentNetwork, SemanticEncoder
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.networks import EnsembleTeacher, Role, TeacherRecipe
from src_training.config.recipe import Recipe
from src_training.data.augmentation import Augmenter
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.distillation import METHODS, active_parts
from src_training.evaluation.calibration import calibrate, style_augmented
from src_training.evaluation.evaluate import DomainScores, evaluate
from src_training.evaluation.quality.fit import fit_quality
from src_training.evaluation.verdict import judge
from src_training.explore.embeddings import image_vectors, mask_vectors
from src_training.explore.fsd import FSD, frechet_distance, is_collapsed
from src_training.inference.external.networks import OutputNetwork
from src_training.inference.model_card import DomainKind, ModelCard, SemanticSpace, TrainingDomain
from src_training.inference.model_file import SegmentationModel, read_card
from src_training.inference.predictor import Predictor
from src_training.io.atomic import write_text
from src_training.networks import SegmentationNetwork
from src_training.runs.data import RunData
from src_training.runs.directory import RunDirectory, roles_of
from src_training.runs.history import RunHistory
from src_training.runs.outcome import Outcome, as_markdown
from src_training.training.builders import Networks, pretrained_notes
from src_training.training.output_teacher import read_description

Vectors = NDArray[np.float64]

FROM_MASKS = {
    "teacher": "teacher, from masks alone",
    "baseline": "student, from masks alone, as many steps as the distilled one",
    "student": "student, from masks alone",
}
"""Role of each model that is trained without distillation -> how it is trained."""

SHARED_ROLES = ("teacher", "baseline")
"""Roles of the models that the runs of a comparison share, with their scores."""

_TRAINED_BY: dict[str, tuple[Role, ...]] = {
    "teacher": ("teacher",),
    "baseline": ("student",),
    "distilled": ("student", "teacher"),
    "student": ("student",),
}
"""Role -> networks whose pretrained weights influence the model of that role."""

_ALIGNED_BY = {
    "teacher": "tan",
    "baseline": "baseline_san",
    "distilled": "distilled_san",
    "student": "san",
}
"""Role -> attribute of `Networks` for the alignment network of that role."""


@dataclass
class _Candidate:
    """A model whose card is not complete yet, and its measurements so far."""

    predictor: Predictor
    source: Vectors
    scores: dict[str, DomainScores] = field(default_factory=dict)
    fsd: dict[str, FSD] = field(default_factory=dict)
    prior_fsd: dict[str, FSD] = field(default_factory=dict)


def finalise(
    recipe: Recipe,
    data: RunData,
    networks: Networks,
    directory: RunDirectory,
    device: torch.device,
) -> None:
    """Calibrate and score teacher, baseline and distilled student; write models and report.

    Without a distillation it is the student alone. Every image is prepared once for
    all models, and only one domain at a time is in memory. Models trained from masks alone
    are not scored again if a run of the same comparison has scored them.
    ``model.safetensors`` is written last: if it exists, the results are complete.

    Parameters
    ----------
    recipe, data, networks
        Recipe, data and trained networks of the run.
    directory
        Directory to write to.
    device
        Device to score on.

    Raises
    ------
    InputError
        If an image cannot be prepared or scored; the message names it.
    OSError
        If a file cannot be written.
    """
    outcomes = _known_outcomes(directory, [domain.name for domain in data.reported])
    roles = roles_of(recipe.distils)
    missing = [role for role in roles if role not in outcomes]
    candidates = _calibrate(recipe, data, networks, directory, missing, device)
    starts = _start_cards(recipe, directory)
    kinds = {role: _domain_kinds(recipe, data, role, starts) for role in roles}
    history = RunHistory()
    history.read(directory.events)
    for domain in data.reported:
        _score(recipe, domain, candidates, networks.autoencoder)
    for role, candidate in candidates.items():
        directory.require()
        model, file = _with_metrics(candidate, kinds[role]), directory.role_model(role)
        if isinstance(model.network, OutputNetwork):
            size = sum(file.stat().st_size for file in directory.start.glob("teacher*"))
        else:
            model.save(file)
            size = file.stat().st_size
        outcome = _outcome(candidate, size, kinds[role])
        outcomes[role] = replace(outcome, **_training(recipe, role, history))
        if role in SHARED_ROLES:
            write_text(directory.outcome(role), json.dumps(asdict(outcomes[role])))
    outcomes = {role: outcomes[role] for role in roles}
    report = {role: outcome.to_dict() for role, outcome in outcomes.items()}
    directory.require()
    write_text(directory.report / "report.json", json.dumps(report, indent=1, allow_nan=False))
    external = recipe.distils and recipe.teacher.outputs_only
    teacher_notes = read_description(directory.start)[1] if external else []
    write_text(
        directory.report / "report.md", _report_page(recipe, data, outcomes, starts, teacher_notes)
    )
    model.save(directory.model)


def _known_outcomes(directory: RunDirectory, domains: Sequence[str]) -> dict[str, Outcome]:
    """Outcomes of `SHARED_ROLES` that were already measured on these domains.

    A file that is damaged, or comes from a run with other test domains, is ignored.
    """
    adapter, known = TypeAdapter(Outcome), {}
    for role in SHARED_ROLES:
        with suppress(FileNotFoundError, ValueError):
            outcome = adapter.validate_json(directory.outcome(role).read_bytes())
            # Former versions did not write `domain_kinds`.
            if not outcome.domain_kinds or outcome.domain_kinds.keys() >= set(domains):
                known[role] = outcome
    return known


def _calibrate(
    recipe: Recipe,
    data: RunData,
    networks: Networks,
    directory: RunDirectory,
    roles: Sequence[str],
    device: torch.device,
) -> dict[str, _Candidate]:
    """Calibrate the models on the validation cases, and encode the training images."""
    preprocessing = recipe.preprocessing
    held_out = [case for each in data.validation for case in prepare_cases(each, preprocessing)]
    sources = [(each, list(prepare_cases(each, preprocessing))) for each in data.sources]
    augment = Augmenter(recipe.augmentation, recipe.patch).style_augmentation
    styled = style_augmented(held_out, augment)
    candidates = {}
    for role in roles:
        model = _model(recipe, data, networks, directory, role, device)
        predictor = Predictor(model, device=str(device))
        vectors = [np.empty((0, recipe.latent))]
        if not isinstance(model.network, OutputNetwork):
            calibrate(predictor, held_out, styled)
            fit_quality(predictor, held_out, augment)
            vectors = [image_vectors(predictor.model, each, cases) for each, cases in sources]
        candidates[role] = _Candidate(predictor, np.concatenate(vectors))
    return candidates


def _model(
    recipe: Recipe,
    data: RunData,
    networks: Networks,
    directory: RunDirectory,
    role: str,
    device: torch.device,
) -> SegmentationModel:
    """The model of a role before it is calibrated."""
    network: SegmentationNetwork = getattr(networks, role)
    alignment: AlignmentNetwork = getattr(networks, _ALIGNED_BY[role])
    used = recipe.teacher if role == "teacher" else recipe.student
    domains = [_training_domain(each) for each in data.sources]
    if role == "distilled" and not recipe.masks_alone:
        domains += [_training_domain(each) for each in data.unlabelled]
    taught = f"distilled by {_distillation_titles(recipe)}"
    if control := recipe.masks_alone:
        taught = "from masks alone" + f", each in {1 + control.views} styles" * (control.views > 0)
    external = recipe.teacher.outputs_only
    if external and role == "distilled" and not recipe.masks_alone:
        taught += f" from {read_description(directory.start)[0]}"
    method = FROM_MASKS.get(role) or f"student, {taught}"
    starts = _start_cards(recipe, directory)
    for start in starts["teacher" if role == "teacher" else "student"]:
        method += f", begun from {start.name}"
    if role == "teacher" and not recipe.teacher.train:
        names = " and ".join(card.name for card in starts["teacher"]) or recipe.teacher.name
        domains, method = [], f"teacher, {names} as it is"
    # The weights still depend on the images of pretrained models, and on their terms of use.
    cards = [card for each in _TRAINED_BY[role] for card in starts[each]]
    domains = [*dict.fromkeys(source for card in cards for source in card.sources), *domains]
    outputs_only = isinstance(network, OutputNetwork)
    card = ModelCard(
        name=f"{recipe.name}-{role}" if role in SHARED_ROLES else recipe.name,
        architecture=used.name,
        options=used.options,
        in_channels=recipe.preprocessing.in_channels,
        classes=list(data.classes),
        preprocessing=recipe.preprocessing,
        patch=recipe.patch,
        spacing=data.spacing,
        semantics=None if outputs_only else _semantic_space(alignment.encoder, recipe),
        sources=domains,
        method=method,
        augmentation=recipe.augmentation,
        recipe=recipe.portable().to_yaml(),
        licence=recipe.licence,
        description=recipe.description,
    )
    if outputs_only:
        return SegmentationModel(card, network.eval())
    encoder = alignment.encoder.to(device)
    # Calibration changes the weights of the model, but must not change the networks of the run.
    return SegmentationModel(card, copy.deepcopy(network).eval(), semantics=encoder.eval())


def _start_cards(recipe: Recipe, directory: RunDirectory) -> dict[Role, list[ModelCard]]:
    """Cards of the models that the teacher and the student started from, if any."""
    cards: dict[Role, list[ModelCard]] = {"teacher": [], "student": []}
    if recipe.student.start_from is not None:
        cards["student"] = [read_card(directory.start_model("student"))]
    teacher = recipe.used_teacher
    if isinstance(teacher, TeacherRecipe) and teacher.start_from is not None:
        cards["teacher"] = [read_card(directory.start_model("teacher"))]
    elif isinstance(teacher, EnsembleTeacher):
        files = sorted(directory.start.glob("teacher-*.safetensors"))
        cards["teacher"] = [read_card(file) for file in files]
    return cards


def _domain_kinds(
    recipe: Recipe, data: RunData, role: str, starts: dict[Role, list[ModelCard]]
) -> dict[str, DomainKind]:
    """Kind of each domain that the model of a role is scored on; see `DomainKind`."""
    cards = [card for each in _TRAINED_BY[role] for card in starts[each]]
    trained = {source.name for card in cards for source in card.sources}
    kinds: dict[str, DomainKind] = {each.name: "validation" for each in data.reported}
    for test in recipe.tests:
        kind = recipe.kind_of(test)
        if kind == "adapted" and (role != "distilled" or recipe.masks_alone):
            kind = "unseen"
        kinds[test.name] = "source" if test.name in trained else kind
    return kinds


def _training_domain(domain: Domain) -> TrainingDomain:
    return TrainingDomain(name=domain.name, images=len(domain), terms=domain.terms)


def _distillation_titles(recipe: Recipe) -> str:
    return " + ".join(
        str(METHODS[each.method]) for each in recipe.distillation if active_parts(each)
    )


def _semantic_space(encoder: SemanticEncoder, recipe: Recipe) -> SemanticSpace:
    return SemanticSpace(grid=encoder.grid, latent=recipe.latent, hidden=recipe.hidden)


def _score(
    recipe: Recipe,
    domain: Domain,
    candidates: dict[str, _Candidate],
    autoencoder: SemanticAutoencoder,
) -> None:
    """Score each model on a domain, and add the results to the candidates."""
    cases = list(prepare_cases(domain, recipe.preprocessing))
    # P-SAE's vectors of the masks do not depend on the model.
    masks = None
    if domain.labelled:
        masks = mask_vectors(autoencoder, domain, recipe.preprocessing, recipe.patch, cases)
    for candidate in candidates.values():
        vectors = np.empty((0, recipe.latent))
        if candidate.predictor.model.semantics is not None:
            vectors = image_vectors(candidate.predictor.model, domain, cases)
        if distance := _distance(vectors, candidate.source):
            candidate.fsd[domain.name] = distance
        if masks is None:
            continue
        candidate.scores[domain.name] = evaluate(candidate.predictor, domain, cases=cases)
        if distance := _distance(vectors, masks):
            candidate.prior_fsd[domain.name] = distance


def _distance(a: Vectors, b: Vectors) -> FSD | None:
    """FSD if each side has at least two vectors; None otherwise."""
    return frechet_distance(a, b) if min(len(a), len(b)) > 1 else None


def _with_metrics(candidate: _Candidate, kinds: dict[str, DomainKind]) -> SegmentationModel:
    """The model with its scores and domain kinds on its card."""
    metrics = {name: scores.to_dict()["mean"] for name, scores in candidate.scores.items()}
    model = candidate.predictor.model
    return replace(
        model, card=model.card.model_copy(update={"metrics": metrics, "domain_kinds": kinds})
    )


def _outcome(candidate: _Candidate, size: int, kinds: dict[str, DomainKind]) -> Outcome:
    network, card = candidate.predictor.model.network, candidate.predictor.model.card
    seconds = [took for scores in candidate.scores.values() for took in scores.seconds.values()]
    return Outcome(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gmac=_gmac(network, card.patch),
        bytes=size,
        threshold=card.threshold,
        own_threshold=card.per_image_threshold,
        own_statistics=card.bn_mixing,
        seconds_per_image=median(seconds),
        scores=candidate.scores,
        fsd=candidate.fsd,
        prior_fsd=candidate.prior_fsd,
        vectors_alike=len(candidate.source) > 0 and is_collapsed(candidate.source),
        domain_kinds=kinds,
    )


def _training(recipe: Recipe, role: str, history: RunHistory) -> dict[str, Any]:
    """Fields of `Outcome` on the training of a role's model."""
    stage = "distil" if role == "distilled" else role
    return {
        "taught": role == "distilled" and recipe.masks_alone is None,
        "steps": recipe.schedule(stage).steps,
        "step_seconds": history.step_seconds(stage),
    }


def _report_page(
    recipe: Recipe,
    data: RunData,
    outcomes: dict[str, Outcome],
    starts: dict[Role, list[ModelCard]],
    teacher_notes: list[str],
) -> str:
    names = [domain.name for domain in data.reported]
    held_out = names[: len(data.validation)]
    notes = [
        f"{name}: chose checkpoints, calibration and thresholds, so its Dice flatters"
        for name in held_out
    ]
    notes += data.notes(recipe.preprocessing.neighbours)
    notes += teacher_notes
    for role, cards in starts.items():
        for card in cards:
            notes += pretrained_notes(recipe, role, card)
    notes += [
        f"{name}: its semantic vectors are all alike, since the network makes nothing of its "
        "bottleneck; its FSD says nothing"
        for name, outcome in outcomes.items()
        if outcome.vectors_alike
    ]
    verdict = judge({role: outcome.to_dict() for role, outcome in outcomes.items()})
    sentence = verdict.sentence if verdict else ""
    return as_markdown(recipe.name, names, outcomes, notes, sentence)


def _gmac(network: SegmentationNetwork, patch: int) -> float:
    example = torch.zeros(1, network.in_channels, patch, patch)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(example.to(next(network.parameters()).device))
    return counter.get_total_flops() / 2e9
