"""A sample in the viewer: its image, the patch framed, and the view that was made of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.datasets.selection import LayerDataset
from napari_msankd.explore.selection import Sample
from napari_msankd.layers import placement_over

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_msankd.explore.extraction import Extraction

PATCH, VIEW = "explored patch", "explored view"
"""Names of the layers that are made anew for each sample."""

GRAPHS = "explored graphs"
"""Marks layers, in their metadata, that cover what is opened after them."""

_FRAME = "#ffd23f"
_OF = "explored"


@dataclass(frozen=True, eq=False)
class Opened:
    """A sample as layers show it.

    Attributes
    ----------
    sample
        Which it is.
    image
        (H, W) or (H, W, C) as it was read.
    frame
        Top, left, bottom, right of the patch, pixels of `image`.
    view
        (h, w) or (h, w, C), what the network saw; None for a patch as it is.
    scale
        Pixels of `image` across one of `view`, (y, x).
    """

    sample: Sample
    image: NDArray[Any]
    frame: tuple[float, float, float, float]
    view: NDArray[np.float32] | None
    scale: tuple[float, float]


def read_sample(
    explored: "Extraction", sample: Sample, model: str, seen: NDArray[np.float32] | None = None
) -> Iterator[Opened]:
    """Read the image of a sample, and make its view again; yields once. For a worker.

    Parameters
    ----------
    explored, sample
        What was extracted, and which of it.
    model
        Name of the one whose patches and views these are.
    seen
        (h, w) or (h, w, C), the view as it was shown elsewhere; made again if None.

    Raises
    ------
    InputError
        If the image cannot be prepared.
    """
    from src_training.data.prepared import prepare_cases
    from src_training.explore.embeddings import PatchEmbedder

    how = explored.models[model].card.preprocessing
    [case] = prepare_cases(explored.domains[sample.domain].subset([sample.case]), how)
    geometry = case.image.geometry
    top, left, bottom, right = geometry.box
    scale = (
        (bottom - top) / geometry.prepared[0],
        (right - left) / geometry.prepared[1],
    )
    view, side = seen, explored.models[model].card.patch
    if sample.view and seen is None:
        embedder = PatchEmbedder(explored.models[model], views=explored.request.views)
        made = embedder.views(case, sample.corner).images[sample.view]
        view = _shown(np.moveaxis(made, 0, -1), how.neighbours)
    y, x = top + sample.corner[0] * scale[0], left + sample.corner[1] * scale[1]
    frame = (y, x, y + side * scale[0], x + side * scale[1])
    yield Opened(sample, _shown(case.original.image, how.neighbours), frame, view, scale)


def _shown(pixels: NDArray[Any], neighbours: int) -> NDArray[Any]:
    """Colours as they are; of a slice and its neighbours, the slice."""
    if neighbours > 1:
        return pixels[..., neighbours // 2]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def show_sample(viewer: "ViewerModel", explored: "Extraction", opened: Opened) -> "Image":
    """Show a sample; the image is opened once, frame and view take the place of earlier ones."""
    for layer in viewer.layers:
        if layer.metadata.get(GRAPHS):
            layer.visible = False
    image = show_image(viewer, explored, opened.sample, opened.image)
    for name in (PATCH, VIEW):
        for layer in [layer for layer in viewer.layers if layer.metadata.get(_OF) == name]:
            viewer.layers.remove(layer)
    top, left, bottom, right = opened.frame
    if opened.view is not None:
        # The frame runs along edges of pixels, a layer begins at the centre of one.
        begin = (top + (opened.scale[0] - 1) / 2, left + (opened.scale[1] - 1) / 2)
        viewer.add_image(
            opened.view,
            name=f"{VIEW} {opened.sample.view}",
            rgb=opened.view.ndim == 3,
            # As the network sees it, not stretched.
            contrast_limits=(0, 1),
            metadata={_OF: VIEW},
            **placement_over(image, opened.scale, begin),
        )
    corners = np.array([[top, left], [bottom, right]]) - 0.5
    viewer.add_shapes(
        [corners],
        shape_type="rectangle",
        name=PATCH,
        edge_color=_FRAME,
        face_color="transparent",
        edge_width=max(2.0, (bottom - top) / 100),
        metadata={_OF: PATCH},
        **placement_over(image),
    )
    viewer.layers.selection.active = image
    return image


def show_image(
    viewer: "ViewerModel", explored: "Extraction", sample: Sample, pixels: NDArray[Any]
) -> "Image":
    """The layer of an image: the one it was taken from, one opened before, or a new one."""
    key = (sample.domain, sample.case)
    name = explored.layers.get(key)
    if name is not None and name in viewer.layers:
        viewer.layers[name].visible = True
        return viewer.layers[name]
    for layer in viewer.layers:
        if layer.metadata.get(_OF) == key:
            layer.visible = True
            return layer
    for layer in viewer.layers:
        # One image of a domain at a time is in sight, else each would cover the last.
        if isinstance(layer.metadata.get(_OF), tuple):
            layer.visible = False
    rgb = pixels.ndim == 3 and pixels.shape[-1] in (3, 4)
    return viewer.add_image(
        pixels if rgb or pixels.ndim == 2 else pixels[..., 0],
        name=f"{sample.domain} / {sample.case}",
        rgb=rgb,
        metadata={_OF: key},
    )


def camera_of(explored: "Extraction", layer: "Image") -> float | None:
    """Degrees that the camera of an open image spans; None where no explored domain says it."""
    for chosen in explored.request.domains:
        if isinstance(chosen, LayerDataset) and any(
            pair.image.name == layer.name for pair in chosen.pairs
        ):
            return chosen.angle
    key = layer.metadata.get(_OF)
    return explored.domains[key[0]].angle if key and key[0] in explored.domains else None
