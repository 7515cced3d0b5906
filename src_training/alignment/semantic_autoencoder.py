"""P-SAE, the pre-trained semantic autoencoder of masks (GKD, arXiv 2207.12995)."""

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.losses.regions import one_hot
from src_training.networks.fanet import FANet


class SemanticAutoencoder(nn.Module):
    """Mask -> bottleneck -> semantic vector z_y -> bottleneck -> mask.

    The mask as the input, instead of the image, is our *reconstruction*: masks
    do not depend on the scanner.

    Parameters
    ----------
    foreground
        Number of foreground classes, one channel each; the background has none.
    patch
        Height and width of the masks, a multiple of 8.
    width
        Channels at full resolution. The encoder is that of FANet; its bottleneck
        has 8 * width channels.
    latent, hidden
        See `SemanticEncoder`.
    image_channels
        Channels of the image if the input is the image instead of the mask, as
        an ablation. The output is the mask in both cases.
    """

    def __init__(
        self,
        foreground: int,
        patch: int,
        width: int = 64,
        latent: int = 512,
        hidden: int = 64,
        image_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        # Only the encoder is used, so the number of classes, 2, has no effect.
        self.encoder = FANet(image_channels or foreground, 2, width).encoder
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8 * width, 4 * width, 2, stride=2),
            nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2),
            nn.ConvTranspose2d(2 * width, width, 2, stride=2),
            nn.Dropout2d(0.5),
            nn.Conv2d(width, foreground, 1),
        )
        grid = (patch // FANet.stride, patch // FANet.stride)
        self.alignment = AlignmentNetwork(8 * width, grid, latent, hidden)

    def inputs(self, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """Inputs of `encode` from class masks (B, h, w) and images (B, C, h, w)."""
        if self.image_channels is None:
            return self.regions(mask)
        assert image is not None
        return image

    def regions(self, mask: Tensor) -> Tensor:
        """Classes (B, h, w) as one channel for each foreground class (B, foreground, h, w)."""
        return one_hot(mask, self.foreground + 1)[:, 1:].float()

    def encode(self, x: Tensor) -> Tensor:
        """Bottlenecks (B, 8 width, h / 8, w / 8) of regions (B, foreground, h, w) or images."""
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
        return x

    def decode(self, bottleneck: Tensor) -> Tensor:
        """Logits (B, foreground, patch, patch) of bottlenecks."""
        logits: Tensor = self.decoder(bottleneck)
        return logits

    def vectors(self, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """Semantic vectors z_y (B, latent) of class masks (B, patch, patch), or of their images."""
        vector: Tensor = self.alignment.encoder(self.encode(self.inputs(mask, image)))
        return vector

    @property
    def foreground(self) -> int:
        """Number of foreground classes."""
        return int(self.decoder[-1].out_channels)  # type: ignore[arg-type]  # Sequential hides the layer's type
