"""Stages that train a network from masks alone: the teacher, the student and the baseline."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src_training.data.sampling import Batch
from src_training.losses.segmentation import WEIGHTS, Supervision, supervised_losses
from src_training.networks.base import SegmentationNetwork
from src_training.training.distributed.sync_batch import all_gather_samples
from src_training.training.stages.base import SEGMENTATION, Stage, add_namespace

if TYPE_CHECKING:
    from src_training.training.builders import Networks


class SupervisedStage(Stage):
    """Trains a segmentation network from masks alone.

    Parameters
    ----------
    name
        ``teacher``, ``student`` or ``baseline``.
    network
        Network to train.
    supervision
        Losses; see `supervised_losses`.
    """

    def __init__(self, name: str, network: SegmentationNetwork, supervision: Supervision) -> None:
        super().__init__(name, network, weights=add_namespace(SEGMENTATION, WEIGHTS[supervision]))
        self.network = network
        self._supervision: Supervision = supervision

    @property
    def segmentation_network(self) -> SegmentationNetwork:
        """The trained network."""
        return self.network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of `losses_from_masks`."""
        with self.network.collect_taps(*self.network.auxiliary_taps) as auxiliary:
            logits = self.network(batch.image)
        return losses_from_masks(logits, auxiliary.values(), batch.mask, self._supervision)


def losses_from_masks(
    logits: Tensor, auxiliary: Iterable[Tensor], mask: Tensor, supervision: Supervision
) -> dict[str, Tensor]:
    """Compute the losses of the labelled samples of the whole batch, over all processes.

    Parameters
    ----------
    logits
        Logits (B, classes, H, W) of the network.
    auxiliary
        Auxiliary logits, (B, classes, >= H, >= W); see `SegmentationNetwork.taps`.
    mask
        Classes (M, H, W) of the first M <= B samples.
    supervision
        See `supervised_losses`.

    Returns
    -------
    dict of str to Tensor
        Namespaced losses of `supervised_losses`; and if there are auxiliary logits
        ``auxiliary``, the sum of the same weighted losses of them.
    """
    (labelled, (height, width)), target = (len(mask), mask.shape[1:]), all_gather_samples(mask)

    def supervised(output: Tensor) -> dict[str, Tensor]:
        cropped = all_gather_samples(output[:labelled, :, :height, :width])
        return supervised_losses(cropped, target, supervision)

    losses = supervised(logits)
    weights = WEIGHTS[supervision]
    terms = [weights[name] * loss for each in auxiliary for name, loss in supervised(each).items()]
    if terms:
        losses["auxiliary"] = torch.stack(terms).sum()
    return add_namespace(SEGMENTATION, losses)


def build_teacher(networks: "Networks") -> SupervisedStage:
    """The stage ``teacher``."""
    return SupervisedStage("teacher", networks.teacher, networks.recipe.supervised)


def build_student(networks: "Networks") -> SupervisedStage:
    """The stage ``student``."""
    return SupervisedStage("student", networks.student, networks.recipe.supervised)


def build_baseline(networks: "Networks") -> SupervisedStage:
    """The stage ``baseline``, which starts from the trained student."""
    networks.baseline.load_state_dict(networks.student.state_dict())
    return SupervisedStage("baseline", networks.baseline, networks.recipe.supervised)
