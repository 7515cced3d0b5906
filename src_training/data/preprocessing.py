"""From a raw image to a network's input, and back: the same for training and for segmenting.

How an image is prepared is one of three classes, told apart by `kind`: `FundusPreprocessing`,
`IntensityPreprocessing` and `WindowPreprocessing`. `Preprocessing` is the union of them, as
recipes and model cards hold it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from skimage.exposure import equalize_adapthist

from src_training.data.ct import WINDOWS
from src_training.data.field_of_view import bounding_box, extend_rim, find_field_of_view
from src_training.data.geometry import Float, Geometry, Mask, Prepared, resize
from src_training.errors import InputError

MAX_SIDE = 4096
"""Longest side of a prepared image, pixels."""

Angle = Annotated[float, Field(gt=0, le=360)]
"""Degrees that the field of view of a fundus camera spans."""

Side = Annotated[int, Field(ge=32, le=MAX_SIDE)]
"""Pixels along the longer side of a prepared image."""

Percentile = Annotated[float, Field(ge=0, le=100)]


def _window_of_name(value: object) -> object:
    """The window of a name of `WINDOWS`; any other value unchanged."""
    if not isinstance(value, str):
        return value
    if value not in WINDOWS:
        raise ValueError(f"expected [low, high] in HU, or one of {', '.join(WINDOWS)}")
    return WINDOWS[value]


class BasePreprocessing(BaseModel, ABC):
    """What all classes of `Preprocessing` share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    def _pixels(self, image: NDArray[np.generic]) -> Float:
        """Check an image and return it as float32 (H, W, C)."""

    @abstractmethod
    def _prepared(self, pixels: Float, fov: Mask | None) -> Prepared:
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

    def grid_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a prepared image whose field of view has this height and width."""
        side = self.longer_side
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
            found, expected = (" x ".join(map(str, size)) for size in (fov.shape, pixels.shape[:2]))
            raise InputError(f"the field of view is {found} pixels; expected {expected}")
        return self._prepared(pixels, None if fov is None else fov.astype(bool))


class FundusPreprocessing(BasePreprocessing):
    """Photographs of the retina: the green channel of the field of view, with CLAHE.

    The image is cropped to its field of view, brought to `diameter`, scaled to
    [0, 1] and equalised; pixels outside the field of view are 0.

    Attributes
    ----------
    kind
        ``fundus``.
    diameter
        Pixels across the field of view after preparation. One diameter for
        every camera is the resolution policy: cross-dataset losses are
        largely resolution.
    angle
        Degrees that the field of view of the training camera spans; None
        where it is not known. With it, images of another camera are brought
        to as many pixels a degree (`for_camera`).

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
        """Channels of what `prepare` returns: 1."""
        return 1

    @property
    def longer_side(self) -> int:
        """Pixels along the longer side of a prepared image: the diameter."""
        return self.diameter

    @property
    def neighbours(self) -> int:
        """Slices of a volume that are the channels: 1, as a photograph has none beside it."""
        return 1

    def for_camera(self, angle: float | None) -> Self:
        """The same for images of another camera; see `BasePreprocessing.for_camera`.

        A camera of 45 degrees shows vessels two thirds as wide as one of 30
        does; a diameter one and a half times as large makes them equal.

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
                "is not known; expected both or neither"
            )
        diameter = round(self.diameter * angle / self.angle)
        if not 32 <= diameter <= MAX_SIDE:
            raise InputError(
                f"the camera's angle is {angle:g} degrees, {diameter} pixels across where the "
                f"training camera's {self.angle:g} are {self.diameter}; expected 32 to {MAX_SIDE}"
            )
        return self.model_copy(update={"diameter": diameter, "angle": angle})

    def _pixels(self, image: NDArray[np.generic]) -> Float:
        return _as_float(image, 1)

    def _prepared(self, pixels: Float, fov: Mask | None) -> Prepared:
        fov = find_field_of_view(pixels) if fov is None else fov
        box = bounding_box(fov)
        top, left, bottom, right = box
        size = self.grid_of((bottom - top, right - left))
        green = pixels[..., 1] if pixels.shape[-1] == 3 else pixels[..., 0]
        cropped = resize(green[None, top:bottom, left:right], size)[0]
        seen = resize(fov[None, top:bottom, left:right].astype(np.float32), size)[0] > 0.5
        filled = extend_rim(cropped, seen)
        low, high = float(filled.min()), float(filled.max())
        scaled = (filled - low) / (high - low) if high > low else np.zeros_like(filled)
        tile = max(8, self.diameter // 8)
        equalised = equalize_adapthist(scaled, kernel_size=tile, clip_limit=0.01)
        pixels_out = np.where(seen, equalised, 0).astype(np.float32)[None]
        return Prepared(pixels_out, seen, Geometry(pixels.shape[:2], box, size))


class ScaledPreprocessing(BasePreprocessing):
    """Whole images whose intensities are scaled to [0, 1] and clipped.

    Attributes
    ----------
    channels
        1 or 3. Grey images are repeated to 3; colour images are averaged
        (luma) to 1.
    neighbours
        Slices of a volume that are the channels: the slice and as many on
        either side of it.
    side
        Pixels along the longer side after preparation; None keeps the
        image's. Slices of one field of view in many matrices need one.
    """

    channels: Literal[1, 3] = 1
    neighbours: Literal[1, 3, 5] = 1
    side: Side | None = None

    @model_validator(mode="after")
    def _refuse_colour_slices(self) -> Self:
        if self.neighbours > 1 and self.channels > 1:
            raise ValueError(f"neighbours is {self.neighbours}; expected 1 with 3 channels")
        return self

    @property
    def in_channels(self) -> int:
        """Channels of what `prepare` returns."""
        return self.channels * self.neighbours

    @property
    def longer_side(self) -> int | None:
        """Pixels along the longer side of a prepared image; None: that of the original."""
        return self.side

    @abstractmethod
    def limits(self, pixels: Float) -> tuple[float, float]:
        """Values of an image (H, W, C) that become 0 and 1."""

    def _pixels(self, image: NDArray[np.generic]) -> Float:
        return _as_float(image, self.neighbours)

    def _prepared(self, pixels: Float, fov: Mask | None) -> Prepared:
        size = pixels.shape[:2]
        scaled = _with_channels(_rescale(pixels, *self.limits(pixels)), self.in_channels)
        seen = np.ones(size, bool) if fov is None else fov
        geometry = Geometry(size, (0, 0, *size), self.grid_of(size))
        if geometry.prepared == size:
            return Prepared(scaled, seen, geometry)
        seen = geometry.to_prepared(seen.astype(np.uint8)).astype(bool)
        return Prepared(resize(scaled, geometry.prepared), seen, geometry)


class IntensityPreprocessing(ScaledPreprocessing):
    """Images whose intensities have no fixed scale: each is scaled by its own percentiles.

    Attributes
    ----------
    kind
        ``intensity``.
    percentiles
        Percentiles of all values of an image that become 0 and 1. With
        ``[0, 100]`` these are the smallest and the largest value.

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
    """CT in Hounsfield units (HU): one window for every image.

    Attributes
    ----------
    kind
        ``window``.
    window
        Lowest and highest HU, which become 0 and 1; in a recipe also a name
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
        """The window, whatever the image."""
        return self.window


Preprocessing = Annotated[
    FundusPreprocessing | IntensityPreprocessing | WindowPreprocessing, Field(discriminator="kind")
]
"""How a raw image becomes a network's input; stored in every recipe and every model card."""

