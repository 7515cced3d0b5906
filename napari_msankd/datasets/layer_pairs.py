"""Which Labels layer holds the mask of which image layer, and whether it lies on its grid."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.layers import array_of, world_affine
from napari_msankd.planes import Index, Planes, planes_of
from src_training.errors import InputError
from src_training.io.volumes.grid import Grid, ResampledMask, resample_labels

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

# What a model of ours predicted comes after what a person painted.
_RESULT = 0.3


@dataclass(frozen=True)
class LayerRow:
    """An image layer that may belong to a dataset.

    Attributes
    ----------
    image, name
        The layer, and its name.
    labels, labels_name
        The Labels layer that is its mask, and its name; None if there is none.
    candidates
        Labels layers of its shape.
    ticked
        Whether it belongs to the dataset.
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
    """An image layer and its Labels layer, as their pixels: a worker may read them.

    Attributes
    ----------
    image
        The planes of the image layer.
    labels
        Labels of the same shape; None if there are none.
    """

    image: Planes
    labels: Planes | None = None

    @classmethod
    def of(cls, image: "Image", labels: "Labels | None" = None) -> "LayerPair":
        """Take the pixels of two layers; in the main thread.

        Raises
        ------
        InputError
            If the image cannot be used, or the shapes or places differ.
        """
        planes = planes_of(image)
        if labels is None:
            return cls(planes)
        painted = Planes(array_of(labels), rgb=False, name=labels.name)
        if painted.shape != planes.shape:
            raise InputError(
                f"Labels layer {labels.name!r} has shape {painted.shape}; "
                f"expected {planes.shape}, as image layer {image.name!r}"
            )
        if sentence := other_grid(image, labels):
            raise InputError(sentence)
        return cls(planes, painted)

    def labels_at(self, index: Index) -> NDArray[np.integer] | None:
        """The labels (Y, X) of a plane; None where nothing is painted."""
        if self.labels is None:
            return None
        plane = self.labels.read(index)
        return plane if plane.any() else None


def matched(images: Sequence["Image"], labels: Sequence["Labels"]) -> list["Labels | None"]:
    """For each image the Labels layer that most likely is its mask.

    It must have the image's shape; among several the place decides, then the
    names (words in common), then the order of the layers. No Labels layer is given twice.
    """
    image_words = [_name_words(layer) for layer in images]
    label_words = [_name_words(layer) for layer in labels]
    image_grids, label_grids = (
        [grid_of(each) for each in images],
        [grid_of(each) for each in labels],
    )
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
    """Whether the layers have the same pixels, colours aside."""
    shape = tuple(array_of(image).shape)
    return tuple(array_of(labels).shape) == (shape[:-1] if image.rgb else shape)


def grid_of(layer: "Layer", start: Index | None = None) -> Grid:
    """The grid of a layer's pixels in the viewer's world, in mm where its units are lengths.

    Parameters
    ----------
    layer
        An image or labels.
    start
        Where the grid begins in the layer; at its first pixel when missing.
    """
    affine, unit = world_affine(layer), "mm"
    try:
        factors = [float((1 * each).to("mm").magnitude) for each in layer.units]
    except TypeError:  # pint's, of a unit that is no length
        factors, unit = [1.0] * layer.ndim, "px"
    affine = np.diag([*factors, 1.0]) @ affine
    if start is not None:
        affine[:-1, -1] += affine[:-1, :-1] @ np.asarray(start)
    return Grid.of_affine(tuple(array_of(layer).shape[: layer.ndim]), affine, unit)


def other_grid(image: "Image", labels: "Labels") -> str:
    """Sentence that labels lie on another grid than an image of their shape; empty if not."""
    if not (found := grid_of(labels).differences(grid_of(image))):
        return ""
    return (
        f"Labels layer {labels.name!r} lies on another grid than image layer {image.name!r}: "
        f"{', '.join(found)}; expected the same place"
    )


def resampled(image: "Image", labels: "Labels") -> tuple[NDArray[np.integer], ResampledMask]:
    """Labels on the grid of an image, nearest neighbour; in a worker.

    Raises
    ------
    InputError
        If none of them lies in the image.
    """
    name = f"Labels layer {labels.name!r}"
    return resample_labels(np.asarray(array_of(labels)), grid_of(labels), grid_of(image), name)


def is_result(labels: "Labels") -> bool:
    """Whether a model of ours made the layer, also if it was edited since."""
    return "msankd" in labels.metadata


def _mismatch(image_words: set[str], label_words: set[str], labels: "Labels") -> float:
    """From -1, all words of the names in common, to 0; a result of ours comes later."""
    common, union = image_words & label_words, image_words | label_words
    return (_RESULT if is_result(labels) else 0.0) - len(common) / max(1, len(union))


def _name_words(layer: Any) -> set[str]:
    return set(re.findall(r"[^\W_]+", layer.name.casefold()))
