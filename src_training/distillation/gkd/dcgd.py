"""Dual contrastive graph distillation (GKD, arXiv 2207.12995)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import center, complete_graph, star_graph
from src_training.distillation.base import Distillation, ForwardOutputs
from src_training.distillation.gkd.options import EdgeLoss, GKDOptions


class DCGD(Distillation[GKDOptions]):
    """Dual contrastive graph distillation: the student learns similarities between views.

    The graphs are a star between a sample's anchor and its views (intra) and a
    complete graph between the views (inter). `GKDOptions` select how edges are
    compared (*reconstruction*), and between which views.
    """

    reads_vectors: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("intra", "inter")
    # Vectors are centered on the mean of the batch and compared between its samples.
    whole_batch: ClassVar[tuple[str, ...]] = ("vectors",)

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads for each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses ``intra`` (star) and ``inter`` (complete), scalars >= 0; K >= 2 views."""
        assert teacher.vectors is not None and student.vectors is not None
        return self.compare(teacher.vectors, student.vectors)

    def compare(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        """Losses of semantic vectors (B, 1 + K, d), anchors first; d may differ."""
        if self.options.centered:
            teacher, student = center(teacher), center(student)
        return {
            "intra": self._distance(star_graph(student), star_graph(teacher)),
            "inter": self._distance(self._view_graph(student), self._view_graph(teacher)),
        }

    def _view_graph(self, vectors: Tensor) -> Tensor:
        """Edges of the complete graph between views, without self-loops."""
        views = vectors[:, 1:]
        nodes = views.flatten(0, 1)[None] if self.options.scope == "batch" else views
        return off_diagonal(complete_graph(nodes))

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return edge_distance(student, teacher, self.options.edge_loss, self.options.temperature)


def edge_distance(
    student: Tensor, teacher: Tensor, loss: EdgeLoss, temperature: float = 0.1
) -> Tensor:
    """Distance of a student's edges from the teacher's (*reconstruction*).

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
        Scalar, >= 0; 0 if the edges are equal.

    Examples
    --------
    >>> student, teacher = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.9]])
    >>> round(edge_distance(student, teacher, "mse").item(), 3)
    0.08
    >>> round(edge_distance(student, teacher, "softmax").item(), 3)
    0.603
    """
    if loss == "mse":
        return F.mse_loss(student, teacher)
    log_s = F.log_softmax(student / temperature, -1)
    log_t = F.log_softmax(teacher / temperature, -1)
    return F.kl_div(log_s, log_t, log_target=True, reduction="none").sum(-1).mean()


def off_diagonal(graph: Tensor) -> Tensor:
    """Edges of a complete graph without self-loops: (G, N, N) -> (G, N, N - 1).

    Examples
    --------
    >>> off_diagonal(torch.tensor([[[1.0, 0.2], [0.3, 1.0]]]))
    tensor([[[0.2000],
             [0.3000]]])
    """
    groups, nodes, _ = graph.shape
    others = ~torch.eye(nodes, dtype=torch.bool, device=graph.device)
    return graph[:, others].reshape(groups, nodes, nodes - 1)
