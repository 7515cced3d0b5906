"""Add, place, find, show and hide layers; arrays of layers.

Only this module changes layers in a viewer. It keeps transforms, units and axis labels.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_msankd.masks import mask_values
from napari_msankd.planes import Index, array_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer


def placement(layer: "Layer", offset: Sequence[int] | None = None) -> dict[str, Any]:
    """Transform keywords of a new layer with the pixel grid of an existing one.

    Parameters
    ----------
    layer
        The existing layer.
    offset
        Data coordinates in `layer` of the new layer's first pixel; None if
        both start at the same pixel.

    Returns
    -------
    dict
        ``scale, translate, rotate, shear, affine, units, axis_labels``.
    """
    from napari.utils.transforms import Affine

    transform = {"scale": layer.scale, "rotate": layer.rotate, "shear": layer.shear}
    translate = np.asarray(layer.translate)
    if offset is not None:
        linear = Affine(**transform, ndim=layer.ndim).linear_matrix
        translate = translate + linear @ np.asarray(offset, float)
    return {
        **transform,
        "translate": translate,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def placement_over(
    layer: "Layer",
    scale: Sequence[float] = (1, 1),
    translate: Sequence[float] = (0, 0),
    leading: int = 0,
) -> dict[str, Any]:
    """Transform keywords of a new layer that covers an existing one with other pixels.

    Parameters
    ----------
    layer
        The existing layer; only the last two axes of a stack count.
    scale, translate
        Map pixels (y, x) of the new layer to pixels of `layer`.
    leading
        Number of axes of the new layer before (y, x), such as channels.

    Returns
    -------
    dict
        ``affine``, ``units``.
    """
    world = world_affine(layer)
    plane_axes = [layer.ndim - 2, layer.ndim - 1, layer.ndim]
    inner = np.diag([*map(float, scale), 1.0])
    inner[:2, 2] = translate
    matrix = np.eye(leading + 3)
    matrix[leading:, leading:] = world[np.ix_(plane_axes, plane_axes)] @ inner
    units = (*("pixel",) * leading, *layer.units[-2:])
    return {"affine": matrix, "units": units}


def world_affine(layer: "Layer") -> NDArray[np.float64]:
    """Affine from data to world coordinates of a layer, (n + 1) × (n + 1)."""
    from napari.utils.transforms import Affine

    transform = {"scale": layer.scale, "rotate": layer.rotate, "shear": layer.shear}
    inner = Affine(**transform, translate=layer.translate, ndim=layer.ndim)
    return np.asarray(layer.affine.affine_matrix @ inner.affine_matrix)


def has_place(layer: "Layer") -> bool:
    """Whether a layer has a transform other than identity, or physical units."""
    transformed = not np.allclose(world_affine(layer), np.eye(layer.ndim + 1))
    return transformed or any(str(unit) != "pixel" for unit in layer.units)


def place_like(layer: "Layer", other: "Layer") -> None:
    """Copy transform, units and axis labels from `other`, which has the same pixel grid."""
    for name, value in placement(other).items():
        setattr(layer, name, value)


def shown_index(viewer: "ViewerModel", layer: "Layer", axis: int = 0) -> Index:
    """Index of the plane of `layer` at the viewer's sliders; `axis` as in `Planes`."""
    axes = _stack_axes(layer, axis)
    position = np.asarray(layer.world_to_data(viewer.dims.point))[axes]
    last = np.asarray(array_of(layer).shape[: layer.ndim])[axes] - 1
    return tuple(int(step) for step in np.clip(np.round(position), 0, last))


def show_plane(viewer: "ViewerModel", layer: "Layer", index: Index, axis: int = 0) -> None:
    """Move the viewer's sliders to a plane of `layer`; the inverse of `shown_index`."""
    position = np.asarray(layer.world_to_data(viewer.dims.point), float)
    position[_stack_axes(layer, axis)] = index
    layer_axes = range(viewer.dims.ndim - layer.ndim, viewer.dims.ndim)
    viewer.dims.set_point(layer_axes, layer.data_to_world(position))


def _stack_axes(layer: "Layer", axis: int) -> slice:
    return slice(axis, axis + 1) if layer.ndim == 3 else slice(max(0, layer.ndim - 2))


def shown_axis(viewer: "ViewerModel", layer: "Layer") -> int | None:
    """The axis along which the viewer slices a layer, as in `Planes.axis`.

    0 for a single image and for a stack whose last two axes are displayed. For a volume,
    the axis that is not displayed, also in a rolled or transposed view. None if the view
    shows no plane of the layer.
    """
    extra = viewer.dims.ndim - layer.ndim
    shown = {axis - extra for axis in viewer.dims.order[-2:]}
    if shown == {layer.ndim - 2, layer.ndim - 1}:
        return 0
    hidden = {0, 1, 2} - shown
    volume = layer.ndim == 3 and not getattr(layer, "rgb", False)
    return hidden.pop() if volume and len(hidden) == 1 else None


def painted_planes(change: Sequence[Any], axes: Iterable[int]) -> set[Index]:
    """Indices along `axes` of the planes that a change of labels is in.

    Parameters
    ----------
    change
        An item of the layer's ``paint`` event. Brush, fill and polygon give a box of slices,
        which pixels of it changed (None: all), and their former values; ``data_setitem``
        gives arrays of indices.
    axes
        Axes of the stack, in ascending order; none if there is a single plane.
    """
    where, axes = change[0], list(axes)
    if not axes:
        return {()}
    if all(isinstance(each, slice) for each in where):
        changed = np.ones(change[2].shape, np.bool_) if change[1] is None else change[1]
        others = tuple(axis for axis in range(changed.ndim) if axis not in axes)
        indices = np.argwhere(changed.any(axis=others)) + [where[axis].start or 0 for axis in axes]
    else:
        columns = np.broadcast_arrays(*map(np.atleast_1d, where))
        indices = np.stack([columns[axis].ravel() for axis in axes], 1)
    return {tuple(map(int, index)) for index in indices}


