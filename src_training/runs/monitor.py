"""Callbacks that report on a run: events, memory, previews, and FSD to test domains."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.lib.format import read_array
from numpy.typing import NDArray
from torch import Tensor

from src_training.config.recipe import Recipe
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing.geometry import PreparedImage
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
from src_training.runs.events import (
    BatchSplit,
    Event,
    Measured,
    MemoryUsed,
    Noted,
    Previewed,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
)
from src_training.training.callbacks import Callback
from src_training.training.stages.base import Stage
from src_training.training.stages.distillation import DistillationStage

PATCHES = 32
"""Maximum number of patches of a domain for measuring FSD during a run."""

MEMORY_SECONDS = 2.0
"""Minimum time between two `MemoryUsed` events."""

_MAX_CASES = 8
"""Maximum number of cases of a test domain for measuring FSD during a run."""

_PREVIEW_SHARE, _PREVIEW_SECONDS = 0.02, 2.0
"""Previews may take this share of the run's time, and this number of seconds in addition."""

Emit = Callable[[Event], None]


class EventCallback(Callback):
    """Emits an event for each call of the training loop.

    Parameters
    ----------
    emit
        Called with each event.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def on_stage_start(self, stage: str, step: int, steps: int) -> None:
        """Emit `StageStarted`."""
        self._emit(StageStarted(stage=stage, step=step, steps=steps))

    def on_batch_split(self, stage: str, step: int, batch: int, parts: int) -> None:
        """Emit `BatchSplit`."""
        self._emit(BatchSplit(stage=stage, step=step, batch=batch, parts=parts))

    def on_step_end(self, stage: str, step: int, total: float, losses: Mapping[str, float]) -> None:
        """Emit `StepDone`."""
        self._emit(StepDone(stage=stage, step=step, total=total, losses=dict(losses)))

    def on_validation_end(self, stage: str, step: int, score: float, best: bool) -> None:
        """Emit `Validated`."""
        self._emit(Validated(stage=stage, step=step, score=score, best=best))

    def on_stage_end(self, stage: str, score: float, seconds: float) -> None:
        """Emit `StageFinished`."""
        self._emit(StageFinished(stage=stage, score=score, seconds=seconds))


class MemoryCallback(Callback):
    """Reports the memory use of this process after steps, at most every `MEMORY_SECONDS`.

    Parameters
    ----------
    device
        Device whose memory is reported with that of the computer.
    emit
        Called with `MemoryUsed`.
    """

    def __init__(self, device: torch.device, emit: Emit) -> None:
        self._device, self._emit = device, emit
        self._process = psutil.Process()
        self._last = -MEMORY_SECONDS

    def on_step_end(self, stage: str, step: int, total: float, losses: Mapping[str, float]) -> None:
        """Emit `MemoryUsed`, unless the last one is less than `MEMORY_SECONDS` old."""
        now = time.monotonic()
        if now - self._last < MEMORY_SECONDS:
            return
        self._last = now
        self._emit(MemoryUsed(host=self._process.memory_info().rss, device=self._on_device()))

    def _on_device(self) -> int:
        """Bytes that torch has reserved on the device; 0 for the CPU."""
        if self._device.type == "cuda":
            return torch.cuda.memory_reserved(self._device)
        return torch.mps.driver_allocated_memory() if self._device.type == "mps" else 0


@dataclass(frozen=True, eq=False)
class _PreviewImage:
    """The preview's image, with modification time and size of its file."""

    stamp: tuple[int, int]
    pixels: NDArray[np.generic]
    prepared: PreparedImage


