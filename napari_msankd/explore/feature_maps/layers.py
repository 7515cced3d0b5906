"""What networks make of an image, as layers exactly over it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.layers import placement_over
from napari_msankd.torch_import import gc_paused, preload

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image

    from src_training.inference.model_file import SegmentationModel

_ENERGY, _ERROR, _PROBABILITY = "inferno", "magma", "viridis"
_MAP = "explored map"
_LETTERS = 8


@dataclass(frozen=True, eq=False)
class Picture:
    """A map, and where it lies over the image.

    Attributes
    ----------
    name
        What it is, for its caption and the begin of the layer's name.
    pixels
        (h, w), or (C, h, w): a slider goes through the channels.
    scale, translate
        From its pixels to those of the image.
    colormap
        Of napari.
    limits
        Lowest and highest value in sight; None: those it has.
    said
        A sentence about it; may be empty.
    """

    name: str
    pixels: NDArray[np.float32]
    scale: tuple[float, float] = (1.0, 1.0)
    translate: tuple[float, float] = (0.0, 0.0)
    colormap: str = "gray"
    limits: tuple[float, float] | None = None
    said: str = ""


def features(
    model: "SegmentationModel", name: str, image: NDArray[Any], tap: str, channels: bool
) -> Iterator[list[Picture]]:
    """Activation energy at a tap, and its channels if they are asked for. For a worker.

    Raises
    ------
    InputError
        As `feature_maps`.
    """
    preload()
    with gc_paused():
        from src_training.explore.feature_maps import feature_maps

    found = feature_maps(model, image, tap)
    place = {"scale": found.scale, "translate": found.translate}
    count, height, width = found.maps.shape
    said = f"{name} at {tap}: {count} channels of {height} x {width}."
    pictures = [
        Picture(f"energy of {tap}, {name}", found.energy, colormap=_ENERGY, said=said, **place)
    ]
    if channels:
        pictures.append(Picture(f"{tap}, {name}", found.maps, **place))
    yield pictures


def rebuilding(run: "Path", image: NDArray[Any], angle: float | None) -> Iterator[list[Picture]]:
    """What the headers of teacher and student rebuild badly. For a worker.

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
        said = f"The {role}'s header misses {found.relative_error:.0%} of its bottleneck's energy."
        pictures += [
            Picture(f"{role} rebuilt", maps.energy, colormap=_ENERGY, **place),
            Picture(f"{role} error", found.error, colormap=_ERROR, said=said, **place),
        ]
    yield pictures


def crossing(run: "Path", image: NDArray[Any], angle: float | None) -> Iterator[list[Picture]]:
    """Who decodes whom: p_T, p_S, p1 and p2 of DICD; otherwise as `rebuilding`."""
    preload()
    with gc_paused():
        from src_training.explore.feature_maps import cross_predictions
        from src_training.runs.load import load_pair

    found = cross_predictions(load_pair(run).for_camera(angle), image)
    maps = {
        "p_T: teacher": found.teacher,
        "p_S: student": found.student,
        "p1: teacher decodes student": found.p1,
        "p2: student decodes teacher": found.p2,
    }
    yield [
        Picture(name, foreground, colormap=_PROBABILITY, limits=(0.0, 1.0))
        for name, each in maps.items()
        # The background is what is left; several classes have a slider.
        for foreground in [each[1] if len(each) == 2 else each[1:]]
    ]


def add_pictures(viewer: "ViewerModel", image: "Image", pictures: list[Picture]) -> None:
    """Add maps over their image; one of the same name gives way."""
    for picture in pictures:
        # What it is comes first: a list of layers leaves out the middle of a long name.
        name = f"{picture.name} · {image.name}"
        if name in viewer.layers:
            viewer.layers.remove(name)
        kept = {} if picture.limits is None else {"contrast_limits": picture.limits}
        viewer.add_image(
            picture.pixels,
            name=name,
            colormap=picture.colormap,
            rgb=False,
            metadata={_MAP: True},
            **kept,
            **placement_over(
                image, picture.scale, picture.translate, leading=picture.pixels.ndim - 2
            ),
        )
    lay_maps(viewer)
    viewer.layers.selection.active = image


def lay_maps(viewer: "ViewerModel") -> None:
    """Side by side, maps have captions and their true colours; else the image shows through."""
    apart = viewer.canvas.grid.enabled
    for layer in viewer.layers:
        if layer.metadata.get(_MAP):
            layer.opacity = 1.0 if apart else 0.8
            layer.name_overlay.font_size = _LETTERS
            layer.name_overlay.visible = apart


def order_of(pictures: list[Picture]) -> str:
    """What a grid of an image and its maps shows, in a sentence."""
    names = ", ".join(f"“{picture.name}”" for picture in pictures)
    return f"Side by side, row by row: the image, {names}."
