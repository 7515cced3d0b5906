"""DCGD's contrastive graphs of samples for teacher and student (GKD, arXiv 2207.12995)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.contrastive_graphs import center, complete_graph, star_graph
from src_training.data.augmentation import Augmenter
from src_training.data.preprocessing.geometry import Float
from src_training.errors import InputError
from src_training.explore.embeddings import encode_images
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.networks.base import SegmentationNetwork
from src_training.seeds import drawing

Edges = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Graph:
    """Both graphs of one sample; edges are cosines, or differences of cosines.

    Attributes
    ----------
    star
        (K,) float64, edges between the anchor and each view (intra-coupling).
    complete
        (K, K) float64, edges between the views (inter-coupling), symmetric;
        cosines are 1 on the diagonal.
    """

    star: Edges
    complete: Edges


@dataclass(frozen=True, eq=False)
class SampleGraphs:
    """Views of one sample and their graphs.

    Attributes
    ----------
    images
        (1 + K, p, p) or (1 + K, p, p, C) float32 in [0, 1]: the anchor, then its views.
    teacher, student, difference
        Graphs of each network, and student - teacher.
    """

    images: Float
    teacher: Graph
    student: Graph
    difference: Graph


@dataclass(frozen=True, eq=False)
class BatchGraphs:
    """Graphs of several samples, separate and joint (scope ``batch`` of DCGD).

    Attributes
    ----------
    samples
        Graphs of each sample.
    teacher, student, difference
        Complete graphs (B * K, B * K) between the views of all samples, in the
        order of the samples; as in training, anchors are excluded.
    centered
        Whether the mean over the batch was subtracted from the vectors.
    """

    samples: tuple[SampleGraphs, ...]
    teacher: Edges
    student: Edges
    difference: Edges
    centered: bool


def view_graphs(
    networks: TeacherStudentPair, patches: Sequence[Float], views: int, seed: int = 0
) -> BatchGraphs:
    """Compute the graphs of patches and their augmented views.

    Parameters
    ----------
    networks
        Teacher with TAN, student with SAN.
    patches
        At least one patch (C, p, p) of a prepared image, with the training's p.
        The vectors of several patches are centered if they were in training;
        those of one patch are not, because a batch mean needs several samples.
    views
        Number of views of each patch, K >= 1.
    seed
        Seed of the views; views of a patch do not depend on later patches.

    Raises
    ------
    InputError
        If a patch has an unexpected shape, or `views` is less than 1.
    """
    images = _with_views(networks, patches, views, seed)
    centre = networks.centered and len(patches) > 1
    teacher = _vectors(networks.teacher, networks.tan, images, centre)
    student = _vectors(networks.student, networks.san, images, centre)
    samples = tuple(
        SampleGraphs(
            sample, teacher_graph, student_graph, _difference(student_graph, teacher_graph)
        )
        for sample, teacher_graph, student_graph in zip(
            _channels_last(images), _graphs(teacher), _graphs(student), strict=True
        )
    )
    teacher_edges, student_edges = _complete_graph(teacher), _complete_graph(student)
    difference = student_edges - teacher_edges
    return BatchGraphs(samples, teacher_edges, student_edges, difference, centre)


def _with_views(
    networks: TeacherStudentPair, patches: Sequence[Float], count: int, seed: int
) -> Tensor:
    """Anchors, each followed by its views: (B, 1 + count, C, p, p)."""
    if count < 1:
        raise InputError(f"views is {count}; expected at least 1")
    expected = (networks.teacher.in_channels, networks.patch, networks.patch)
    for patch in patches:
        if patch.shape != expected:
            raise InputError(f"a patch has shape {patch.shape}; expected {expected}")
    augmenter = Augmenter(networks.augmentation, networks.patch)
    samples = []
    with drawing(seed):
        for patch in patches:
            anchor = torch.from_numpy(np.array(patch, np.float32))[None]
            # Draw patch by patch, so that views of a patch do not depend on later patches.
            samples.append(torch.cat([anchor, augmenter.views(anchor, count)]))
    return torch.stack(samples)


def _vectors(
    network: SegmentationNetwork, alignment: AlignmentNetwork, images: Tensor, centre: bool
) -> Tensor:
    """Semantic vectors (B, 1 + K, latent) float64 of images (B, 1 + K, C, p, p)."""
    encoded = encode_images(network, alignment.encoder, images.flatten(0, 1))
    vectors = torch.from_numpy(encoded).reshape(*images.shape[:2], -1)
    return center(vectors) if centre else vectors


def _graphs(vectors: Tensor) -> list[Graph]:
    """Graphs of each sample."""
    stars, complete = star_graph(vectors).numpy(), complete_graph(vectors[:, 1:]).numpy()
    return [Graph(star, edges) for star, edges in zip(stars, complete, strict=True)]


def _complete_graph(vectors: Tensor) -> Edges:
    """Complete graph between the views of all samples."""
    edges: Edges = complete_graph(vectors[:, 1:].flatten(0, 1)[None])[0].numpy()
    return edges


def _difference(student: Graph, teacher: Graph) -> Graph:
    return Graph(student.star - teacher.star, student.complete - teacher.complete)


def _channels_last(images: Tensor) -> Float:
    """Convert images (B, N, C, p, p) to (B, N, p, p) if C is 1, else to (B, N, p, p, C)."""
    grey = images.shape[2] == 1
    return (images[:, :, 0] if grey else images.movedim(2, -1)).numpy()
