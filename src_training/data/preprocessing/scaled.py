"""Preprocessing of whole images by scaling intensities to [0, 1]."""

import math
from abc import abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from src_training.data.ct import WINDOWS
from src_training.data.preprocessing.base import BasePreprocessing, Side, as_channels
from src_training.data.preprocessing.geometry import Float, Geometry, Mask, PreparedImage, resize

Percentile = Annotated[float, Field(ge=0, le=100)]


def _window_of_name(value: object) -> object:
    """Replace a name by its window in `WINDOWS`; other values are unchanged."""
    if not isinstance(value, str):
        return value
    if value not in WINDOWS:
        raise ValueError(f"expected [low, high] in HU, or one of {', '.join(WINDOWS)}")
    return WINDOWS[value]


class ScaledPreprocessing(BasePreprocessing):
    """Whole images whose intensities are scaled to [0, 1] and clipped.

    Attributes
    ----------
    channels
        Number of channels, 1 or 3. Greyscale images are repeated to 3; colour
        images are averaged (luma) to 1.
    neighbours
        Number of slices of a volume used as channels, centred on the slice.
    side
        Pixels along the longer side of the prepared image; None does not resize.
        Set it if slices of the same field of view have different matrix sizes.
    """

    channels: Literal[1, 3] = 1
    neighbours: Annotated[Literal[1, 3, 5], Field(title="Slices as channels")] = 1
    side: Annotated[Side | None, Field(title="Longer side")] = None

    @model_validator(mode="after")
    def _refuse_colour_slices(self) -> Self:
        if self.neighbours > 1 and self.channels > 1:
            raise ValueError(f"neighbours is {self.neighbours}; expected 1 with 3 channels")
        return self

    @property
    def in_channels(self) -> int:
        """Number of channels of a prepared image."""
        return self.channels * self.neighbours

    @property
    def longer_side(self) -> int | None:
        """Pixels along the longer side of a prepared image; None if it is not resized."""
        return self.side

    @abstractmethod
    def limits(self, pixels: Float) -> tuple[float, float]:
        """Values of an image (H, W, C) that are mapped to 0 and 1."""

    def _pixels(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        return as_channels(image, self.neighbours)

    def _prepared(self, pixels: NDArray[np.generic], fov: Mask | None) -> PreparedImage:
        values, size = pixels.astype(np.float32), pixels.shape[:2]
        scaled = _with_channels(_rescale(values, *self.limits(values)), self.in_channels)
        inside = np.ones(size, bool) if fov is None else fov
        geometry = Geometry(size, (0, 0, *size), self.grid_of(size))
        if geometry.prepared == size:
            return PreparedImage(scaled, inside, geometry)
        inside = geometry.to_prepared(inside.astype(np.uint8)).astype(bool)
        return PreparedImage(resize(scaled, geometry.prepared), inside, geometry)


class IntensityPreprocessing(ScaledPreprocessing):
    """Images without a fixed intensity scale; each is scaled by its own percentiles.

    Attributes
    ----------
    kind
        ``intensity``.
    percentiles
        Percentiles of all values of an image that are mapped to 0 and 1;
        ``[0, 100]`` are the minimum and the maximum.

    Examples
    --------
    >>> import numpy as np
    >>> minmax = IntensityPreprocessing(percentiles=(0, 100))
    >>> minmax.prepare(np.array([[10, 20], [15, 30]])).pixels.tolist()
    [[[0.0, 0.5], [0.25, 1.0]]]
    """

    kind: Literal["intensity"] = "intensity"
    percentiles: tuple[Percentile, Percentile] = (1.0, 99.0)

    @model_validator(mode="after")
    def _refuse_empty_range(self) -> Self:
        low, high = self.percentiles
        if low >= high:
            raise ValueError(f"percentiles are {low:g} and {high:g}; expected a lower and a higher")
        return self

    def limits(self, pixels: Float) -> tuple[float, float]:
        """The percentiles of an image."""
        low, high = np.percentile(pixels, self.percentiles)
        return low, high


class WindowPreprocessing(ScaledPreprocessing):
    """CT in Hounsfield units (HU), with the same window for all images.

    Attributes
    ----------
    kind
        ``window``.
    window
        Lowest and highest value, HU, mapped to 0 and 1; in a recipe also a name
        of `WINDOWS`.

    Examples
    --------
    >>> import numpy as np
    >>> liver = WindowPreprocessing(window="liver")
    >>> liver.window
    (-60.0, 140.0)
    >>> liver.prepare(np.array([[-1000, 40, 3000]])).pixels.tolist()
    [[[0.0, 0.5, 1.0]]]
    """

    kind: Literal["window"] = "window"
    window: Annotated[tuple[float, float], BeforeValidator(_window_of_name)] = WINDOWS[
        "soft_tissue"
    ]

    @model_validator(mode="after")
    def _refuse_empty_window(self) -> Self:
        low, high = self.window
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"window is {low:g} to {high:g}; expected a lower and a higher HU")
        return self

    def limits(self, pixels: Float) -> tuple[float, float]:
        """The window, independent of the image."""
        return self.window


def _rescale(pixels: Float, low: float, high: float) -> Float:
    """Map `low` to 0 and `high` to 1 linearly, and clip; all 0 if they are equal."""
    if high <= low:
        return np.zeros_like(pixels)
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), np.float32)


def _with_channels(pixels: Float, channels: int) -> Float:
    """Convert (H, W, C) to (channels, H, W): average colours, or repeat a single channel."""
    if pixels.shape[-1] == 3 and channels == 1:
        pixels = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    repeated = np.repeat(pixels, channels, axis=-1) if pixels.shape[-1] < channels else pixels
    return np.ascontiguousarray(repeated.transpose(2, 0, 1))
