"""Resampling of one window of a prepared image to the original grid."""

import numpy as np
import torch
from numpy.typing import NDArray

from src_training.data.preprocessing.geometry import Float, Geometry, resize
from src_training.inference.sliding_window import Window


class WindowResampler:
    """Does `Geometry.to_original` window by window, with the same result as for the whole image.

    The bilinear resize is linear and separable. One matrix per axis (outputs x
    inputs), made by resizing the identity, represents it exactly and shows
    which outputs depend on a range of inputs.

    Parameters
    ----------
    geometry
        Geometry of the prepared image in its original.
    """

    def __init__(self, geometry: Geometry) -> None:
        top, left, bottom, right = geometry.box
        self._geometry = geometry
        self._corner = (top, left)
        self._axes = (
            _resize_matrix(geometry.prepared[0], bottom - top),
            _resize_matrix(geometry.prepared[1], right - left),
        )

    def footprint(self, window: Window) -> tuple[Window, Window]:
        """Return the pixels that a change in a window of the prepared image affects.

        Returns
        -------
        source
            Window of the prepared image that `to_original` needs.
        region
            Rows and columns of the original image that change.
        """
        rows, columns = (
            _axis_footprint(matrix, part, size)
            for matrix, part, size in zip(self._axes, window, self._geometry.prepared, strict=True)
        )
        region = (_shift(rows[1], self._corner[0]), _shift(columns[1], self._corner[1]))
        return (rows[0], columns[0]), region

    def to_original(self, maps: Float, source: Window, region: Window) -> Float:
        """Resample maps (K, h, w) of `source` to the pixels of `region`, (K, H, W) float32."""
        if maps.shape[1:] == self._geometry.prepared:
            return resize(
                maps, (region[0].stop - region[0].start, region[1].stop - region[1].start)
            )
        resized = torch.from_numpy(np.ascontiguousarray(maps))
        for axis in (0, 1):
            matrix = self._axes[axis]
            if matrix is not None:
                part = _shift(region[axis], -self._corner[axis])
                weights = matrix[part, source[axis]]
                resized = weights @ resized if axis == 0 else resized @ weights.T
        return resized.numpy()


def _resize_matrix(inputs: int, outputs: int) -> torch.Tensor | None:
    """Weights (outputs, inputs) of the bilinear resize; None if the size does not change."""
    if inputs == outputs:
        return None
    return torch.from_numpy(resize(np.eye(inputs, dtype=np.float32)[None], (outputs, inputs))[0])


def _axis_footprint(matrix: torch.Tensor | None, part: slice, size: int) -> tuple[slice, slice]:
    """All inputs of the outputs that depend on the inputs `part`, and those outputs."""
    part = slice(part.start, min(part.stop, size))
    if matrix is None:
        return part, part
    outputs = _extent((matrix[:, part] != 0).any(1).numpy())
    return _extent((matrix[outputs] != 0).any(0).numpy()), outputs


def _extent(mask: NDArray[np.bool_]) -> slice:
    """From the first to the last true element."""
    true = np.flatnonzero(mask)
    return slice(int(true[0]), int(true[-1]) + 1)


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
