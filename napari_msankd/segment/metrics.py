"""Figures about a result: its agreement with a reference, and the volumes of its classes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.datasets.layer_pairs import grid_of
from napari_msankd.layers import array_of
from napari_msankd.planes import Index, Slicing
from napari_msankd.segment.inference import Request
from napari_msankd.torch_import import preload
from src_training.errors import InputError
from src_training.io.volumes.grid import format_size

if TYPE_CHECKING:
    from napari.layers import Labels


@dataclass(frozen=True)
class Scores:
    """Agreement of labels with a reference.

    Attributes
    ----------
    dice, sensitivity
        Over all pixels of the planes that are done; mean over foreground classes.
    hd95
        95th percentile of the distances between the outlines (MONAI's
        definition), mean over the planes where it is defined.
    unit
        Of `hd95`.
    planes, of
        How many planes were compared, and how many the image has.
    note
        How the reference was read, where it holds no plain labels.
    slices
        Dice of each slice of a stack, by its index in the image.
    """

    dice: float
    sensitivity: float
    hd95: float
    unit: str
    planes: int
    of: int
    note: str = ""
    slices: dict[Index, float] = field(default_factory=dict)

    def record(self, reference: str) -> dict[str, Any]:
        """Plain values for the metadata of the result; `reference` is the name of the layer."""
        values = {"dice": self.dice, "sensitivity": self.sensitivity, "hd95": self.hd95}
        known = {k: x if math.isfinite(x) else None for k, x in values.items()}
        slices = [self.slices[index] for index in sorted(self.slices)]
        return {"name": reference, **known, "unit": self.unit, "dice_of_slices": slices}

    def __str__(self) -> str:
        """Text for the widget; n/a where a score is not defined."""
        distance = f"{self.hd95:.1f} {self.unit}" if math.isfinite(self.hd95) else "n/a"
        sensitivity = f"{self.sensitivity:.3f}" if math.isfinite(self.sensitivity) else "n/a"
        scope = extent_text(self.planes, self.of)
        note = f"\n{self.note}" if self.note else ""
        return f"Dice {self.dice:.3f} · sensitivity {sensitivity}\nHD95 {distance}{scope}{note}"


@dataclass(frozen=True)
class Comparison:
    """What is compared: labels and reference, taken from their layers.

    Attributes
    ----------
    labels, reference
        (..., Y, X), of one shape, or the reference of the whole stack where
        the labels are one of its planes.
    slicing
        How both fall into planes.
    planes
        Index in the image, in `labels` and in `reference` of every plane that is done.
    of
        How many planes the image has.
    classes
        Number of classes, background included.
    spacing, unit
        Height and width of a pixel in the viewer, and what they are in; ``px``
        where the layer has no other.
    name
        Of the reference layer.
    """

    labels: Any
    reference: Any
    slicing: Slicing
    planes: tuple[tuple[Index, Index, Index], ...]
    of: int
    classes: int
    spacing: tuple[float, float]
    unit: str
    name: str = ""


def comparison(
    labels: "Labels", reference: "Labels", request: Request, done: set[Index], classes: int
) -> Comparison:
    """Pair the planes of a result with those of a reference layer.

    Raises
    ------
    InputError
        If the reference has another shape, or lies elsewhere.
    """
    truth = array_of(reference)
    shape = tuple(truth.shape)
    if shape not in (request.planes.shape, request.slicing.shape):
        raise InputError(
            f"Reference {reference.name!r} has {format_size(shape)}; "
            f"expected {format_size(request.planes.shape)}"
        )
    whole, slicing = shape == request.planes.shape, request.slicing
    planes = tuple(
        (index, request.place(index), index if whole else request.place(index))
        for index in request.indices
        if request.place(index) in done
    )
    for _, place, index in planes[:1]:
        corner = (0, 0)
        here = grid_of(reference, slicing.at(index, corner))
        there = grid_of(labels, slicing.at(place, corner))
        if found := replace(here, shape=there.shape).differences(there):
            raise InputError(
                f"Reference {reference.name!r} lies on another grid than the result: "
                f"{', '.join(found)}; expected the same place"
            )
    sides = slicing.at((None,) * len(slicing.stack), (True, True))
    height, width = (float(size) for size, side in zip(labels.scale, sides, strict=True) if side)
    unit = "px" if str(labels.units[-1]) == "pixel" else f"{labels.units[-1]:~}"
    data = array_of(labels)
    of = len(request.planes.indices)
    spacing = height, width
    return Comparison(data, truth, slicing, planes, of, classes, spacing, unit, reference.name)


def compare(what: Comparison) -> Iterator[Scores | None]:
    """Score plane by plane; None after each, so that it can be stopped, then the scores.

    Raises
    ------
    InputError
        If a label is beyond the classes, or, of two, the reference holds no labels.
    """
    preload()
    from src_training.evaluation.metrics import Pooled, score

    threshold, note = _reading(what) if what.classes == 2 else (0.0, "")
    pooled, distances, slices = Pooled(what.classes), [], {}
    for shown, place, index in what.planes:
        truth = np.asarray(what.reference[what.slicing.at(index)])
        truth = _classes(truth > threshold if threshold else truth, what.classes)
        labels = _classes(np.asarray(what.labels[what.slicing.at(place)]), what.classes)
        maps = np.stack([labels == k for k in range(what.classes)]).astype(np.float32)
        each = score(maps, truth, spacing=what.spacing, pooled=pooled)
        distances.append(each["hd95"])
        if shown:
            slices[shown] = each["dice"]
        yield None
    total = pooled.result()
    defined = [distance for distance in distances if math.isfinite(distance)]
    hd95 = float(np.mean(defined)) if defined else math.nan
    scores = total["f1"], total["sensitivity"], hd95
    yield Scores(*scores, what.unit, len(distances), what.of, note, slices)


def _reading(what: Comparison) -> tuple[float, str]:
    """Above which label the reference is foreground, as files are read, and what to say of it."""
    from src_training.data.classes import StoredMask, read_classes
    from src_training.io.masks import MaskValues

    planes = [np.asarray(what.reference[what.slicing.at(index)]) for _, _, index in what.planes]
    if not planes:
        return 0.0, ""
    stack = np.stack(planes)
    name = f"Reference {what.name!r}"
    reading = read_classes([StoredMask(name, MaskValues.of(stack), lambda: stack)])
    for sentence in reading.problems.values():
        raise InputError(sentence)
    threshold = reading.classes.threshold
    if threshold is not None:
        return threshold, reading.notes[0]
    values = np.unique(stack[stack != 0])
    several = f"{name} holds {len(values)} labels: each of them counts as foreground."
    return 0.0, several if len(values) > 1 else ""


def _classes(labels: NDArray[np.integer], classes: int) -> NDArray[np.uint8]:
    """Class indices; with two classes, whatever is not 0 is foreground (masks of 255)."""
    if classes == 2:
        return (labels != 0).astype(np.uint8)
    if labels.max() >= classes or labels.min() < 0:
        raise InputError(
            f"The labels hold values up to {labels.max()}; expected classes 0 to {classes - 1}"
        )
    return labels.astype(np.uint8)


@dataclass(frozen=True)
class LabelVolume:
    """A labelled volume.

    Attributes
    ----------
    labels
        Class indices (Z, Y, X).
    slicing
        How they fall into slices.
    slices
        Those that are counted.
    of
        How many slices the image has.
    classes
        Their names; the first is the background.
    voxel
        Volume of a voxel, ml.
    """

    labels: Any
    slicing: Slicing
    slices: tuple[Index, ...]
    of: int
    classes: tuple[str, ...]
    voxel: float


def label_volume(
    layer: "Labels", request: Request, done: set[Index], classes: tuple[str, ...]
) -> LabelVolume | None:
    """What is to be measured; None for a plane, and where the layer has no lengths."""
    data = array_of(layer)
    if layer.ndim != 3 or min(data.shape) < 2 or not request.planes.volume:
        return None
    origin = np.asarray(layer.data_to_world((0, 0, 0)))
    edges = np.stack([layer.data_to_world(corner) for corner in np.eye(3)]) - origin
    try:
        units = [float((1 * unit).to("cm").magnitude) for unit in layer.units]
    except TypeError:  # pint's, of a unit that is no length
        return None
    voxel = abs(float(np.linalg.det(edges))) * float(np.prod(units))
    slices, of = tuple(sorted(done)), len(request.planes.indices)
    return LabelVolume(data, request.slicing, slices, of, classes, voxel)


def measure(what: LabelVolume) -> Iterator[str | None]:
    """The volumes as text; None after each slice, so that it can be stopped."""
    counts = np.zeros(256, np.int64)
    for index in what.slices:
        counts += np.bincount(
            np.asarray(what.labels[what.slicing.at(index)]).ravel(), minlength=256
        )[:256]
        yield None
    volumes = {name: float(counts[k] * what.voxel) for k, name in enumerate(what.classes) if k}
    yield format_volumes(volumes, len(what.slices), what.of)


def format_volumes(volumes: dict[str, float], slices: int, of: int) -> str:
    """Millilitres of each class, and of which part of the volume.

    >>> format_volumes({"liver": 1482.3}, 78, 78)
    'liver 1,482 ml'
    >>> format_volumes({"liver": 501.2}, 15, 78)
    'liver 501 ml in 15 of 78 slices'
    """
    listed = " · ".join(f"{name} {_rounded(ml)} ml" for name, ml in volumes.items())
    part = "" if slices == of else f" in {slices} of {of} slices"
    return f"{listed}{part}"


def extent_text(slices: int, of: int) -> str:
    """Of which part of a stack a figure is; nothing for a single image."""
    if of == 1:
        return ""
    return f" · all {of} slices" if slices == of else f" · {slices} of {of} slices"


def _rounded(ml: float) -> str:
    return f"{ml:,.0f}" if ml >= 100 else f"{ml:.3g}"
