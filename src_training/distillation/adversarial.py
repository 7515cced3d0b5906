"""Adversarial distillation: a critic learns to tell the student's logits from the teacher's.

WGAN-GP (arXiv 1704.00028) with a critic after SAGAN (arXiv 1805.08318), as in
Graph Flow (arXiv 2203.08667).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import cached

from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions
from src_training.networks.base import SegmentationNetwork

MAX_SIDE = 128
"""Largest side of the critic's input in pixels; bounds an attention matrix to 256 KiB a sample."""

_PENALTY = 10.0
_WIDTHS = (64, 128, 256, 512)
_WITH_ATTENTION = (256, 512)
_SLOPE = 0.1


class Adversarial(Distillation[MethodOptions]):
    """The student learns to predict logits that a critic cannot tell from the teacher's.

    The critic is trained together with the student. The critic's loss has no
    gradient for the student, and the student's loss has none for the critic.

    Parameters
    ----------
    options
        Options of a method with fields ``adversarial`` and ``critic``, the weights of the losses.
    critic
        Scores (B,) of logits (B, classes, H, W).
    """

    learns_outputs: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("adversarial", "critic")
    adam: ClassVar[dict[str, Any]] = {"lr": 3e-5, "betas": (0.9, 0.99), "weight_decay": 0.0}

    def __init__(self, options: MethodOptions, critic: "Critic") -> None:
        super().__init__(options)
        self.critic = critic

    @classmethod
    def for_pair(
        cls, options: MethodOptions, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """Build the distillation with a critic for the student's classes."""
        return cls(options, Critic(student.classes))

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses ``adversarial`` of the student and ``critic`` of the critic, of either sign.

        ``adversarial`` is -mean D(s); ``critic`` is mean D(s) - mean D(t) plus 10
        times `gradient_penalty`. D is the critic's score of logits after `pool_logits`.
        """
        real, fake = pool_logits(teacher.logits), pool_logits(student.logits)
        with frozen(self.critic):
            adversarial = -self.critic(fake).mean()
        fake = fake.detach()
        # The spectral norms of the weights are computed once for both terms.
        with cached():
            fake_score, real_score = self.critic(torch.cat([fake, real])).chunk(2)
            penalty = gradient_penalty(self.critic, real, fake)
        distance = fake_score.mean() - real_score.mean()
        return {"adversarial": adversarial, "critic": distance + _PENALTY * penalty}


class Critic(nn.Module):
    """Four spectrally normalised 4x4 convolutions of stride 2, attention at 256 and 512 channels.

    The final mean over pixels, which allows logits of any size, is our
    *reconstruction*.

    Parameters
    ----------
    classes
        Channels of the logits.

    Examples
    --------
    >>> Critic(classes=2)(torch.zeros(3, 2, 32, 32)).shape
    torch.Size([3])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((classes, *_WIDTHS)):
            layers.append(spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(_SLOPE))
            if after in _WITH_ATTENTION:
                layers.append(SelfAttention(after))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(_WIDTHS[-1], 1, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """Scores (B,) of logits (B, classes, H, W), H and W at least 16; higher is more real."""
        scores: Tensor = self.head(self.layers(logits)).mean((1, 2, 3))
        return scores


class SelfAttention(nn.Module):
    """Self-attention between all pixels of a feature (SAGAN, eq. 1-3).

    The factor gamma is initialised to 0, so that the layer starts as the identity.

    Parameters
    ----------
    channels
        Channels of the feature, at least 8; queries and keys have an eighth as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 8, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attention = (query.mT @ key).softmax(-1)
        output: Tensor = x + self.gamma * (value @ attention.mT).view_as(x)
        return output


def pool_logits(logits: Tensor) -> Tensor:
    """Average-pool logits (B, classes, H, W) to sides of at most `MAX_SIDE` (*reconstruction*).

    Examples
    --------
    >>> pool_logits(torch.zeros(1, 2, 512, 96)).shape
    torch.Size([1, 2, 128, 96])
    """
    height, width = (min(length, MAX_SIDE) for length in logits.shape[-2:])
    return F.adaptive_avg_pool2d(logits, (height, width))


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """(‖∇D(x)‖ - 1)² at a random x between real and fake, mean over samples (WGAN-GP, eq. 3).

    Parameters
    ----------
    critic
        D: (B, ...) -> scores (B,).
    real, fake
        (B, ...).

    Returns
    -------
    Tensor
        Scalar, >= 0.

    Examples
    --------
    >>> real, fake = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    >>> class Sum(nn.Module):
    ...     def forward(self, x):
    ...         return x.sum((1, 2, 3))
    >>> gradient_penalty(Sum(), real, fake).item()  # the norm is 2
    1.0
    """
    weight = torch.rand_like(real[:, :1, :1, :1])
    interpolated = torch.lerp(real, fake, weight).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(interpolated).sum(), interpolated, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module in the block, without gradients for its parameters."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
