"""A teacher and a student with their alignment networks, ready to be compared."""

from dataclasses import dataclass, replace
from typing import Self

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import Preprocessing
from src_training.networks.base import SegmentationNetwork


@dataclass(frozen=True, eq=False)
class TeacherStudentPair:
    """A teacher and a student, and how their images were prepared.

    `dataclasses.replace` exchanges the student, for instance for an earlier snapshot.

    Attributes
    ----------
    teacher, tan
        The teacher and its alignment network, in evaluation mode.
    student, san
        The student and its alignment network, in evaluation mode.
    preprocessing
        From a raw image to the input of both networks.
    augmentation
        Strength of the augmentation of views.
    patch
        Side of the patches that the alignment networks take, pixels of the
        prepared image.
    centred
        Whether DCGD's graphs were those of centred vectors in training.
    """

    teacher: SegmentationNetwork
    tan: AlignmentNetwork
    student: SegmentationNetwork
    san: AlignmentNetwork
    preprocessing: Preprocessing
    augmentation: Augmentation
    patch: int
    centred: bool

    def for_camera(self, angle: float | None) -> Self:
        """The same networks for images of another fundus camera, see `for_camera` there."""
        return replace(self, preprocessing=self.preprocessing.for_camera(angle))
