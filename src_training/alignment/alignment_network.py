"""Model-Specific Alignment Networks: a bottleneck as one semantic vector, and back.

GKD (arXiv 2207.12995), figure 2. The same shape serves the teacher (TAN),
the student (SAN) and the pre-trained semantic autoencoder (P-SAE): one shared
latent size is what lets the headers be exchanged.
"""

from torch import Tensor, nn


class SemanticEncoder(nn.Module):
    """E: a bottleneck to a vector, channel by channel.

    A 1x1 convolution to `latent` channels where the bottleneck has another
    number (*reconstruction*), then per channel, over the flattened grid,
    Linear(hw -> hidden), GELU, Linear(hidden -> 1).

    Parameters
    ----------
    channels
        Channels of the bottleneck.
    grid
        Height and width of the bottleneck; fixed by the training patch.
    latent
        Length of the semantic vector.
    hidden
        Width of the perceptron.
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
            If the bottleneck's grid is not the one this encoder was made for.
        """
        found = tuple(bottleneck.shape[-2:])
        if found != self.grid:
            raise ValueError(f"the bottleneck's grid is {found}; expected {self.grid}")
        vector: Tensor = self.perceptron(self.adapt(bottleneck).flatten(2))
        return vector[..., 0]


class SemanticHeader(nn.Module):
    """H: a vector back to a bottleneck.

    Linear(1 -> hidden), GELU, Linear(hidden -> hw), reshape, and a 1x1
    convolution to the bottleneck's channels where they differ from `latent`.

    Parameters
    ----------
    channels, grid, latent, hidden
        As in `SemanticEncoder`.
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
        """The bottleneck (B, channels, *grid) rebuilt from its own semantic vector.

        Raises
        ------
        ValueError
            See `SemanticEncoder.forward`.
        """
        rebuilt: Tensor = self.header(self.encoder(bottleneck))
        return rebuilt
