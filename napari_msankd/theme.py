"""Colors of napari's themes, and line colors that are legible on all of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme

if TYPE_CHECKING:
    from napari.components import ViewerModel

LINES = (
    "#2b83d6",
    "#d55f28",
    "#2f9556",
    "#b85fc4",
    "#8f7d1f",
    "#e0455f",
    "#168f9c",
    "#7a7f8c",
    "#7d6bd1",
    "#a5645a",
)
"""Contrast of at least 3 to the backgrounds of napari's dark and light themes."""

_FOREGROUND = "#00d5ff"
_GREEN = (47, 149, 86)


@dataclass(frozen=True)
class ThemeColors:
    """Colors of a theme for custom drawing, as ``#rrggbb``.

    Attributes
    ----------
    background, text
        Colors of a dock.
    faint
        Near the background, for frames, grids and pending items.
    dim
        Secondary text.
    raised
        Slightly off the background.
    chosen
        The theme's color of a selected item.
    done
        Green background of completed items.
    """

    background: str
    text: str
    faint: str
    dim: str
    raised: str
    chosen: str
    done: str


def theme_colors(viewer: "ViewerModel") -> ThemeColors:
    """The colours of a viewer's theme."""
    theme = get_theme(viewer.theme)
    background, text = theme.background.as_rgb_tuple(), theme.text.as_rgb_tuple()
    return ThemeColors(
        background=_hex(background),
        text=_hex(text),
        faint=_hex(_blend(background, text, 0.2)),
        dim=_hex(_blend(background, text, 0.7)),
        raised=_hex(_blend(background, text, 0.06)),
        chosen=_hex(theme.current.as_rgb_tuple()),
        done=_hex(_blend(background, _GREEN, 0.4)),
    )


def contrast(one: str, other: str) -> float:
    """Contrast of two colours ``#rrggbb`` by WCAG 2, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _blend(one: tuple[float, ...], other: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(a + (b - a) * share for a, b in zip(one[:3], other[:3], strict=True))


def _hex(colour: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(channel):02x}" for channel in colour[:3])


def label_colormap(classes: int) -> Any:
    """Colormap of labels: a bright cyan, rare in images, for one class; napari's for more."""
    from napari.utils.colormaps import DirectLabelColormap, label_colormap

    if classes > 2:
        return label_colormap()
    return DirectLabelColormap(
        color_dict={None: "#ff9f1a", 0: "transparent", 1: _FOREGROUND}, name="foreground"
    )


def uncertainty_colormap() -> Any:
    """Colormap from transparent to magenta, so that certain pixels do not hide the image."""
    from napari.utils.colormaps import Colormap

    return Colormap([[1, 0, 0.75, 0], [1, 0, 0.75, 1]], name="uncertainty")
