"""The planes of open layers as cases of a dataset: their names, labels and pixels in a file."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.planes import Index
from src_training.errors import InputError
from src_training.io.names import plain_name

Classes = dict[str, int | list[int]]
"""Label, or labels, of each class but background, by the name of the class."""

HIGHEST = 255
"""Largest label that a mask file can hold."""

_MOST_CLASSES = 32
_LONGEST = 50


@dataclass(frozen=True)
class LayerCase:
    """A plane of an image layer.

    Attributes
    ----------
    name
        For files and tables.
    pair
        The layers.
    index
        Of the plane in them.
    labels
        (Y, X), with something painted; None if there is nothing.
    """

    name: str
    pair: LayerPair
    index: Index
    labels: NDArray[np.integer] | None


def cases_of(
    pairs: Sequence[LayerPair], masks: Literal["present", "absent"] | None = None
) -> Iterator[LayerCase]:
    """Every plane that counts, its labels read.

    Where a layer has paint, its planes without any are not labelled yet, and
    are left out; a layer without paint has all its planes. With `masks` it is
    the planes that have labels, or all that have none.
    """
    for names, pair in zip(case_names(pairs), pairs, strict=True):
        bare = list[LayerCase]()
        for index, name in zip(pair.image.indices, names, strict=True):
            case = LayerCase(name, pair, index, pair.labels_at(index))
            if case.labels is None:
                bare.append(case)
            elif masks != "absent":
                yield case
        if masks == "absent" or (masks is None and len(bare) == len(names)):
            yield from bare


def case_names(pairs: Sequence[LayerPair]) -> list[tuple[str, ...]]:
    """A name for every plane of every pair: unique, short, fit for a file.

    Slices of a stack are told such that those of one stack stay together
    when cases are held out, unless there is no other.
    """
    names, taken = list[tuple[str, ...]](), set[str]()
    for number, pair in enumerate(pairs, 1):
        stem, stack = file_name(pair.image.name), pair.image.indices != ((),)
        if stack and len(pairs) > 1 and not re.search(r"\d", stem):
            stem = f"{stem}{number}"
        joint = "_" if len(pairs) > 1 else "-"
        tails = [joint + tail if stack else "" for tail in _tails(pair.image.shape[:-2])]
        while taken & {(stem + tail).casefold() for tail in tails}:
            stem = f"{stem}+"
        own = tuple(stem + tail for tail in tails)
        taken.update(name.casefold() for name in own)
        names.append(own)
    return names


def file_name(name: str) -> str:
    """A layer's or folder's name as a file may be called: ``fundus A`` -> ``fundus_A``."""
    return plain_name(name, "_")[:_LONGEST] or "layer"


def classes_of(labels: Mapping[int, int]) -> Classes | None:
    """The classes that counted labels stand for; None if nothing is painted.

    One label, whatever its number, is ``foreground``; two to 32 are classes
    of their own; more are taken for objects, and all are foreground.
    """
    values = sorted(value for value in labels if value != 0)
    if not values:
        return None
    if len(values) == 1 or len(values) > _MOST_CLASSES:
        return {"foreground": 1}
    return {f"class_{value}": value for value in values}


def count_labels(labels: NDArray[np.integer]) -> Counter[int]:
    """Pixels of every label of a plane (Y, X)."""
    values, counts = np.unique(labels, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def is_multiclass(classes: Mapping[str, Any] | None) -> bool:
    """Whether there is more than one class beside the background."""
    return len([name for name in classes or {} if name != "background"]) > 1


def stored_labels(case: LayerCase, classes: Mapping[str, Any] | None) -> NDArray[np.uint8] | None:
    """Labels (Y, X) as they are written: as painted where there are several classes, else 0 and 1.

    Raises
    ------
    InputError
        If a label belongs to no class, or a class to a label above `HIGHEST`.
    """
    if case.labels is None:
        return None
    if not is_multiclass(classes):
        return (case.labels != 0).astype(np.uint8)
    known = {0, *(int(value) for each in (classes or {}).values() for value in np.atleast_1d(each))}
    unknown = sorted(set(np.unique(case.labels).tolist()) - known)
    layer = case.pair.labels.name if case.pair.labels else case.name
    if unknown:
        expected = ", ".join(str(value) for value in sorted(known))
        raise InputError(
            f"Labels layer {layer!r} holds label {unknown[0]}; expected only {expected}"
        )
    if max(known) > HIGHEST:
        raise InputError(
            f"Labels layer {layer!r} is painted with label {max(known)}; "
            f"expected labels up to {HIGHEST} where there are several classes"
        )
    return case.labels.astype(np.uint8)


def stored_pixels(case: LayerCase) -> NDArray[Any]:
    """The image of a case as a file holds it, grey in its own values.

    Grey is uint8, uint16 or int16 where that holds all values of the plane,
    else float32: HU stay HU. Colours are uint8, without alpha, stretched
    where they are of another kind.

    Raises
    ------
    InputError
        If a value is NaN or infinite.
    """
    pixels = case.pair.image.read(case.index)
    colour = pixels.ndim == 3
    pixels = np.ascontiguousarray(pixels[..., :3] if colour else pixels)
    if pixels.dtype == np.uint8:
        return pixels
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(
            f"image layer {case.pair.image.name!r} has {bad} values that are NaN or infinite; "
            "expected none"
        )
    low, high = pixels.min(), pixels.max()
    if colour:
        values = pixels.astype(np.float64) - low
        fits = high == low or (pixels.dtype.kind in "ui" and values.max() <= 255)
        scale = 1 if fits else 255 / values.max()
        return np.round(values * scale).astype(np.uint8)
    if pixels.dtype.kind in "ui":
        for kind in (np.uint16, np.int16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return pixels.astype(kind)
    return pixels.astype(np.float32)


def _tails(stack: tuple[int, ...]) -> list[str]:
    """Digits that tell a slice of a stack: ``007``, or ``002007`` with two sliders."""
    widths = [max(3, len(str(size - 1))) for size in stack]
    return [
        "".join(f"{step:0{width}d}" for step, width in zip(index, widths, strict=True))
        for index in np.ndindex(stack)
    ]
