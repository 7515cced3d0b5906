"""Divergences between two predictions, against scipy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from src_training.losses.divergence import pixel_divergence, softened_divergence

REFERENCE, CANDIDATE = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 6))


def expected(reference, candidate):
    log_p, log_q = log_softmax(reference, axis=1), log_softmax(candidate, axis=1)
    return (softmax(reference, axis=1) * (log_p - log_q)).sum(axis=1).mean()


def test_the_divergence_is_that_of_its_formula():
    found = pixel_divergence(torch.from_numpy(REFERENCE), torch.from_numpy(CANDIDATE))
    assert found.item() == pytest.approx(expected(REFERENCE, CANDIDATE), rel=1e-12)


def test_the_divergence_has_a_direction_and_is_never_negative():
    a, b = torch.from_numpy(REFERENCE), torch.from_numpy(CANDIDATE)
    assert pixel_divergence(a, b) > 0
    assert pixel_divergence(a, b) != pytest.approx(pixel_divergence(b, a).item(), rel=1e-3)
    assert pixel_divergence(a, a).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_temperature_softens_both_and_scales_back(temperature):
    found = softened_divergence(
        torch.from_numpy(REFERENCE), torch.from_numpy(CANDIDATE), temperature
    )
    softened = expected(REFERENCE / temperature, CANDIDATE / temperature)
    assert found.item() == pytest.approx(temperature**2 * softened, rel=1e-12)
