"""Preprocessing of fundus photographs."""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from skimage.exposure import equalize_adapthist

from src_training.data.preprocessing.base import MAX_SIDE, BasePreprocessing, Side, as_channels
from src_training.data.preprocessing.field_of_view import (
    bounding_box,
    extend_rim,
    find_field_of_view,
)
from src_training.data.preprocessing.geometry import Geometry, Mask, PreparedImage, resize
from src_training.errors import InputError

Angle = Annotated[float, Field(gt=0, le=360)]
"""Angle of the field of view of a fundus camera, degrees."""


class FundusPreprocessing(BasePreprocessing):
    """Photographs of the retina: the green channel of the field of view, with CLAHE.

    The image is cropped to its field of view, resized to `diameter`, scaled to
    [0, 1] and equalised; pixels outside the field of view are 0.

    Attributes
    ----------
    kind
        ``fundus``.
    diameter
        Pixels across the prepared field of view. All cameras get the same
        diameter, because differences in resolution cause most of the loss of
        accuracy between data sets.
    angle
        Angle of the training camera's field of view, degrees; None if unknown.
        If given, images of another camera are resized to the same number of
        pixels per degree (`for_camera`).

    Examples
    --------
    >>> import numpy as np
    >>> FundusPreprocessing(diameter=64).prepare(np.full((20, 40, 3), 7)).pixels.shape
    (1, 32, 64)
    """

    kind: Literal["fundus"] = "fundus"
    diameter: Side = 640
    angle: Angle | None = None

    @property
    def in_channels(self) -> int:
        """Number of channels of a prepared image, 1."""
        return 1

    @property
    def longer_side(self) -> int:
        """Pixels along the longer side of a prepared image, the diameter."""
        return self.diameter

    @property
    def neighbours(self) -> int:
        """Number of slices used as channels, 1, because photographs have no neighbours."""
        return 1

    def for_camera(self, angle: float | None) -> Self:
        """Adapt the diameter to another camera; see `BasePreprocessing.for_camera`.

        In an image of a 45 degree camera, vessels are two thirds as wide as in one
        of a 30 degree camera; a diameter 1.5 times as large compensates for it.

        Examples
        --------
        >>> FundusPreprocessing(diameter=640, angle=30).for_camera(45).diameter
        960
        """
        if angle is None:
            return self
        if self.angle is None:
            raise InputError(
                f"the camera's angle is {angle:g} degrees, but that of the training camera "
                "is not known; expected no angle with this model"
            )
        diameter = round(self.diameter * angle / self.angle)
        if not 32 <= diameter <= MAX_SIDE:
            raise InputError(
                f"the camera's angle is {angle:g} degrees, {diameter} pixels across where the "
                f"training camera's {self.angle:g} are {self.diameter}; expected 32 to {MAX_SIDE}"
            )
        return self.model_copy(update={"diameter": diameter, "angle": angle})

    def find_fov(self, image: NDArray[np.generic]) -> Mask:
        """Detect the field of view (H, W) of a photograph; see `find_field_of_view`."""
        return find_field_of_view(self._pixels(image))

    def _pixels(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        return as_channels(image, 1)

    def _prepared(self, pixels: NDArray[np.generic], fov: Mask | None) -> PreparedImage:
        fov = find_field_of_view(pixels) if fov is None else fov
        box = bounding_box(fov)
        top, left, bottom, right = box
        size = self.grid_of((bottom - top, right - left))
        green = pixels[..., 1] if pixels.shape[-1] == 3 else pixels[..., 0]
        cropped = resize(green[None, top:bottom, left:right].astype(np.float32), size)[0]
        inside = resize(fov[None, top:bottom, left:right].astype(np.float32), size)[0] > 0.5
        filled = extend_rim(cropped, inside)
        low, high = float(filled.min()), float(filled.max())
        scaled = (filled - low) / (high - low) if high > low else np.zeros_like(filled)
        tile = max(8, self.diameter // 8)
        equalised = equalize_adapthist(scaled, kernel_size=tile, clip_limit=0.01)
        pixels_out = np.where(inside, equalised, 0).astype(np.float32)[None]
        return PreparedImage(pixels_out, inside, Geometry(pixels.shape[:2], box, size))
