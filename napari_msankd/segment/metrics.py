"""Figures about a result: scores against a reference, and volumes of classes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.datasets.layer_pairs import grid_of
from napari_msankd.planes import Index, Slicing, array_of
from napari_msankd.segment.inference import Request
from napari_msankd.torch_import import preload
from src_training.errors import InputError
from src_training.formatting import format_number
from src_training.io.volumes.grid import format_size

if TYPE_CHECKING:
    from napari.layers import Labels


@dataclass(frozen=True)
class Scores:
    """Scores of labels against a reference.

    Attributes
    ----------
    dice, sensitivity
        Over all pixels of the complete planes; mean over foreground classes.
    hd95
        95th percentile of the distances between the outlines (MONAI's
        definition), mean over the planes where it is defined.
    unit
        Unit of `hd95`.
    planes, of
        Number of planes compared, and of planes of the image.
    note
        Note about an ambiguous reference; empty for plain labels.
    slices
        Index in the image -> Dice of the slice, for a stack.
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
        """JSON values for the metadata of the result; `reference` is the name of the layer."""
        values = {"dice": self.dice, "sensitivity": self.sensitivity, "hd95": self.hd95}
        scores = {k: x if math.isfinite(x) else None for k, x in values.items()}
        slices = [self.slices[index] for index in sorted(self.slices)]
        return {"name": reference, **scores, "unit": self.unit, "dice_of_slices": slices}

    def __str__(self) -> str:
        """Text for the widget; n/a for an undefined score."""
        distance = f"{self.hd95:.1f} {self.unit}" if math.isfinite(self.hd95) else "n/a"
        sensitivity = f"{self.sensitivity:.3f}" if math.isfinite(self.sensitivity) else "n/a"
        scope = extent_text(self.planes, self.of)
        note = f"\n{self.note}" if self.note else ""
        return f"Dice {self.dice:.3f} · sensitivity {sensitivity}\nHD95 {distance}{scope}{note}"


@dataclass(frozen=True)
class Comparison:
    """Labels and reference to compare, independent of their layers.

    Attributes
    ----------
    labels, reference
        (..., Y, X), of one shape, or the reference of the whole stack if the labels
        are a part of it.
    slicing
        Division of both into planes.
    planes
        Index in the image, in `labels` and in `reference` of each complete plane.
    of
        Number of planes of the image.
    classes
        Number of classes, background included.
    spacing, unit
        Height and width of a pixel in the viewer, and their unit; ``px`` by default.
    name
        Name of the reference layer.
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
        If the reference has another shape or another place.
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
        if differences := replace(here, shape=there.shape).differences(there):
            raise InputError(
                f"Reference {reference.name!r} lies on another grid than the result: "
                f"{', '.join(differences)}; expected the same place"
            )
    sides = slicing.at((None,) * len(slicing.stack), (True, True))
    height, width = (float(size) for size, side in zip(labels.scale, sides, strict=True) if side)
    unit = "px" if str(labels.units[-1]) == "pixel" else f"{labels.units[-1]:~}"
    data = array_of(labels)
    of = len(request.planes.indices)
    spacing = height, width
    return Comparison(data, truth, slicing, planes, of, classes, spacing, unit, reference.name)


def compare(data: Comparison) -> Iterator[Scores | None]:
    """Score plane by plane; yields None after each, so that it can be stopped, then the scores.

    Raises
    ------
    InputError
        If a label exceeds the classes, or if a reference of two classes is not a mask.
    """
    preload()
    from src_training.evaluation.metrics import Pooled, score

    threshold, note = _reading(data) if data.classes == 2 else (0.0, "")
    pooled, distances, slices = Pooled(data.classes), [], {}
    for shown, place, index in data.planes:
        truth = np.asarray(data.reference[data.slicing.at(index)])
        truth = _classes(truth > threshold if threshold else truth, data.classes)
        labels = _classes(np.asarray(data.labels[data.slicing.at(place)]), data.classes)
        maps = np.stack([labels == k for k in range(data.classes)]).astype(np.float32)
        plane_scores = score(maps, truth, spacing=data.spacing, pooled=pooled)
        distances.append(plane_scores["hd95"])
        if shown:
            slices[shown] = plane_scores["dice"]
        yield None
    total = pooled.result()
    defined = [distance for distance in distances if math.isfinite(distance)]
    hd95 = float(np.mean(defined)) if defined else math.nan
    scores = total["f1"], total["sensitivity"], hd95
    yield Scores(*scores, data.unit, len(distances), data.of, note, slices)


def _reading(data: Comparison) -> tuple[float, str]:
    """Threshold on the reference's labels, by the rules for mask files, and a note about it."""
    from src_training.data.classes import StoredMask, read_classes
    from src_training.io.masks import MaskValues

    planes = [np.asarray(data.reference[data.slicing.at(index)]) for _, _, index in data.planes]
    if not planes:
        return 0.0, ""
    stack = np.stack(planes)
    name = f"Reference {data.name!r}"
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
    """Class indices; with two classes, nonzero is foreground, such as 255."""
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
        Division into slices.
    slices
        Slices to count.
    of
        Number of slices of the image.
    classes
        Names of the classes, background first.
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
    """The volume to measure; None for a single plane, and for a layer without physical units."""
    data = array_of(layer)
    if layer.ndim != 3 or min(data.shape) < 2 or not request.planes.volume:
        return None
    origin = np.asarray(layer.data_to_world((0, 0, 0)))
    edges = np.stack([layer.data_to_world(corner) for corner in np.eye(3)]) - origin
    try:
        units = [float((1 * unit).to("cm").magnitude) for unit in layer.units]
    except TypeError:  # from pint, for a unit that is not a length
        return None
    voxel = abs(float(np.linalg.det(edges))) * float(np.prod(units))
    slices, of = tuple(sorted(done)), len(request.planes.indices)
    return LabelVolume(data, request.slicing, slices, of, classes, voxel)


def measure(volume: LabelVolume) -> Iterator[str | None]:
    """Measure the volumes; yields None after each slice, so that it can be stopped, then text."""
    counts = np.zeros(256, np.int64)
    for index in volume.slices:
        counts += np.bincount(
            np.asarray(volume.labels[volume.slicing.at(index)]).ravel(), minlength=256
        )[:256]
        yield None
    volumes = {name: float(counts[k] * volume.voxel) for k, name in enumerate(volume.classes) if k}
    yield format_volumes(volumes, len(volume.slices), volume.of)


def format_volumes(volumes: dict[str, float], slices: int, of: int) -> str:
    """Millilitres of each class, and the number of slices if not all.

    >>> format_volumes({"liver": 1482.3}, 78, 78)
    'liver 1,482 ml'
    >>> format_volumes({"liver": 501.2}, 15, 78)
    'liver 501 ml in 15 of 78 slices'
    """
    listed = " · ".join(f"{name} {format_number(ml)} ml" for name, ml in volumes.items())
    part = "" if slices == of else f" in {slices} of {of} slices"
    return f"{listed}{part}"


def extent_text(slices: int, of: int) -> str:
    """Number of slices that a figure covers; empty for a single image."""
    if of == 1:
        return ""
    return f" · all {of} slices" if slices == of else f" · {slices} of {of} slices"
