"""Layers of a sample: its image, a frame around the patch, and the augmented view."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.datasets.selection import LayerDataset
from napari_msankd.layers import WidgetLayers, layer_by_id, placement_over

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_msankd.explore.extraction import Extraction
    from napari_msankd.explore.state import Sample

FRAME, VIEW = "explored patch", "explored view"
"""Names of the layers that are replaced for each sample."""

_FRAME_COLOR = "#ffd23f"


@dataclass(frozen=True, eq=False)
class OpenedSample:
    """Data of a sample for layers.

    Attributes
    ----------
    sample
        The sample.
    image
        Original image, (H, W) or (H, W, C).
    frame
        Top, left, bottom, right of the patch, pixels of `image`.
    view
        Network input of an augmented view, (h, w) or (h, w, C); None for the patch itself.
    scale
        Size of a pixel of `view` in pixels of `image`, (y, x).
    """

    sample: "Sample"
    image: NDArray[Any]
    frame: tuple[float, float, float, float]
    view: NDArray[np.float32] | None
    scale: tuple[float, float]


def read_sample(
    extraction: "Extraction",
    sample: "Sample",
    model: str,
    view: NDArray[np.float32] | None = None,
) -> Iterator[OpenedSample]:
    """Read the image of a sample, and make its view; yields once, for a worker.

    Parameters
    ----------
    extraction, sample
        The extraction, and one of its samples.
    model
        Name of the model that defines patches and views.
    view
        The view, (h, w) or (h, w, C), if it is already known; computed if None.

    Raises
    ------
    InputError
        If the image cannot be prepared.
    """
    from src_training.data.prepared import prepare_cases
    from src_training.explore.embeddings import PatchEmbedder

    card = extraction.models[model].card
    domain = extraction.domains[sample.domain]
    [case] = prepare_cases(domain.subset([sample.case]), card.preprocessing)
    geometry, neighbours = case.image.geometry, card.preprocessing.neighbours
    top, left, bottom, right = geometry.box
    scale = (
        (bottom - top) / geometry.prepared[0],
        (right - left) / geometry.prepared[1],
    )
    if sample.view and view is None:
        embedder = PatchEmbedder(extraction.models[model], views=extraction.request.views)
        pixels = embedder.views(case, sample.corner).images[sample.view]
        view = _central_slice(np.moveaxis(pixels, 0, -1), neighbours)
    y, x = top + sample.corner[0] * scale[0], left + sample.corner[1] * scale[1]
    frame = (y, x, y + card.patch * scale[0], x + card.patch * scale[1])
    image = _central_slice(case.original.image, neighbours)
    yield OpenedSample(sample, image, frame, view, scale)


def _central_slice(pixels: NDArray[Any], neighbours: int) -> NDArray[Any]:
    """The central one of neighbouring slices; other pixels without a singleton channel axis."""
    if neighbours > 1:
        return pixels[..., neighbours // 2]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def show_sample(
    viewer: "ViewerModel", own: WidgetLayers, extraction: "Extraction", opened: OpenedSample
) -> "Image":
    """Show the image of a sample, and replace the frame and the view of the former sample."""
    own.restore()
    own.set_visible(own.added("graph"), False)
    image = show_image(viewer, own, extraction, opened.sample, opened.image)
    top, left, bottom, right = opened.frame
    own.remove("view")
    if opened.view is not None:
        # The frame is along edges of pixels; the origin of a layer is the centre of a pixel.
        origin = (top + (opened.scale[0] - 1) / 2, left + (opened.scale[1] - 1) / 2)
        own.add(
            "view",
            opened.view,
            "image",
            name=f"{VIEW} {opened.sample.view}",
            rgb=opened.view.ndim == 3,
            # The range of network inputs; napari's default would stretch the contrast.
            contrast_limits=(0, 1),
            metadata=provenance("view", opened.sample),
            **placement_over(image, opened.scale, origin),
        )
    own.add(
        "frame",
        [np.array([[top, left], [bottom, right]]) - 0.5],
        "shapes",
        shape_type="rectangle",
        name=FRAME,
        edge_color=_FRAME_COLOR,
        face_color="transparent",
        edge_width=max(2.0, (bottom - top) / 100),
        metadata=provenance("patch", opened.sample),
        **placement_over(image),
    )
    viewer.layers.selection.active = image
    return image


def show_image(
    viewer: "ViewerModel",
    own: WidgetLayers,
    extraction: "Extraction",
    sample: "Sample",
    pixels: NDArray[Any],
) -> Any:
    """Show the image of a sample: its existing layer, or a new one.

    Image layers above it are hidden until ``own.restore()``.
    """
    from napari.layers import Image

    key = sample.domain, sample.case
    layer = layer_by_id(viewer, extraction.layers.get(key))
    if layer is None:
        rgb = pixels.ndim == 3 and pixels.shape[-1] in (3, 4)
        layer = own.add(
            ("image", object()),
            pixels if rgb or pixels.ndim == 2 else pixels[..., 0],
            "image",
            name=f"{sample.domain} / {sample.case}",
            rgb=rgb,
        )
        extraction.layers[key] = layer.unique_id
    own.set_visible([layer], True)
    above = viewer.layers[viewer.layers.index(layer) + 1 :]
    # Show only one of the images opened here at a time, as in an image browser.
    others = [other for other in own.added("image") if other is not layer]
    own.set_visible([*others, *(other for other in above if isinstance(other, Image))], False)
    return layer


def clear_samples(own: WidgetLayers) -> None:
    """Remove frame and view, hide graphs and maps, and restore hidden layers."""
    for key in ("frame", "view"):
        own.remove(key)
    own.restore()
    own.set_visible([*own.added("graph"), *own.added("map")], False)


def provenance(kind: str, sample: "Sample | None" = None, **more: Any) -> dict[str, Any]:
    """Metadata of a layer from Explore: ``{"msankd": {"explore": kind, …}}``.

    For a sample, it includes ``domain``, ``case``, ``corner`` (pixels of the prepared image)
    and ``view``.
    """
    if sample is not None:
        more = {"domain": sample.domain, "case": sample.case, "corner": list(sample.corner)}
        more["view"] = sample.view
    return {"msankd": {"explore": kind, **more}}


def camera_angle(extraction: "Extraction", layer: "Image") -> float | None:
    """Camera angle of an open image, degrees; None if it is of no explored domain or unknown."""
    for dataset in extraction.request.datasets:
        if isinstance(dataset, LayerDataset) and any(
            pair.image.layer_id == layer.unique_id for pair in dataset.pairs
        ):
            return dataset.angle
    for (domain, _), layer_id in extraction.layers.items():
        if layer_id == layer.unique_id:
            return extraction.domains[domain].angle
    return None
