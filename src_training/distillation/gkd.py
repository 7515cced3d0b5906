"""GKD, generalizable knowledge distillation (arXiv 2207.12995).

The published sum has the dual contrastive graphs of `DCGD` and the cross
distillation of `DICD`. What the graphs and headers are is published, the form of
the losses is our *reconstruction*. `ViewPredictions` is a term of our own: the
graphs compare views by one vector each, which says little about where a vessel
lies. With it the student also learns to predict for anchor and views, each in
the style of another scanner, what the teacher predicts where it is best: for the
anchor without style augmentation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from src_training.alignment.contrastive_graphs import centred, complete_graph, star_graph
from src_training.distillation.base import (
    Distillation,
    ForwardOutputs,
    MethodOptions,
    Weight,
    exact,
)
from src_training.losses.divergence import pixel_divergence

EdgeLoss = Literal["mse", "softmax"]


class GKDOptions(MethodOptions):
    """Options of ``gkd``.

    Attributes
    ----------
    intra, inter, cross
        Weights of the star graph, the complete graph and the cross
        distillation (lambda_1 to lambda_3). Published without figures, hence
        1 each; with centred vectors the gradients of the graphs were then 10
        to 60 times as large as those of vessel masks.
    predictions
        Weight of the teacher's prediction of the plain anchor
        (*reconstruction*; the published sum has no such term).
    views
        Augmented views of each sample (K).
    edge_loss
        How edges are compared (*reconstruction*); see `edge_distance`.
    scope
        ``views``: a complete graph over the views of each sample. ``batch``:
        one over the views of all samples.
    temperature
        Of the ``softmax`` edge loss.
    centred
        Whether the mean over the batch is subtracted from each network's
        vectors first (*reconstruction*).
    """

    method: Literal["gkd"] = "gkd"
    intra: Weight = 0.02
    inter: Weight = 0.02
    cross: Weight = 1.0
    predictions: Weight = 0.0
    views: Annotated[int, Field(ge=2)] = 4
    edge_loss: EdgeLoss = "mse"
    scope: Literal["views", "batch"] = "views"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    centred: bool = True

    @property
    def centred_vectors(self) -> bool:
        """Whether vectors are compared after their batch mean is subtracted."""
        return self.centred


class DCGD(Distillation[GKDOptions]):
    """Dual contrastive graph distillation: the teacher's similarities between views.

    The graphs are a star between a sample's anchor and its views (intra) and a
    complete graph between the views (inter); `GKDOptions` say how edges are
    compared (*reconstruction*), and over which views.
    """

    reads_vectors: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("intra", "inter")
    # Vectors are centred on the mean of the batch, and compared across it.
    whole_batch: ClassVar[tuple[str, ...]] = ("vectors",)

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads of each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``intra`` (star) and ``inter`` (complete) losses, scalars >= 0; K >= 2 views."""
        assert teacher.vectors is not None and student.vectors is not None
        return self.compare(teacher.vectors, student.vectors)

    def compare(self, teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
        """The losses of semantic vectors (B, 1 + K, d), anchors first; d may differ."""
        if self.options.centred:
            teacher, student = centred(teacher), centred(student)
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


class DICD(Distillation[GKDOptions]):
    """Domain-invariant cross distillation: each network decodes the other's semantic vector.

    p1 = Dec_T(skips_T, H_T(E_S(F_S))) trains the student's encoder, through
    the frozen teacher; p2 = Dec_S(skips_S, H_S(E_T(F_T))) trains its decoder
    and, by the skips, its encoder.
    L_cross = KL(p_T || p1) + KL(p_T || p2), mean over pixels.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("cross",)
    # Decoding twice more is most of its cost.
    half_precision: ClassVar[bool] = True

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """The ``cross`` loss, a scalar >= 0."""
        # The divergence of logits in half precision overflows.
        target, first, second = map(exact, (teacher.logits, *cross_predictions(teacher, student)))
        return {"cross": pixel_divergence(target, first) + pixel_divergence(target, second)}


def cross_predictions(teacher: ForwardOutputs, student: ForwardOutputs) -> tuple[Tensor, Tensor]:
    """Decode with the other network's semantic vector.

    Parameters
    ----------
    teacher, student
        Outputs of both networks, with alignment networks of one latent size.

    Returns
    -------
    tuple of Tensor
        Logits p1, the teacher's decoding of the student's vector, and p2, the
        student's decoding of the teacher's vector; each (B, classes, H, W).
    """
    student_vector = student.alignment.encoder(student.bottleneck)
    teacher_vector = teacher.alignment.encoder(teacher.bottleneck).detach()
    first = teacher.network.decode(teacher.skips, teacher.alignment.header(student_vector))
    with frozen_running_statistics(student.network):
        second = student.network.decode(student.skips, student.alignment.header(teacher_vector))
    return first, second


@contextmanager
def frozen_running_statistics(network: nn.Module) -> Iterator[None]:
    """Within the block batch norms normalise by the batch, but keep their running statistics.

    Statistics of a bottleneck of the teacher would spoil those that the
    student segments with.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class ViewPredictions(Distillation[GKDOptions]):
    """Teach the teacher's prediction of the plain anchor in anchor and views alike.

    L_predictions = KL(p_T(x) || p_S(v)), mean over the pixels of all 1 + K
    views v of x. Views show the same tissue in the same place.
    """

    predicts_views: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("predictions",)

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads of each sample."""
        return self.options.views

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """The ``predictions`` loss, a scalar >= 0."""
        assert teacher.plain_logits is not None and student.view_logits is not None
        styles = torch.cat([student.logits[:, None], student.view_logits], dim=1)
        target = teacher.plain_logits[:, None].expand_as(styles)
        return {"predictions": pixel_divergence(target.flatten(0, 1), styles.flatten(0, 1))}


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
