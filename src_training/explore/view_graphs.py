"""The contrastive graphs of samples as teacher and student see them (GKD, arXiv 2207.12995)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.contrastive_graphs import centred, complete_graph, star_graph
from src_training.data.augmentation import Augmenter
from src_training.data.preprocessing.geometry import Float
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.networks.base import SegmentationNetwork
from src_training.seeds import drawing

_BATCH = 8

Edges = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Graph:
    """The graphs of one sample; edges are cosines, or differences of two.

    Attributes
    ----------
    star
        (K,) float64 between the anchor and each view (intra).
    complete
        (K, K) float64 between the views (inter), symmetric; cosines are 1 on
        its diagonal.
    """

    star: Edges
    complete: Edges


@dataclass(frozen=True, eq=False)
class SampleGraphs:
    """One sample, and what its views are to it.

    Attributes
    ----------
    images
        (1 + K, p, p) or (1 + K, p, p, C) float32 in [0, 1]: the anchor as it
        is, then its views.
    teacher, student, difference
        Graphs by each network, and student - teacher.
    centred
        Whether the mean over the batch was taken off the vectors.
    """

    images: Float
    teacher: Graph
    student: Graph
    difference: Graph
    centred: bool


@dataclass(frozen=True, eq=False)
class BatchGraphs:
    """Several samples, and what all their views are to one another (scope ``batch``).

    Attributes
    ----------
    samples
        Each by itself.
    teacher, student, difference
        Complete graphs (B * K, B * K) over the views of all samples, sample
        by sample; anchors are left out, as in training.
    centred
        Whether the mean over the batch was taken off the vectors.
    """

    samples: tuple[SampleGraphs, ...]
    teacher: Edges
    student: Edges
    difference: Edges
    centred: bool


def sample_graphs(
    networks: TeacherStudentPair,
    patch: Float,
    views: int,
    seed: int = 0,
    others: Sequence[Float] = (),
) -> SampleGraphs:
    """The graphs of one patch; parameters as `graphs_of`.

    Parameters
    ----------
    patch
        (C, p, p) of a prepared image. Its views follow from `seed` alone.
    others
        Patches that stand for the rest of a training batch: the mean that is
        taken off the vectors is over them, too. Without any the graphs are
        those of raw cosines, which lie near 1.

    Raises
    ------
    InputError
        As `graphs_of`.
    """
    return batch_graphs(networks, [patch, *others], views, seed).samples[0]


def batch_graphs(
    networks: TeacherStudentPair, patches: Sequence[Float], views: int, seed: int = 0
) -> BatchGraphs:
    """The graphs of several patches by the pair's own student; otherwise as `graphs_of`."""
    return next(graphs_of(networks, [networks.student], patches, views, seed))


def graphs_of(
    networks: TeacherStudentPair,
    students: Iterable[SegmentationNetwork],
    patches: Sequence[Float],
    views: int,
    seed: int = 0,
) -> Iterator[BatchGraphs]:
    """The graphs of the same views by one student after another, such as its checkpoints.

    The teacher is asked only once.

    Parameters
    ----------
    networks
        Teacher, TAN and SAN; their own student plays no part.
    students
        In place of it.
    patches
        Prepared, each (C, p, p) with the training's p.
    views
        Views of each sample (K >= 1).
    seed
        Of the views.

    Raises
    ------
    InputError
        If a patch has another size, or `views` is less than 1.
    """
    images = _with_views(networks, patches, views, seed)
    taken_off = networks.centred and len(patches) > 1
    teacher = _nodes(networks.teacher, networks.tan, images, taken_off)
    for network in students:
        student = _nodes(network, networks.san, images, taken_off)
        yield _compared(images, teacher, student, taken_off)


def _with_views(
    networks: TeacherStudentPair, patches: Sequence[Float], count: int, seed: int
) -> Tensor:
    """Anchors, and their views behind them: (B, 1 + count, C, p, p)."""
    if count < 1:
        raise InputError(f"views is {count}; expected at least 1")
    expected = (networks.teacher.in_channels, networks.patch, networks.patch)
    for patch in patches:
        if patch.shape != expected:
            raise InputError(f"a patch has shape {patch.shape}; expected {expected}")
    views = Augmenter(networks.augmentation, networks.patch)
    shown = []
    with drawing(seed):
        for patch in patches:
            anchor = torch.from_numpy(np.array(patch, np.float32))[None]
            # One by one: the views of the first do not depend on who follows.
            shown.append(torch.cat([anchor, views.views(anchor, count)]))
    return torch.stack(shown)


@torch.inference_mode()
def _nodes(
    network: SegmentationNetwork, alignment: AlignmentNetwork, images: Tensor, taken_off: bool
) -> Tensor:
    """Semantic vectors (B, 1 + K, latent) float64 of images (B, 1 + K, C, p, p)."""
    device = next(network.parameters()).device
    parts = torch.split(images.flatten(0, 1), _BATCH)
    found = [alignment.encoder(network.encode(part.to(device))[1]).cpu() for part in parts]
    vectors = torch.cat(found).double().reshape(*images.shape[:2], -1)
    return centred(vectors) if taken_off else vectors


def _compared(images: Tensor, teacher: Tensor, student: Tensor, taken_off: bool) -> BatchGraphs:
    theirs, ours = _graphs(teacher), _graphs(student)
    shown = _pictures(images)
    samples = tuple(
        SampleGraphs(shown[i], theirs[i], ours[i], _difference(ours[i], theirs[i]), taken_off)
        for i in range(len(images))
    )
    all_theirs, all_ours = _between_all_views(teacher), _between_all_views(student)
    return BatchGraphs(samples, all_theirs, all_ours, all_ours - all_theirs, taken_off)


def _graphs(vectors: Tensor) -> list[Graph]:
    stars, complete = star_graph(vectors).numpy(), complete_graph(vectors[:, 1:]).numpy()
    return [Graph(star, edges) for star, edges in zip(stars, complete, strict=True)]


def _between_all_views(vectors: Tensor) -> Edges:
    edges: Edges = complete_graph(vectors[:, 1:].flatten(0, 1)[None])[0].numpy()
    return edges


def _difference(student: Graph, teacher: Graph) -> Graph:
    return Graph(student.star - teacher.star, student.complete - teacher.complete)


def _pictures(images: Tensor) -> Float:
    """(B, N, p, p) of grey images (B, N, 1, p, p), (B, N, p, p, C) of colour."""
    grey = images.shape[2] == 1
    return (images[:, :, 0] if grey else images.movedim(2, -1)).numpy()
