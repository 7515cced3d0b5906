"""P-SAE, the pre-trained semantic autoencoder: what masks have in common across scanners."""

import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.losses.regions import one_hot
from src_training.networks.fanet import FANet


class SemanticAutoencoder(nn.Module):
    """Mask -> bottleneck -> semantic vector z_y -> bottleneck -> mask.

    GKD (arXiv 2207.12995). That the input is the mask and not the image is
    our *reconstruction*: masks are what stays the same between scanners.

    Parameters
    ----------
    foreground
        Foreground classes; one channel each, the background has none.
    patch
        Height and width of the masks, a multiple of 8; fixes the vector's
        perceptron.
    width
        As the teacher's: the encoder is the teacher's, up to 8 * width channels.
    latent, hidden
        See `SemanticEncoder`.
    image_channels
        Where given, the image is read in the place of the mask, and the mask
        is drawn from it: what an ablation compares with.
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
        # Classes are of no account: only the encoder of this FANet is kept.
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

    def read(self, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """What `encode` takes, of class masks (B, h, w) and images (B, C, h, w)."""
        if self.image_channels is None:
            return self.regions(mask)
        assert image is not None
        return image

    def regions(self, mask: Tensor) -> Tensor:
        """One channel for each foreground class: classes (B, h, w) -> (B, foreground, h, w)."""
        return one_hot(mask, self.foreground + 1)[:, 1:].float()

    def encode(self, x: Tensor) -> Tensor:
        """Bottlenecks (B, 8 width, h / 8, w / 8) of regions (B, foreground, h, w), or of images."""
        for level, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if level else x)
        return x

    def decode(self, bottleneck: Tensor) -> Tensor:
        """Logits (B, foreground, patch, patch) of bottlenecks."""
        logits: Tensor = self.decoder(bottleneck)
        return logits

    def vectors(self, mask: Tensor, image: Tensor | None = None) -> Tensor:
        """Semantic vectors z_y (B, latent) of class masks (B, patch, patch), or of their images."""
        vector: Tensor = self.alignment.encoder(self.encode(self.read(mask, image)))
        return vector

    @property
    def foreground(self) -> int:
        """Foreground classes."""
        return int(self.decoder[-1].out_channels)  # type: ignore[arg-type]  # Sequential hides the layer's type
