"""Contrastive graphs of samples against cosines computed in loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.distillation.gkd import DCGD, GKDOptions
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.explore.view_graphs import view_graphs
from src_training.networks import build_network

K, SIDE = 3, 32


def pair(centered=True, seed=0, channels=1):
    torch.manual_seed(seed)
    teacher = build_network("fanet", channels, 2, width=2).eval()
    student = build_network("fanet", channels, 2, width=1).eval()
    tan, san = (AlignmentNetwork(c, (4, 4), 6, 4).eval() for c in (16, 8))
    kind = IntensityPreprocessing(percentiles=(0, 100), channels=channels)
    return TeacherStudentPair(teacher, tan, student, san, kind, Augmentation(), SIDE, centered)


def patches(count, channels=1, seed=0):
    random = np.random.default_rng(seed)
    return [random.random((channels, SIDE, SIDE), np.float32) for _ in range(count)]


@torch.no_grad()
def vectors(network, alignment, images):
    found = [
        alignment.encoder(network.encode(torch.from_numpy(image)[None, None])[1])[0].double()
        for image in images
    ]
    return torch.stack(found).numpy()


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def by_role(networks):
    yield "teacher", networks.teacher, networks.tan
    yield "student", networks.student, networks.san


def test_edges_of_one_patch_are_cosines_of_its_vectors():
    networks = pair()
    graphs = view_graphs(networks, patches(1), K)
    [found] = graphs.samples
    assert not graphs.centered and found.images.shape == (1 + K, SIDE, SIDE)
    for role, network, alignment in by_role(networks):
        anchor, *views = vectors(network, alignment, found.images)
        graph = getattr(found, role)
        assert np.allclose(graph.star, [cosine(anchor, view) for view in views], atol=1e-6)
        expected = [[cosine(a, b) for b in views] for a in views]
        assert np.allclose(graph.complete, expected, atol=1e-6)


def test_the_mean_over_the_batch_is_subtracted():
    networks, drawn = pair(), patches(2)
    found = view_graphs(networks, drawn, K)
    assert found.centered
    for role, network, alignment in by_role(networks):
        of_each = [vectors(network, alignment, sample.images) for sample in found.samples]
        mean = np.concatenate(of_each).mean(0)
        nodes = [view - mean for found in of_each for view in found[1:]]
        expected = [[cosine(a, b) for b in nodes] for a in nodes]
        assert np.allclose(getattr(found, role), expected, atol=1e-5)
        for sample, each in zip(found.samples, of_each, strict=True):
            star = [cosine(each[0] - mean, view - mean) for view in each[1:]]
            assert np.allclose(getattr(sample, role).star, star, atol=1e-5)


def test_each_sample_is_a_block_of_the_graph_of_its_batch():
    found = view_graphs(pair(), patches(3), K)
    for i, sample in enumerate(found.samples):
        block = slice(i * K, (i + 1) * K)
        assert np.allclose(sample.teacher.complete, found.teacher[block, block])


@pytest.mark.parametrize("scope", ["views", "batch"])
def test_differences_are_those_that_training_minimises(scope):
    networks = pair()
    found = view_graphs(networks, patches(3), K)
    teacher, student = (
        torch.stack(
            [torch.from_numpy(vectors(network, alignment, s.images)) for s in found.samples]
        )
        for _, network, alignment in by_role(networks)
    )
    losses = DCGD(GKDOptions(scope=scope)).compare(teacher, student)
    intra = np.mean([sample.difference.star**2 for sample in found.samples])
    blocks = [found.difference]
    if scope == "views":
        blocks = [sample.difference.complete for sample in found.samples]
    edges = ~np.eye(len(blocks[0]), dtype=bool)
    assert losses["intra"].item() == pytest.approx(intra, rel=1e-4)
    inter = np.mean([block[edges] ** 2 for block in blocks])
    assert losses["inter"].item() == pytest.approx(inter, rel=1e-4)


def test_a_student_equal_to_its_teacher_has_no_difference():
    networks = pair()
    networks = replace(networks, student=networks.teacher, san=networks.tan)
    found = view_graphs(networks, patches(2), K)
    assert not found.difference.any() and not found.samples[1].difference.star.any()


def test_views_depend_on_the_seed_not_on_other_patches():
    networks, drawn = pair(), patches(3)
    state = torch.random.get_rng_state()
    first = view_graphs(networks, drawn[:1], K, seed=5).samples[0]
    again = view_graphs(networks, drawn, K, seed=5).samples[0]
    other = view_graphs(networks, drawn[:1], K, seed=6).samples[0]
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images[1:], other.images[1:])
    assert np.array_equal(first.images[0], drawn[0][0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_vectors_are_centred_only_if_they_were_in_training():
    networks, drawn = pair(centered=False), patches(2)
    found = view_graphs(networks, drawn, K)
    assert not found.centered
    single = view_graphs(networks, drawn[:1], K).samples[0]
    assert np.allclose(found.samples[0].student.star, single.student.star, atol=1e-6)


def test_colour_channels_come_last_in_the_images():
    drawn = patches(1, channels=3)[0]
    [found] = view_graphs(pair(channels=3), [drawn], 1).samples
    assert found.images.shape == (2, SIDE, SIDE, 3)
    assert np.array_equal(found.images[0], drawn.transpose(1, 2, 0))
    assert found.images.min() >= 0 and found.images.max() <= 1


def test_other_patches_and_no_views_are_refused():
    with pytest.raises(InputError, match=r"a patch has shape \(1, 16, 16\); expected \(1, 32, 32"):
        view_graphs(pair(), [np.zeros((1, 16, 16), np.float32)], K)
    with pytest.raises(InputError, match="views is 0; expected at least 1"):
        view_graphs(pair(), patches(1), 0)
