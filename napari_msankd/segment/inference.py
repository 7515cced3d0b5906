"""What the Segment widget asks of the engine; runs in a worker, knows no Qt."""

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

from napari_msankd.formatting import size
from napari_msankd.layers import Index, Planes, Slicing
from napari_msankd.segment.probability_store import Result, new_folder
from napari_msankd.torch_import import gc_paused, preload
from src_training.errors import InputError

if TYPE_CHECKING:
    import torch

    from src_training.inference.model_file import ModelCard
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
        The plane in sight; it is looked at first.
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
        """How the result falls into planes; its shape is the image's, but for what is left out."""
        image = self.planes.slicing
        return Slicing(image.at(tuple(map(len, self.part)), image.size), image.axis)

    @property
    def whole(self) -> bool:
        """Whether every plane is segmented."""
        return self.slicing == self.planes.slicing

    @property
    def indices(self) -> tuple[Index, ...]:
        """The planes to segment, from the one in sight on and then round."""
        every = tuple(product(*self.part))
        first = every.index(self.shown) if self.shown in every else 0
        return (*every[first:], *every[:first])

    @property
    def offset(self) -> tuple[int, ...] | None:
        """Data coordinates of the result's first pixel; None at the origin."""
        begun = self.planes.slicing.at(tuple(each.start for each in self.part), (0, 0))
        return None if self.whole else begun

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
    name, description, classes, threshold, own_threshold
        From its card.
    knows_angle
        Whether it knows that of its fundus camera, and takes that of another.
    sha256
        Of its file.
    device
        In words.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    threshold: float
    own_threshold: bool
    knows_angle: bool
    sha256: str
    device: str

    @property
    def cut(self) -> float | None:
        """The threshold of every plane; None where each has its own."""
        return None if self.own_threshold else self.threshold


@dataclass(frozen=True)
class Compatibility:
    """What can be said before a run.

    Attributes
    ----------
    about
        The model.
    input_warnings
        Why the image may not suit it, a sentence each.
    memory
        Bytes at the peak: of one plane, and of the result unless that goes to
        the disk.
    """

    about: ModelInfo
    input_warnings: tuple[str, ...]
    memory: int


@dataclass(frozen=True)
class Started:
    """A run has its model and its arrays.

    Attributes
    ----------
    about
        The model.
    result
        Nothing is in it yet.
    """

    about: ModelInfo
    result: Result


@dataclass(frozen=True)
class Tile:
    """Tiles are done.

    Attributes
    ----------
    done, total
        Over all planes, as if each of those to come had as many as the one at hand.
    """

    done: int
    total: int


def find(device: str) -> Iterator[str]:
    """Say where networks will run; yields once. InputError if there is no such device."""
    preload()
    from src_training.device import find_device

    yield _words(find_device(device))


def look(request: Request) -> Iterator[Compatibility]:
    """Load the model and say what it thinks of the image; yields once.

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
    input_warnings = predictor.check(_read(request.planes, request.shown, predictor))
    input_warnings += _spacing_warnings(predictor, request.planes)
    yield Compatibility(_about(predictor), tuple(input_warnings), memory)


def segment(request: Request, threshold: float | None) -> Iterator[Started | Tile]:
    """Segment the planes, tile by tile.

    Parameters
    ----------
    request
        What, and how.
    threshold
        Probability from which a pixel is foreground; as the model says if None.

    Raises
    ------
    InputError
        If the model or the image cannot be used, or the disk is too small.
    """
    with _turn:
        predictor = _predictor(request)
        about = _about(predictor)
    cut = about.cut if threshold is None else threshold
    result = Result(request.slicing, len(about.classes), about.threshold, cut, _folder(request))
    yield Started(about, result)
    before, planes = 0, len(request.indices)
    for number, index in enumerate(request.indices):
        for progress in _in_turn(predictor, request.planes, index):
            result.write(request.place(index), progress.region, progress.probabilities)
            if progress.done == progress.total:
                result.finish(request.place(index))
            total = before + (planes - number) * progress.total
            yield Tile(before + progress.done, total)
        before += progress.total


def _in_turn(predictor: "Predictor", planes: Planes, index: Index) -> "Iterator[Progress]":
    """Tiles of a plane, none of them while `look` works on the same network."""
    plane = _read(planes, index, predictor)
    try:
        with _turn:
            steps = predictor.tiles(plane)
    except InputError as error:
        raise InputError(f"{planes.called(index)} cannot be segmented: {error}") from None
    while True:
        with _turn:
            progress = next(steps, None)
        if progress is None:
            return
        yield progress


def _about(predictor: "Predictor") -> ModelInfo:
    card = predictor.model.card
    return ModelInfo(
        name=card.name,
        description=card.description,
        classes=tuple(card.classes),
        threshold=round(card.threshold, 2),
        own_threshold=card.per_image_threshold and len(card.classes) == 2,
        knows_angle=_knows_angle(card),
        sha256=predictor.model.sha256 or "",
        device=_words(predictor.device),
    )


def _predictor(request: Request) -> "Predictor":
    try:
        changed = request.model.stat().st_mtime_ns
    except OSError:
        raise InputError(f"{request.model}: there is no such file; expected a model") from None
    return _loaded(request.model, changed, request.device, request.flips, request.angle)


def _knows_angle(card: "ModelCard") -> bool:
    """Whether the angle of the training camera is known."""
    return card.preprocessing.kind == "fundus" and card.preprocessing.angle is not None


@lru_cache(maxsize=2)
def _loaded(
    path: Path, _changed: int, device: str, flips: bool, angle: float | None
) -> "Predictor":
    preload()
    from src_training.device import find_device
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor

    found = find_device(device)
    # A processor gains nothing from batches, and one tile at a time is what
    # shows first and stops first.
    batch = 1 if found.type == "cpu" else 4
    model = load_model(path, found)
    if _knows_angle(model.card):
        model = model.for_camera(angle)
    return Predictor(model, str(found), batch=batch, flips=flips)


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
            f"{request.cache}: the result takes up to {size(needed)} and {size(free)} are free; "
            "expected more room, or segment the current slice only"
        )
    return new_folder(request.cache)


def _words(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == "mps":
        return "Apple GPU (mps)"
    count = torch.get_num_threads()
    return f"CPU ({count} thread{'s' if count > 1 else ''})"
