"""Intra-class feature variation: Wang et al., ECCV 2020, doi:10.1007/978-3-030-58571-6_21."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.losses.regions import region_means, regions


class IFVDOptions(MethodOptions):
    """Options of ``ifvd``.

    Attributes
    ----------
    variation
        Weight of the distance between intra-class variations; 200 in the published code.
    """

    method: Literal["ifvd"] = "ifvd"
    variation: Weight = 200.0


class IFVD(Distillation[IFVDOptions]):
    """Teach how much each pixel's feature is like the mean feature of its class.

    On the last features before the logits, with the weight of the published code.
    """

    taps: ClassVar[tuple[str, ...]] = ("decoder_half",)
    loss_names: ClassVar[tuple[str, ...]] = ("variation",)
    # A mean over the labelled samples alone.
    whole_batch: ClassVar[tuple[str, ...]] = ("taps",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``variation``: mean squared difference of both networks' `typicality`."""
        classes = student.logits.shape[1]
        theirs, ours = (
            typicality(each.taps["decoder_half"][: len(mask)], mask, classes)
            for each in (teacher, student)
        )
        return {"variation": F.mse_loss(ours, theirs)}


def typicality(feature: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Cosine of each pixel's feature and its class's mean in the sample (eq. 2): (B, h, w).

    Parameters
    ----------
    feature
        (B, C, h, w).
    mask
        (B, H, W), integer classes; sampled at the feature's size.
    classes
        How many there are.
    """
    inside = regions(mask, classes, feature.shape[-2:])
    own_mean = region_means(feature, inside).mT @ inside.flatten(2).to(feature.dtype)
    return (unit_vectors(feature, 1) * unit_vectors(own_mean.view_as(feature), 1)).sum(1)
