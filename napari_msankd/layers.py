"""Layer to array and back: every transform, unit and axis name kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_training.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

Index = tuple[int, ...]


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
    """

    data: Any
    rgb: bool
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without colours, (..., Y, X)."""
        shape = tuple(int(size) for size in self.data.shape)
        return shape[:-1] if self.rgb else shape

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a plane, pixels."""
        return self.shape[-2], self.shape[-1]

    @property
    def indices(self) -> tuple[Index, ...]:
        """Index of every plane, in order; ``((),)`` for a single image."""
        return tuple(np.ndindex(self.shape[:-2]))

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of what `read` returns."""
        return (*self.size, int(self.data.shape[-1])) if self.rgb else self.size

    def read(self, index: Index) -> NDArray[np.generic]:
        """One plane (Y, X) or (Y, X, C), in memory; bool becomes uint8.

        Raises
        ------
        InputError
            If a lazy array cannot be read; names layer and slice.
        """
        try:
            plane = np.asarray(self.data[index])
        except Exception as error:
            where = f"layer {self.name!r}" + (f", slice {list(index)}," if index else "")
            raise InputError(f"{where} cannot be read ({error}); expected pixels") from error
        return plane.astype(np.uint8) if plane.dtype == bool else plane


def planes_of(layer: "Image") -> Planes:
    """The planes of an image layer.

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
    return Planes(data, bool(layer.rgb), layer.name)


def placement(layer: "Layer", offset: Sequence[int] | None = None) -> dict[str, Any]:
    """Where a new layer of the same grid lies in the world.

    Parameters
    ----------
    layer
        The layer whose place is taken.
    offset
        Data coordinates in `layer` of the new layer's first pixel; none if
        both begin together.

    Returns
    -------
    dict
        ``scale, translate, rotate, shear, affine, units, axis_labels``.
    """
    from napari.utils.transforms import Affine

    own = {"scale": layer.scale, "rotate": layer.rotate, "shear": layer.shear}
    translate = np.asarray(layer.translate)
    if offset is not None:
        linear = Affine(**own, ndim=layer.ndim).linear_matrix
        translate = translate + linear @ np.asarray(offset, float)
    return {
        **own,
        "translate": translate,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def shown_index(viewer: "ViewerModel", layer: "Layer") -> Index:
    """Index of the plane of `layer` that the viewer's sliders point at."""
    position = np.asarray(layer.world_to_data(viewer.dims.point))[: layer.ndim - 2]
    last = np.asarray(array_of(layer).shape[: layer.ndim - 2]) - 1
    return tuple(int(step) for step in np.clip(np.round(position), 0, last))


def array_of(layer: "Layer") -> Any:
    """The data of a layer; level 0 of a pyramid."""
    return layer.data[0] if layer.multiscale else layer.data
