"""Adversarial distillation: a critic tells the student's logits from the teacher's.

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

MOST_PIXELS = 128
"""A side of what the critic sees: with it, attention takes 256 KiB a sample at most."""

_PENALTY = 10.0
_WIDTHS = (64, 128, 256, 512)
_ATTENDED = (256, 512)
_SLOPE = 0.1


class Adversarial(Distillation[MethodOptions]):
    """Teach what makes the teacher's logits tell as a whole.

    The critic learns beside the student: its loss has no gradient for the
    student, the student's has none for the critic.

    Parameters
    ----------
    options
        Of a method with fields ``adversarial`` and ``critic``, the weights of the losses.
    critic
        See `Critic`.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("adversarial", "critic")
    adam: ClassVar[dict[str, Any]] = {"lr": 3e-5, "betas": (0.9, 0.99), "weight_decay": 0.0}

    def __init__(self, options: MethodOptions, critic: "Critic") -> None:
        super().__init__(options)
        self.critic = critic

    @classmethod
    def for_pair(
        cls, options: MethodOptions, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """With a critic for the student's classes."""
        return cls(options, Critic(student.classes))

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``adversarial`` for the student; for the critic ``critic``, with its penalty.

        -mean D(s), and mean D(s) - mean D(t) + 10 times `gradient_penalty`,
        of the logits as `seen`; either sign.
        """
        real, fake = seen(teacher.logits), seen(student.logits)
        with frozen(self.critic):
            fooled = -self.critic(fake).mean()
        fake = fake.detach()
        # The weights' norms are the same for all that the critic learns from.
        with cached():
            as_fake, as_real = self.critic(torch.cat([fake, real])).chunk(2)
            penalty = gradient_penalty(self.critic, real, fake)
        told_apart = as_fake.mean() - as_real.mean()
        return {"adversarial": fooled, "critic": told_apart + _PENALTY * penalty}


class Critic(nn.Module):
    """Four spectrally normalised 4x4 convolutions of stride 2, attention at 256 and 512 channels.

    The closing mean over places is our *reconstruction*: it takes logits of any size.

    Parameters
    ----------
    classes
        Channels of the logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((classes, *_WIDTHS)):
            layers.append(spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(_SLOPE))
            if after in _ATTENDED:
                layers.append(SelfAttention(after))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(_WIDTHS[-1], 1, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """Scores (B,) of logits (B, classes, H, W), H and W at least 16; more is more real."""
        scores: Tensor = self.head(self.layers(logits)).mean((1, 2, 3))
        return scores


class SelfAttention(nn.Module):
    """Every place looks at every other (SAGAN, eq. 1-3); nothing at first, as gamma is 0.

    Parameters
    ----------
    channels
        Of the feature, 8 or more; a place is asked for by an eighth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 8, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> the same shape."""
        query, key, value = (each(x).flatten(2) for each in (self.query, self.key, self.value))
        shares = (query.mT @ key).softmax(-1)
        attended: Tensor = x + self.gamma * (value @ shares.mT).view_as(x)
        return attended


def seen(logits: Tensor) -> Tensor:
    """Logits as the critic sees them: no larger than `MOST_PIXELS`, by means (*reconstruction*)."""
    height, width = (min(length, MOST_PIXELS) for length in logits.shape[-2:])
    return F.adaptive_avg_pool2d(logits, (height, width))


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """(‖∇ critic‖ - 1)² between real and fake (B, ...), mean over samples (WGAN-GP, eq. 3)."""
    share = torch.rand_like(real[:, :1, :1, :1])
    between = torch.lerp(real, fake, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module and change nothing in it."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