def on_undo(labels: "Labels", callback: Callable[[], object]) -> Callable[[Any], None]:
    """Listener of the ``set_data`` event that calls back after each undo and redo.

    napari has no event of its own for them, nor a public history. A plugin's viewer wraps layers
    in proxies, which warn of private attributes.
    """
    layer = getattr(labels, "__wrapped__", labels)

    def count() -> int:
        return len(getattr(layer, "_redo_history", ()))

    undone = count()

    def listener(_event: Any) -> None:
        nonlocal undone
        if undone != (undone := count()):
            callback()

    return listener


def layer_by_id(viewer: "ViewerModel", unique_id: str | None) -> Any:
    """The layer of the viewer with this ``unique_id``; None if it was removed.

    Store the id of a layer to find it later; names can change and be reused.
    """
    return next((layer for layer in viewer.layers if layer.unique_id == unique_id), None)


def add_layer(viewer: "ViewerModel", data: Any, attributes: dict[str, Any], kind: str) -> Any:
    """Add a layer from a layer data tuple of napari, and return it."""
    from napari.layers import Layer

    made = Layer.create(data, attributes, kind)
    if kind != "labels":
        return viewer.add_layer(made)
    # In 3-D napari cannot show the status of labels that have features before the mouse has moved.
    features, made.features = made.features, None
    layer = viewer.add_layer(made)
    layer.features = features
    return layer


class WidgetLayers:
    """Layers that a widget adds to a viewer, and visibility that it changes temporarily.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = viewer
        self._added: dict[Hashable, str] = {}
        self._visible: dict[str, bool] = {}
        self._grid: bool | None = None

    def add(self, key: Hashable, data: Any, kind: str, **attributes: Any) -> Any:
        """Add a layer; it replaces the one that was added under the same key.

        Parameters
        ----------
        key
            Identifies the layer in the widget; layer names can change and be reused.
        data, kind
            As in napari's layer data tuples: ``image``, ``points``, ``shapes``, …
        attributes
            Keywords of the layer.
        """
        self.remove(key)
        layer = add_layer(self._viewer, data, attributes, kind)
        self._added[key] = layer.unique_id
        return layer

    def get(self, key: Hashable) -> Any:
        """The layer that was added under a key; None if there is none or it was removed."""
        return layer_by_id(self._viewer, self._added.get(key))

    def remove(self, key: Hashable) -> None:
        """Remove the layer of a key, if it still exists."""
        layer = self.get(key)
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._added.pop(key, None)

    def added(self, group: str) -> list[Any]:
        """Layers whose keys are tuples that start with `group`, in the order of addition."""
        keys = [key for key in self._added if isinstance(key, tuple) and key[0] == group]
        return [layer for layer in map(self.get, keys) if layer is not None]

    def set_visible(self, layers: Iterable["Layer"], visible: bool) -> None:
        """Show or hide layers until `restore`."""
        for layer in layers:
            if layer.visible != visible:
                self._visible.setdefault(layer.unique_id, layer.visible)
                layer.visible = visible

    def show_only(self, layers: Sequence["Layer"]) -> None:
        """Show these layers and hide all others until `restore`."""
        self.set_visible([layer for layer in self._viewer.layers if layer not in layers], False)
        self.set_visible(layers, True)

    def set_grid(self, enabled: bool) -> None:
        """Turn the viewer's grid mode on or off until `restore`."""
        grid = self._viewer.canvas.grid
        if grid.enabled != enabled:
            self._grid = grid.enabled if self._grid is None else self._grid
            grid.enabled = enabled

    def restore(self) -> None:
        """Restore visibility and grid mode to their values before the first change."""
        for unique_id, visible in self._visible.items():
            layer = layer_by_id(self._viewer, unique_id)
            if layer is not None:
                layer.visible = visible
        if self._grid is not None:
            self._viewer.canvas.grid.enabled = self._grid
        self._visible, self._grid = {}, None


def as_labels(viewer: "ViewerModel", layer: "Image") -> "Labels":
    """Replace an image layer that holds a mask with a Labels layer.

    Like napari's *Convert to Labels*, but reads all the ways in which masks are stored; see
    `mask_values`. Notes about an ambiguous mask become notifications, and entries in the
    metadata.

    Returns
    -------
    napari.layers.Labels
        With the name, metadata and transform of the image, which is removed.

    Raises
    ------
    InputError
        If the layer holds no mask.
    """
    from napari.layers import Labels
    from napari.utils.notifications import show_info

    values, notes = mask_values(array_of(layer), layer.name, rgb=bool(layer.rgb))
    labels = Labels(
        values,
        name=layer.name,
        metadata=dict(layer.metadata) | ({"mask_notes": notes} if notes else {}),
        visible=layer.visible,
        **placement(layer),
    )
    position, name = viewer.layers.index(layer), layer.name
    viewer.layers.remove(layer)
    viewer.layers.insert(position, labels)
    labels.name = name
    for note in notes:
        show_info(f"{name}: {note}")
    return labels
