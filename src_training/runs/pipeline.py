"""The training pipeline of a run: its stages in order."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric

from src_training.config.networks import NETWORK_ROLES, Role
from src_training.config.recipe import Recipe
from src_training.config.stages import stages_of
from src_training.data.augmentation import Augmenter
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing.geometry import PreparedImage
from src_training.data.sampling import (
    Batch,
    PatchSampler,
    Sampler,
    SemiSupervisedSampler,
    crop_patch,
    evenly_spaced,
    patch_corners,
)
from src_training.errors import MEMORY_ERRORS, InputError, is_out_of_memory
from src_training.inference.model_file import SegmentationModel
from src_training.networks import SegmentationNetwork
from src_training.runs.data import RunData
from src_training.runs.directory import RunDirectory
from src_training.seeds import step_seed
from src_training.training.builders import (
    Networks,
    build_stage,
    check_networks,
    load_pretrained,
    pretrained_notes,
)
from src_training.training.callbacks import Callback
from src_training.training.distributed.launch import is_rank_zero
from src_training.training.gradient_balance import (
    SAMPLES,
    dominance_warnings,
    gradient_ratios,
    no_gain_notes,
    weak_teacher_notes,
)
from src_training.training.output_teacher import open_teacher
from src_training.training.stages.base import Validation, mean_dice
from src_training.training.stages.distillation import DistillationStage
from src_training.training.trainer import fit

VALIDATION_PATCHES = 32
"""Maximum number of patches for scores of losses."""

Note = Callable[[str, int, str], None]


class Pipeline:
    """The stages of one run.

    Parameters
    ----------
    recipe, data, directory
        Recipe, cases and directory of the run.
    devices
        Number of processes that share each batch.

    Raises
    ------
    InputError
        If a model to start from cannot be read or does not match the recipe,
        a network or distillation of the recipe is invalid, or a batch has fewer
        patches than there are devices.
    """

    def __init__(
        self, recipe: Recipe, data: RunData, directory: RunDirectory, devices: int = 1
    ) -> None:
        self.recipe, self.data, self.directory = recipe, data, directory
        self._stages = stages_of(recipe)
        self._check_batches(devices)
        check_networks(recipe, len(data.classes))
        self._pretrained = {role: self._load_pretrained(role) for role in NETWORK_ROLES}
        self._teacher = open_teacher(recipe, data.classes, directory.start)
        self._teacher_notes: list[str] = []

    @cached_property
    def training_images(self) -> list[list[PreparedImage]]:
        """The prepared labelled training images, source by source."""
        return [self._prepare([source], "required") for source in self.data.sources]

    @cached_property
    def unlabelled_images(self) -> list[PreparedImage]:
        """The prepared images without masks."""
        return self._prepare(self.data.unlabelled, "ignored") if self.recipe.distils else []

    @cached_property
    def validation_images(self) -> list[PreparedImage]:
        """The prepared validation images of all sources."""
        return self._prepare(self.data.validation, "required")

    def prepare(self) -> None:
        """Prepare all cases now, instead of in `run`.

        Raises
        ------
        InputError
            If a case cannot be prepared; the message names it.
        """
        _ = self.training_images, self.unlabelled_images, self.validation_images
        if self._teacher is not None and not self._teacher_notes:
            name = self.data.sources[0].names[0]
            self._teacher_notes = self._teacher.check(self.training_images[0][0], name)

    def run(
        self,
        fabric: Fabric,
        *,
        callbacks: Sequence[Callback] = (),
        note: Note = lambda _stage, _step, _sentence: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Networks:
        """Run every stage that is not finished.

        Parameters
        ----------
        fabric
            Device, precision and processes; launched.
        callbacks
            Called after every step and validation.
        note
            Called with notes for the user: stage name, step and sentence.
        stopping
            See `fit`.

        Returns
        -------
        Networks
            The trained networks.

        Raises
        ------
        InputError, Interrupted
            See `fit`.
        """
        recipe, directory = self.recipe, self.directory
        opened = None if self._teacher is None else self._teacher.network
        networks = Networks.build(recipe, len(self.data.classes), opened)
        self._save_teacher(note)
        self._start_from_pretrained(networks, note)
        self._note_unused_images(note)
        labelled, semi_supervised = self.samplers()
        validation = self._validation(fabric.device)
        scores: dict[str, float] = {}
        for spec in self._stages:
            stage = build_stage(spec, networks)
            without_masks = spec.semi_supervised and not recipe.masks_alone
            sampler = semi_supervised if without_masks else labelled
            schedule = spec.schedule_of(recipe)
            distils = schedule.steps > 0 and is_rank_zero()
            if isinstance(stage, DistillationStage) and distils and not directory.begun(spec.name):
                if opened is not None:
                    fabric.to_device(opened)
                    with torch.no_grad():
                        scores["teacher"] = mean_dice(opened.eval(), validation.images)
                sentences = self._dominance_warnings(stage, sampler, fabric)
                if recipe.masks_alone is None:
                    trained = None if opened is not None else recipe.teacher.train
                    sentences += weak_teacher_notes(scores["teacher"], scores["baseline"], trained)
                for sentence in sentences:
                    note(spec.name, 0, sentence)
            scores[spec.name] = fit(
                stage,
                schedule,
                sampler,
                validation,
                directory.stage(spec.name),
                fabric=fabric,
                seed=recipe.seed,
                weight_decay=recipe.weight_decay,
                callbacks=callbacks,
                stopping=stopping,
                settings=spec.settings_of(recipe),
                before_write=directory.require,
            ).score
            if isinstance(stage, DistillationStage) and distils and recipe.masks_alone is None:
                for sentence in no_gain_notes(scores[spec.name], scores["baseline"]):
                    note(spec.name, schedule.steps, sentence)
        return networks

    def _load_pretrained(self, role: Role) -> SegmentationModel | None:
        copy = self.directory.start_model(role)
        return load_pretrained(self.recipe, role, copy, self.data.classes)

    def _save_teacher(self, note: Note) -> None:
        """Copy a teacher that is used by its outputs alone into the run, with its notes."""
        first = self._stages[0].name
        if self._teacher is None or not is_rank_zero():
            return
        self.prepare()
        self.directory.require()
        self._teacher.save(self.directory.start, self._teacher_notes)
        if not self.directory.begun(first):
            for sentence in self._teacher_notes:
                note(first, 0, sentence)

    def _start_from_pretrained(self, networks: Networks, note: Note) -> None:
        """Load pretrained weights, and copy the models in case a file is gone at a resume."""
        for role, model in self._pretrained.items():
            if model is None:
                continue
            network: SegmentationNetwork = getattr(networks, role)
            network.load_state_dict(model.network.state_dict())
            if not is_rank_zero():
                continue
            if not (copy := self.directory.start_model(role)).exists():
                self.directory.require()
                model.save(copy)
            if not self.directory.begun(role):
                for sentence in pretrained_notes(self.recipe, role, model.card):
                    note(role, 0, sentence)

    def _note_unused_images(self, note: Note) -> None:
        """Note how many training images a student alone does not use, as they have no masks."""
        recipe, first = self.recipe, self._stages[0].name
        count = 0 if recipe.distils else sum(map(len, self.data.unlabelled))
        if count and is_rank_zero() and not self.directory.begun(first):
            note(
                first,
                0,
                f"labelled is {recipe.labelled:g}, and no distillation uses images without masks: "
                f"{count} of the training images {'is' if count == 1 else 'are'} not used",
            )

    def samplers(self) -> tuple[Sampler, Sampler]:
        """Return the samplers of supervised stages and of semi-supervised stages."""
        recipe = self.recipe
        augmenter = Augmenter(recipe.augmentation, recipe.patch)
        sources = self.training_images
        even = recipe.source_sampling == "even" and len(sources) > 1
        weights = [1 / len(images) for images in sources for _ in images] if even else None
        labelled = PatchSampler([image for each in sources for image in each], augmenter, weights)
        if not self.unlabelled_images:
            return labelled, labelled
        unlabelled = PatchSampler(self.unlabelled_images, augmenter)
        return labelled, SemiSupervisedSampler(labelled, unlabelled)

    def _prepare(
        self, domains: Sequence[Domain], masks: Literal["required", "ignored"]
    ) -> list[PreparedImage]:
        preprocessing = self.recipe.preprocessing
        return [
            case.image for domain in domains for case in prepare_cases(domain, preprocessing, masks)
        ]

    def _validation(self, device: torch.device) -> Validation:
        images, side = self.validation_images, self.recipe.patch
        places = [(image, corner) for image in images for corner in patch_corners(image.fov, side)]
        chosen = evenly_spaced(places, VALIDATION_PATCHES)
        pixels = np.stack([crop_patch(image.pixels, corner, side) for image, corner in chosen])
        mask = np.stack(
            [crop_patch(image.mask_or_background(), corner, side) for image, corner in chosen]
        )
        patches = Batch(
            torch.from_numpy(pixels).to(device), torch.from_numpy(mask).long().to(device)
        )
        return Validation(images, patches)

    def _dominance_warnings(
        self, stage: DistillationStage, sampler: Sampler, fabric: Fabric
    ) -> list[str]:
        """Warnings about losses that dominate those from masks, one sentence each."""
        recipe = self.recipe
        torch.manual_seed(step_seed(recipe.seed, "balance", "start"))
        count = min(recipe.stages[stage.name].batch, SAMPLES)
        batch = stage.prepare(sampler.sample(count, stage.views, fabric.device))
        # The check needs more memory than a training step, and the run can do without it.
        try:
            ratios = gradient_ratios(stage, batch, fabric)
        except MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            return []
        return dominance_warnings(ratios, recipe.distillation)

    def _check_batches(self, devices: int) -> None:
        for spec in self._stages:
            if not spec.in_recipe:
                continue
            schedule = spec.schedule_of(self.recipe)
            halved = spec.semi_supervised and self.recipe.semi_supervised
            halved &= not self.recipe.masks_alone
            least = max(2, 2 * devices - 1) if halved else devices
            if schedule.steps and schedule.batch < least:
                raise InputError(
                    f"stages.{spec.name}.batch is {schedule.batch}; expected at least {least}, "
                    f"one {'labelled ' if halved else ''}patch for each device"
                    f"{' and one without a mask' if halved else ''}"
                )
