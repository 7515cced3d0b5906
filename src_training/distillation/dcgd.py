"""Dual Contrastive Graph Distillation (GKD, arXiv 2207.12995).

The published graphs are a star between a sample's anchor and its views
(intra) and a complete graph between the views (inter); the losses on their
edges are our *reconstruction*.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import centred, complete_graph, star_graph
from src_training.distillation.base import Distillation, ForwardOutputs

EdgeLoss = Literal["mse", "softmax"]
Scope = Literal["views", "batch"]


def edge_distance(
    student: Tensor, teacher: Tensor, loss: EdgeLoss, temperature: float = 0.1
) -> Tensor:
    """How far a student's edges are from the teacher's; 0 when they are equal.

    Parameters
    ----------
    student, teacher
        Rows of edges (..., K), cosines.
    loss
        ``mse``: mean squared difference. ``softmax``: KL(T || S) of each
        row's softmax(edge / temperature), mean over rows.
    temperature
        For ``softmax``, > 0.

    Returns
    -------
    Tensor
        Scalar, >= 0.
    """
    if loss == "mse":
        return F.mse_loss(student, teacher)
    log_s = F.log_softmax(student / temperature, -1)
    log_t = F.log_softmax(teacher / temperature, -1)
    return F.kl_div(log_s, log_t, log_target=True, reduction="none").sum(-1).mean()


def without_diagonal(graph: Tensor) -> Tensor:
    """Rows (G, N, N - 1) of a complete graph (G, N, N) without the nodes' edges to themselves."""
    groups, nodes, _ = graph.shape
    kept = ~torch.eye(nodes, dtype=torch.bool, device=graph.device)
    return graph[:, kept].reshape(groups, nodes, nodes - 1)


class DCGD(Distillation):
    """Teach the student the teacher's similarities between views.

    Parameters
    ----------
    edge_loss
        See `edge_distance` (*reconstruction*).
    scope
        ``views``: one complete graph over each sample's views. ``batch``:
        one over all views of all samples.
    temperature
        Of the ``softmax`` edge loss.
    centred
        Compare each network's vectors after their mean over the batch is
        taken off; see `src_training.alignment.contrastive_graphs.centred`.
    """

    views: ClassVar[bool] = True
    weights: ClassVar[dict[str, float]] = {"intra": 1.0, "inter": 1.0}
    # Vectors are centred on the mean of the batch, and compared across it.
    whole_batch: ClassVar[tuple[str, ...]] = ("vectors",)

    def __init__(
        self,
        edge_loss: EdgeLoss = "mse",
        scope: Scope = "views",
        temperature: float = 0.1,
        centred: bool = True,
    ) -> None:
        super().__init__()
        self.edge_loss: EdgeLoss = edge_loss
        self.scope = scope
        self.temperature = temperature
        self.centred = centred

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``intra`` (star) and ``inter`` (complete) losses, scalars >= 0; K >= 2 views."""
        assert teacher.vectors is not None and student.vectors is not None
        return self.compare(teacher.vectors, student.vectors)

    def compare(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        """The same on bare vectors (B, 1 + K, d), the anchors' first; d may differ."""
        ours, theirs = self._nodes(student), self._nodes(teacher)
        return {
            "intra": self._distance(star_graph(ours), star_graph(theirs)),
            "inter": self._distance(self._between_views(ours), self._between_views(theirs)),
        }

    def _nodes(self, vectors: Tensor) -> Tensor:
        return centred(vectors) if self.centred else vectors

    def _between_views(self, vectors: Tensor) -> Tensor:
        views = vectors[:, 1:]
        nodes = views.flatten(0, 1)[None] if self.scope == "batch" else views
        return without_diagonal(complete_graph(nodes))

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return edge_distance(student, teacher, self.edge_loss, self.temperature)
