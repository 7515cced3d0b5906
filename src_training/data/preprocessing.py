"""From a raw image to what a network sees, and back: one door for training and segmenting."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.filters import threshold_otsu

from src_training.data.ct import WINDOWS
from src_training.errors import InputError

PADDING = 16
"""Pixels around a prepared image when it is segmented."""

WIDEST = 4096
"""Pixels across a prepared image, at most."""

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Angle = Annotated[float, Field(gt=0, le=360)]
"""Degrees that the field of view of a fundus camera spans."""


def _window(value: object) -> object:
    """The window of a name; what is no name stays."""
    if not isinstance(value, str):
        return value
    if value not in WINDOWS:
        raise ValueError(f"expected [low, high] in HU, or one of {', '.join(WINDOWS)}")
    return WINDOWS[value]


@dataclass(frozen=True)
class Geometry:
    """Where a prepared image lies in its original.

    Attributes
    ----------
    original
        Height and width of the original image, pixels.
    box
        Top, left, bottom, right of the part that was kept, original pixels.
    prepared
        Height and width of the prepared image, pixels.
    """

    original: tuple[int, int]
    box: tuple[int, int, int, int]
    prepared: tuple[int, int]

    def to_prepared(self, mask: NDArray[np.integer]) -> NDArray[np.integer]:
        """Labels (H, W) of the original on the prepared grid, nearest neighbour."""
        top, left, bottom, right = self.box
        part = torch.from_numpy(np.ascontiguousarray(mask[top:bottom, left:right]).astype(np.int32))
        resized = F.interpolate(part[None, None].float(), self.prepared, mode="nearest-exact")
        return resized[0, 0].numpy().astype(mask.dtype)

    def to_original(self, maps: Float, outside: float = 0.0) -> Float:
        """Maps (K, h, w) of the prepared grid on the original grid, bilinear.

        Pixels outside the box get `outside`.
        """
        top, left, bottom, right = self.box
        whole = np.full((maps.shape[0], *self.original), outside, np.float32)
        resized = _resize(maps, (bottom - top, right - left))
        whole[:, top:bottom, left:right] = resized
        return whole


@dataclass(frozen=True)
class Prepared:
    """An image as a network sees it.

    Attributes
    ----------
    pixels
        (C, h, w) float32, roughly in [0, 1].
    fov
        (h, w) bool, the pixels that are image rather than frame.
    geometry
        The way back.
    """

    pixels: Float
    fov: Mask
    geometry: Geometry

    @property
    def padded(self) -> Float:
        """The pixels in a dark frame, as the rim of an image is trained on.

        (C, h + 2 FRAME, w + 2 FRAME) float32, 0 in the frame.
        Without it a network takes the edge of a picture that cuts a disc for a vessel.
        """
        return np.pad(self.pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))


class Preprocessing(BaseModel):
    """How a raw image becomes a network's input; stored in every model.

    Attributes
    ----------
    kind
        ``fundus``: crop to the field of view, bring its diameter to
        `diameter`, green channel, CLAHE, [0, 1]. ``minmax`` and
        ``percentile``: scale the intensities of each image to [0, 1] by its
        extremes, or by its 1st and 99th percentile (clipped). ``window``:
        scale HU by `window` (clipped), the same for every image.
    diameter
        Pixels across the field of view after preparation (``fundus``). One
        diameter for every camera is the resolution policy: cross-dataset
        losses are largely resolution.
    angle
        Degrees that the field of view of the camera spans of which the network
        learns (``fundus``); None where it is not known. With it, images of
        another camera are brought to as many pixels a degree (`for_camera`).
    channels
        1 or 3, for all but ``fundus``, which always has 1. Grey images are
        repeated to 3; colour images are averaged (luma) to 1.
    window
        Lowest and highest HU, which become 0 and 1 (``window``); in a recipe
        also a name of `WINDOWS`.
    neighbours
        Slices of a volume that are the channels: the slice and as many on
        either side of it.
    side
        Pixels along the longer side after preparation, for all but
        ``fundus``; None keeps the image's. Slices of one field of view in
        many matrices need one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fundus", "minmax", "percentile", "window"] = "fundus"
    diameter: Annotated[int, Field(ge=32, le=WIDEST)] = 640
    angle: Angle | None = None
    channels: Literal[1, 3] = 1
    window: Annotated[tuple[float, float], BeforeValidator(_window)] = WINDOWS["soft_tissue"]
    neighbours: Literal[1, 3, 5] = 1
    side: Annotated[int, Field(ge=32, le=WIDEST)] | None = None

    @model_validator(mode="after")
    def _can_be_followed(self) -> "Preprocessing":
        low, high = self.window
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"window is {low:g} to {high:g}; expected a lower and a higher HU")
        if self.neighbours > 1 and (self.kind == "fundus" or self.channels > 1):
            raise ValueError(
                f"neighbours is {self.neighbours}; expected 1 with kind fundus and with 3 channels"
            )
        if self.angle is not None and self.kind != "fundus":
            raise ValueError(f"angle is {self.angle:g} with kind {self.kind}; expected kind fundus")
        return self

    @property
    def in_channels(self) -> int:
        """Channels of what `prepare` returns."""
        return 1 if self.kind == "fundus" else self.channels * self.neighbours

    def for_camera(self, angle: float | None) -> "Preprocessing":
        """The same for images of another camera: as many pixels a degree.

        A camera of 45 degrees shows vessels two thirds as wide as one of 30
        does; a diameter one and a half times as large makes them equal.

        Parameters
        ----------
        angle
            Degrees that its field of view spans; None where that is not
            known, and images are brought to `diameter`.

        Raises
        ------
        InputError
            If there is an angle, but these are no fundus photographs or that
            of the training camera is not known, or if the images would be
            wider than `WIDEST` or narrower than 32 pixels.
        """
        if angle is None:
            return self
        if self.kind != "fundus":
            raise InputError(
                f"the camera's angle is {angle:g} degrees, but images are prepared as {self.kind}; "
                "expected fundus photographs, or no angle"
            )
        if self.angle is None:
            raise InputError(
                f"the camera's angle is {angle:g} degrees, but that of the training camera "
                "is not known; expected both or neither"
            )
        diameter = round(self.diameter * angle / self.angle)
        if not 32 <= diameter <= WIDEST:
            raise InputError(
                f"the camera's angle is {angle:g} degrees, {diameter} pixels across where the "
                f"training camera's {self.angle:g} are {self.diameter}; expected 32 to {WIDEST}"
            )
        return self.model_copy(update={"diameter": diameter, "angle": angle})

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image (H, W) once prepared; it is all field of view."""
        side = self.diameter if self.kind == "fundus" else self.side
        if side is None:
            return size
        scale = side / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def prepare(self, image: NDArray[np.generic], fov: Mask | None = None) -> Prepared:
        """Prepare one image.

        Parameters
        ----------
        image
            (H, W) or (H, W, C) with C = 1, 3 or 4 (alpha is dropped), any
            real dtype. With more than one of `neighbours` (H, W, neighbours),
            or a single slice (H, W), which is repeated.
        fov
            (H, W) bool; found from the image when missing (``fundus``).

        Raises
        ------
        InputError
            If the image has another shape, or a value that is not finite, or
            the field of view is empty or of another size.
        """
        pixels = _checked(image, self.neighbours)
        if fov is not None and fov.shape != pixels.shape[:2]:
            found, expected = (" x ".join(map(str, size)) for size in (fov.shape, pixels.shape[:2]))
            raise InputError(f"the field of view is {found} pixels; expected {expected}")
        if self.kind == "fundus":
            return self._fundus(pixels, fov)
        size = pixels.shape[:2]
        channels = _with_channels(self._scaled(pixels), self.in_channels)
        seen = np.ones(size, bool) if fov is None else fov.astype(bool)
        geometry = Geometry(size, (0, 0, *size), self.grid_of(size))
        if geometry.prepared == size:
            return Prepared(channels, seen, geometry)
        seen = geometry.to_prepared(seen.astype(np.uint8)).astype(bool)
        return Prepared(_resize(channels, geometry.prepared), seen, geometry)

    def _scaled(self, pixels: Float) -> Float:
        """Intensities (H, W, C) in [0, 1]."""
        if self.kind == "window":
            return _stretched(pixels, *self.window)
        percentiles = (0, 100) if self.kind == "minmax" else (1, 99)
        return _stretched(pixels, *np.percentile(pixels, percentiles))

    def _fundus(self, pixels: Float, fov: Mask | None) -> Prepared:
        fov = find_field_of_view(pixels) if fov is None else fov.astype(bool)
        box = _bounding_box(fov)
        top, left, bottom, right = box
        height, width = bottom - top, right - left
        size = self.grid_of((height, width))
        green = pixels[..., 1] if pixels.shape[-1] == 3 else pixels[..., 0]
        cut = _resize(green[None, top:bottom, left:right], size)[0]
        seen = _resize(fov[None, top:bottom, left:right].astype(np.float32), size)[0] > 0.5
        filled = _fill_outside(cut, seen)
        low, high = float(filled.min()), float(filled.max())
        scaled = (filled - low) / (high - low) if high > low else np.zeros_like(filled)
        tile = max(8, self.diameter // 8)
        equal = equalize_adapthist(scaled, kernel_size=tile, clip_limit=0.01)
        pixels_out = np.where(seen, equal, 0).astype(np.float32)[None]
        return Prepared(pixels_out, seen, Geometry(pixels.shape[:2], box, size))


def find_field_of_view(pixels: NDArray[np.generic]) -> Mask:
    """The bright disc of a fundus photograph.

    Otsu's threshold on the smoothed brightest channel, the largest component,
    holes filled. An image without a dark frame is all field of view.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C).

    Returns
    -------
    ndarray
        (H, W) bool, at least one pixel true.
    """
    brightest = pixels.max(axis=-1) if pixels.ndim == 3 else pixels
    smooth = ndimage.gaussian_filter(brightest.astype(np.float32), sigma=2)
    everything = np.ones(smooth.shape, bool)
    if smooth.max() <= smooth.min():
        return everything
    # The frame is far darker than any fundus: a fraction of Otsu's threshold
    # keeps the shadowed rim inside.
    bright = smooth > 0.35 * (threshold_otsu(smooth) - smooth.min()) + smooth.min()
    # A frame darkens the corners; a caption may light one of them.
    corners = bright[[0, 0, -1, -1], [0, -1, 0, -1]]
    parts, count = ndimage.label(bright)
    if count == 0 or corners.sum() > 1:
        return everything
    sizes = np.bincount(parts.ravel())[1:]
    disc = ndimage.binary_fill_holes(parts == 1 + int(sizes.argmax()))
    return disc if disc.mean() > 0.2 else everything


def _checked(image: NDArray[np.generic], neighbours: int) -> Float:
    """The image as (H, W, 1 or 3) float32, or as (H, W, `neighbours`)."""
    channels = image[..., None] if image.ndim == 2 else image
    known = (1, 3, 4) if neighbours == 1 else (1, neighbours)
    if channels.ndim != 3 or channels.shape[-1] not in known or 0 in channels.shape:
        *first, last = (str(count) for count in known)
        raise InputError(
            f"the image has shape {image.shape}; expected (H, W), or (H, W, C) with "
            f"C = {', '.join(first)} or {last}"
        )
    pixels = (channels[..., :3] if neighbours == 1 else channels).astype(np.float32)
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(f"the image has {bad} values that are NaN or infinite; expected none")
    return pixels


def _stretched(pixels: Float, low: float, high: float) -> Float:
    if high <= low:
        return np.zeros_like(pixels)
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), np.float32)


def _with_channels(pixels: Float, channels: int) -> Float:
    """(H, W, c) as (channels, H, W)."""
    if pixels.shape[-1] == 3 and channels == 1:
        pixels = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    repeated = np.repeat(pixels, channels, axis=-1) if pixels.shape[-1] < channels else pixels
    return np.ascontiguousarray(repeated.transpose(2, 0, 1))


def _bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    if not mask.any():
        raise InputError(
            f"the field of view is empty ({mask.shape[0]} x {mask.shape[1]} pixels, none true); "
            "expected at least one pixel of image"
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _fill_outside(image: Float, seen: Mask) -> Float:
    """Continue the rim outwards, so that CLAHE and the network see no false edge."""
    if seen.all():
        return image
    inner = ndimage.binary_erosion(seen, iterations=3, border_value=1)
    source = inner if inner.any() else seen
    nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return np.where(source, image, image[tuple(nearest)])


def _resize(maps: Float, size: tuple[int, int]) -> Float:
    """Bilinear with antialiasing: (K, h, w) -> (K, *size)."""
    tensor = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return F.interpolate(tensor, size, mode="bilinear", antialias=True)[0].numpy()
