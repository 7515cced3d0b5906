"""A teacher and a student with their alignment networks, for comparison."""

from dataclasses import dataclass, replace
from typing import Self

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import Preprocessing
from src_training.networks.base import SegmentationNetwork


@dataclass(frozen=True, eq=False)
class TeacherStudentPair:
    """A teacher and a student with their alignment networks and preprocessing.

    Use `dataclasses.replace` to exchange the student, for instance for an earlier snapshot.

    Attributes
    ----------
    teacher, tan
        Teacher and its alignment network, in evaluation mode.
    student, san
        Student and its alignment network, in evaluation mode.
    preprocessing
        Preprocessing of the input of both networks.
    augmentation
        Strengths of the augmentation of views.
    patch
        Side of the alignment networks' patches, pixels of the prepared image.
    centered
        Whether DCGD centered the vectors in training.
    """

    teacher: SegmentationNetwork
    tan: AlignmentNetwork
    student: SegmentationNetwork
    san: AlignmentNetwork
    preprocessing: Preprocessing
    augmentation: Augmentation
    patch: int
    centered: bool

    def for_camera(self, angle: float | None) -> Self:
        """Adapt to another fundus camera; see `BasePreprocessing.for_camera`."""
        return replace(self, preprocessing=self.preprocessing.for_camera(angle))
