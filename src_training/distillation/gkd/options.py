"""Options of GKD in a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from src_training.distillation.base import OutputOptions, Weight

EdgeLoss = Literal["mse", "softmax"]


class GKDOptions(OutputOptions):
    """Options of ``gkd``.

    Attributes
    ----------
    intra, inter, cross
        Weights of the star graph, the complete graph and the cross
        distillation (lambda_1 to lambda_3). No values are published, so 1 each
        is taken as published, for vectors that are not `centered`. Centring
        multiplies the gradients of the graphs by 168 and 255. With a weight of
        1 they would be 10 to 60 times as large as the gradients of the masks of
        vessels; 0.02 corresponds to 3 to 5 without centring.
    predictions
        Weight of the divergence from the teacher's prediction of the plain
        anchor (*reconstruction*; the published sum has no such term).
    views
        Augmented views of each sample (K).
    edge_loss
        How edges are compared (*reconstruction*); see `edge_distance`.
    scope
        ``views``: a complete graph over the views of each sample. ``batch``:
        one over the views of all samples.
    teacher_sees
        Patch that the teacher predicts for `predictions`; see `OutputOptions`.
        The cross distillation always uses the patch that the student sees.
    temperature
        Temperature of the ``softmax`` edge loss.
    centered
        Whether the mean over the batch is subtracted from each network's
        vectors (*reconstruction*; the paper does not mention it). The published
        loss is ``centered: false`` with `intra`, `inter` and `cross` of 1, the
        row ``gkd_published`` of ``compare --variants gkd``.
    """

    method: Literal["gkd"] = "gkd"
    teacher_sees: Annotated[Literal["same", "plain"], Field(title="Teacher sees patches")] = "plain"
    intra: Annotated[Weight, Field(title="Star graph (intra)")] = 0.02
    inter: Annotated[Weight, Field(title="Complete graph (inter)")] = 0.02
    cross: Annotated[Weight, Field(title="Cross distillation")] = 1.0
    predictions: Weight = 0.0
    views: Annotated[int, Field(ge=2, le=64)] = 4
    edge_loss: EdgeLoss = "mse"
    scope: Literal["views", "batch"] = "views"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    centered: Annotated[bool, Field(title="Center vectors")] = True

    @property
    def centered_vectors(self) -> bool:
        """Whether the batch mean is subtracted from semantic vectors."""
        return self.centered
