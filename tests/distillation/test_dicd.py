import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from src_training.distillation.gkd import DICD, GKDOptions
from src_training.distillation.gkd.dicd import cross_predictions
from src_training.losses.divergence import pixel_divergence

MASK = torch.zeros(2, 8, 8, dtype=torch.long)


@pytest.fixture
def passes(make_pass):
    return make_pass(0, frozen=True, width=4), make_pass(1)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module, former):
    return all(torch.equal(tensor, former[name]) for name, tensor in module.state_dict().items())


def test_cross_predictions_swap_the_vectors(passes):
    teacher, student = passes
    student.network.eval()
    first, second = cross_predictions(teacher, student)
    one = teacher.alignment.header(student.alignment.encoder(student.bottleneck))
    two = student.alignment.header(teacher.alignment.encoder(teacher.bottleneck))
    assert torch.equal(first, teacher.network.decode(teacher.skips, one))
    assert torch.equal(second, student.network.decode(student.skips, two))


def test_p1_trains_the_encoder_through_the_frozen_teacher(passes):
    teacher, student = passes
    first, _ = cross_predictions(teacher, student)
    pixel_divergence(teacher.logits, first).backward()
    network = student.network
    assert network.encoder[0].weight.grad.any() and network.deeper.weight.grad.any()
    assert all(parameter.grad is None for parameter in network.decoder_parameters)


def test_p2_trains_the_decoder_and_by_skips_the_encoder(passes):
    teacher, student = passes
    _, second = cross_predictions(teacher, student)
    pixel_divergence(teacher.logits, second).backward()
    network = student.network
    assert network.head.weight.grad.any() and network.up.weight.grad.any()
    assert network.encoder[0].weight.grad.any()
    # The bottleneck is the teacher's, so layers only below the student's get no gradient.
    assert network.deeper.weight.grad is None


def divergence(teacher, student):
    """Mean over pixels of KL(teacher || student), of logits (B, classes, H, W) as arrays."""
    terms = []
    for b, y, x in np.ndindex(len(teacher), *teacher.shape[2:]):
        p, q = log_softmax(teacher[b, :, y, x]), log_softmax(student[b, :, y, x])
        terms.append(sum(math.exp(a) * (a - c) for a, c in zip(p, q, strict=True)))
    return sum(terms) / len(terms)


def test_the_loss_is_the_sum_of_both_divergences(passes):
    for each in passes:
        each.network.double()
        each.alignment.double()
    teacher, student = (each.map(torch.Tensor.double) for each in passes)
    cross = [each.detach().numpy() for each in cross_predictions(teacher, student)]
    expected = sum(divergence(teacher.logits.numpy(), each) for each in cross)
    loss = DICD(GKDOptions())(teacher, student, MASK)["cross"]
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert expected > 0


def test_the_order_of_the_samples_does_not_matter(passes):
    turned = [each.map(lambda tensor: tensor.flip(0)) for each in passes]
    expected = DICD(GKDOptions())(*passes, MASK)["cross"].item()
    assert DICD(GKDOptions())(*turned, MASK)["cross"].item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_zero_for_the_teachers_predictions(make_pass):
    images = torch.rand(2, 1, 8, 8)
    teacher = make_pass(0, frozen=True, images=images)
    rebuilt = teacher.alignment(teacher.bottleneck)
    exact = dataclasses.replace(teacher, logits=teacher.network.decode(teacher.skips, rebuilt))
    loss = DICD(GKDOptions())(exact, exact, MASK)["cross"]
    assert loss.item() == pytest.approx(0, abs=1e-7)


def test_running_statistics_stay_in_the_cross_pass(passes):
    teacher, student = passes
    frozen = (teacher.network, teacher.alignment, student.alignment)
    former = [state(module) for module in frozen]
    norm = student.network.norm
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    _, second = cross_predictions(teacher, student)
    assert torch.equal(norm.running_mean, mean) and torch.equal(norm.running_var, variance)
    assert norm.momentum == 0.1
    assert all(unchanged(module, was) for module, was in zip(frozen, former, strict=True))
    student.network.eval()
    assert not torch.allclose(cross_predictions(teacher, student)[1], second)


def test_the_momentum_comes_back_after_an_error(passes):
    teacher, student = passes
    broken = dataclasses.replace(student, skips=student.skips._replace(features=()))
    with pytest.raises(IndexError):
        cross_predictions(teacher, broken)
    assert student.network.norm.momentum == 0.1


def test_gradients_are_those_of_finite_differences(make_pass):
    teacher, student = make_pass(0, frozen=True), make_pass(1)
    for each in (teacher, student):
        each.network.double().eval()
        each.alignment.double()
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    wide = torch.nn.functional.interpolate(image, (8, 8))
    skips, bottleneck = teacher.network.encode(wide)
    logits = teacher.network.decode(skips, bottleneck)
    taught = dataclasses.replace(teacher, skips=skips, bottleneck=bottleneck, logits=logits)
    own, deep = student.network.encode(wide)
    start = deep.detach().requires_grad_()
    (kept,) = (feature.detach().requires_grad_() for feature in own.features)

    def loss(bottleneck, skip):
        skips = own._replace(features=(skip,))
        learning = dataclasses.replace(student, skips=skips, bottleneck=bottleneck)
        return DICD(GKDOptions())(taught, learning, MASK)["cross"]

    assert torch.autograd.gradcheck(loss, (start, kept))
