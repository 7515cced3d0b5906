import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import log_softmax, softmax

from src_training.alignment.consistency import (
    AlignmentConsistency,
    alignment_losses,
)

RANDOM = np.random.default_rng(0)
BOTTLENECK, REBUILT = RANDOM.normal(size=(2, 2, 5, 3, 3))
VECTOR, PRIOR, VIEW = RANDOM.normal(size=(3, 2, 7))
LOGITS, REBUILT_LOGITS = RANDOM.normal(size=(2, 2, 3, 4, 6))
MASK = RANDOM.integers(0, 3, size=(2, 4, 6))
ARRAYS = (BOTTLENECK, REBUILT, VECTOR, PRIOR, LOGITS, REBUILT_LOGITS, MASK)


def divergence(reference, candidate):
    p = softmax(reference, axis=1)
    terms = p * (log_softmax(reference, axis=1) - log_softmax(candidate, axis=1))
    return terms.sum(axis=1).mean()


def test_the_terms_are_those_of_their_formulas():
    found = alignment_losses(*(torch.from_numpy(a) for a in ARRAYS), torch.from_numpy(VIEW))
    chosen = np.take_along_axis(log_softmax(REBUILT_LOGITS, axis=1), MASK[:, None], axis=1)
    expected = {
        "rebuilt": ((REBUILT - BOTTLENECK) ** 2).mean(),
        "aligned": ((VECTOR - PRIOR) ** 2).mean(),
        "predicted": -chosen.mean(),
        "agreed": divergence(LOGITS, REBUILT_LOGITS),
        "views": ((VIEW - VECTOR) ** 2).mean(),
    }
    assert {name: loss.item() for name, loss in found.items()} == pytest.approx(expected, rel=1e-9)


def test_without_a_view_there_is_no_term_for_it():
    found = alignment_losses(*(torch.from_numpy(a) for a in ARRAYS))
    assert set(found) == {"rebuilt", "aligned", "predicted", "agreed"}


def test_a_perfect_alignment_costs_only_what_the_network_gets_wrong():
    b, v, logits, mask = (torch.from_numpy(a) for a in (BOTTLENECK, VECTOR, LOGITS, MASK))
    found = alignment_losses(b, b, v, v, logits, logits, mask)
    assert found["rebuilt"] == found["aligned"] == 0
    assert found["agreed"].item() == pytest.approx(0, abs=1e-12)
    assert found["predicted"] > 0


def test_every_loss_has_a_weight():
    weights = AlignmentConsistency(aligned=2, predicted=3).weights
    found = alignment_losses(*(torch.from_numpy(a) for a in ARRAYS), torch.from_numpy(VIEW))
    assert weights.keys() == found.keys()
    assert (weights["aligned"], weights["predicted"], weights["agreed"]) == (2, 3, 3)


@pytest.mark.parametrize("fields", [{"consistency": "none"}, {"aligned": -1}, {"other": 1}])
def test_a_consistency_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        AlignmentConsistency(**fields)
