"""The interface of all distillations: options, and losses from two forward passes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.networks.base import SegmentationNetwork, Skips

if TYPE_CHECKING:
    from src_training.distillation.graph_flow import Paraphrasers

Weight = Annotated[float, Field(ge=0)]


class MethodOptions(BaseModel):
    """Options of a distillation method in a recipe.

    Each method has a subclass, in which ``method`` is a `Literal` of the method's
    name, and which has a field for the weight of each loss, named like the loss.

    Attributes
    ----------
    method
        Name of the method.
    weight
        Factor of all losses of the method.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: str
    weight: Weight = 1.0

    @property
    def centered_vectors(self) -> bool | None:
        """Whether the batch mean is subtracted from semantic vectors; None if none are compared."""
        return None


class OutputOptions(MethodOptions):
    """Options of a method whose student learns the teacher's predictions.

    Attributes
    ----------
    teacher_sees
        ``same``: the patch as the student sees it. ``plain``: the patch without
        style augmentation, on which the teacher is most accurate.
    """

    teacher_sees: Annotated[Literal["same", "plain"], Field(title="Teacher sees patches")] = "same"


Options = TypeVar("Options", bound=MethodOptions)


@dataclass(frozen=True)
class ForwardOutputs:
    """Outputs of one network for a batch.

    Attributes
    ----------
    network
        The network, for distillations that run its decoder again.
    alignment
        TAN of the teacher, or SAN of the student.
    skips, bottleneck, logits
        Outputs of `encode` and `decode` for the anchors: bottleneck
        (B, C, h, w), logits (B, classes, H, W).
    vectors
        Semantic vectors (B, 1 + K, latent) of each anchor and its K views, the
        anchor's first. None unless a distillation reads them.
    taps
        Features (B, C, h, w) of the anchors at the taps that the
        distillations read.
    view_logits
        The student's logits of the views, (B, K, classes, H, W). None unless
        a distillation `predicts_views`.
    plain_logits
        The teacher's logits of the anchors without style augmentation,
        (B, classes, H, W). None unless a distillation `sees_plain`.
    mixed_logits
        Logits of the mixed patches, (B, classes, H, W). None unless a
        distillation `mixes`.
    mixed_share, partner_mask
        Weights of the anchors in the mixed patches, and masks of the anchors that
        they are mixed with; see `Mixed`. Only in the student's outputs.
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
    mixed_logits: Tensor | None = None
    mixed_share: Tensor | None = None
    partner_mask: Tensor | None = None

    @property
    def styles(self) -> Tensor:
        """Logits of anchor and views, (B, 1 + K, classes, H, W)."""
        assert self.view_logits is not None
        return torch.cat([self.logits[:, None], self.view_logits], dim=1)

    def map(self, change: Callable[[Tensor], Tensor], *fields: str) -> Self:
        """Apply a function to every tensor, or only to the tensors of the named fields."""
        names = fields or _TENSOR_FIELDS
        return replace(self, **{name: _map(getattr(self, name), change) for name in names})

    def with_views(self, count: int) -> Self:
        """Keep only the first `count` views of each sample."""
        return replace(
            self,
            vectors=None if self.vectors is None else self.vectors[:, : 1 + count],
            view_logits=None if self.view_logits is None else self.view_logits[:, :count],
        )


_TENSOR_FIELDS = (
    "skips",
    "bottleneck",
    "logits",
    "vectors",
    "taps",
    "view_logits",
    "plain_logits",
    "mixed_logits",
    "mixed_share",
    "partner_mask",
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


class Distillation(nn.Module, ABC, Generic[Options]):
    """One or several losses of a student, computed from its own and its teacher's outputs.

    It does not depend on files, devices, recipes or training loops. Parameters
    of the distillation itself are trained together with the student.

    Parameters
    ----------
    options
        Options of the method that this distillation is a part of.

    Attributes
    ----------
    loss_names
        Names of the losses; the options have a weight of the same name for each.
    taps
        Names of the features of `SegmentationNetwork.taps` that it reads.
    reads_vectors
        Whether it reads the semantic vectors of anchors and views.
    predicts_views
        Whether it reads the student's logits of the views, if there are views.
    learns_outputs
        Whether the student learns to predict the teacher's logits. Then
        `OutputOptions.teacher_sees` selects the patch that the teacher predicts.
    mixes
        Whether it reads both networks' logits of mixed patches, and not the
        teacher's logits of the anchors.
    reads_teacher
        Whether it reads any output of the teacher.
    half_precision
        Whether it may compute in half precision; otherwise all tensors of lower
        precision are converted to float32 first.
    adam
        Settings of Adam for the distillation's own parameters, which override
        those of the stage.
    whole_batch
        Fields of `ForwardOutputs` to gather from all processes, for losses that
        are not means over samples. The masks are then gathered, too.
    has_paraphraser
        Whether it has a `paraphraser`, which is trained before the student.
    """

    loss_names: ClassVar[tuple[str, ...]]
    taps: ClassVar[tuple[str, ...]] = ()
    reads_vectors: ClassVar[bool] = False
    predicts_views: ClassVar[bool] = False
    learns_outputs: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    reads_teacher: ClassVar[bool] = True
    half_precision: ClassVar[bool] = False
    adam: ClassVar[dict[str, Any]] = {}
    whole_batch: ClassVar[tuple[str, ...]] = ()
    has_paraphraser: ClassVar[bool] = False
    paraphraser: "Paraphrasers"

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def for_pair(
        cls, options: Options, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """Build the distillation for the channels and classes of two networks."""
        return cls(options)

    @classmethod
    def weights(cls, options: Options) -> dict[str, float]:
        """Weight of each loss by name, times the weight of the method."""
        return {name: options.weight * getattr(options, name) for name in cls.loss_names}

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Names of the features of the teacher that it reads; by default `taps`."""
        return self.taps

    @property
    def views(self) -> int:
        """Number K of augmented views that it reads for each sample."""
        return 0

    @property
    def sees_plain(self) -> bool:
        """Whether it reads the teacher's logits of the anchors without style augmentation."""
        options = self.options
        plain = isinstance(options, OutputOptions) and options.teacher_sees == "plain"
        return self.learns_outputs and plain

    @property
    def reads_anchors(self) -> bool:
        """Whether it reads the teacher's forward pass of the anchors as the student sees them."""
        reads_other_logits = self.learns_outputs and (self.sees_plain or self.mixes)
        return self.reads_teacher and (bool(self.taps) or not reads_other_logits)

    def forward(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted scalar losses by name; gradients reach the student only.

        Parameters
        ----------
        teacher, student
            Outputs for the same B samples.
        mask
            Classes (M, H, W), int64, of the first M <= B samples; the others
            are unlabelled.
        """
        teacher = teacher.map(Tensor.detach)
        if self.sees_plain:
            assert teacher.plain_logits is not None
            teacher = replace(teacher, logits=teacher.plain_logits)
        if self.half_precision:
            return self.losses(teacher, student, mask)
        with torch.autocast(student.logits.device.type, enabled=False):
            return self.losses(teacher.map(exact), student.map(exact), mask)

    @abstractmethod
    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Compute the losses; see `forward`.

        The teacher's outputs are detached and, unless `half_precision`, all
        tensors are float32. A loss that is not a mean over all samples needs the
        fields that it reads in `whole_batch`.
        """


def exact(tensor: Tensor) -> Tensor:
    """Convert a floating-point tensor of lower precision to float32.

    Integer tensors, such as pooling indices, are returned unchanged.
    """
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
