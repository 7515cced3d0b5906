"""Graph Flow: Zou et al., "Cross-layer graph flow distillation", IEEE TMI, arXiv 2203.08667.

The taps, the paraphraser, the weights and the adversarial part are published;
the definition of the salience graph is our *reconstruction*. The paraphraser is
from Kim et al., "Paraphrasing complex network" (factor transfer), NeurIPS 2018,
arXiv 1802.04977.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.alignment.contrastive_graphs import unit_vectors
from src_training.distillation.base import (
    Distillation,
    ForwardOutputs,
    MethodOptions,
    OutputOptions,
    Weight,
)
from src_training.errors import InputError
from src_training.losses.divergence import pixel_divergence
from src_training.networks.base import SegmentationNetwork

_NEGATIVE_SLOPE = 0.1
_ENCODER, _DECODER = "encoder_quarter", "decoder_quarter"
_UPSAMPLED = "decoder_quarter_upsampled"
PATCH = 3
"""Side of the patch of a node, in pixels of the feature (*reconstruction*)."""


class Graph(NamedTuple):
    """A salience graph, or the difference of two graphs (*reconstruction*).

    Attributes
    ----------
    nodes
        (B, k, PATCH²), one node for each channel; see `salient_patches`.
    edges
        (B, k, k), inner products of every two nodes, self-loops included.
    """

    nodes: Tensor
    edges: Tensor

    def __sub__(self, other: "Graph") -> "Graph":
        return Graph(self.nodes - other.nodes, self.edges - other.edges)


class GraphFlowOptions(OutputOptions):
    """Options of ``graph_flow``; the weights are the published ones, for raw sums.

    The public code (WrinkleXuan/Graph-FLow) differs in two options: `edges` is
    1e-8, where the table of the paper has 1e-9, and `teacher_decoder` is
    ``upsampled``. The student's decoder is read after the skip in both cases.

    Attributes
    ----------
    vertices, edges
        Weights of the distance between the nodes, and the edges, of the variation graphs.
    prediction
        Weight of the divergence of the logits.
    adversarial, critic
        Weights of the losses of `Adversarial`: the student's and the critic's own.
    teacher_decoder
        Feature of the teacher's decoder to read. ``joined``: the output of a
        decoder level. ``upsampled``: the upsampled input of that level, before
        the skip is joined; only FANet has a tap for it.
    """

    method: Literal["graph_flow"] = "graph_flow"
    vertices: Weight = 1e-5
    edges: Weight = 1e-9
    prediction: Weight = 1.0
    adversarial: Weight = 0.1
    critic: Weight = 1.0
    teacher_decoder: Literal["joined", "upsampled"] = "joined"


class NormalisedGraphFlowOptions(OutputOptions):
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
    """An autoencoder of features: three convolutions to k channels, and transposed ones back.

    Parameters
    ----------
    channels
        C, channels of the teacher's feature.
    paraphrased
        k, channels of the code.

    Examples
    --------
    >>> paraphraser, feature = Paraphraser(6, 4), torch.zeros(1, 6, 8, 8)
    >>> paraphraser.encoder(feature).shape, paraphraser(feature).shape
    (torch.Size([1, 4, 8, 8]), torch.Size([1, 6, 8, 8]))
    """

    def __init__(self, channels: int, paraphrased: int) -> None:
        super().__init__()
        c, k = channels, paraphrased
        self.encoder = nn.Sequential(
            *_conv_leaky_relu(nn.Conv2d(c, c, 3, padding=1)),
            *_conv_leaky_relu(nn.Conv2d(c, k, 3, padding=1)),
            *_conv_leaky_relu(nn.Conv2d(k, k, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_conv_leaky_relu(nn.ConvTranspose2d(k, k, 3, padding=1)),
            *_conv_leaky_relu(nn.ConvTranspose2d(k, c, 3, padding=1)),
            *_conv_leaky_relu(nn.ConvTranspose2d(c, c, 3, padding=1)),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Reconstruction of a feature (B, C, h, w)."""
        reconstruction: Tensor = self.decoder(self.encoder(feature))
        return reconstruction


