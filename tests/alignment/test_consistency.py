"""The losses of alignment consistency training, against scipy."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import log_softmax, softmax

from src_training.alignment.consistency import AlignmentOptions, alignment_losses

RANDOM = np.random.default_rng(0)
BOTTLENECK, RECONSTRUCTION = RANDOM.normal(size=(2, 2, 5, 3, 3))
VECTOR, PRIOR = RANDOM.normal(size=(2, 2, 7))
LOGITS, RECONSTRUCTED_LOGITS = RANDOM.normal(size=(2, 2, 3, 4, 6))
MASK = RANDOM.integers(0, 3, size=(2, 4, 6))


def divergence(reference, candidate):
    p = softmax(reference, axis=1)
    terms = p * (log_softmax(reference, axis=1) - log_softmax(candidate, axis=1))
    return terms.sum(axis=1).mean()


def test_losses_are_those_of_their_formulas():
    arrays = (
        *(BOTTLENECK, RECONSTRUCTION, VECTOR, PRIOR),
        *(LOGITS, RECONSTRUCTED_LOGITS, MASK),
    )
    losses = alignment_losses(*map(torch.from_numpy, arrays))
    log_p = log_softmax(RECONSTRUCTED_LOGITS, axis=1)
    expected = {
        "reconstruction": ((RECONSTRUCTION - BOTTLENECK) ** 2).mean(),
        "latent": ((VECTOR - PRIOR) ** 2).mean(),
        "ce": -np.take_along_axis(log_p, MASK[:, None], axis=1).mean(),
        "kl": divergence(LOGITS, RECONSTRUCTED_LOGITS),
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-9)


def test_a_perfect_alignment_costs_only_the_networks_errors():
    b, v, logits, mask = (torch.from_numpy(a) for a in (BOTTLENECK, VECTOR, LOGITS, MASK))
    losses = alignment_losses(b, b, v, v, logits, logits, mask)
    assert losses["reconstruction"] == losses["latent"] == 0
    assert losses["kl"].item() == pytest.approx(0, abs=1e-12)
    assert losses["ce"] > 0


@pytest.mark.parametrize("fields", [{"prior": "vector"}, {"other": 1}])
def test_unknown_options_are_refused(fields):
    with pytest.raises(ValidationError):
        AlignmentOptions(**fields)
