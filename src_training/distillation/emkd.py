"""EMKD: Qin et al., "Efficient medical image segmentation based on knowledge distillation".

IEEE TMI 2021, arXiv 2108.09987; the weights and the taps are the published ones.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.distillation.logits import TEMPERATURE
from src_training.losses.divergence import softened_divergence
from src_training.losses.regions import region_means, regions, resized

_LEVELS = {"low": "encoder_half", "high": "encoder_eighth"}


class EMKDOptions(MethodOptions):
    """Options of ``emkd``; the weights are the published ones.

    Attributes
    ----------
    pmd
        Weight of the distance between prediction maps.
    imd_low, imd_high
        Weights of the distance between importance maps, at 1/2 and at 1/8 of the resolution.
    rad_low, rad_high
        Weights of the distance between region affinities, at 1/2 and at 1/8.
    """

    method: Literal["emkd"] = "emkd"
    pmd: Weight = 0.1
    imd_low: Weight = 0.9
    imd_high: Weight = 0.9
    rad_low: Weight = 0.9
    rad_high: Weight = 0.9


class EMKD(Distillation[EMKDOptions]):
    """Teach prediction maps, importance maps and the affinity of regions.

    Its schedule is the recipe's: ``supervised: dice_focal`` is its loss from
    masks, and the paper takes Adam at 1e-2 along a cosine, batches of 16.
    """

    taps: ClassVar[tuple[str, ...]] = tuple(_LEVELS.values())
    loss_names: ClassVar[tuple[str, ...]] = ("pmd", "imd_low", "imd_high", "rad_low", "rad_high")
    # Pairs of regions are counted over all labelled samples.
    whole_batch: ClassVar[tuple[str, ...]] = ("taps",)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``pmd`` of the logits, ``imd`` and ``rad`` of a low and of a high feature."""
        found = {"pmd": softened_divergence(teacher.logits, student.logits, TEMPERATURE)}
        classes, labelled = student.logits.shape[1], len(mask)
        for level, tap in _LEVELS.items():
            theirs, ours = teacher.taps[tap], student.taps[tap]
            found[f"imd_{level}"] = importance_distance(theirs, ours)
            found[f"rad_{level}"] = affinity_distance(
                theirs[:labelled], ours[:labelled], mask, classes
            )
        return found


def importance_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """IMD of features (B, C, h, w): ‖A_S - A_T‖², mean over samples; from 0 to 2.

    Channels may differ; the student's is resized to the teacher's size.
    """
    student = resized(student, teacher.shape[-2:])
    return (importance(student) - importance(teacher)).square().sum(1).mean()


def importance(feature: Tensor) -> Tensor:
    """A(F): mean over channels of F⁴, flattened to (B, h w) and of length 1."""
    # Scaled first, which the length takes back: a fourth power soon overflows.
    largest = feature.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return F.normalize((feature / largest).pow(4).mean(1).flatten(1))


def affinity_distance(teacher: Tensor, student: Tensor, mask: Tensor, classes: int) -> Tensor:
    """RAD of features (B, C, h, w): (RC_S - RC_T)², mean over pairs of regions and samples.

    That empty regions drop out is our *reconstruction*: the public code
    divides by zero where the background is empty.

    Parameters
    ----------
    teacher, student
        Channels and sizes may differ.
    mask
        (B, H, W), integer classes.
    classes
        How many there are; every two make a pair.

    Returns
    -------
    Tensor
        Scalar, >= 0. Pairs with a region that is empty at either size drop
        out; 0 if all do.
    """
    (theirs, known), (ours, also) = (
        region_cosines(feature, mask, classes) for feature in (teacher, student)
    )
    counted = (known & also).to(ours.dtype)
    return ((ours - theirs).square() * counted).sum() / counted.sum().clamp(min=1)


def region_cosines(feature: Tensor, mask: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Cosine of the mean features of each two regions, (B, pairs), and whether both are there.

    Parameters
    ----------
    feature
        (B, C, h, w).
    mask
        (B, H, W), integer classes; sampled at the feature's size.
    classes
        How many there are; pairs are classes (classes - 1) / 2.
    """
    inside = regions(mask, classes, feature.shape[-2:])
    means = unit_vectors(region_means(feature, inside))
    there = inside.flatten(2).any(-1)
    first, second = torch.triu_indices(classes, classes, 1, device=feature.device)
    cosines = (means[:, first] * means[:, second]).sum(-1)
    return cosines, there[:, first] & there[:, second]
