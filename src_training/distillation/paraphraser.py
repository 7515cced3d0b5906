"""A paraphraser: the teacher's features said in as many channels as the student has.

Kim et al., "Paraphrasing complex network" (factor transfer), NeurIPS 2018,
arXiv 1802.04977, as Graph Flow (arXiv 2203.08667) takes it over.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.1


class Paraphraser(nn.Module):
    """Three convolutions to fewer channels, and transposed ones back.

    Parameters
    ----------
    channels
        C, of the teacher's feature.
    paraphrased
        k, channels of what it is said in.
    """

    def __init__(self, channels: int, paraphrased: int) -> None:
        super().__init__()
        c, k = channels, paraphrased
        self.encoder = nn.Sequential(
            *_activated(nn.Conv2d(c, c, 3, padding=1)),
            *_activated(nn.Conv2d(c, k, 3, padding=1)),
            *_activated(nn.Conv2d(k, k, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_activated(nn.ConvTranspose2d(k, k, 3, padding=1)),
            *_activated(nn.ConvTranspose2d(k, c, 3, padding=1)),
            *_activated(nn.ConvTranspose2d(c, c, 3, padding=1)),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """A feature (B, C, h, w) said again."""
        again: Tensor = self.decoder(self.encoder(feature))
        return again


class Paraphrasers(nn.Module):
    """One paraphraser for each tap.

    Parameters
    ----------
    channels
        Tap -> channels of the teacher and of the student.
    """

    def __init__(self, channels: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.by_tap = nn.ModuleDict({tap: Paraphraser(*pair) for tap, pair in channels.items()})

    def reconstruction(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of features (B, C, h, w) said again, mean over taps; >= 0."""
        distances = [
            F.mse_loss(paraphraser(taps[tap]), taps[tap])
            for tap, paraphraser in self.by_tap.items()
        ]
        return torch.stack(distances).mean()

    def forward(self, taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features (B, C, h, w) of each tap in the student's channels, (B, k, h, w)."""
        return {tap: each.encoder(taps[tap]) for tap, each in self.by_tap.items()}  # type: ignore[operator]  # ModuleDict hides the type


def _activated(convolution: nn.Module) -> tuple[nn.Module, ...]:
    return convolution, nn.LeakyReLU(_SLOPE)
