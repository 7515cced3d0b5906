"""Inference for the Segment widget: generators for a worker, no Qt."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_msankd.planes import Index, Planes, Slicing
from napari_msankd.segment.probability_store import Result, new_folder
from napari_msankd.torch_import import gc_paused, preload
from src_training.errors import InputError
from src_training.formatting import format_bytes
from src_training.inference.forward_progress import ForwardProgress, PredictionCancelled

if TYPE_CHECKING:
    import torch

    from src_training.inference.bn_adaptation import Shift
    from src_training.inference.expected_dice import Quality
    from src_training.inference.predictor import Predictor, Progress

_network_lock = Lock()
"""Held while a network runs: networks are shared, and torch's lazy imports are not thread-safe."""


@dataclass(frozen=True)
class Request:
    """Image, model and options of a segmentation.

    Attributes
    ----------
    planes
        The image.
    part
        The planes to segment: a range for each axis of `Slicing.stack`.
    shown
        The displayed plane, which is segmented first.
    model
        Model file.
    flips
        Average over flips.
    angle
        Field of view of the fundus camera, degrees; None if unknown. Ignored by
        models without a training angle.
    device
        ``auto`` or a device of torch.
    memory_limit
        Size in bytes above which the result is stored on the disk.
    cache
        Folder of results on the disk.
    """

    planes: Planes
    part: tuple[range, ...]
    shown: Index
    model: Path
    flips: bool
    angle: float | None
    device: str
    memory_limit: int
    cache: Path

    @property
    def slicing(self) -> Slicing:
        """Division of the result into planes; its shape is that of the part to segment."""
        image = self.planes.slicing
        return Slicing(image.at(tuple(map(len, self.part)), image.size), image.axis)

    @property
    def whole(self) -> bool:
        """Whether every plane is segmented."""
        return self.slicing == self.planes.slicing

    @property
    def indices(self) -> tuple[Index, ...]:
        """The planes to segment: from the displayed one to the end, then from the start."""
        planes = tuple(product(*self.part))
        first = planes.index(self.shown) if self.shown in planes else 0
        return (*planes[first:], *planes[:first])

    @property
    def offset(self) -> tuple[int, ...] | None:
        """Data coordinates of the result's first pixel; None at the origin."""
        first = self.planes.slicing.at(tuple(part.start for part in self.part), (0, 0))
        return None if self.whole else first

    @property
    def on_disk(self) -> bool:
        """Whether the result exceeds the memory limit."""
        return Result.bytes(self.slicing.shape) > self.memory_limit

    def place(self, index: Index) -> Index:
        """Index in the result of the plane `index` of the image."""
        return tuple(step - part.start for step, part in zip(index, self.part, strict=True))


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model, and its device.

    Attributes
    ----------
    name, description, classes, threshold, per_image_threshold
        From the model card.
    angle
        Angle of the training camera, degrees; None if there is none.
    sha256
        Hash of the model file.
    device
        Name of the device, for display.
    quality
        Correction of expected Dice; None if the model file has none.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    threshold: float
    per_image_threshold: bool
    angle: float | None
    sha256: str
    device: str
    quality: "Quality | None" = None

    @property
    def fixed_threshold(self) -> float | None:
        """The threshold of all planes; None if each has its own."""
        return None if self.per_image_threshold else self.threshold


@dataclass(frozen=True)
class Compatibility:
    """Result of the check before a run.

    Attributes
    ----------
    model
        The model.
    warnings
        Reasons why the image may not suit the model, a sentence each.
    memory
        Peak memory in bytes, for one plane and for a result in memory.
    """

    model: ModelInfo
    warnings: tuple[str, ...]
    memory: int


@dataclass(frozen=True)
class Started:
    """First item of a run: its model and arrays.

    Attributes
    ----------
    model
        The model.
    result
        Empty, or the result of the run that is continued.
    """

    model: ModelInfo
    result: Result


@dataclass(frozen=True)
class Step:
    """Item of a run after a batch of tiles.

    Attributes
    ----------
    done, total
        Number of complete planes, and of all planes of the run.
    """

    done: int
    total: int


def device_name(device: str) -> Iterator[str]:
    """Yield the name of the device, once; raise InputError if there is no such device."""
    preload()
    from src_training.device import find_device

    yield _device_text(find_device(device))


def check(request: Request) -> Iterator[Compatibility]:
    """Load the model and compare the image with its training data; yields once.

    Raises
    ------
    InputError
        If model, device or image cannot be used.
    """
    with _network_lock, gc_paused():
        predictor = _predictor(request)
        memory = predictor.memory(request.planes.plane_shape)
    if not request.on_disk:
        memory += Result.bytes(request.slicing.shape)
    memory += Result.plane_bytes(request.slicing.size, len(predictor.model.card.classes))
    warnings = predictor.check(_read(request.planes, request.shown, predictor))
    warnings += _spacing_warnings(predictor, request.planes)
    yield Compatibility(_model_info(predictor), tuple(warnings), memory)


