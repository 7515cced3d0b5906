"""Contrastive graphs as layers: a montage of the views, nodes as points, edges as vectors."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_msankd.explore.graphs.graph_view import ALIKE, UNLIKE
from napari_msankd.explore.graphs.layout import PANELS, TITLES, Drawing, strongest
from napari_msankd.explore.sample_layers import provenance
from napari_msankd.layers import WidgetLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_ABOVE = 0.75
"""Distance of a title above the centre of a thumbnail, in sides of a thumbnail."""


def add_graphs(
    viewer: "ViewerModel", own: WidgetLayers, drawing: Drawing, name: str
) -> "list[Layer]":
    """Add an image, points and vectors, with teacher, student and difference side by side.

    Other layers are hidden until ``own.restore()``. Points have the features ``node``,
    ``panel`` and ``title`` (empty for most); vectors ``similarity`` and ``panel``.
    """
    first = drawing.images[0]
    side = first.shape[0]
    pixel = side / drawing.side
    low, high = drawing.places.min(0), drawing.places.max(0)
    width, height = np.ceil((high - low) * pixel).astype(int) + 2 * side
    montage = np.zeros((height, len(PANELS) * width, *first.shape[2:]), np.float32)
    centres = []
    for panel in range(len(PANELS)):
        # Rows of an image point down, the y axis of a drawing up.
        x = (drawing.places[:, 0] - low[0]) * pixel + side + panel * width
        y = (high[1] - drawing.places[:, 1]) * pixel + side
        for row, column, image in zip(y, x, drawing.images, strict=True):
            top, left = int(row - side / 2), int(column - side / 2)
            montage[top : top + side, left : left + side] = image
        centres.append(np.stack([y, x], 1))
    layers = [
        own.add(
            ("graph", "views"),
            montage,
            "image",
            name=f"views of {name}",
            rgb=montage.ndim == 3,
            contrast_limits=(0, 1),
            metadata=provenance("graph", case=name),
        ),
        _add_edges(own, drawing, centres, name, pixel),
        _add_nodes(own, drawing, centres, name, side),
    ]
    own.show_only(layers)
    viewer.fit_to_view(layers=layers)
    return layers


def _add_nodes(
    own: WidgetLayers, drawing: Drawing, centres: list[NDArray[np.float64]], name: str, side: int
) -> "Layer":
    nodes, highest = len(drawing.places), drawing.places[:, 1].argmax()
    titles = [TITLES[panel] if node == highest else "" for panel in PANELS for node in range(nodes)]
    layer: Layer = own.add(
        ("graph", "nodes"),
        np.concatenate(centres),
        "points",
        name=f"nodes of {name}",
        size=max(4, side / 12),
        face_color="white",
        features={
            "node": drawing.names * len(PANELS),
            "panel": np.repeat(PANELS, nodes).tolist(),
            "title": titles,
        },
        text={
            "string": "{title}",
            "color": "white",
            "size": 10,
            "translation": (-_ABOVE * side, 0),
        },
        metadata=provenance("graph", case=name),
    )
    return layer


def _add_edges(
    own: WidgetLayers,
    drawing: Drawing,
    centres: list[NDArray[np.float64]],
    name: str,
    pixel: float,
) -> "Layer":
    starts, ends = drawing.edges.T
    lines = np.concatenate(
        [np.stack([nodes[starts], nodes[ends] - nodes[starts]], 1) for nodes in centres]
    )
    values = np.concatenate([drawing.values[panel] for panel in PANELS])
    # Teacher and student share one scale; their difference has its own.
    most = strongest(drawing)
    strength = np.concatenate([np.abs(drawing.values[panel]) / most[panel] for panel in PANELS])
    layer: Layer = own.add(
        ("graph", "edges"),
        lines,
        "vectors",
        name=f"edges of {name}",
        vector_style="line",
        edge_width=max(1.0, pixel / 30),
        edge_color=[ALIKE if value >= 0 else UNLIKE for value in values],
        features={
            "similarity": values,
            "panel": np.repeat(PANELS, len(drawing.edges)).tolist(),
        },
        metadata=provenance("graph", case=name),
    )
    colors = layer.edge_color
    colors[:, 3] = np.clip(0.15 + 0.85 * strength, 0, 1)
    layer.edge_color = colors
    return layer