class Paraphrasers(nn.Module):
    """One paraphraser for each tap.

    Parameters
    ----------
    channels
        Tap -> channels of the teacher's and of the student's feature.
    """

    def __init__(self, channels: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.by_tap = nn.ModuleDict({tap: Paraphraser(*pair) for tap, pair in channels.items()})

    def reconstruction(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error of the reconstructed features (B, C, h, w), mean over taps; >= 0."""
        distances = [
            F.mse_loss(paraphraser(taps[tap]), taps[tap])
            for tap, paraphraser in self.by_tap.items()
        ]
        return torch.stack(distances).mean()

    def forward(self, taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Code (B, k, h, w), in the student's channels, of each tap's feature (B, C, h, w)."""
        return {tap: module.encoder(taps[tap]) for tap, module in self.by_tap.items()}  # type: ignore[operator]  # ModuleDict hides the type


def _conv_leaky_relu(convolution: nn.Module) -> tuple[nn.Module, ...]:
    return convolution, nn.LeakyReLU(_NEGATIVE_SLOPE)


class GraphFlow(Distillation[MethodOptions]):
    """The student learns how the salience graph changes from encoder to decoder, and the logits.

    The losses are raw sums, for which the published weights are chosen.

    Parameters
    ----------
    options
        Options of a method with fields ``vertices``, ``edges`` and ``prediction``.
    paraphraser
        Maps the teacher's taps to the student's channels.
    """

    taps: ClassVar[tuple[str, ...]] = (_ENCODER, _DECODER)
    loss_names: ClassVar[tuple[str, ...]] = ("vertices", "edges", "prediction")
    has_paraphraser: ClassVar[bool] = True
    learns_outputs: ClassVar[bool] = True

    def __init__(self, options: MethodOptions, paraphraser: Paraphrasers) -> None:
        super().__init__(options)
        self.paraphraser = paraphraser

    @classmethod
    def for_pair(
        cls, options: MethodOptions, teacher: SegmentationNetwork, student: SegmentationNetwork
    ) -> Self:
        """Build the distillation with a paraphraser of the teacher's to the student's channels.

        Raises
        ------
        InputError
            If the student's two taps differ in channels, so that their graphs
            would differ in nodes, or if the teacher has no upsampled tap.
        """
        taps = _teacher_taps(options)
        if missing := [tap for tap in taps if tap not in teacher.taps]:
            raise InputError(
                f"distillation: teacher_decoder is upsampled, but the teacher has no tap "
                f"{missing[0]}; expected fanet, or joined"
            )
        before, after = teacher.tap_channels(*taps), student.tap_channels(*cls.taps)
        if len(set(after.values())) > 1:
            raise InputError(
                f"distillation: {options.method} cannot teach this student, whose {_ENCODER} has "
                f"{after[_ENCODER]} channels and whose {_DECODER} has {after[_DECODER]}; "
                "expected one whose decoder has features"
            )
        pairs = {
            teacher_tap: (before[teacher_tap], after[student_tap])
            for teacher_tap, student_tap in zip(taps, cls.taps, strict=True)
        }
        return cls(options, Paraphrasers(pairs))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Names of the teacher's features that it reads, of the encoder and of the decoder."""
        return _teacher_taps(self.options)

    def losses(
        self, teacher: ForwardOutputs, student: ForwardOutputs, mask: Tensor
    ) -> dict[str, Tensor]:
        """Losses ``vertices`` and ``edges`` of the variation graphs, ``prediction`` of the logits.

        Σ (ΔV_S - ΔV_T)² and Σ (ΔE_S - ΔE_T)² of each sample, mean over samples,
        where Δ is decoder minus encoder; and KL(p_T || p_S), mean over pixels.
        """
        codes = self.paraphraser(teacher.taps)
        target = self._variation(*(codes[tap] for tap in self.teacher_taps))
        difference = self._variation(*(student.taps[tap] for tap in self.taps)) - target
        return {
            "vertices": self._squares(difference.nodes),
            "edges": self._squares(difference.edges),
            "prediction": pixel_divergence(teacher.logits, student.logits),
        }

    def _variation(self, encoder: Tensor, decoder: Tensor) -> Graph:
        """Decoder graph minus encoder graph."""
        return self._graph(decoder) - self._graph(encoder)

    def _graph(self, feature: Tensor) -> Graph:
        """Salience graph of a feature (B, k, h, w)."""
        nodes = salient_patches(feature)
        return Graph(nodes, nodes @ nodes.mT)

    def _squares(self, difference: Tensor) -> Tensor:
        """Sum of squares, mean over samples."""
        return difference.square().flatten(1).sum(1).mean()


class NormalisedGraphFlow(GraphFlow):
    """Graph Flow with unit nodes, cosine edges and means instead of sums (*reconstruction*).

    The losses do not scale with the magnitude of the features or their number
    of channels, so that weights near 1 are suitable.

    Parameters
    ----------
    options, paraphraser
        As in `GraphFlow`.
    """

    def _graph(self, feature: Tensor) -> Graph:
        nodes = unit_vectors(salient_patches(feature))
        return Graph(nodes, nodes @ nodes.mT)

    def _squares(self, difference: Tensor) -> Tensor:
        return difference.square().mean()


def _teacher_taps(options: MethodOptions) -> tuple[str, ...]:
    upsampled = isinstance(options, GraphFlowOptions) and options.teacher_decoder == "upsampled"
    return (_ENCODER, _UPSAMPLED if upsampled else _DECODER)


def salient_patches(feature: Tensor) -> Tensor:
    """Crop a patch around the strongest response of each channel (*reconstruction*).

    Parameters
    ----------
    feature
        (B, k, h, w); it is padded with zeros.

    Returns
    -------
    Tensor
        (B, k, PATCH²), row by row. The first of equal maxima is the centre.

    Examples
    --------
    >>> feature = torch.zeros(1, 1, 4, 4)
    >>> feature[0, 0, 2, 1] = 5
    >>> salient_patches(feature)
    tensor([[[0., 0., 0., 0., 5., 0., 0., 0., 0.]]])
    """
    width = feature.shape[-1]
    strongest = feature.flatten(2).argmax(-1)
    padded = F.pad(feature, [PATCH // 2] * 4)
    padded_width = padded.shape[-1]
    # Padding shifts all by PATCH // 2, so the centre's coordinates are the corner's after padding.
    corner = strongest // width * padded_width + strongest % width
    steps = torch.arange(PATCH, device=feature.device)
    offsets = (steps[:, None] * padded_width + steps).flatten()
    return padded.flatten(2).gather(-1, corner[..., None] + offsets)
