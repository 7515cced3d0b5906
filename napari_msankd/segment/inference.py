"""The engine behind the Segment widget: generators for a worker, no Qt."""

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

from napari_msankd.formatting import format_bytes
from napari_msankd.planes import Index, Planes, Slicing
from napari_msankd.segment.probability_store import Result, new_folder
from napari_msankd.torch_import import gc_paused, preload
from src_training.errors import InputError
from src_training.inference.forward_progress import ForwardProgress, PredictionCancelled

if TYPE_CHECKING:
    import torch

    from src_training.inference.bn_adaptation import Shift
    from src_training.inference.expected_dice import Quality
    from src_training.inference.predictor import Predictor, Progress

_turn = Lock()
"""Networks are shared, and torch goes on importing itself at first use: one thread at a time."""


@dataclass(frozen=True)
class Request:
    """What to segment, and how.

    Attributes
    ----------
    planes
        The image.
    part
        The planes to segment: a range for each axis of `Planes.stack`.
    shown
        The plane in view; it is segmented first.
    model
        File of the model.
    flips
        Average over flips.
    angle
        Degrees that the fundus camera's field of view spans; None if not
        known. Plays no part where the model knows none of its own.
    device
        ``auto`` or a device of torch.
    memory_limit
        Results larger than this, bytes, go to the disk.
    cache
        Folder they go to.
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
        """How the result falls into planes; its shape is the image's without what is left out."""
        image = self.planes.slicing
        return Slicing(image.at(tuple(map(len, self.part)), image.size), image.axis)

    @property
    def whole(self) -> bool:
        """Whether every plane is segmented."""
        return self.slicing == self.planes.slicing

    @property
    def indices(self) -> tuple[Index, ...]:
        """The planes to segment, from the one in view on and then from the start."""
        planes = tuple(product(*self.part))
        first = planes.index(self.shown) if self.shown in planes else 0
        return (*planes[first:], *planes[:first])

    @property
    def offset(self) -> tuple[int, ...] | None:
        """Data coordinates of the result's first pixel; None at the origin."""
        first = self.planes.slicing.at(tuple(each.start for each in self.part), (0, 0))
        return None if self.whole else first

    @property
    def on_disk(self) -> bool:
        """Whether the result is too large for the memory it may take."""
        return Result.bytes(self.slicing.shape) > self.memory_limit

    def place(self, index: Index) -> Index:
        """Index in the result of the plane `index` of the image."""
        return tuple(at - each.start for at, each in zip(index, self.part, strict=True))


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, and where it runs.

    Attributes
    ----------
    name, description, classes, threshold, per_image_threshold
        From its card.
    angle
        Degrees of the fundus camera that it was trained on; None if it knows of none.
    sha256
        Of its file.
    device
        As text.
    quality
        How expected Dice is corrected; None if the model file does not tell.
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
        """The threshold of every plane; None where each has its own."""
        return None if self.per_image_threshold else self.threshold


@dataclass(frozen=True)
class Compatibility:
    """What is known before a run.

    Attributes
    ----------
    model
        The model.
    warnings
        Why the image may not suit it, a sentence each.
    memory
        Bytes at the peak: of one plane, and of the result unless that goes to
        the disk.
    """

    model: ModelInfo
    warnings: tuple[str, ...]
    memory: int


@dataclass(frozen=True)
class Started:
    """A run has its model and its arrays.

    Attributes
    ----------
    model
        The model.
    result
        Empty, or that of the run that is continued.
    """

    model: ModelInfo
    result: Result


@dataclass(frozen=True)
class Step:
    """Tiles have been written.

    Attributes
    ----------
    done, total
        Planes that are complete, and those that the run segments.
    """

    done: int
    total: int


def device_name(device: str) -> Iterator[str]:
    """Yield where networks will run, once. InputError if there is no such device."""
    preload()
    from src_training.device import find_device

    yield _device_text(find_device(device))


def check(request: Request) -> Iterator[Compatibility]:
    """Load the model and compare the image with what it was trained on; yields once.

    Raises
    ------
    InputError
        If model, device or image cannot be used.
    """
    with _turn, gc_paused():
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
        What, and how.
    threshold
        Probability from which a pixel is foreground; as the model says if None.
    passes
        Follows the layers of the network within a tile; cancelling it ends the run there.
    result
        Of a stopped run: the planes that it lacks are segmented into it.
    skip
        Planes of the result that are left as they are.

    Raises
    ------
    InputError
        If the model or the image cannot be used, or the disk is too small.
    """
    with _turn:
        predictor = _predictor(request)
        model = _model_info(predictor)
        from src_training.inference.expected_dice import are_foreign
    if result is None:
        first = model.fixed_threshold if threshold is None else threshold
        classes = len(model.classes)
        result = Result(request.slicing, classes, model.threshold, first, _folder(request))
    yield Started(model, result)
    left_out = result.finished | skip
    planes = [index for index in request.indices if request.place(index) not in left_out]
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
    """Tiles of a plane, none of them while `check` works on the same network."""
    plane = _read(planes, index, predictor)
    try:
        with _turn:
            steps = predictor.tiles(plane, passes=passes, shifts=shifts)
    except InputError as error:
        raise InputError(f"{planes.called(index)} cannot be segmented: {error}") from None
    while True:
        with _turn:
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
    """Degrees of the training camera of a model file, if they are known."""
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

    place = find_device(device)
    # A processor gains nothing from batches, and one tile at a time shows and stops first.
    batch = 1 if place.type == "cpu" else 4
    model = load_model(path, place)
    if _training_angle(path) is not None:
        model = model.for_camera(angle)
    return Predictor(model, str(place), batch=batch, flips=flips)


def _read(planes: Planes, index: Index, predictor: "Predictor") -> NDArray[np.generic]:
    """A plane as the model takes it."""
    return planes.read(index, predictor.model.card.preprocessing.neighbours)


def _spacing_warnings(predictor: "Predictor", planes: Planes) -> list[str]:
    from src_training.inference.input_checks import spacing_warnings

    return [] if planes.spacing is None else spacing_warnings(predictor.model.card, planes.spacing)


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
