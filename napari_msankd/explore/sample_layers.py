"""A sample in the viewer: its image, a frame around the patch, and the view made of it."""

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
"""Names of the layers that are made anew for each sample."""

_FRAME_COLOR = "#ffd23f"


@dataclass(frozen=True, eq=False)
class OpenedSample:
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
        (h, w) or (h, w, C), what the network saw; None for the patch itself.
    scale
        Pixels of `image` across one of `view`, (y, x).
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
    """Read the image of a sample, and make its view again; yields once. For a worker.

    Parameters
    ----------
    extraction, sample
        What was extracted, and which of it.
    model
        Name of the one whose patches and views these are.
    view
        (h, w) or (h, w, C), the view as it was shown elsewhere; made again if None.

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
        made = embedder.views(case, sample.corner).images[sample.view]
        view = _central_slice(np.moveaxis(made, 0, -1), neighbours)
    y, x = top + sample.corner[0] * scale[0], left + sample.corner[1] * scale[1]
    frame = (y, x, y + card.patch * scale[0], x + card.patch * scale[1])
    image = _central_slice(case.original.image, neighbours)
    yield OpenedSample(sample, image, frame, view, scale)


def _central_slice(pixels: NDArray[Any], neighbours: int) -> NDArray[Any]:
    """Colours as they are; of a slice and its neighbours, the slice."""
    if neighbours > 1:
        return pixels[..., neighbours // 2]
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def show_sample(
    viewer: "ViewerModel", own: WidgetLayers, extraction: "Extraction", opened: OpenedSample
) -> "Image":
    """Show a sample as `show_image`, with a frame and perhaps a view in place of earlier ones."""
    own.restore()
    own.set_visible(own.added("graph"), False)
    image = show_image(viewer, own, extraction, opened.sample, opened.image)
    top, left, bottom, right = opened.frame
    own.remove("view")
    if opened.view is not None:
        # The frame runs along edges of pixels, a layer begins at the centre of one.
        begin = (top + (opened.scale[0] - 1) / 2, left + (opened.scale[1] - 1) / 2)
        own.add(
            "view",
            opened.view,
            "image",
            name=f"{VIEW} {opened.sample.view}",
            rgb=opened.view.ndim == 3,
            # As the network sees it, not stretched.
            contrast_limits=(0, 1),
            metadata=provenance("view", opened.sample),
            **placement_over(image, opened.scale, begin),
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
    """Show the image of a sample: the layer it was taken from or opened as, or a new one.

    Image layers that would cover it are hidden until ``own.restore()``.
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
    # Of the images opened here one at a time is visible, as in a browser of images.
    others = [each for each in own.added("image") if each is not layer]
    own.set_visible([*others, *(each for each in above if isinstance(each, Image))], False)
    return layer


def clear_samples(own: WidgetLayers) -> None:
    """Take frame, view and graphs out of sight; what was hidden for them comes back."""
    for key in ("frame", "view"):
        own.remove(key)
    own.restore()
    own.set_visible([*own.added("graph"), *own.added("map")], False)


def provenance(kind: str, sample: "Sample | None" = None, **more: Any) -> dict[str, Any]:
    """Metadata of a layer that Explore made: ``{"msankd": {"explore": kind, …}}``.

    Of a sample with ``domain``, ``case``, ``corner`` (pixels of the prepared image) and ``view``.
    """
    if sample is not None:
        more = {"domain": sample.domain, "case": sample.case, "corner": list(sample.corner)}
        more["view"] = sample.view
    return {"msankd": {"explore": kind, **more}}


def camera_angle(extraction: "Extraction", layer: "Image") -> float | None:
    """Degrees that the camera of an open image spans; None where no explored domain says it."""
    for dataset in extraction.request.datasets:
        if isinstance(dataset, LayerDataset) and any(
            pair.image.layer_id == layer.unique_id for pair in dataset.pairs
        ):
            return dataset.angle
    for (domain, _), layer_id in extraction.layers.items():
        if layer_id == layer.unique_id:
            return extraction.domains[domain].angle
    return None