_FORMER_PERCENTILES = {"minmax": (0.0, 100.0), "percentile": (1.0, 99.0)}
"""Kinds of a former version that are `IntensityPreprocessing` now, and their percentiles."""

_FORMER_FIELDS = {"diameter", "angle", "channels", "window", "neighbours", "side"}
"""Fields that the one class of a former version had beside `kind`, whatever the kind."""


def migrate_preprocessing(content: Mapping[str, Any]) -> dict[str, Any]:
    """Turn preprocessing of a former version into fields of one of the present classes.

    Formerly one class had the fields of every kind, and those of other kinds had no
    effect; they are left out. The kinds ``minmax`` and ``percentile`` are ``intensity``
    now, and a missing kind was ``fundus``. Present content comes back as it is.

    Parameters
    ----------
    content
        Parsed YAML or JSON; need not be valid.

    Examples
    --------
    >>> migrate_preprocessing({"kind": "minmax", "diameter": 640, "angle": None, "channels": 3})
    {'kind': 'intensity', 'channels': 3, 'percentiles': (0.0, 100.0)}
    >>> migrate_preprocessing({"diameter": 512})
    {'kind': 'fundus', 'diameter': 512}
    """
    kind = content.get("kind", "fundus")
    migrated = {"kind": kind, **content}
    if isinstance(kind, str) and kind in _FORMER_PERCENTILES:
        migrated |= {"kind": "intensity", "percentiles": _FORMER_PERCENTILES[kind]}
    known = next(
        (
            member.model_fields.keys()
            for member in get_args(get_args(Preprocessing)[0])
            if member.model_fields["kind"].default == migrated["kind"]
        ),
        migrated.keys(),
    )
    # An angle, or neighbouring slices, of a kind that has none was an error, and still is.
    refused = {
        name for name, none in (("angle", None), ("neighbours", 1)) if migrated.get(name) != none
    }
    ignored = _FORMER_FIELDS - known - refused
    return {name: value for name, value in migrated.items() if name not in ignored}


def _as_float(image: NDArray[np.generic], neighbours: int) -> Float:
    """The image as float32 (H, W, 1 or 3), or (H, W, 1 or `neighbours`) where that is more than 1.

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
    pixels = (channels[..., :3] if neighbours == 1 else channels).astype(np.float32)
    if not np.isfinite(pixels).all():
        bad = int((~np.isfinite(pixels)).sum())
        raise InputError(f"the image has {bad} values that are NaN or infinite; expected none")
    return pixels


def _rescale(pixels: Float, low: float, high: float) -> Float:
    """Scale linearly so that `low` becomes 0 and `high` 1, and clip; all 0 where they are equal."""
    if high <= low:
        return np.zeros_like(pixels)
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1), np.float32)


def _with_channels(pixels: Float, channels: int) -> Float:
    """(H, W, C) as (channels, H, W): colours averaged to one, one channel repeated."""
    if pixels.shape[-1] == 3 and channels == 1:
        pixels = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    repeated = np.repeat(pixels, channels, axis=-1) if pixels.shape[-1] < channels else pixels
    return np.ascontiguousarray(repeated.transpose(2, 0, 1))
