"""Layout of the nodes and edges of contrastive graphs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from src_training.explore.view_graphs import BatchGraphs, Graph

TITLES = {"teacher": "teacher", "student": "student", "difference": "student - teacher"}
PANELS = tuple(TITLES)
EDGES = ("both", "star", "complete")

_LARGEST = 0.5
_TIGHT = 0.8
_APART = 1.35


@dataclass(frozen=True, eq=False)
class Drawing:
    """Nodes and edges in the plane, the same for all panels.

    Attributes
    ----------
    places
        Positions (n, 2) of the nodes, x and y.
    side
        Side of a thumbnail, in the same unit.
    images
        Thumbnails of the nodes, (p, p) or (p, p, C) in [0, 1].
    names
        Names of the nodes: ``anchor``, ``view 1``, …
    edges
        Indices (m, 2) of the nodes of each edge.
    values
        Panel -> cosine similarities (m,) of the edges, or their difference.
    views
        Number of views of each sample; its nodes are the anchor and the views.
    """

    places: NDArray[np.float64]
    side: float
    images: list[NDArray[np.float32]]
    names: list[str]
    edges: NDArray[np.intp]
    values: dict[str, NDArray[np.float64]]
    views: int

    def owner(self, node: int) -> tuple[int, int]:
        """Index of a node's sample, and of the view in it; view 0 is the anchor."""
        return divmod(node, self.views + 1)

    def node_at(self, x: float, y: float) -> int | None:
        """The topmost node whose thumbnail contains a point, or None."""
        inside = np.abs(self.places - (x, y)).max(1) <= self.side / 2
        return int(np.flatnonzero(inside)[-1]) if inside.any() else None


def drawing(graphs: "BatchGraphs", kinds: str, together: bool) -> Drawing:
    """Lay out the first sample of a batch, or all of it.

    Parameters
    ----------
    graphs
        Graphs of at least one sample.
    kinds
        One of `EDGES`.
    together
        Draw all samples, with one complete graph of all their views.
    """
    samples = graphs.samples if together else graphs.samples[:1]
    views = len(samples[0].images) - 1
    ring = _ring(views)
    centres = _ring(len(samples)) * _spread(len(samples)) if len(samples) > 1 else np.zeros((1, 2))
    places = np.concatenate([centre + np.vstack([[0, 0], ring]) for centre in centres])
    images = [image for sample in samples for image in sample.images]
    names = ["anchor", *(f"view {k}" for k in range(1, views + 1))] * len(samples)
    stars = [
        (sample * (views + 1), sample * (views + 1) + k)
        for sample in range(len(samples))
        for k in range(1, views + 1)
    ]
    rows, columns = np.triu_indices(len(samples) * views, 1)
    node = rows // views * (views + 1) + rows % views + 1
    other = columns // views * (views + 1) + columns % views + 1
    star, complete = kinds != EDGES[2], kinds != EDGES[1]
    edges = [np.array(stars)] * star + [np.stack([node, other], 1)] * complete
    values = {}
    for panel in PANELS:
        panel_graphs: list[Graph] = [getattr(sample, panel) for sample in samples]
        matrix = getattr(graphs, panel) if together else panel_graphs[0].complete
        parts = [np.concatenate([graph.star for graph in panel_graphs])] * star
        values[panel] = np.concatenate([*parts, *([matrix[rows, columns]] * complete)])
    return Drawing(places, _side(views), images, names, np.concatenate(edges), values, views)


def strongest(drawing: Drawing) -> dict[str, float]:
    """Largest absolute value of each panel; teacher and student share one."""
    shared = max(float(np.abs(drawing.values[panel]).max()) for panel in PANELS[:2]) or 1.0
    difference = float(np.abs(drawing.values["difference"]).max()) or 1.0
    return {"teacher": shared, "student": shared, "difference": difference}


def _ring(count: int) -> NDArray[np.float64]:
    """Positions on the unit circle, the first at the top."""
    turns = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(turns), np.cos(turns)], 1)


def _spread(count: int) -> float:
    """Radius of a circle of samples at which their rings do not touch."""
    return float(_APART / np.sin(np.pi / count))


def _side(views: int) -> float:
    """Side of a thumbnail at which the edges stay visible."""
    chord = 2 * np.sin(np.pi / views) if views > 1 else 2.0
    return float(min(_LARGEST, _TIGHT * chord / np.sqrt(2)))
