"""Feature maps of networks as layers over their image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.explore.sample_layers import provenance
from napari_msankd.layers import WidgetLayers, placement_over
from napari_msankd.torch_import import gc_paused, preload

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from src_training.inference.model_file import SegmentationModel

_ENERGY, _ERROR, _PROBABILITY = "inferno", "magma", "viridis"
_LETTERS = 8


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A map, and its position over the image.

    Attributes
    ----------
    name
        Caption, and start of the layer's name.
    pixels
        (h, w), or (C, h, w) with a slider over the channels.
    scale, translate
        Transform from its pixels to those of the image.
    colormap
        Colormap of napari.
    limits
        Contrast limits; by default the range of values.
    text
        A sentence about the map; may be empty.
    """

    name: str
    pixels: NDArray[np.float32]
    scale: tuple[float, float] = (1.0, 1.0)
    translate: tuple[float, float] = (0.0, 0.0)
    colormap: str = "gray"
    limits: tuple[float, float] | None = None
    text: str = ""


def features(
    model: "SegmentationModel", name: str, image: NDArray[Any], tap: str, channels: bool
) -> Iterator[list[FeatureMap]]:
    """Yield the activation energy at a tap, and optionally its channels; for a worker.

    Raises
    ------
    InputError
        As in `feature_maps`.
    """
    preload()
    with gc_paused():
        from src_training.explore.feature_maps import feature_maps

    result = feature_maps(model, image, tap)
    place = {"scale": result.scale, "translate": result.translate}
    count, height, width = result.maps.shape
    text = f"{name} at {tap}: {count} channels of {width} × {height} px (w × h)."
    pictures = [
        FeatureMap(f"energy of {tap}, {name}", result.energy, colormap=_ENERGY, text=text, **place)
    ]
    if channels:
        pictures.append(FeatureMap(f"{tap}, {name}", result.maps, **place))
    yield pictures


def reconstructions(
    run: "Path", image: NDArray[Any], angle: float | None
) -> Iterator[list[FeatureMap]]:
    """Yield the bottlenecks reconstructed by the headers of teacher and student; for a worker.

    Parameters
    ----------
    run
        Run with the networks.
    image
        Image (H, W) or (H, W, C).
    angle
        Angle of its camera, degrees; None if unknown.

    Raises
    ------
    InputError
        As in `load_pair`, `Preprocessing.for_camera` and `reconstruct_bottleneck`.
    """
    preload()
    with gc_paused():
        from src_training.explore.feature_maps import reconstruct_bottleneck
        from src_training.runs.load import load_pair

    networks, pictures = load_pair(run).for_camera(angle), []
    for role in ("teacher", "student"):
        result = reconstruct_bottleneck(networks, role, image)
        maps = result.reconstructed
        place = {"scale": maps.scale, "translate": maps.translate}
        text = f"The {role}'s header loses {result.relative_error:.0%} of its bottleneck's energy."
        pictures += [
            FeatureMap(f"{role} reconstruction", maps.energy, colormap=_ENERGY, **place),
            FeatureMap(f"{role} error", result.error, colormap=_ERROR, text=text, **place),
        ]
    yield pictures


def cross_predictions(
    run: "Path", image: NDArray[Any], angle: float | None
) -> Iterator[list[FeatureMap]]:
    """Yield the predictions p_T, p_S, p1 and p2 of DICD; otherwise as `reconstructions`."""
    preload()
    with gc_paused():
        from src_training.explore import feature_maps
        from src_training.runs.load import load_pair

    predictions = feature_maps.cross_predictions(load_pair(run).for_camera(angle), image)
    maps = {
        "p_T: teacher": predictions.teacher,
        "p_S: student": predictions.student,
        "p1: teacher decodes student": predictions.p1,
        "p2: student decodes teacher": predictions.p2,
    }
    yield [
        # Without the background; several foreground classes have a slider.
        FeatureMap(name, p[1] if len(p) == 2 else p[1:], colormap=_PROBABILITY, limits=(0.0, 1.0))
        for name, p in maps.items()
    ]


def add_maps(own: WidgetLayers, image: "Image", maps: list[FeatureMap]) -> None:
    """Add maps over their image, and replace former ones of the same names."""
    for m in maps:
        limits = {} if m.limits is None else {"contrast_limits": m.limits}
        own.add(
            ("map", image.unique_id, m.name),
            m.pixels,
            "image",
            # The name of the map comes first, because the layer list elides long names.
            name=f"{m.name} · {image.name}",
            colormap=m.colormap,
            rgb=False,
            metadata=provenance("feature map", map=m.name, image=image.name),
            **limits,
            **placement_over(image, m.scale, m.translate, leading=m.pixels.ndim - 2),
        )


def style_maps(own: WidgetLayers, side_by_side: bool) -> None:
    """Style maps: opaque with captions side by side, else translucent over the image."""
    for layer in own.added("map"):
        layer.opacity = 1.0 if side_by_side else 0.8
        layer.name_overlay.font_size = _LETTERS
        layer.name_overlay.visible = side_by_side


def grid_text(maps: list[FeatureMap]) -> str:
    """Message about the order of an image and its maps in grid mode."""
    names = ", ".join(f"“{m.name}”" for m in maps)
    return f"Side by side, row by row: the image, {names}."
