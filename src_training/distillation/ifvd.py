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
    """The student learns how similar each pixel's feature is to the mean of its class.

    The features are the last ones before the logits.
    """

    taps: ClassVar[tuple[str, ...]] = ("decoder_half",)
    loss_names: ClassVar[tuple[str, ...]] = ("variation",)
    # The loss is a mean over only the labelled samples.
    whole_batch: ClassVar[tuple[str, ...]] = ("taps",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss ``variation``: mean squared difference of both networks' `class_similarity`."""
        classes = student.logits.shape[1]
        target, similarity = (
            class_similarity(outputs.taps["decoder_half"][: len(mask)], mask, classes)
            for outputs in (teacher, student)
        )
        return {"variation": F.mse_loss(similarity, target)}


def class_similarity(feature: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Cosine between each pixel's feature and the mean of its class in the sample (eq. 2).

    Parameters
    ----------
    feature
        (B, C, h, w).
    mask
        Integer classes (B, H, W), resampled to the feature's size.
    classes
        Number of classes, the background included.

    Returns
    -------
    Tensor
        (B, h, w), in [-1, 1].

    Examples
    --------
    >>> import torch
    >>> feature = torch.tensor([[[[1.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]]])
    >>> class_similarity(feature, torch.tensor([[[0, 0, 1]]]), classes=2)
    tensor([[[0.7071, 0.7071, 1.0000]]])
    """
    inside = regions(mask, classes, feature.shape[-2:])
    class_mean = region_means(feature, inside).mT @ inside.flatten(2).to(feature.dtype)
    return (unit_vectors(feature, 1) * unit_vectors(class_mean.view_as(feature), 1)).sum(1)
