"""Augmentation of patches: spatial, and of the style that differs between scanners."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Strength = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """Strengths of the augmentation of patches.

    Attributes
    ----------
    flips
        Whether to flip half of the patches horizontally.
    turn
        Largest rotation in either direction, degrees.
    scale
        Largest relative change of size: 0.25 draws from [0.8, 1.25].
    brightness
        Largest positive or negative shift of the grey values (image range is [0, 1]).
    contrast, gamma
        Largest relative change of the factor, and of the exponent, of the grey
        values: 0.4 draws from [0.71, 1.4].
    blur
        Range of the standard deviation of the blur, pixels. It is drawn from 0.1
        to 0.1 more than this; 0 disables the blur.
    noise
        Standard deviation of the added Gaussian noise (image range is [0, 1]).
    resolution
        Largest factor of downsampling, followed by upsampling to the original size.
    illumination
        Largest amplitude of a linear brightness gradient over the patch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    flips: bool = True
    turn: Annotated[float, Field(ge=0, le=180, title="Rotation")] = 180.0
    scale: Strength = 0.25
    brightness: Strength = 0.2
    contrast: Strength = 0.4
    gamma: Strength = 0.4
    blur: Annotated[float, Field(ge=0, le=5)] = 1.2
    noise: Strength = 0.04
    resolution: Annotated[float, Field(ge=1, le=4)] = 1.6
    illumination: Strength = 0.2


class Augmenter:
    """Augment batches of patches with Kornia, on the device of the batch.

    Parameters are drawn for each sample from torch's global generator.

    Parameters
    ----------
    augmentation
        Strengths.
    patch
        Height and width of the augmented patches, pixels.

    Examples
    --------
    >>> import torch
    >>> augmenter = Augmenter(Augmentation(), patch=32)
    >>> side = augmenter.crop_size
    >>> image, mask = torch.rand(2, 1, side, side), torch.zeros(2, side, side, dtype=torch.int64)
    >>> image, mask = augmenter.spatial_augmentation(image, mask)
    >>> image.shape, mask.shape, augmenter.views(image, 3).shape
    (torch.Size([2, 1, 32, 32]), torch.Size([2, 32, 32]), torch.Size([6, 1, 32, 32]))
    """

    def __init__(self, augmentation: Augmentation, patch: int) -> None:
        self.augmentation = augmentation
        self.patch = patch
        self._spatial = self._build_spatial()
        self._style = self._build_style()

    @property
    def crop_size(self) -> int:
        """Side of the input crops of `spatial_augmentation`, pixels.

        Crops are larger than patches, so that rotation and scaling cause hardly
        any empty corners.
        """
        return round(self.patch * 1.2 * (1 + self.augmentation.scale))

    def spatial_augmentation(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Flip, rotate and scale image and mask together, and crop their centres.

        Parameters
        ----------
        image
            (B, C, crop_size, crop_size) float, in [0, 1].
        mask
            (B, crop_size, crop_size) integer classes.

        Returns
        -------
        Tensor
            (B, C, patch, patch), in [0, 1].
        Tensor
            (B, patch, patch), the dtype of `mask`.
        """
        image, transformed_mask = self._spatial(image, mask[:, None].to(image.dtype))
        return self._crop_centre(image), self._crop_centre(transformed_mask)[:, 0].to(mask.dtype)

    def style_augmentation(self, image: Tensor) -> Tensor:
        """Vary grey values, blur, noise and resolution of patches (B, C, h, w) in [0, 1]."""
        return self._simulate_low_resolution(self._style(image)).clamp(0, 1)

    def views(self, image: Tensor, count: int) -> Tensor:
        """Draw `count` views of each sample: (B, C, h, w) -> (B * count, C, h, w).

        The views of a sample are adjacent. Only their style differs, so that the
        same mask applies to all of them.
        """
        return self.style_augmentation(image.repeat_interleave(count, dim=0))

    def _crop_centre(self, image: Tensor) -> Tensor:
        top = (image.shape[-2] - self.patch) // 2
        left = (image.shape[-1] - self.patch) // 2
        return image[..., top : top + self.patch, left : left + self.patch]

    def _build_spatial(self) -> Callable[..., tuple[Tensor, Tensor]]:
        # Imported on demand, because the import takes a third of a second.
        import kornia.augmentation as K

        strength = self.augmentation
        steps = [
            K.RandomHorizontalFlip(p=0.5 * strength.flips),
            K.RandomAffine(
                strength.turn, scale=(1 / (1 + strength.scale), 1 + strength.scale), p=1.0
            ),
        ]
        sequence: Callable[..., tuple[Tensor, Tensor]] = K.AugmentationSequential(
            *steps, data_keys=["input", "mask"]
        )
        return sequence

    def _build_style(self) -> Callable[[Tensor], Tensor]:
        import kornia.augmentation as K

        strength = self.augmentation
        steps = [
            K.RandomGamma((1 / (1 + strength.gamma), 1 + strength.gamma), p=0.7),
            K.RandomContrast((1 / (1 + strength.contrast), 1 + strength.contrast), p=0.7),
            K.RandomBrightness((1 - strength.brightness, 1 + strength.brightness), p=0.7),
        ]
        if strength.illumination:
            steps.append(
                K.RandomLinearIllumination(gain=(0.01, 0.01 + strength.illumination), p=0.5)
            )
        if strength.blur:
            steps.append(K.RandomGaussianBlur((9, 9), (0.1, 0.1 + strength.blur), p=0.5))
        if strength.noise:
            steps.append(K.RandomGaussianNoise(0.0, strength.noise, p=0.5))
        sequence: Callable[[Tensor], Tensor] = K.AugmentationSequential(*steps, data_keys=["input"])
        return sequence

    def _simulate_low_resolution(self, image: Tensor) -> Tensor:
        """Downsample and upsample a random third of the batch."""
        if self.augmentation.resolution <= 1:
            return image
        chosen = torch.rand(image.shape[0], device=image.device) < 1 / 3
        factor = 1 + torch.rand(()).item() * (self.augmentation.resolution - 1)
        size = [max(1, round(side / factor)) for side in image.shape[-2:]]
        coarse = F.interpolate(image, size, mode="bilinear", antialias=True)
        degraded = F.interpolate(coarse, image.shape[-2:], mode="bilinear")
        return torch.where(chosen[:, None, None, None], degraded, image)
