"""A result held against reference labels, as the engine's evaluation does it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.layers import Index, Slicing, array_of
from napari_msankd.segment.inference import Request
from napari_msankd.torch_import import preload
from src_training.errors import InputError

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
    planes
        How many planes were compared.
    """

    dice: float
    sensitivity: float
    hd95: float
    unit: str
    planes: int

    def __str__(self) -> str:
        """Words for the widget; n/a where a score is not defined."""
        distance = f"{self.hd95:.1f} {self.unit}" if math.isfinite(self.hd95) else "n/a"
        found = f"{self.sensitivity:.3f}" if math.isfinite(self.sensitivity) else "n/a"
        over = f" · {self.planes} slices" if self.planes > 1 else ""
        return f"Dice {self.dice:.3f} · sensitivity {found}\nHD95 {distance}{over}"


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
        Index in `labels` and in `reference` of every plane that is done.
    classes
        Number of classes, background included.
    spacing, unit
        Height and width of a pixel in the viewer, and what they are in; ``px``
        where the layer has no other.
    """

    labels: Any
    reference: Any
    slicing: Slicing
    planes: tuple[tuple[Index, Index], ...]
    classes: int
    spacing: tuple[float, float]
    unit: str


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
            f"Reference {reference.name!r} has shape {shape}; expected {request.planes.shape}"
        )
    whole, slicing = shape == request.planes.shape, request.slicing
    planes = tuple(
        (request.place(index), index if whole else request.place(index))
        for index in request.indices
        if request.place(index) in done
    )
    for place, index in planes[:1]:
        _check_place(labels, slicing, place, reference, index)
    sides = slicing.at((None,) * len(slicing.stack), (True, True))
    height, width = (float(size) for size, kept in zip(labels.scale, sides, strict=True) if kept)
    unit = "px" if str(labels.units[-1]) == "pixel" else f"{labels.units[-1]:~}"
    data = array_of(labels)
    return Comparison(data, truth, slicing, planes, classes, (height, width), unit)


def _check_place(
    labels: "Labels", slicing: Slicing, place: Index, reference: "Labels", index: Index
) -> None:
    """See that two planes of the same pixels cover each other in the viewer."""
    height, width = slicing.size
    for corner in ((0, 0), (0, width - 1), (height - 1, 0)):
        here = labels.data_to_world(slicing.at(place, corner))
        there = reference.data_to_world(slicing.at(index, corner))
        if not np.allclose(here, there):
            raise InputError(
                f"Reference {reference.name!r} lies elsewhere than the result; "
                "expected the same scale, translation and rotation"
            )


def compare(what: Comparison) -> Iterator[Scores | None]:
    """Score plane by plane; None after each, so that it can be stopped, then the scores.

    Raises
    ------
    InputError
        If a label is beyond the classes; of two, all but 0 is foreground.
    """
    preload()
    from src_training.evaluation.metrics import Pooled, score

    pooled, distances = Pooled(what.classes), []
    for place, index in what.planes:
        truth = _classes(np.asarray(what.reference[what.slicing.at(index)]), what.classes)
        found = _classes(np.asarray(what.labels[what.slicing.at(place)]), what.classes)
        maps = np.stack([found == k for k in range(what.classes)]).astype(np.float32)
        pooled.add(maps, truth)
        distances.append(score(maps, truth, spacing=what.spacing)["hd95"])
        yield None
    total = pooled.result()
    defined = [distance for distance in distances if math.isfinite(distance)]
    hd95 = float(np.mean(defined)) if defined else math.nan
    yield Scores(total["f1"], total["sensitivity"], hd95, what.unit, len(distances))


def _classes(labels: NDArray[np.integer], classes: int) -> NDArray[np.uint8]:
    """Class indices; with two classes, whatever is not 0 is foreground (masks of 255)."""
    if classes == 2:
        return (labels != 0).astype(np.uint8)
    if labels.max() >= classes or labels.min() < 0:
        raise InputError(
            f"The labels hold values up to {labels.max()}; expected classes 0 to {classes - 1}"
        )
    return labels.astype(np.uint8)
