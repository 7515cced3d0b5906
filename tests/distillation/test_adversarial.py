"""The critic, the gradient penalty, and the gradients of critic and student."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from src_training.distillation import adversarial
from src_training.distillation.adversarial import (
    Adversarial,
    Critic,
    SelfAttention,
    gradient_penalty,
    pool_logits,
)
from src_training.distillation.graph_flow import GraphFlowOptions
from tests.distillation.random_outputs import CLASSES, TEACHER, random_masks, random_outputs

EXACT = pytest.approx


@pytest.fixture
def both():
    return random_outputs(0, TEACHER), random_outputs(1)


@pytest.fixture
def attentive():
    """An adversarial distillation in float64 with active attention (gamma is not 0)."""
    torch.manual_seed(0)
    distillation = Adversarial(GraphFlowOptions(), Critic(CLASSES)).double().eval()
    for module in distillation.modules():
        if isinstance(module, SelfAttention):
            module.gamma.data.fill_(0.5)
    return distillation


class Linear(nn.Module):
    """A critic with a known gradient: the sum of logits times a weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, logits):
        return self.weight * logits.sum((1, 2, 3))


def test_adversarial(both):
    critic = Linear(0.1)
    losses = {
        n: loss.item()
        for n, loss in Adversarial(GraphFlowOptions(), critic)(*both, random_masks()).items()
    }
    real, fake = (np.mean([0.1 * sample.sum() for sample in each.logits.numpy()]) for each in both)
    slope = 0.1 * math.sqrt(CLASSES * 16 * 16)
    assert losses["adversarial"] == EXACT(-fake, rel=1e-9)
    assert losses["critic"] == EXACT(fake - real + 10 * (slope - 1) ** 2, rel=1e-9)


def test_the_penalty_is_least_at_a_slope_of_one():
    real, fake = torch.zeros(2, 1, 4, 4).double(), torch.ones(2, 1, 4, 4).double()
    critic = Linear(1.0)
    gradient_penalty(critic, real, fake).backward()
    # (4 w - 1)² has the derivative 8 (4 w - 1), at w = 1.
    assert critic.weight.grad.item() == EXACT(24.0)
    assert gradient_penalty(Linear(0.25), real, fake).item() == EXACT(0.0)


def test_critic_and_student_learn_from_a_loss_each(both):
    torch.manual_seed(0)
    distillation = Adversarial(GraphFlowOptions(), Critic(CLASSES).double())
    student = both[1]
    student.logits.requires_grad_()
    losses = distillation(*both, random_masks())
    (for_student,) = torch.autograd.grad(losses["adversarial"], student.logits, retain_graph=True)
    assert for_student.any()
    losses["critic"].backward()
    assert student.logits.grad is None
    assert all(p.requires_grad and p.grad is not None for p in distillation.parameters())


def test_the_critic_has_the_published_layers():
    critic = Critic(2)
    convolutions = [layer for layer in critic.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512]
    assert {(layer.kernel_size, layer.stride) for layer in convolutions} == {((4, 4), (2, 2))}
    norms = [torch.linalg.matrix_norm(c.weight.flatten(1), 2).item() for c in convolutions]
    assert norms == EXACT([1.0] * 4, abs=0.3)
    assert critic(torch.randn(3, 2, 32, 32)).shape == (3,)
    assert pool_logits(torch.randn(1, 2, 512, 96)).shape == (1, 2, 128, 96)


def test_self_attention_is_that_of_loops():
    torch.manual_seed(0)
    attention, feature = SelfAttention(8).double(), torch.randn(2, 8, 3, 2).double()
    assert torch.equal(attention(feature), feature)
    attention.gamma.data.fill_(0.7)
    found = attention(feature).detach().flatten(2).numpy()
    query, key, value = (
        each(feature).detach().flatten(2).numpy()
        for each in (attention.query, attention.key, attention.value)
    )
    for b, here in np.ndindex(2, 6):
        powers = [math.exp(query[b, :, here] @ key[b, :, there]) for there in range(6)]
        seen_there = sum(w * value[b, :, there] for there, w in enumerate(powers)) / sum(powers)
        expected = feature.flatten(2)[b, :, here].numpy() + 0.7 * seen_there
        assert found[b, :, here] == EXACT(expected, rel=1e-9)


def test_the_penalty_is_that_of_a_loop_over_samples(monkeypatch):
    def critic(logits):
        return logits.square().sum((1, 2, 3)) / 2

    shares = [0.25, 0.9]
    monkeypatch.setattr(
        torch,
        "rand_like",
        lambda _: torch.tensor(shares, dtype=torch.float64).view(2, 1, 1, 1),
    )
    real, fake = (torch.randn(2, 3, 4, 4).double() for _ in range(2))
    expected = []
    for share, t, s in zip(shares, real.numpy(), fake.numpy(), strict=True):
        between = t + share * (s - t)
        # The critic is half the sum of squares, whose gradient at x is x.
        expected.append((math.sqrt((between**2).sum()) - 1) ** 2)
    assert gradient_penalty(critic, real, fake).item() == EXACT(sum(expected) / 2, rel=1e-9)


def test_each_sample_draws_its_own_number():
    seen_by_critic = []

    def critic(logits):
        seen_by_critic.append(logits.detach())
        return logits.sum((1, 2, 3))

    gradient_penalty(critic, torch.zeros(5, 2, 4, 4), torch.ones(5, 2, 4, 4))
    places = [sample.unique() for sample in seen_by_critic[0]]
    assert all(len(place) == 1 for place in places) and len(torch.cat(places).unique()) == 5


def test_the_students_gradient_is_that_of_finite_differences(attentive, both):
    teacher, student = both
    leaf = student.logits.requires_grad_()

    def fooled(logits):
        changed = dataclasses.replace(student, logits=logits)
        return attentive(teacher, changed, random_masks())["adversarial"]

    assert torch.autograd.gradcheck(fooled, (leaf,), fast_mode=True)


def test_the_critic_loss_is_zero_for_equal_logits(attentive, monkeypatch):
    monkeypatch.setattr(adversarial, "gradient_penalty", lambda *_: torch.zeros(()))
    same = random_outputs(0)
    assert attentive(same, same, random_masks())["critic"].item() == EXACT(0, abs=1e-12)
    assert attentive(random_outputs(1), same, random_masks())["critic"].item() != EXACT(0, abs=1e-6)


def test_the_order_of_the_samples_does_not_matter(attentive, both, monkeypatch):
    monkeypatch.setattr(
        torch,
        "rand_like",
        lambda samples: samples.new_full(samples.shape, 0.3),
    )
    losses = attentive(*both, random_masks())
    turned = attentive(*(each.map(lambda t: t.flip(0)) for each in both), random_masks().flip(0))
    assert {name: loss.item() for name, loss in turned.items()} == {
        name: EXACT(loss.item(), rel=1e-9) for name, loss in losses.items()
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strength", [0, 100])
def test_half_precision_stays_finite(both, dtype, strength):
    torch.manual_seed(0)
    distillation = Adversarial(GraphFlowOptions(), Critic(CLASSES))
    teacher, student = (each.map(lambda t: (strength * t).to(dtype)) for each in both)
    student.logits.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        losses = distillation(teacher, student, random_masks())
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    learnt = [student.logits, *distillation.parameters()]
    assert all(each.grad.isfinite().all() for each in learnt)
