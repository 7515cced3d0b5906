"""What all kinds of preprocessing share."""

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
"""Of the input of a network."""

Side = Annotated[int, Field(ge=32, le=MAX_SIDE)]
"""Pixels along the longer side of a prepared image."""


class BasePreprocessing(BaseModel, ABC):
    """What all classes of `Preprocessing` share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Channels of what `prepare` returns."""

    @property
    @abstractmethod
    def longer_side(self) -> int | None:
        """Pixels along the longer side of a prepared image; None: that of the original."""

    @abstractmethod
    def _pixels(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Check an image and return it as (H, W, C), integers or float32."""

    @abstractmethod
    def _prepared(self, pixels: NDArray[np.generic], fov: Mask | None) -> PreparedImage:
        """Prepare valid pixels (H, W, C)."""

    def for_camera(self, angle: float | None) -> Self:
        """The same for images of another camera, with as many pixels a degree.

        Parameters
        ----------
        angle
            Degrees that its field of view spans; None where that is not known,
            which leaves everything as it is.

        Raises
        ------
        InputError
            If there is an angle, but images are not prepared as fundus
            photographs, or the angle of the training camera is not known, or
            the prepared images would be wider than `MAX_SIDE` or narrower
            than 32 pixels.
        """
        if angle is None:
            return self
        raise InputError(
            f"the camera's angle is {angle:g} degrees, but images are prepared as {self.kind}; "
            "expected fundus photographs, or no angle"
        )

    def find_fov(self, image: NDArray[np.generic]) -> Mask | None:
        """Detect the field of view (H, W) of an image as `prepare` does; None if it is all of it.

        Raises
        ------
        InputError
            If the image is none that `prepare` takes.
        """
        self._pixels(image)
        return None

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a prepared image whose field of view has this height and width."""
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
            real dtype. With more than one of `neighbours` (H, W, neighbours),
            or a single slice (H, W), which is repeated.
        fov
            (H, W) bool, the field of view; if missing, all of the image, or
            what `find_field_of_view` finds in a fundus photograph.

        Raises
        ------
        InputError
            If the image has another shape, or a value that is not finite, or
            the field of view is empty or of another size.
        """
        pixels = self._pixels(image)
        if fov is not None and fov.shape != pixels.shape[:2]:
            found, expected = format_size(fov.shape), format_size(pixels.shape[:2])
            raise InputError(f"the field of view is {found}; expected {expected}")
        return self._prepared(pixels, None if fov is None else fov.astype(bool))


def as_channels(image: NDArray[np.generic], neighbours: int) -> NDArray[np.generic]:
    """The image as (H, W, 1 or 3), or (H, W, 1 or `neighbours`) where that is more than 1.

    Integers stay what they are, other values become float32.

    Raises
    ------
    InputError
        If it has another shape, or values that are not finite.
    """
    channels = image[..., None] if image.ndim == 2 else image
    known = (1, 3, 4) if neighbours == 1 else (1, neighbours)
    if channels.ndim != 3 or channels.shape[-1] not in known or 0 in channels.shape:
        *first, last = (str(count) for count in known)
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
