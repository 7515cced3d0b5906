"""A teacher and its student, as those take them who look at what one taught the other."""

from dataclasses import dataclass, replace
from typing import Self

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import Preprocessing
from src_training.networks.base import SegmentationNetwork


@dataclass(frozen=True, eq=False)
class TeacherStudentPair:
    """A teacher and a student, and what they were shown.

    `dataclasses.replace` puts another student in the place of this one, such
    as an earlier checkpoint of it.

    Attributes
    ----------
    teacher, tan
        The teacher and its alignment network, in evaluation mode.
    student, san
        The student and its alignment network, in evaluation mode.
    preprocessing
        From a raw image to what both networks see.
    augmentation
        How strongly views of a patch are varied.
    patch
        Side of the patches that the alignment networks take, pixels of the
        prepared grid.
    centred
        Whether the graphs that were taught are those of centred vectors.
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
        """The same networks for images of another fundus camera; see `Preprocessing.for_camera`."""
        return replace(self, preprocessing=self.preprocessing.for_camera(angle))
