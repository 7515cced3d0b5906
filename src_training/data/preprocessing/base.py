"""Base class of all kinds of preprocessing."""

from abc import ABC, abstractmethod
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_training.data.preprocessing.geometry import Mask, PreparedImage
from src_training.errors import InputError
from src_training.io.volumes.grid import format_size

MAX_SIDE = 4096
"""Longest side of a prepared image, pixels."""

MOST_CHANNELS = 64
"""Largest number of input channels of a network."""

Side = Annotated[int, Field(ge=32, le=MAX_SIDE)]
"""Pixels along the longer side of a prepared image."""


class BasePreprocessing(BaseModel, ABC):
    """Base class of all kinds of `Preprocessing`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Number of channels of a prepared image."""

    @property
    @abstractmethod
    def longer_side(self) -> int | None:
        """Pixels along the longer side of a prepared image; None if it is not resized."""

    @abstractmethod
    def _pixels(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Check an image and return it as (H, W, C), integers or float32."""

    @abstractmethod
    def _prepared(self, pixels: NDArray[np.generic], fov: Mask | None) -> PreparedImage:
        """Prepare valid pixels (H, W, C)."""

    def for_camera(self, angle: float | None) -> Self:
        """Adapt the preprocessing to another camera, with equal pixels per degree.

        Parameters
        ----------
        angle
            Angle of the camera's field of view, degrees; with None (unknown) the
            preprocessing is unchanged.

        Raises
        ------
        InputError
            If an angle is given, but the images are not fundus photographs, the
            angle of the training camera is unknown, or the prepared images would
            be wider than `MAX_SIDE` or narrower than 32 pixels.
        """
        if angle is None:
            return self
        raise InputError(
            f"the camera's angle is {angle:g} degrees, but images are prepared as {self.kind}; "
            "expected fundus photographs, or no angle"
        )

    def find_fov(self, image: NDArray[np.generic]) -> Mask | None:
        """Detect the field of view (H, W) as in `prepare`; None if it is the whole image.

        Raises
        ------
        InputError
            If `prepare` does not support the image.
        """
        self._pixels(image)
        return None

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a prepared image from those of its field of view."""
        side = self.longer_side
        if side is None:
            return size
        scale = side / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def prepare(self, image: NDArray[np.generic], fov: Mask | None = None) -> PreparedImage:
        """Prepare one image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C) with C = 1, 3 or 4 (alpha is dropped), any
            real dtype. If `neighbours` is greater than 1: (H, W, neighbours), or
            a single slice (H, W), which is repeated.
        fov
            Field of view (H, W) bool. If missing, it is detected in a fundus
            photograph (`find_field_of_view`), and is the whole image otherwise.

        Raises
        ------
        InputError
            If the image has an unsupported shape or values that are not finite,
            or the field of view is empty or of a different size.
        """
        pixels = self._pixels(image)
        if fov is not None and fov.shape != pixels.shape[:2]:
            found, expected = format_size(fov.shape), format_size(pixels.shape[:2])
            raise InputError(f"the field of view is {found}; expected {expected}")
        return self._prepared(pixels, None if fov is None else fov.astype(bool))


def as_channels(image: NDArray[np.generic], neighbours: int) -> NDArray[np.generic]:
    """Convert an image to (H, W, 1 or 3), or to (H, W, 1 or `neighbours`) if that is above 1.

    Integer dtypes are kept; other dtypes are converted to float32.

    Raises
    ------
    InputError
        If the image has an unsupported shape, or values that are not finite.
    """
    channels = image[..., None] if image.ndim == 2 else image
    supported = (1, 3, 4) if neighbours == 1 else (1, neighbours)
    if channels.ndim != 3 or channels.shape[-1] not in supported or 0 in channels.shape:
        *first, last = (str(count) for count in supported)
        raise InputError(
            f"the image has shape {image.shape}; expected (H, W), or (H, W, C) with "
            f"C = {', '.join(first)} or {last}"
        )
    pixels = channels[..., :3] if neighbours == 1 else channels
    if pixels.dtype.kind in "biu":
        return pixels
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(f"the image has {bad} values that are NaN or infinite; expected none")
    return pixels
