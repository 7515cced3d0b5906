"""An image layer as 2-D planes that are read lazily."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Image, Layer

Index = tuple[int, ...]

_WHOLE = (slice(None), slice(None))


@dataclass(frozen=True)
class Slicing:
    """Division of an array (..., Y, X) into planes.

    Attributes
    ----------
    shape
        Shape of the array.
    axis
        Axis of a volume (Z, Y, X) along which it is sliced; 0 for other arrays.
    """

    shape: tuple[int, ...]
    axis: int = 0

    @property
    def stack(self) -> tuple[int, ...]:
        """Number of planes along each axis of the stack; ``()`` for a single image."""
        return (self.shape[self.axis],) if len(self.shape) == 3 else self.shape[:-2]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a plane, pixels."""
        height, width = self.shape[-2:]
        if len(self.shape) == 3:
            height, width = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        return height, width

    @property
    def indices(self) -> tuple[Index, ...]:
        """Index of every plane, in order; ``((),)`` for a single image."""
        return tuple(np.ndindex(self.stack))

    def at(self, index: Index, sides: tuple[Any, Any] = _WHOLE) -> tuple[Any, ...]:
        """Array index that combines a plane's index with one for its rows and columns."""
        if len(index) != 1:
            return (*index, *sides)
        return (*sides[: self.axis], *index, *sides[self.axis :])


@dataclass(frozen=True)
class Planes:
    """An image layer as 2-D planes that are read lazily.

    Attributes
    ----------
    data
        Array (..., Y, X), or (..., Y, X, C) if `rgb`: NumPy, dask, zarr. Level 0 of a
        multiscale layer.
    rgb
        Whether the last axis is colour.
    name
        Name of the layer.
    axis
        Axis of a volume along which it is sliced; 0 for other arrays.
    spacing
        Distance between planes, rows and columns of a volume, mm; None if unknown.
    layer_id
        ``unique_id`` of the layer; names can change and be reused.
    """

    data: Any
    rgb: bool
    name: str
    axis: int = 0
    spacing: tuple[float, float, float] | None = None
    layer_id: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the colour axis, (..., Y, X)."""
        shape = tuple(int(size) for size in self.data.shape)
        return shape[:-1] if self.rgb else shape

    @property
    def volume(self) -> bool:
        """Whether these are grey slices of one object, not separate photographs."""
        return len(self.shape) > 2 and not self.rgb

    @property
    def slicing(self) -> Slicing:
        """Division of the array into planes."""
        return Slicing(self.shape, self.axis)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a plane, pixels."""
        return self.slicing.size

    @property
    def indices(self) -> tuple[Index, ...]:
        """Index of every plane, in order; ``((),)`` for a single image."""
        return self.slicing.indices

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of the array that `read` returns."""
        return (*self.size, int(self.data.shape[-1])) if self.rgb else self.size

    def called(self, index: Index) -> str:
        """Name of one plane, for the start of a message."""
        return f"layer {self.name!r}" + (f", slice {list(index)}," if index else "")

    def read(self, index: Index, neighbours: int = 1) -> NDArray[np.generic]:
        """Read one plane (Y, X) or (Y, X, C) into memory; bool becomes uint8.

        If `neighbours` is more than one, a grey plane of a stack is read with its
        neighbours along the last axis of the index, as (Y, X, neighbours); see
        `neighbouring`.

        Raises
        ------
        InputError
            If a lazy array cannot be read; names layer and slice.
        """
        try:
            plane = self._read(index, neighbours)
        except Exception as error:
            raise InputError(
                f"{self.called(index)} cannot be read ({error}); expected pixels"
            ) from error
        return plane.astype(np.uint8) if plane.dtype == bool else plane

    def _read(self, index: Index, neighbours: int) -> NDArray[np.generic]:
        if neighbours == 1 or not index or self.rgb:
            return np.asarray(self.data[self.slicing.at(index)])
        *outer, position = index
        volume = self.data[tuple(outer)] if outer else self.data
        return neighbouring(volume, position, neighbours, self.axis)


def array_of(layer: "Layer") -> Any:
    """The data of a layer; level 0 if it is multiscale."""
    return layer.data[0] if layer.multiscale else layer.data


def planes_of(layer: "Image", axis: int = 0) -> Planes:
    """The planes of an image layer; a volume is sliced along `axis`.

    Raises
    ------
    InputError
        If the layer is empty or holds complex numbers.
    """
    data = array_of(layer)
    if 0 in data.shape:
        raise InputError(f"layer {layer.name!r} is empty {tuple(data.shape)}; expected pixels")
    if np.dtype(data.dtype).kind not in "buif":
        raise InputError(f"layer {layer.name!r} holds {data.dtype}; expected real numbers")
    spacing = _spacing(layer, axis)
    return Planes(data, bool(layer.rgb), layer.name, axis, spacing, layer.unique_id)


def _spacing(layer: "Layer", axis: int) -> tuple[float, float, float] | None:
    """`Planes.spacing` of a layer; None for napari's default unit, the pixel."""
    if layer.ndim != 3:
        return None
    try:
        mm = [
            float((size * unit).to("mm").magnitude)
            for size, unit in zip(layer.scale, layer.units, strict=True)
        ]
    except TypeError:  # from pint, for a unit that is not a length
        return None
    rows, columns = (size for position, size in enumerate(mm) if position != axis)
    return mm[axis], rows, columns
