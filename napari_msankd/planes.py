"""The pixels of an image layer as 2-D planes, read when they are needed."""

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
    """How an array (..., Y, X) falls into planes.

    Attributes
    ----------
    shape
        Of the array.
    axis
        Of a volume (Z, Y, X), the axis that its planes follow; 0 of anything else.
    """

    shape: tuple[int, ...]
    axis: int = 0

    @property
    def stack(self) -> tuple[int, ...]:
        """How many planes there are, by axis; ``()`` for a single image."""
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
        """What is told of a plane's index and of its rows and columns, in the array's order."""
        if len(index) != 1:
            return (*index, *sides)
        return (*sides[: self.axis], *index, *sides[self.axis :])


@dataclass(frozen=True)
class Planes:
    """The pixels of an image layer as 2-D planes, read when they are needed.

    Attributes
    ----------
    data
        (..., Y, X), or (..., Y, X, C) where `rgb`; any array that slices:
        NumPy, dask, zarr. Level 0 of a pyramid.
    rgb
        Whether the last axis holds colours.
    name
        Of the layer.
    axis
        Of a volume, the one that its planes follow; 0 of anything else.
    spacing
        From plane to plane, row to row and column to column of a volume, mm;
        None where that is not known.
    layer_id
        ``unique_id`` of the layer: names change and are given again.
    """

    data: Any
    rgb: bool
    name: str
    axis: int = 0
    spacing: tuple[float, float, float] | None = None
    layer_id: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without colours, (..., Y, X)."""
        shape = tuple(int(size) for size in self.data.shape)
        return shape[:-1] if self.rgb else shape

    @property
    def volume(self) -> bool:
        """Whether these are grey slices of one thing, and no photographs."""
        return len(self.shape) > 2 and not self.rgb

    @property
    def slicing(self) -> Slicing:
        """How the array falls into planes."""
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
        """Shape of what `read` returns."""
        return (*self.size, int(self.data.shape[-1])) if self.rgb else self.size

    def called(self, index: Index) -> str:
        """What a sentence about one plane begins with."""
        return f"layer {self.name!r}" + (f", slice {list(index)}," if index else "")

    def read(self, index: Index, neighbours: int = 1) -> NDArray[np.generic]:
        """One plane (Y, X) or (Y, X, C), in memory; bool becomes uint8.

        With more than one of `neighbours` a grey plane of a stack comes as
        (Y, X, neighbours), see `neighbouring`; its neighbours are those along
        the last axis that is no side of it.

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
        *outer, at = index
        volume = self.data[tuple(outer)] if outer else self.data
        return neighbouring(volume, at, neighbours, self.axis)


def planes_of(layer: "Image", axis: int = 0) -> Planes:
    """The planes of an image layer; of a volume those that follow `axis`.

    Raises
    ------
    InputError
        If the layer is empty or holds complex numbers.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if 0 in data.shape:
        raise InputError(f"layer {layer.name!r} is empty {tuple(data.shape)}; expected pixels")
    if np.dtype(data.dtype).kind not in "buif":
        raise InputError(f"layer {layer.name!r} holds {data.dtype}; expected real numbers")
    spacing = _spacing(layer, axis)
    return Planes(data, bool(layer.rgb), layer.name, axis, spacing, layer.unique_id)


def _spacing(layer: "Layer", axis: int) -> tuple[float, float, float] | None:
    """See `Planes.spacing`; napari's default unit, the pixel, is no length."""
    if layer.ndim != 3:
        return None
    try:
        mm = [
            float((size * unit).to("mm").magnitude)
            for size, unit in zip(layer.scale, layer.units, strict=True)
        ]
    except TypeError:  # pint's, of a unit that is no length
        return None
    rows, columns = (size for place, size in enumerate(mm) if place != axis)
    return mm[axis], rows, columns
