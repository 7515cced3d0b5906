"""What a recipe may set of GKD."""

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
        distillation (lambda_1 to lambda_3). Published without figures, hence 1
        each, for vectors that are not `centred`. Centring multiplied the
        gradients of the graphs by 168 and 255: weighing 1 they were then 10 to
        60 times as large as those of vessel masks, and 0.02 is as strong as 3
        to 5 uncentred.
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
    teacher_sees
        What the teacher predicts for `predictions`; see `OutputOptions`. The
        cross distillation compares what both networks see.
    temperature
        Of the ``softmax`` edge loss.
    centred
        Whether the mean over the batch is subtracted from each network's
        vectors first (*reconstruction*; nothing published says so). The sum as
        published is ``centred: false`` with `intra`, `inter` and `cross` of 1,
        the row ``gkd_published`` of ``compare --variants gkd``.
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
    centred: Annotated[bool, Field(title="Centred vectors")] = True

    @property
    def centred_vectors(self) -> bool:
        """Whether vectors are compared after their batch mean is subtracted."""
        return self.centred
