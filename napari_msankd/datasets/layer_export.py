"""Planes of open layers as cases of a dataset: their names, labels and pixels in files."""

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
"""Name of each foreground class -> its label or labels."""

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
        Name for files and tables.
    pair
        The layers.
    index
        Index of the plane.
    labels
        Labels (Y, X); None if they are empty.
    """

    name: str
    pair: LayerPair
    index: Index
    labels: NDArray[np.integer] | None


def cases_of(
    pairs: Sequence[LayerPair], masks: Literal["present", "absent"] | None = None
) -> Iterator[LayerCase]:
    """The planes of layers as cases.

    If a layer has labels on some planes, the other planes count as not labelled
    yet and are left out; a layer without any labels has all its planes. `masks`
    selects only the planes with labels, or only those without.
    """
    for names, pair in zip(case_names(pairs), pairs, strict=True):
        unlabelled = list[LayerCase]()
        for index, name in zip(pair.image.indices, names, strict=True):
            case = LayerCase(name, pair, index, pair.labels_at(index))
            if case.labels is None:
                unlabelled.append(case)
            elif masks != "absent":
                yield case
        if masks == "absent" or (masks is None and len(unlabelled) == len(names)):
            yield from unlabelled


def case_names(pairs: Sequence[LayerPair]) -> list[tuple[str, ...]]:
    """A unique, short file name for every plane of every pair.

    The names are such that the split keeps slices of one stack together, unless
    there is only one stack; see `src_training.data.split.patient_of`.
    """
    names, taken = list[tuple[str, ...]](), set[str]()
    for number, pair in enumerate(pairs, 1):
        stem, stack = file_name(pair.image.name), pair.image.indices != ((),)
        if stack and len(pairs) > 1 and not re.search(r"\d", stem):
            stem = f"{stem}{number}"
        separator = "_" if len(pairs) > 1 else "-"
        suffixes = [
            separator + digits if stack else "" for digits in _digits(pair.image.shape[:-2])
        ]
        while taken & {(stem + suffix).casefold() for suffix in suffixes}:
            stem = f"{stem}+"
        pair_names = tuple(stem + suffix for suffix in suffixes)
        taken.update(name.casefold() for name in pair_names)
        names.append(pair_names)
    return names


def file_name(name: str) -> str:
    """A valid file name from the name of a layer or folder: ``fundus A`` -> ``fundus_A``."""
    return plain_name(name, "_")[:_LONGEST] or "layer"


def classes_of(labels: Mapping[int, int]) -> Classes | None:
    """The classes of counted labels; None if there are none.

    A single label of any value is ``foreground``; 2 to 32 labels are separate
    classes; more are objects of one class, ``foreground``.
    """
    values = sorted(value for value in labels if value != 0)
    if not values:
        return None
    if len(values) == 1 or len(values) > _MOST_CLASSES:
        return {"foreground": 1}
    return {f"class_{value}": value for value in values}


def count_labels(labels: NDArray[np.integer]) -> Counter[int]:
    """Number of pixels of each label of a plane (Y, X)."""
    values, counts = np.unique(labels, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def is_multiclass(classes: Mapping[str, Any] | None) -> bool:
    """Whether there is more than one foreground class."""
    return len([name for name in classes or {} if name != "background"]) > 1


def stored_labels(case: LayerCase, classes: Mapping[str, Any] | None) -> NDArray[np.uint8] | None:
    """Labels (Y, X) for a file: unchanged for several classes, else 0 and 1.

    Raises
    ------
    InputError
        If a label belongs to no class, or a class has a label above `HIGHEST`.
    """
    if case.labels is None:
        return None
    if not is_multiclass(classes):
        return (case.labels != 0).astype(np.uint8)
    known = {0}
    for values in (classes or {}).values():
        known.update(np.atleast_1d(values).tolist())
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
    """Pixels of a case for a file.

    Grey values are unchanged, such as HU, as uint8, uint16 or int16 if that
    holds all values of the plane, else float32. Colours become uint8 without
    alpha, rescaled if their range requires it.

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
        in_range = high == low or (pixels.dtype.kind in "ui" and values.max() <= 255)
        scale = 1 if in_range else 255 / values.max()
        return np.round(values * scale).astype(np.uint8)
    if pixels.dtype.kind in "ui":
        for kind in (np.uint16, np.int16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return pixels.astype(kind)
    return pixels.astype(np.float32)


def _digits(stack: tuple[int, ...]) -> list[str]:
    """Digits for each slice of a stack: ``007``, or ``002007`` with two sliders."""
    widths = [max(3, len(str(size - 1))) for size in stack]
    return [
        "".join(f"{step:0{width}d}" for step, width in zip(index, widths, strict=True))
        for index in np.ndindex(stack)
    ]
