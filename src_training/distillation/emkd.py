"""EMKD: Qin et al., "Efficient medical image segmentation based on knowledge distillation".

IEEE TMI 2021, arXiv 2108.09987; the weights and the taps are the published ones.
"""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, OutputOptions, Weight
from src_training.distillation.logits import TEMPERATURE
from src_training.losses.divergence import softened_divergence
from src_training.losses.regions import region_means, regions, resize

_LEVELS = {"low": "encoder_half", "high": "encoder_eighth"}


class EMKDOptions(OutputOptions):
    """Options of ``emkd``; the weights are the published ones.

    Attributes
    ----------
    pmd
        Weight of the distance between prediction maps.
    imd_low, imd_high
        Weights of the distance between importance maps, at 1/2 and at 1/8 of the resolution.
    rad_low, rad_high
        Weights of the distance between region affinities, at 1/2 and at 1/8.
    empty_regions
        Treatment of pairs with a region that a sample does not have.
        ``left_out``: they are excluded from the mean. ``counted``: they count as
        a distance of 0, as in the public code for samples without foreground
        (which returns NaN for samples without background).
    """

    method: Literal["emkd"] = "emkd"
    pmd: Annotated[Weight, Field(title="Prediction maps")] = 0.1
    imd_low: Annotated[Weight, Field(title="Importance maps, 1/2")] = 0.9
    imd_high: Annotated[Weight, Field(title="Importance maps, 1/8")] = 0.9
    rad_low: Annotated[Weight, Field(title="Region affinity, 1/2")] = 0.9
    rad_high: Annotated[Weight, Field(title="Region affinity, 1/8")] = 0.9
    empty_regions: Literal["left_out", "counted"] = "left_out"


class EMKD(Distillation[EMKDOptions]):
    """The student learns prediction maps, importance maps and the affinity of regions.

    The recipe sets the supervised loss and the schedule. The paper uses
    ``supervised: dice_focal`` (its public code: ``dice_focal_detached``), Adam
    at 1e-2 with cosine decay, and batches of 16.
    """

    taps: ClassVar[tuple[str, ...]] = tuple(_LEVELS.values())
    learns_outputs: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("pmd", "imd_low", "imd_high", "rad_low", "rad_high")
    # The mean is over the pairs of all labelled samples.
    whole_batch: ClassVar[tuple[str, ...]] = ("taps",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses ``pmd`` of the logits, ``imd`` and ``rad`` of a low and of a high feature."""
        losses = {"pmd": softened_divergence(teacher.logits, student.logits, TEMPERATURE)}
        classes, labelled = student.logits.shape[1], len(mask)
        counted = self.options.empty_regions == "counted"
        for level, tap in _LEVELS.items():
            target, feature = teacher.taps[tap], student.taps[tap]
            losses[f"imd_{level}"] = importance_distance(target, feature)
            losses[f"rad_{level}"] = affinity_distance(
                target[:labelled], feature[:labelled], mask, classes, counted
            )
        return losses


def importance_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """IMD, the distance of importance maps: ‖A_S - A_T‖², mean over samples.

    Parameters
    ----------
    teacher, student
        Features (B, C, h, w). Channels may differ; the student's feature is
        resized to the teacher's size.

    Returns
    -------
    Tensor
        Scalar, from 0 to 2.

    Examples
    --------
    >>> left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
    >>> importance_distance(left, right).item()
    2.0
    """
    student = resize(student, teacher.shape[-2:])
    return (importance_map(student) - importance_map(teacher)).square().sum(1).mean()


def importance_map(feature: Tensor) -> Tensor:
    """A(F): mean over channels of F⁴ of a feature (B, C, h, w), as unit vectors (B, h w).

    Examples
    --------
    >>> importance_map(torch.tensor([[[[1.0, -1.0, 0.0]]]]))
    tensor([[0.7071, 0.7071, 0.0000]])
    """
    # Scale to at most 1, so that the fourth power cannot overflow; normalisation undoes the scale.
    largest = feature.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return F.normalize((feature / largest).pow(4).mean(1).flatten(1))


def affinity_distance(
    teacher: Tensor, student: Tensor, mask: Tensor, classes: int, empty_counted: bool = False
) -> Tensor:
    """RAD, the distance of region affinities: (RC_S - RC_T)², mean over pairs and samples.

    Pairs with an empty region are excluded (*reconstruction*), or count as 0.

    Parameters
    ----------
    teacher, student
        Features (B, C, h, w); channels and sizes may differ.
    mask
        Integer classes (B, H, W).
    classes
        Number of classes, the background included. Every two classes are a pair.
    empty_counted
        Whether the mean includes pairs with an empty region; see `EMKDOptions`.

    Returns
    -------
    Tensor
        Scalar, >= 0; 0 if every pair has a region that is empty at one of both sizes.

    Examples
    --------
    >>> mask = torch.tensor([[[0, 1]]])
    >>> teacher = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])  # the regions are alike
    >>> student = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # at right angles
    >>> affinity_distance(teacher, student, mask, classes=2).item()
    1.0
    """
    target, in_teacher = region_affinity(teacher, mask, classes)
    affinity, in_student = region_affinity(student, mask, classes)
    present = (in_teacher & in_student).to(affinity.dtype)
    count = present.numel() if empty_counted else present.sum().clamp(min=1)
    return ((affinity - target).square() * present).sum() / count


def region_affinity(feature: Tensor, mask: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Cosine between the mean features of every two regions.

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
    tuple of Tensor
        Cosines (B, P) of the P = classes (classes - 1) / 2 pairs, and whether
        both regions of the pair are present, bool (B, P).

    Examples
    --------
    >>> feature = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]])
    >>> region_affinity(feature, torch.tensor([[[0, 1]]]), classes=2)
    (tensor([[0.7071]]), tensor([[True]]))
    """
    inside = regions(mask, classes, feature.shape[-2:])
    means = unit_vectors(region_means(feature, inside))
    present = inside.flatten(2).any(-1)
    first, second = torch.triu_indices(classes, classes, 1, device=feature.device)
    cosines = (means[:, first] * means[:, second]).sum(-1)
    return cosines, present[:, first] & present[:, second]
