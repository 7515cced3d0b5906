"""Feature maps of networks, as layers exactly over their image."""

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
    """A map, and where it lies over the image.

    Attributes
    ----------
    name
        For its caption, and the beginning of the layer's name.
    pixels
        (h, w), or (C, h, w): a slider goes through the channels.
    scale, translate
        From its pixels to those of the image.
    colormap
        Of napari.
    limits
        Lowest and highest value in sight; None: those it has.
    text
        A sentence about it; may be empty.
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
    """Activation energy at a tap, and perhaps its channels. For a worker.

    Raises
    ------
    InputError
        As `feature_maps`.
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
    """Bottlenecks as the headers of teacher and student reconstruct them. For a worker.

    Parameters
    ----------
    run
        Whose networks.
    image
        (H, W) or (H, W, C).
    angle
        Degrees that its camera spans; None where that is not known.

    Raises
    ------
    InputError
        As `load_pair`, `Preprocessing.for_camera` and `reconstruct_bottleneck`.
    """
    preload()
    with gc_paused():
        from src_training.explore.feature_maps import reconstruct_bottleneck
        from src_training.runs.load import load_pair

    networks, pictures = load_pair(run).for_camera(angle), []
    for role in ("teacher", "student"):
        found = reconstruct_bottleneck(networks, role, image)
        maps = found.reconstructed
        place = {"scale": maps.scale, "translate": maps.translate}
        text = f"The {role}'s header loses {found.relative_error:.0%} of its bottleneck's energy."
        pictures += [
            FeatureMap(f"{role} reconstruction", maps.energy, colormap=_ENERGY, **place),
            FeatureMap(f"{role} error", found.error, colormap=_ERROR, text=text, **place),
        ]
    yield pictures


def cross_predictions(
    run: "Path", image: NDArray[Any], angle: float | None
) -> Iterator[list[FeatureMap]]:
    """Predictions p_T, p_S, p1 and p2 of DICD; otherwise as `reconstructions`."""
    preload()
    with gc_paused():
        from src_training.explore import feature_maps
        from src_training.runs.load import load_pair

    found = feature_maps.cross_predictions(load_pair(run).for_camera(angle), image)
    maps = {
        "p_T: teacher": found.teacher,
        "p_S: student": found.student,
        "p1: teacher decodes student": found.p1,
        "p2: student decodes teacher": found.p2,
    }
    yield [
        FeatureMap(name, foreground, colormap=_PROBABILITY, limits=(0.0, 1.0))
        for name, each in maps.items()
        # The background is what is left; several classes have a slider.
        for foreground in [each[1] if len(each) == 2 else each[1:]]
    ]


def add_maps(own: WidgetLayers, image: "Image", maps: list[FeatureMap]) -> None:
    """Add maps over their image; an earlier one of the same name is replaced."""
    for each in maps:
        limits = {} if each.limits is None else {"contrast_limits": each.limits}
        own.add(
            ("map", image.unique_id, each.name),
            each.pixels,
            "image",
            # What it is comes first: a list of layers leaves out the middle of a long name.
            name=f"{each.name} · {image.name}",
            colormap=each.colormap,
            rgb=False,
            metadata=provenance("feature map", map=each.name, image=image.name),
            **limits,
            **placement_over(image, each.scale, each.translate, leading=each.pixels.ndim - 2),
        )


def style_maps(own: WidgetLayers, side_by_side: bool) -> None:
    """Side by side, maps have captions and their true colours; else the image shows through."""
    for layer in own.added("map"):
        layer.opacity = 1.0 if side_by_side else 0.8
        layer.name_overlay.font_size = _LETTERS
        layer.name_overlay.visible = side_by_side


def grid_text(maps: list[FeatureMap]) -> str:
    """What a grid of an image and its maps shows, in a sentence."""
    names = ", ".join(f"“{each.name}”" for each in maps)
    return f"Side by side, row by row: the image, {names}."
