import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from src_training.alignment.contrastive_graphs import complete_graph, star_graph
from src_training.distillation.gkd import DCGD, GKDOptions
from tests.distillation.random_outputs import random_outputs

BOTH = pytest.mark.parametrize("edge_loss", ["mse", "softmax"])
SCOPES = pytest.mark.parametrize("scope", ["views", "batch"])
MASK = torch.zeros(2, 8, 8, dtype=torch.long)
BATCH, VIEWS, LENGTH, TEMPERATURE = 3, 4, 6, 0.1


def vectors(seed, views=VIEWS):
    return np.random.default_rng(seed).normal(size=(BATCH, 1 + views, LENGTH))


def graphs(edge_loss="mse", scope="views", centered=True):
    distillation = DCGD(
        GKDOptions(edge_loss=edge_loss, scope=scope, temperature=TEMPERATURE, centered=centered)
    )

    def compare(teacher, student):
        losses = distillation.compare(torch.as_tensor(teacher), torch.as_tensor(student))
        return {name: loss.item() for name, loss in losses.items()}

    return compare


def taught(vectors):
    return dataclasses.replace(random_outputs(0), vectors=vectors)


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def star_rows(z):
    return [[cosine(sample[0], view) for view in sample[1:]] for sample in z]


def complete_rows(nodes):
    rows = []
    for j, a in enumerate(nodes):
        rows.append([cosine(a, b) for k, b in enumerate(nodes) if k != j])
    return rows


def between_views(z, scope):
    groups = [[v for sample in z for v in sample[1:]]] if scope == "batch" else [s[1:] for s in z]
    return [row for group in groups for row in complete_rows(group)]


def distance(teacher_rows, student_rows, edge_loss):
    terms = []
    for t, s in zip(np.array(teacher_rows), np.array(student_rows), strict=True):
        if edge_loss == "mse":
            terms.append(((s - t) ** 2).mean())
        else:
            log_t, log_s = log_softmax(t / TEMPERATURE), log_softmax(s / TEMPERATURE)
            terms.append((np.exp(log_t) * (log_t - log_s)).sum())
    return np.mean(terms)


@BOTH
@SCOPES
def test_the_losses_are_those_of_loops_over_the_edges(edge_loss, scope):
    teacher, student = vectors(0), vectors(1)
    expected = {
        "intra": distance(star_rows(teacher), star_rows(student), edge_loss),
        "inter": distance(between_views(teacher, scope), between_views(student, scope), edge_loss),
    }
    assert graphs(edge_loss, scope, False)(teacher, student) == pytest.approx(expected, rel=1e-6)


@BOTH
@SCOPES
def test_centered_edges_are_those_of_centered_vectors(edge_loss, scope):
    teacher, student = vectors(0), vectors(1)
    plain = graphs(edge_loss, scope, False)
    expected = plain(*(z - z.mean((0, 1)) for z in (teacher, student)))
    assert graphs(edge_loss, scope)(teacher, student) == pytest.approx(expected, rel=1e-9)


@BOTH
@SCOPES
def test_centring_uncovers_differences(edge_loss, scope):
    teacher, student = vectors(0) + 20, vectors(1) + 20
    plain, centered = (graphs(edge_loss, scope, c)(teacher, student) for c in (False, True))
    assert all(centered[name] > 100 * plain[name] for name in ("intra", "inter"))


def test_graphs_join_anchor_and_views():
    z = torch.from_numpy(vectors(0))
    assert np.allclose(star_graph(z), star_rows(z.numpy()), rtol=1e-9)
    graph = complete_graph(z[:, 1:])
    assert torch.allclose(graph, graph.mT)
    assert torch.allclose(graph.diagonal(dim1=1, dim2=2), torch.ones(BATCH, VIEWS).double())


@BOTH
@SCOPES
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_the_losses_are_zero_up_to_the_length_of_vectors(edge_loss, scope, seed, scale):
    z = vectors(seed)
    assert graphs(edge_loss, scope)(z, scale * z) == pytest.approx(
        {"intra": 0, "inter": 0}, abs=1e-12
    )


@BOTH
@SCOPES
@given(order=st.permutations(range(VIEWS)))
def test_the_order_of_the_views_does_not_matter(edge_loss, scope, order):
    teacher, student = vectors(0), vectors(1)
    places = [0, *(1 + place for place in order)]
    compare = graphs(edge_loss, scope)
    expected = compare(teacher, student)
    assert compare(teacher[:, places], student[:, places]) == pytest.approx(expected, rel=1e-9)


@BOTH
def test_the_order_of_the_samples_does_not_matter(edge_loss):
    teacher, student = vectors(0), vectors(1)
    compare = graphs(edge_loss, "batch")
    expected = compare(teacher, student)
    assert compare(teacher[[2, 0, 1]], student[[2, 0, 1]]) == pytest.approx(expected, rel=1e-9)


def test_views_in_another_order_cost():
    teacher = vectors(0)
    found = graphs()(teacher, teacher[:, [0, 2, 1, 3, 4]])
    assert found["intra"] > 1e-3 and found["inter"] > 1e-3


@BOTH
@SCOPES
def test_the_losses_are_positive(edge_loss, scope):
    found = graphs(edge_loss, scope)(vectors(2), vectors(3))
    assert found["intra"] > 0 and found["inter"] > 0


@BOTH
@SCOPES
def test_the_gradients_are_those_of_finite_differences(edge_loss, scope):
    distillation = DCGD(GKDOptions(edge_loss=edge_loss, scope=scope, temperature=0.5))
    teacher = taught(torch.from_numpy(vectors(0, views=2)))
    student = torch.from_numpy(vectors(1, views=2)).requires_grad_()

    def losses(student):
        return tuple(distillation(teacher, taught(student), MASK).values())

    assert torch.autograd.gradcheck(losses, (student,))


def test_the_teacher_gets_no_gradient(make_pass):
    teacher, student = make_pass(0), make_pass(1)
    losses = DCGD(GKDOptions())(teacher, student, MASK)
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    assert student.network.deeper.weight.grad.any()
