"""What a run lets be seen while it learns: previews, and FSD from the source to the targets."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import read_array
from numpy.typing import NDArray
from torch import Tensor

from src_training.config.recipe import NetworkRecipe, Recipe
from src_training.data.domain import Domain
from src_training.data.prepared import prepared_images
from src_training.data.preprocessing.geometry import Prepared
from src_training.data.sampling import crop_patch, evenly_spaced, patch_corners
from src_training.errors import InputError
from src_training.explore.embeddings import encode_batches
from src_training.explore.fsd import frechet_distance
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.atomic import write_atomic
from src_training.networks import SegmentationNetwork
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, Measured, Noted, Previewed
from src_training.training.stages.base import Stage
from src_training.training.stages.distillation import Distil

PATCHES = 32
"""Most patches of a domain that FSD is measured on while a run learns."""

_CASES = 8
_SHARE, _FREE = 0.02, 2.0
Emit = Callable[[Event], None]


@dataclass(frozen=True, eq=False)
class _Image:
    """The preview's image as it was last read."""

    stamp: tuple[int, int]
    pixels: NDArray[np.generic]
    prepared: Prepared


class TrainingMonitor:
    """Shows each stage to whoever watches the run.

    Previews take at most a fiftieth of the run's time, after the first
    seconds: a validation that comes too soon after the last goes without.

    Parameters
    ----------
    recipe, folder
        Of the run.
    classes
        Of the source.
    source
        Patches of the training images, see `patches_of`.
    targets
        Test domains; read when they are first needed.
    device
        Where the networks are.
    emit
        Takes `Previewed`, `Measured` and `Noted`.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunDirectory,
        classes: Sequence[str],
        source: Tensor,
        targets: Sequence[Domain],
        device: torch.device,
        emit: Emit,
    ) -> None:
        self._recipe, self._folder, self._classes = recipe, folder, list(classes)
        self._source, self._targets = source, targets
        self._device, self._emit = device, emit
        self._patches: dict[str, Tensor] | None = None
        self._image: _Image | None = None
        self._began, self._spent = time.monotonic(), 0.0
        self._noted: set[str] = set()

    def __call__(self, stage: Stage, step: int) -> None:
        """Look at a stage in evaluation mode after that many steps."""
        if stage.segmenting is not None and step > 0:
            self._preview(stage.name, stage.segmenting, step)
        if isinstance(stage, Distil):
            self._measure(stage, step)

    def _preview(self, stage: str, network: SegmentationNetwork, step: int) -> None:
        began = time.monotonic()
        file = self._folder.preview_input
        if not file.exists() or self._spent > _FREE + _SHARE * (began - self._began):
            return
        try:
            labels = self._segmented(stage, network, self._read(file))
            path = self._folder.preview_labels
            write_atomic(path, lambda temporary: np.save(temporary, labels))
        # Whoever put the image there cannot end the run by it.
        except (ValueError, OSError, EOFError, MemoryError, RuntimeError) as error:
            self._note(stage, step, f"The preview's image cannot be segmented: {_first(error)}")
        else:
            shown = path.relative_to(self._folder.path).as_posix()
            self._emit(Previewed(stage=stage, step=step, file=shown))
        self._spent += time.monotonic() - began

    def _read(self, file: Path) -> _Image:
        """The image, read and prepared anew where it changed."""
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_size)
        if self._image is None or self._image.stamp != stamp:
            with file.open("rb") as content:
                pixels = read_array(content, allow_pickle=False)
            prepared = self._recipe.preprocessing.prepare(pixels)
            self._image = _Image(stamp, pixels, prepared)
        return self._image

    def _segmented(
        self, stage: str, network: SegmentationNetwork, image: _Image
    ) -> NDArray[np.uint8]:
        recipe = self._recipe
        used: NetworkRecipe = recipe.teacher if stage == "teacher" else recipe.student
        card = ModelCard(
            name=recipe.name,
            architecture=used.name,
            options=used.options,
            in_channels=network.in_channels,
            classes=self._classes,
            preprocessing=recipe.preprocessing,
            patch=recipe.patch,
        )
        predictor = Predictor(SegmentationModel(card, network), device=str(self._device))
        probabilities = predictor.predict(image.pixels, prepared=image.prepared)
        return labels_from(probabilities, card.threshold)

    def _measure(self, stage: Distil, step: int) -> None:
        if self._patches is None:
            self._patches = self._read_targets(stage.name, step)
        if not self._patches:
            return
        try:
            source = self._vectors(stage, self._source)
            fsd = {
                name: frechet_distance(source, self._vectors(stage, patches), interval=False).value
                for name, patches in self._patches.items()
            }
        except ValueError as error:
            self._note(stage.name, step, f"FSD cannot be measured: {_first(error)}")
        else:
            self._emit(Measured(stage=stage.name, step=step, fsd=fsd))

    def _read_targets(self, stage: str, step: int) -> dict[str, Tensor]:
        """Patches of every target that can be read and has the two that FSD takes."""
        patches = {}
        for domain in self._targets:
            try:
                found = patches_of(self._prepared(domain), self._recipe.patch)
            except (InputError, OSError) as error:
                self._note(stage, step, f"FSD leaves out {domain.name}: {_first(error)}")
                continue
            if len(found) > 1:
                patches[domain.name] = found
        return patches

    def _prepared(self, domain: Domain) -> list[Prepared]:
        """A few images, spread over the domain."""
        chosen = domain.subset(evenly_spaced(domain.names, _CASES))
        seen = prepared_images(chosen, self._recipe.preprocessing)
        return [image.prepared for image in seen]

    def _vectors(self, stage: Distil, patches: Tensor) -> NDArray[np.float64]:
        return encode_batches(stage.vectors, patches, device=self._device)

    def _note(self, stage: str, step: int, sentence: str) -> None:
        if sentence not in self._noted:
            self._noted.add(sentence)
            self._emit(Noted(stage=stage, step=step, sentence=sentence))


def patches_of(images: Sequence[Prepared], side: int) -> Tensor:
    """At most `PATCHES` patches (N, C, side, side) float32, spread over images, at least one."""
    places = [(image, corner) for image in images for corner in patch_corners(image.fov, side)]
    chosen = evenly_spaced(places, PATCHES)
    return torch.from_numpy(
        np.stack([crop_patch(image.pixels, corner, side) for image, corner in chosen])
    )


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
