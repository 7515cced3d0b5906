"""Pairs of image layers and the Labels layers with their masks, and their grids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.layers import world_affine
from napari_msankd.planes import Index, Planes, array_of, planes_of
from src_training.errors import InputError
from src_training.io.volumes.grid import Grid, ResampledMask, resample_labels

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

_RESULT = 0.3
"""Penalty on predictions, so that labels painted by the user are preferred."""


@dataclass(frozen=True)
class LayerRow:
    """An image layer that may belong to a dataset.

    Attributes
    ----------
    image, name
        The layer, and its name.
    labels, labels_name
        The Labels layer with its mask, and its name; None if there is none.
    candidates
        Labels layers of the image's shape.
    ticked
        Whether the image belongs to the dataset.
    mask_like
        Whether the image itself looks like a mask.
    """

    image: "Image"
    name: str
    labels: "Labels | None"
    labels_name: str | None
    candidates: tuple["Labels", ...]
    ticked: bool
    mask_like: bool = False


@dataclass(frozen=True)
class LayerPair:
    """Pixels of an image layer and its Labels layer, safe to read in a worker.

    Attributes
    ----------
    image
        Planes of the image layer.
    labels
        Planes of labels of the same shape, or None.
    """

    image: Planes
    labels: Planes | None = None

    @classmethod
    def of(cls, image: "Image", labels: "Labels | None" = None) -> "LayerPair":
        """Make the pair of two layers; call it in the main thread.

        Raises
        ------
        InputError
            If the image is invalid, or the shapes or grids differ.
        """
        planes = planes_of(image)
        if labels is None:
            return cls(planes)
        label_planes = Planes(array_of(labels), rgb=False, name=labels.name)
        if label_planes.shape != planes.shape:
            raise InputError(
                f"Labels layer {labels.name!r} has shape {label_planes.shape}; "
                f"expected {planes.shape}, as image layer {image.name!r}"
            )
        if sentence := other_grid(image, labels):
            raise InputError(sentence)
        return cls(planes, label_planes)

    def labels_at(self, index: Index) -> NDArray[np.integer] | None:
        """The labels (Y, X) of a plane; None if they are empty."""
        if self.labels is None:
            return None
        plane = self.labels.read(index)
        return plane if plane.any() else None


def matched(images: Sequence["Image"], labels: Sequence["Labels"]) -> list["Labels | None"]:
    """Find the most likely mask of each image among the Labels layers.

    Candidates have the image's shape. They are ranked by equality of the grids, then by
    common words in the names, then by the order of the layers. Each Labels layer is used
    at most once.
    """
    image_words = [_name_words(layer) for layer in images]
    label_words = [_name_words(layer) for layer in labels]
    image_grids = [grid_of(layer) for layer in images]
    label_grids = [grid_of(layer) for layer in labels]
    scores = sorted(
        (
            bool(label_grids[j].differences(image_grids[i])),
            _mismatch(image_words[i], label_words[j], mask),
            abs(i - j),
            i,
            j,
        )
        for i, image in enumerate(images)
        for j, mask in enumerate(labels)
        if fits(image, mask)
    )
    chosen = dict[int, int]()
    for *_, i, j in scores:
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return [labels[chosen[i]] if i in chosen else None for i in range(len(images))]


def fits(image: "Image", labels: "Labels") -> bool:
    """Whether the layers have the same shape, without the colour axis."""
    shape = tuple(array_of(image).shape)
    return tuple(array_of(labels).shape) == (shape[:-1] if image.rgb else shape)


def grid_of(layer: "Layer", start: Index | None = None) -> Grid:
    """The grid of a layer's pixels in world coordinates, in mm if its units are lengths.

    Parameters
    ----------
    layer
        An image or labels.
    start
        Index of the grid's first pixel in the layer; by default the layer's first.
    """
    affine, unit = world_affine(layer), "mm"
    try:
        factors = [float((1 * unit).to("mm").magnitude) for unit in layer.units]
    except TypeError:  # from pint, for a unit that is not a length
        factors, unit = [1.0] * layer.ndim, "px"
    affine = np.diag([*factors, 1.0]) @ affine
    if start is not None:
        affine[:-1, -1] += affine[:-1, :-1] @ np.asarray(start)
    return Grid.of_affine(tuple(array_of(layer).shape[: layer.ndim]), affine, unit)


def other_grid(image: "Image", labels: "Labels") -> str:
    """Message about labels whose grid differs from the image's; empty if it does not."""
    if not (differences := grid_of(labels).differences(grid_of(image))):
        return ""
    return (
        f"Labels layer {labels.name!r} lies on another grid than image layer {image.name!r}: "
        f"{', '.join(differences)}; expected the same place"
    )


def resampled(image: "Image", labels: "Labels") -> tuple[NDArray[np.integer], ResampledMask]:
    """Resample labels to the grid of an image, nearest neighbour; call it in a worker.

    Raises
    ------
    InputError
        If all labels lie outside the image.
    """
    name = f"Labels layer {labels.name!r}"
    return resample_labels(np.asarray(array_of(labels)), grid_of(labels), grid_of(image), name)


def is_result(labels: "Labels") -> bool:
    """Whether this plugin's models predicted the layer, also if it was edited since."""
    return "msankd" in labels.metadata


def _mismatch(image_words: set[str], label_words: set[str], labels: "Labels") -> float:
    """Negative Jaccard index of the words in the names, plus the penalty on predictions."""
    common, union = image_words & label_words, image_words | label_words
    return (_RESULT if is_result(labels) else 0.0) - len(common) / max(1, len(union))


def _name_words(layer: Any) -> set[str]:
    return set(re.findall(r"[^\W_]+", layer.name.casefold()))