def segment(
    request: Request,
    threshold: float | None,
    passes: ForwardProgress,
    result: Result | None = None,
    skip: frozenset[Index] = frozenset(),
) -> Iterator[Started | Step]:
    """Segment the planes, tile by tile.

    Parameters
    ----------
    request
        Image, model and options.
    threshold
        Foreground threshold on the probability; the model's if None.
    passes
        Progress by layers of the network within a tile; cancelling it ends the run.
    result
        Result of a stopped run, to complete.
    skip
        Planes of the result not to overwrite.

    Raises
    ------
    InputError
        If the model or the image cannot be used, or the disk is too small.
    """
    with _network_lock:
        predictor = _predictor(request)
        model = _model_info(predictor)
        from src_training.inference.expected_dice import are_foreign
    if result is None:
        first = model.fixed_threshold if threshold is None else threshold
        classes = len(model.classes)
        result = Result(request.slicing, classes, model.threshold, first, _folder(request))
    yield Started(model, result)
    excluded = result.finished | skip
    planes = [index for index in request.indices if request.place(index) not in excluded]
    total = len(request.indices)
    done = total - len(planes)
    for index in planes:
        shifts: list[Shift | None] = []
        try:
            for progress in _tiles(predictor, request.planes, index, passes, shifts):
                result.write(request.place(index), progress.region, progress.probabilities)
                if progress.done == progress.total:
                    result.finish(request.place(index), any(are_foreign(model.quality, shifts)))
                    done += 1
                    passes.start(1)
                yield Step(done, total)
        except PredictionCancelled:
            return


def _tiles(
    predictor: "Predictor",
    planes: Planes,
    index: Index,
    passes: ForwardProgress,
    shifts: "list[Shift | None]",
) -> "Iterator[Progress]":
    """Segment a plane by tiles; the lock is released between them for `check`."""
    plane = _read(planes, index, predictor)
    try:
        with _network_lock:
            steps = predictor.tiles(plane, passes=passes, shifts=shifts)
    except InputError as error:
        raise InputError(f"{planes.called(index)} cannot be segmented: {error}") from None
    while True:
        with _network_lock:
            progress = next(steps, None)
        if progress is None:
            return
        yield progress


def _model_info(predictor: "Predictor") -> ModelInfo:
    card, source = predictor.model.card, predictor.model.source
    return ModelInfo(
        name=card.name,
        description=card.description,
        classes=tuple(card.classes),
        threshold=round(card.threshold, 2),
        per_image_threshold=card.per_image_threshold and len(card.classes) == 2,
        angle=None if source is None else _training_angle(source),
        sha256=predictor.model.sha256 or "",
        device=_device_text(predictor.device),
        quality=card.quality,
    )


def _predictor(request: Request) -> "Predictor":
    try:
        changed = request.model.stat().st_mtime_ns
    except OSError:
        raise InputError(f"{request.model}: there is no such file; expected a model") from None
    return _loaded(request.model, changed, request.device, request.flips, request.angle)


def _training_angle(path: Path) -> float | None:
    """Angle of the training camera of a model file, degrees; None if there is none."""
    from src_training.inference.model_file import read_card

    preprocessing = read_card(path).preprocessing
    return preprocessing.angle if preprocessing.kind == "fundus" else None


@lru_cache(maxsize=2)
def _loaded(
    path: Path, _changed: int, device: str, flips: bool, angle: float | None
) -> "Predictor":
    preload()
    from src_training.device import find_device
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor

    torch_device = find_device(device)
    # On a CPU larger batches are not faster, and single tiles show and stop sooner.
    batch = 1 if torch_device.type == "cpu" else 4
    model = load_model(path, torch_device)
    if _training_angle(path) is not None:
        model = model.for_camera(angle)
    return Predictor(model, str(torch_device), batch=batch, flips=flips)


def _read(planes: Planes, index: Index, predictor: "Predictor") -> NDArray[np.generic]:
    """Read a plane with as many neighbours as the model needs."""
    return planes.read(index, predictor.model.card.preprocessing.neighbours)


def _spacing_warnings(predictor: "Predictor", planes: Planes) -> list[str]:
    from src_training.inference.input_checks import spacing_warnings

    card = predictor.model.card
    warnings = spacing_warnings(card, planes.spacing)
    if card.spacing is not None and planes.axis:
        warnings.append(
            "This model was trained on slices along the first axis of a volume; these run along "
            "another, so things look as it has not seen them."
        )
    return warnings


def _folder(request: Request) -> Path | None:
    if not request.on_disk:
        return None
    request.cache.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(request.cache).free, Result.bytes(request.slicing.shape)
    if free < needed:
        raise InputError(
            f"{request.cache}: the result takes up to {format_bytes(needed)} and "
            f"{format_bytes(free)} are free; expected more room, or segment the current slice only"
        )
    return new_folder(request.cache)


def _device_text(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == "mps":
        return "Apple GPU (mps)"
    count = torch.get_num_threads()
    return f"CPU ({count} thread{'s' if count > 1 else ''})"