class PreviewCallback(Callback):
    """Segments the preview's image after each validation of a segmentation network.

    Previews take at most a fiftieth of the run's time, plus two seconds: if they would take more,
    a validation gets no preview.

    Parameters
    ----------
    recipe, directory
        Recipe and directory of the run.
    classes
        Names of the classes, background included.
    device
        Device of the networks.
    emit
        Called with `Previewed` and `Noted`.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        classes: Sequence[str],
        device: torch.device,
        emit: Emit,
    ) -> None:
        self._recipe, self._directory, self._classes = recipe, directory, list(classes)
        self._device, self._emit = device, _without_repeats(emit)
        self._image: _PreviewImage | None = None
        self._began, self._spent = time.monotonic(), 0.0

    def on_evaluation(self, stage: Stage, step: int) -> None:
        """Segment the image, if there is one and time allows."""
        began, file = time.monotonic(), self._directory.preview_input
        allowed = _PREVIEW_SECONDS + _PREVIEW_SHARE * (began - self._began)
        network = stage.segmentation_network
        if network is None or step == 0 or not file.exists() or self._spent > allowed:
            return
        self._directory.require()
        try:
            labels = self._segment(stage.name, network, self._read(file))
            path = self._directory.preview_labels
            write_atomic(path, lambda temporary: np.save(temporary, labels))
        # The image comes from another program: an error in it must not end the run.
        except (ValueError, OSError, EOFError, MemoryError, RuntimeError) as error:
            sentence = f"The preview's image cannot be segmented: {_first_line(error)}"
            self._emit(Noted(stage=stage.name, step=step, sentence=sentence))
        else:
            shown = path.relative_to(self._directory.path).as_posix()
            self._emit(Previewed(stage=stage.name, step=step, file=shown))
        self._spent += time.monotonic() - began

    def _read(self, file: Path) -> _PreviewImage:
        """Return the image, read again if the file has changed."""
        status = file.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if self._image is None or self._image.stamp != stamp:
            with file.open("rb") as content:
                pixels = read_array(content, allow_pickle=False)
            prepared = self._recipe.preprocessing.prepare(pixels)
            self._image = _PreviewImage(stamp, pixels, prepared)
        return self._image

    def _segment(
        self, stage: str, network: SegmentationNetwork, image: _PreviewImage
    ) -> NDArray[np.uint8]:
        recipe = self._recipe
        used = recipe.teacher if stage == "teacher" else recipe.student
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


class DistanceCallback(Callback):
    """Measures FSD from the sources to each test domain while the student is distilled.

    Parameters
    ----------
    recipe
        Recipe of the run.
    source
        Prepared images of the sources.
    targets
        Test domains; read at first use.
    device
        Device of the networks.
    emit
        Called with `Measured` and `Noted`.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Sequence[PreparedImage],
        targets: Sequence[Domain],
        device: torch.device,
        emit: Emit,
    ) -> None:
        self._recipe, self._source, self._domains = recipe, source, targets
        self._device, self._emit = device, _without_repeats(emit)
        self._patches: tuple[Tensor, dict[str, Tensor]] | None = None

    def on_evaluation(self, stage: Stage, step: int) -> None:
        """Measure the distances with the student's vectors."""
        if not isinstance(stage, DistillationStage):
            return
        if self._patches is None:
            side = self._recipe.patch
            self._patches = _patches(self._source, side), self._read_targets(stage.name, step)
        source, targets = self._patches
        if not targets:
            return
        try:
            vectors = self._vectors(stage, source)
            fsd = {
                name: frechet_distance(vectors, self._vectors(stage, patches), interval=False).value
                for name, patches in targets.items()
            }
        except ValueError as error:
            sentence = f"FSD cannot be measured: {_first_line(error)}"
            self._emit(Noted(stage=stage.name, step=step, sentence=sentence))
        else:
            self._emit(Measured(stage=stage.name, step=step, fsd=fsd))

    def _read_targets(self, stage: str, step: int) -> dict[str, Tensor]:
        """Read patches of every target that is readable and has at least two of them, for FSD."""
        targets = {}
        for domain in self._domains:
            subset = domain.subset(evenly_spaced(domain.names, _MAX_CASES))
            try:
                cases = list(prepare_cases(subset, self._recipe.preprocessing))
                patches = _patches([case.image for case in cases], self._recipe.patch)
            except (InputError, OSError) as error:
                sentence = f"FSD leaves out {domain.name}: {_first_line(error)}"
                self._emit(Noted(stage=stage, step=step, sentence=sentence))
                continue
            if len(patches) > 1:
                targets[domain.name] = patches
        return targets

    def _vectors(self, stage: DistillationStage, patches: Tensor) -> NDArray[np.float64]:
        return encode_batches(stage.vectors, patches, device=self._device)


def _patches(images: Sequence[PreparedImage], side: int) -> Tensor:
    """At most `PATCHES` patches (N, C, side, side) float32, spread over images, at least one."""
    places = [(image, corner) for image in images for corner in patch_corners(image.fov, side)]
    chosen = evenly_spaced(places, PATCHES)
    return torch.from_numpy(
        np.stack([crop_patch(image.pixels, corner, side) for image, corner in chosen])
    )


def _without_repeats(emit: Emit) -> Emit:
    """Wrap `emit` so that repeated notes are dropped."""
    sentences: set[str] = set()

    def emit_once(event: Event) -> None:
        if isinstance(event, Noted):
            if event.sentence in sentences:
                return
            sentences.add(event.sentence)
        emit(event)

    return emit_once


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
