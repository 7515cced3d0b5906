"""Augmented views: what other scanners would have made of the same tissue."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Strength = Annotated[float, Field(ge=0, le=1)]


class Augmentation(BaseModel):
    """How strongly patches are varied; every draw comes from torch's global generator.

    Attributes
    ----------
    flips
        Mirror half of the patches from left to right.
    turn
        Largest turn either way, degrees.
    scale
        Largest relative change of size: 0.25 draws from [0.8, 1.25].
    brightness
        Largest shift of the grey values either way (image range is [0, 1]).
    contrast, gamma
        Largest relative change of the factor, and of the exponent, of the grey
        values: 0.4 draws from [0.71, 1.4].
    blur
        Largest standard deviation of the blur, pixels, beyond the 0.1 of the least.
    noise
        Standard deviation of the added Gaussian noise (image range is [0, 1]).
    resolution
        Largest factor by which a patch is coarsened (down and up again).
    illumination
        Largest amplitude of a smooth gradient over the patch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flips: bool = True
    turn: Annotated[float, Field(ge=0, le=180)] = 180.0
    scale: Strength = 0.25
    brightness: Strength = 0.2
    contrast: Strength = 0.4
    gamma: Strength = 0.4
    blur: Annotated[float, Field(ge=0, le=5)] = 1.2
    noise: Strength = 0.04
    resolution: Annotated[float, Field(ge=1, le=4)] = 1.6
    illumination: Strength = 0.2


class Augmenter:
    """Turns roomy patches into training patches and into further views of them.

    Kornia draws one set of parameters per sample and works on the whole
    batch, on whatever device the batch is.

    Parameters
    ----------
    augmentation
        How strongly to vary.
    patch
        Height and width of what is returned, pixels. Patches come in larger
        (see `crop_size`), so that turning and scaling bring in hardly any empty corners.
    """

    def __init__(self, augmentation: Augmentation, patch: int) -> None:
        self.augmentation = augmentation
        self.patch = patch
        self._geometric = self._build_geometric()
        self._photometric = self._build_photometric()

    @property
    def crop_size(self) -> int:
        """Side of the patches to cut from the images, pixels."""
        return round(self.patch * 1.2 * (1 + self.augmentation.scale))

    def moved(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn, mirror and scale image and mask alike, and cut out their centres.

        Parameters
        ----------
        image
            (B, C, roomy, roomy) float, in [0, 1].
        mask
            (B, roomy, roomy) integer classes.

        Returns
        -------
        Tensor
            (B, C, patch, patch), in [0, 1]; its grey values are as they were.
        Tensor
            (B, patch, patch), the dtype of `mask`.
        """
        moved, moved_mask = self._geometric(image, mask[:, None].to(image.dtype))
        centred, centred_mask = self._centre(moved), self._centre(moved_mask)
        return centred, centred_mask[:, 0].to(mask.dtype)

    def restyle(self, image: Tensor) -> Tensor:
        """The same patches (B, C, h, w) as other scanners would show them, in [0, 1]."""
        return self._coarsen(self._photometric(image)).clamp(0, 1)

    def views(self, image: Tensor, count: int) -> Tensor:
        """Further views of each sample: (B, C, h, w) -> (B * count, C, h, w), sample by sample.

        The tissue stays in its place: a prediction for one view is one for all.
        """
        return self.restyle(image.repeat_interleave(count, dim=0))

    def _centre(self, image: Tensor) -> Tensor:
        top = (image.shape[-2] - self.patch) // 2
        left = (image.shape[-1] - self.patch) // 2
        return image[..., top : top + self.patch, left : left + self.patch]

    def _build_geometric(self) -> Callable[..., tuple[Tensor, Tensor]]:
        # Kornia takes a third of a second to import: only those who train pay it.
        import kornia.augmentation as K

        how = self.augmentation
        steps = [
            K.RandomHorizontalFlip(p=0.5 * how.flips),
            K.RandomAffine(how.turn, scale=(1 / (1 + how.scale), 1 + how.scale), p=1.0),
        ]
        sequence: Callable[..., tuple[Tensor, Tensor]] = K.AugmentationSequential(
            *steps, data_keys=["input", "mask"]
        )
        return sequence

    def _build_photometric(self) -> Callable[[Tensor], Tensor]:
        import kornia.augmentation as K

        how = self.augmentation
        steps = [
            K.RandomGamma((1 / (1 + how.gamma), 1 + how.gamma), p=0.7),
            K.RandomContrast((1 / (1 + how.contrast), 1 + how.contrast), p=0.7),
            K.RandomBrightness((1 - how.brightness, 1 + how.brightness), p=0.7),
        ]
        if how.illumination:
            steps.append(K.RandomLinearIllumination(gain=(0.01, 0.01 + how.illumination), p=0.5))
        if how.blur:
            steps.append(K.RandomGaussianBlur((9, 9), (0.1, 0.1 + how.blur), p=0.5))
        if how.noise:
            steps.append(K.RandomGaussianNoise(0.0, how.noise, p=0.5))
        sequence: Callable[[Tensor], Tensor] = K.AugmentationSequential(*steps, data_keys=["input"])
        return sequence

    def _coarsen(self, image: Tensor) -> Tensor:
        """Bring one random third of the batch to a coarser resolution and back."""
        if self.augmentation.resolution <= 1:
            return image
        chosen = torch.rand(image.shape[0], device=image.device) < 1 / 3
        factor = 1 + torch.rand(()).item() * (self.augmentation.resolution - 1)
        size = [max(1, round(side / factor)) for side in image.shape[-2:]]
        coarse = F.interpolate(image, size, mode="bilinear", antialias=True)
        back = F.interpolate(coarse, image.shape[-2:], mode="bilinear")
        return torch.where(chosen[:, None, None, None], back, image)
