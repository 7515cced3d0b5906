"""Stages that train a network from masks alone: the teacher, the student and the baseline."""

from typing import TYPE_CHECKING

from torch import Tensor

from src_training.data.sampling import Batch
from src_training.losses.segmentation import WEIGHTS, Supervision, supervised_losses
from src_training.networks.base import SegmentationNetwork
from src_training.training.distributed.sync_batch import all_gather_samples
from src_training.training.stages.base import SEGMENTATION, Stage, namespaced

if TYPE_CHECKING:
    from src_training.training.builders import Networks


class SupervisedStage(Stage):
    """Trains a segmentation network from masks alone.

    Parameters
    ----------
    name
        ``teacher``, ``student`` or ``baseline``.
    network
        The network to train.
    supervision
        Which losses; see `supervised_losses`.
    """

    def __init__(self, name: str, network: SegmentationNetwork, supervision: Supervision) -> None:
        super().__init__(name, network, weights=namespaced(SEGMENTATION, WEIGHTS[supervision]))
        self.network = network
        self._supervision: Supervision = supervision

    @property
    def segmentation_network(self) -> SegmentationNetwork:
        """The network that is trained."""
        return self.network

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of `supervised_losses`, of the whole batch."""
        logits = all_gather_samples(self.trained(batch.image))
        losses = supervised_losses(logits, all_gather_samples(batch.mask), self._supervision)
        return namespaced(SEGMENTATION, losses)


def build_teacher(networks: "Networks") -> SupervisedStage:
    """The stage ``teacher``."""
    return SupervisedStage("teacher", networks.teacher, networks.recipe.supervised)


def build_student(networks: "Networks") -> SupervisedStage:
    """The stage ``student``."""
    return SupervisedStage("student", networks.student, networks.recipe.supervised)


def build_baseline(networks: "Networks") -> SupervisedStage:
    """The stage ``baseline``, which goes on from the trained student."""
    networks.baseline.load_state_dict(networks.student.state_dict())
    return SupervisedStage("baseline", networks.baseline, networks.recipe.supervised)
