"""Fitting a semantic encoder to a model: a P-SAE on masks, and a SAN on the frozen network."""

from collections.abc import Iterator
from dataclasses import replace

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.stages import StageSchedule
from src_training.data.augmentation import Augmentation, Augmenter
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.sampling import PatchSampler
from src_training.errors import InputError
from src_training.inference.model_card import SemanticSpace
from src_training.inference.model_file import SegmentationModel
from src_training.networks.fanet import FANet
from src_training.seeds import drawing, step_seed
from src_training.training.distributed.launch import make_fabric
from src_training.training.distributed.process_group import ProcessGroup
from src_training.training.stages.alignment import AlignmentStage
from src_training.training.stages.autoencoder import AutoencoderStage, VectorStage
from src_training.training.stages.base import Stage
from src_training.training.train_step import StepResult, TrainStep

STEPS = 150
"""Default number of steps of each stage, as in the presets."""

STAGES = 3
"""Number of stages: ``autoencoder``, ``vectors`` and ``san``."""

_LATENT, _HIDDEN, _WIDTH = 512, 64, 8
_BATCH, _RATE, _WEIGHT_DECAY = 8, 2e-3, 1e-2


def fit_semantic_encoder(
    model: SegmentationModel, domain: Domain, *, steps: int = STEPS, seed: int = 0
) -> Iterator[StepResult | SegmentationModel]:
    """Fit a semantic encoder to a model that has none; its network does not change.

    Takes the stages ``autoencoder``, ``vectors`` and ``san`` of a run, and uses the
    weights of their last steps. That no validation chooses among the weights is our
    *reconstruction*, as are P-SAE's width (8) and a latent size of 512.

    Parameters
    ----------
    model
        Model without semantic encoder; its device is used. Patches are augmented as
        its card says, or by the defaults of `Augmentation` without such an entry.
    domain
        Labelled domain with the model's classes.
    steps
        Steps of each stage (>= 1).
    seed
        Random seed.

    Yields
    ------
    StepResult or SegmentationModel
        A result after each of ``STAGES * steps`` steps, then the new model, which is not saved.

    Raises
    ------
    InputError
        If the model has a semantic encoder, its patch is no multiple of 8 and
        of its network's stride, `steps` is less than 1, the domain lacks a
        mask or has other classes, an image cannot be prepared, or a loss is
        not finite.
    """
    _check(model, domain, steps)
    card, network = model.card, model.network
    fabric = make_fabric(str(next(network.parameters()).device), 1)
    augmentation = card.augmentation or Augmentation()
    cases = prepare_cases(domain, card.preprocessing, "required")
    sampler = PatchSampler([case.image for case in cases], Augmenter(augmentation, card.patch))
    classes, side = len(card.classes), card.patch // network.stride
    with drawing(step_seed(seed, "fit", "start")):
        autoencoder = SemanticAutoencoder(classes - 1, card.patch, _WIDTH, _LATENT, _HIDDEN)
        san = AlignmentNetwork(network.bottleneck_channels, (side, side), _LATENT, _HIDDEN)
    schedule = StageSchedule(steps=steps, batch=_BATCH, rate=_RATE)

    def fit(stage: Stage) -> Iterator[StepResult]:
        stage.train()
        train_step = TrainStep(
            stage,
            schedule,
            sampler,
            fabric=fabric,
            group=ProcessGroup(fabric),
            seed=seed,
            weight_decay=_WEIGHT_DECAY,
        )
        for number in range(steps):
            # A step sets the seed of torch's global generator; other threads must not draw then.
            with drawing(seed):
                result = train_step(number)
            yield result
        stage.eval()

    yield from fit(AutoencoderStage(autoencoder))
    yield from fit(VectorStage(autoencoder))
    yield from fit(AlignmentStage("san", san, network, autoencoder))
    space = SemanticSpace(grid=(side, side), latent=_LATENT, hidden=_HIDDEN)
    images = "1 image" if len(domain) == 1 else f"{len(domain)} images"
    method = f"{card.method}; semantic encoder fitted afterwards to {images} of {domain.name}"
    update = {"semantics": space, "method": method.removeprefix("; ")}
    yield replace(
        model,
        card=card.model_copy(update=update),
        semantics=san.encoder.eval(),
        sha256=None,
        source=None,
    )


def _check(model: SegmentationModel, domain: Domain, steps: int) -> None:
    card, network = model.card, model.network
    if model.semantics is not None:
        where = model.source or f"model {card.name}"
        raise InputError(f"{where} has a semantic encoder already; expected a model without")
    if steps < 1:
        raise InputError(f"steps is {steps}; expected 1 or more")
    if card.patch % FANet.stride or card.patch % network.stride:
        raise InputError(
            f"the patch of model {card.name} is {card.patch} pixels; expected a multiple of "
            f"{max(FANet.stride, network.stride)}"
        )
    if not domain.labelled:
        raise InputError(f"{domain.describe()}; expected a mask for every image")
    if len(domain.classes) != len(card.classes):
        raise InputError(
            f"{domain.describe()}; expected the model's {len(card.classes)} classes, "
            f"{', '.join(card.classes)}"
        )
