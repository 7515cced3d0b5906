"""Model-specific alignment networks: a bottleneck to a semantic vector, and back.

GKD (arXiv 2207.12995), figure 2. The teacher (TAN), the student (SAN) and the
pre-trained semantic autoencoder (P-SAE) have the same architecture and latent
size, so that one network's header can decode another's semantic vector.
"""

from torch import Tensor, nn

LARGEST = 16_384
"""Upper limit of `latent` and `hidden`; 32 times the published latent size."""


class SemanticEncoder(nn.Module):
    """E: a bottleneck to a semantic vector, one entry for each channel.

    A 1x1 convolution to `latent` channels if the bottleneck has a different
    number (*reconstruction*); then for each channel, over the flattened grid,
    Linear(hw -> hidden), GELU, Linear(hidden -> 1), with shared weights.

    Parameters
    ----------
    channels
        Channels of the bottleneck.
    grid
        Height and width of the bottleneck; fixed by the training patch.
    latent
        Length of the semantic vector.
    hidden
        Units of the hidden layer.

    Examples
    --------
    >>> import torch
    >>> encoder = SemanticEncoder(channels=128, grid=(16, 16))
    >>> encoder(torch.zeros(2, 128, 16, 16)).shape
    torch.Size([2, 512])
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], latent: int = 512, hidden: int = 64
    ) -> None:
        super().__init__()
        self.grid, self.latent = grid, latent
        self.adapt = nn.Conv2d(channels, latent, 1) if channels != latent else nn.Identity()
        self.perceptron = nn.Sequential(
            nn.Linear(grid[0] * grid[1], hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Semantic vectors (B, latent) of bottlenecks (B, channels, *grid).

        Raises
        ------
        ValueError
            If the bottleneck's grid is not `grid`.
        """
        grid = tuple(bottleneck.shape[-2:])
        if grid != self.grid:
            raise ValueError(f"the bottleneck's grid is {grid}; expected {self.grid}")
        vector: Tensor = self.perceptron(self.adapt(bottleneck).flatten(2))
        return vector[..., 0]


class SemanticHeader(nn.Module):
    """H: a semantic vector back to a bottleneck.

    For each entry Linear(1 -> hidden), GELU, Linear(hidden -> hw), with shared
    weights, reshaped to the grid; then a 1x1 convolution to the bottleneck's
    channels if they differ from `latent` (*reconstruction*).

    Parameters
    ----------
    channels, grid, latent, hidden
        As in `SemanticEncoder`.

    Examples
    --------
    >>> import torch
    >>> header = SemanticHeader(channels=128, grid=(16, 16))
    >>> header(torch.zeros(2, 512)).shape
    torch.Size([2, 128, 16, 16])
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], latent: int = 512, hidden: int = 64
    ) -> None:
        super().__init__()
        self.grid = grid
        self.perceptron = nn.Sequential(
            nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, grid[0] * grid[1])
        )
        self.adapt = nn.Conv2d(latent, channels, 1) if channels != latent else nn.Identity()

    def forward(self, vector: Tensor) -> Tensor:
        """Bottlenecks (B, channels, *grid) of semantic vectors (B, latent)."""
        maps = self.perceptron(vector[..., None]).unflatten(-1, self.grid)
        bottleneck: Tensor = self.adapt(maps)
        return bottleneck


class AlignmentNetwork(nn.Module):
    """An encoder and a header for one network: the TAN of a teacher, the SAN of a student.

    Parameters
    ----------
    channels, grid, latent, hidden
        As in `SemanticEncoder`.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], latent: int = 512, hidden: int = 64
    ) -> None:
        super().__init__()
        self.encoder = SemanticEncoder(channels, grid, latent, hidden)
        self.header = SemanticHeader(channels, grid, latent, hidden)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """H(E(F)): the bottleneck (B, channels, *grid) reconstructed from its own vector.

        Raises
        ------
        ValueError
            See `SemanticEncoder.forward`.
        """
        reconstruction: Tensor = self.header(self.encoder(bottleneck))
        return reconstruction
