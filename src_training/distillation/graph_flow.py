"""Graph Flow: Zou et al., "Cross-layer graph flow distillation", IEEE TMI, arXiv 2203.08667.

The scaffold (taps, paraphraser, weights, adversarial part) is published; what
the salience graph is made of is our *reconstruction*. The paraphraser is that of
Kim et al., "Paraphrasing complex network" (factor transfer), NeurIPS 2018,
arXiv 1802.04977.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import Distillation, ForwardOutputs, MethodOptions, Weight
from src_training.errors import InputError
from src_training.losses.divergence import pixel_divergence
from src_training.networks.base import SegmentationNetwork

_SLOPE = 0.1
_ENCODER, _DECODER = "encoder_quarter", "decoder_quarter"
PATCH = 3
"""Side of a node, pixels of the feature."""


class Graph(NamedTuple):
    """A salience graph, or the difference of two (*reconstruction*).

    Attributes
    ----------
    nodes
        (B, k, PATCH²), one for each channel; see `salient_patches`.
    edges
        (B, k, k), products of every two nodes, each with itself too.
    """

    nodes: Tensor
    edges: Tensor

    def __sub__(self, other: "Graph") -> "Graph":
        return Graph(self.nodes - other.nodes, self.edges - other.edges)


class GraphFlowOptions(MethodOptions):
    """Options of ``graph_flow``; the weights are the published ones, for raw sums.

    Attributes
    ----------
    vertices, edges
        Weights of the distance between the nodes, and the edges, of the variation graphs.
    prediction
        Weight of the divergence of the logits.
    adversarial, critic
        Weights of the losses of `Adversarial`: the student's and the critic's own.
    """

    method: Literal["graph_flow"] = "graph_flow"
    vertices: Weight = 1e-5
    edges: Weight = 1e-9
    prediction: Weight = 1.0
    adversarial: Weight = 0.1
    critic: Weight = 1.0


class NormalisedGraphFlowOptions(MethodOptions):
    """Options of ``graph_flow_normalised``, whose losses are means (*reconstruction*).

    Attributes
    ----------
    vertices, edges
        Weights of the distance between the nodes, and the edges, of the variation graphs.
    prediction
        Weight of the divergence of the logits.
    adversarial, critic
        Weights of the losses of `Adversarial`: the student's and the critic's own.
    """

    method: Literal["graph_flow_normalised"] = "graph_flow_normalised"
    vertices: Weight = 1.0
    edges: Weight = 1.0
    prediction: Weight = 1.0
    adversarial: Weight = 0.1
    critic: Weight = 1.0


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


class GraphFlow(Distillation[MethodOptions]):
    """Teach how the salience graph changes from encoder to decoder, and the logits.

    Raw sums, for which the published weights are; see `NormalisedGraphFlow`.

    Parameters
    ----------
    options
        Weights of the losses.
    paraphraser
        Says the teacher's taps in the student's channels.
    """

    taps: ClassVar[tuple[str, ...]] = (_ENCODER, _DECODER)
    loss_names: ClassVar[tuple[str, ...]] = ("vertices", "edges", "prediction")
    paraphrases: ClassVar[bool] = True

    def __init__(self, options: MethodOptions, paraphraser: Paraphrasers) -> None:
        super().__init__(options)
        self.paraphraser = paraphraser

    @classmethod
    def for_pair(
        cls, options: MethodOptions, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """With a paraphraser from the teacher's channels to the student's.

        Raises
        ------
        InputError
            If the student's two taps differ in channels: their graphs would
            differ in nodes.
        """
        theirs, ours = teacher.tap_channels(*cls.taps), student.tap_channels(*cls.taps)
        if len(set(ours.values())) > 1:
            raise InputError(
                f"distillation: {options.method} cannot teach this student, whose {_ENCODER} has "
                f"{ours[_ENCODER]} channels and whose {_DECODER} has {ours[_DECODER]}; "
                "expected one whose decoder has features"
            )
        return cls(options, Paraphrasers({tap: (theirs[tap], ours[tap]) for tap in cls.taps}))

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """``vertices`` and ``edges`` of the variation graphs, ``prediction`` of the logits.

        Σ (ΔV_S - ΔV_T)² and Σ (ΔE_S - ΔE_T)² of a sample, mean over samples,
        where Δ is decoder minus encoder; and KL(p_T || p_S), mean over pixels.
        """
        theirs = self._variation(self.paraphraser(teacher.taps))
        difference = self._variation(student.taps) - theirs
        return {
            "vertices": self._size(difference.nodes),
            "edges": self._size(difference.edges),
            "prediction": pixel_divergence(teacher.logits, student.logits),
        }

    def _variation(self, taps: Mapping[str, Tensor]) -> Graph:
        """Decoder graph minus encoder graph."""
        return self._graph(taps[_DECODER]) - self._graph(taps[_ENCODER])

    def _graph(self, feature: Tensor) -> Graph:
        """The edges are inner products of nodes."""
        nodes = salient_patches(feature)
        return Graph(nodes, nodes @ nodes.mT)

    def _size(self, difference: Tensor) -> Tensor:
        """Sum of squares, mean over samples."""
        return difference.square().flatten(1).sum(1).mean()


class NormalisedGraphFlow(GraphFlow):
    """Graph Flow with nodes of length 1, cosine edges and means: weights near 1 (*reconstruction*).

    Neither the strength of the features nor their number of channels changes
    how large the losses are: they are means over nodes and edges, not sums.

    Parameters
    ----------
    options, paraphraser
        As in `GraphFlow`.
    """

    def _graph(self, feature: Tensor) -> Graph:
        nodes = unit_vectors(salient_patches(feature))
        return Graph(nodes, nodes @ nodes.mT)

    def _size(self, difference: Tensor) -> Tensor:
        return difference.square().mean()


def salient_patches(feature: Tensor) -> Tensor:
    """The patch of each channel around its strongest response (*reconstruction*).

    Parameters
    ----------
    feature
        (B, k, h, w); zeros lie beyond its edge.

    Returns
    -------
    Tensor
        (B, k, PATCH²), row by row; the first of several strongest.
    """
    width = feature.shape[-1]
    strongest = feature.flatten(2).argmax(-1)
    # In the padded feature, the strongest pixel is the centre of what begins where it was.
    padded = F.pad(feature, [PATCH // 2] * 4)
    across = padded.shape[-1]
    corner = strongest // width * across + strongest % width
    steps = torch.arange(PATCH, device=feature.device)
    offsets = (steps[:, None] * across + steps).flatten()
    return padded.flatten(2).gather(-1, corner[..., None] + offsets)
