"""The one interface of every distillation: two passes in, named losses out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.networks.base import SegmentationNetwork, Skips

if TYPE_CHECKING:
    from src_training.distillation.paraphraser import Paraphrasers


@dataclass(frozen=True)
class ForwardOutputs:
    """What one network made of a batch.

    Attributes
    ----------
    network
        The network itself, for distillations that decode again.
    alignment
        Its TAN or SAN.
    skips, bottleneck, logits
        What `encode` and `decode` made of the anchors: bottleneck
        (B, C, h, w), logits (B, classes, H, W).
    vectors
        Semantic vectors (B, 1 + K, latent): the anchor's first, then those
        of its K views. None unless a distillation has `views`.
    taps
        Features (B, C, h, w) of the anchors at the places that the
        distillations named.
    view_logits
        What the student made of the views: (B, K, classes, H, W). None unless
        a distillation `predicts_views`.
    plain_logits
        What the teacher made of the anchors as their own scanner shows them:
        (B, classes, H, W). None unless a distillation `predicts_views`.
    """

    network: SegmentationNetwork
    alignment: AlignmentNetwork
    skips: Skips
    bottleneck: Tensor
    logits: Tensor
    vectors: Tensor | None = None
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    view_logits: Tensor | None = None
    plain_logits: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor], *fields: str) -> Self:
        """Apply a function to every tensor, or to those of the named fields alone."""
        names = fields or _TENSOR_FIELDS
        return replace(self, **{name: _map(getattr(self, name), change) for name in names})


_TENSOR_FIELDS = (
    "skips",
    "bottleneck",
    "logits",
    "vectors",
    "taps",
    "view_logits",
    "plain_logits",
)
_Tensors = TypeVar("_Tensors", Tensor, Skips, Mapping[str, Tensor], None)


def _map(value: _Tensors, change: Callable[[Tensor], Tensor]) -> _Tensors:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Skips):
        return value._replace(features=tuple(change(feature) for feature in value.features))
    if value is None:
        return None
    return {name: change(tensor) for name, tensor in value.items()}


class Distillation(nn.Module, ABC):
    """A way in which a teacher's pass teaches a student's.

    Knows no files, devices, recipes or loops. Its own parameters, if it has
    any, learn beside the student.

    Attributes
    ----------
    taps
        Places of `SegmentationNetwork.taps` whose features it reads.
    views
        Whether it reads augmented views: their semantic vectors.
    predicts_views
        Whether it reads what the student predicts for those views, and what
        the teacher predicts where nothing is restyled.
    weights
        Weight of each loss that it returns, by name, as published.
    half_precision
        Whether it may compute in half precision; otherwise passes are given
        to it in float32 at least.
    adam
        What Adam is told of its own parameters instead of the stage's settings.
    whole_batch
        Fields of `ForwardOutputs` that its losses need of the whole batch
        where that is spread over processes: those of losses that are no means
        over all samples. The masks are then of the whole batch, too.
    paraphrases
        Whether it has a `paraphraser`, which learns before the student does.
    """

    taps: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[bool] = False
    predicts_views: ClassVar[bool] = False
    weights: ClassVar[dict[str, float]]
    half_precision: ClassVar[bool] = False
    adam: ClassVar[dict[str, Any]] = {}
    whole_batch: ClassVar[tuple[str, ...]] = ()
    paraphrases: ClassVar[bool] = False
    paraphraser: "Paraphrasers"

    @classmethod
    def for_pair(cls, teacher: SegmentationNetwork, student: SegmentationNetwork) -> Self:
        """Made to the measures of two networks where those matter."""
        return cls()

    def forward(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted scalar losses by name; gradients reach the student only.

        Parameters
        ----------
        teacher, student
            Passes of the same B samples.
        mask
            Classes (M, H, W), int64, of the first M <= B samples; the others
            are unlabelled.
        """
        teacher = teacher.map(Tensor.detach)
        if self.half_precision:
            return self.losses(teacher, student, mask)
        with torch.autocast(student.logits.device.type, enabled=False):
            return self.losses(teacher.map(exact), student.map(exact), mask)

    @abstractmethod
    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """As `forward`, of a detached teacher and, unless `half_precision`, in full precision.

        A loss is a mean over all samples, or needs its fields in `whole_batch`.
        """


def exact(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least; integers, such as pooling indices, as they are."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
