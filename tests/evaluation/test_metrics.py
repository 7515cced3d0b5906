import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    jaccard_score,
    recall_score,
    roc_auc_score,
)

from src_training.errors import InputError
from src_training.evaluation.metrics import METRICS, POOLED, Pooled, score

RANDOM = np.random.default_rng(0)


def two(foreground):
    """Probabilities (2, H, W) of the foreground's."""
    foreground = np.asarray(foreground, np.float32)
    return np.stack([1 - foreground, foreground])


def noisy(size=(40, 50)):
    mask = RANDOM.random(size) < 0.2
    return two(expit(RANDOM.normal(size=size) + 2.0 * mask - 1)), mask.astype(np.uint8)


def square(top, left, side=10, size=40):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_scores_are_those_of_scikit_learn():
    probabilities, mask = noisy()
    fov = np.zeros(mask.shape, bool)
    fov[5:30, 7:40] = True
    p, y = probabilities[1][fov], mask[fov]
    labels = p >= 0.4
    found = score(probabilities, mask, fov, 0.4)
    assert found["dice"] == found["f1"] == pytest.approx(f1_score(y, labels))
    assert found["accuracy"] == pytest.approx(accuracy_score(y, labels))
    assert found["sensitivity"] == pytest.approx(recall_score(y, labels))
    assert found["specificity"] == pytest.approx(recall_score(y, labels, pos_label=0))
    assert found["miou"] == pytest.approx(jaccard_score(y, labels, average="macro"))
    assert found["auc"] == pytest.approx(roc_auc_score(y, p))
    assert tuple(found) == METRICS


def test_pixels_outside_the_field_of_view_do_not_count():
    probabilities, mask = noisy()
    fov = np.zeros(mask.shape, bool)
    fov[10:30, 10:30] = True
    changed = probabilities.copy()
    changed[:, ~fov] = changed[::-1, ~fov]
    assert score(changed, mask, fov) == score(probabilities, mask, fov)


def test_a_square_moved_by_three_pixels_is_three_pixels_away():
    found = score(two(square(10, 10)), square(10, 13), tolerance=3)
    assert found["hd95"] == pytest.approx(3)
    assert found["surface_dice"] == pytest.approx(1)
    assert score(two(square(10, 10)), square(10, 13), spacing=(1.5, 2))["hd95"] == pytest.approx(6)


def test_an_empty_prediction_of_an_empty_mask_scores_1():
    empty = np.zeros((8, 8), np.uint8)
    found = score(two(empty), empty)
    assert found["dice"] == found["f1"] == found["surface_dice"] == 1
    for undefined in ("hd95", "auc", "sensitivity"):
        assert np.isnan(found[undefined])


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_scores_0_and_has_no_distance(swap):
    empty, full = np.zeros((40, 40), np.uint8), square(5, 5)
    mask, predicted = (empty, full) if swap else (full, empty)
    found = score(two(predicted), mask)
    assert found["dice"] == found["surface_dice"] == 0
    assert np.isnan(found["hd95"])


def test_many_classes_are_averaged_and_scored_one_by_one():
    mask = RANDOM.integers(0, 3, (20, 20)).astype(np.uint8)
    probabilities = RANDOM.dirichlet(np.ones(3), (20, 20)).transpose(2, 0, 1).astype(np.float32)
    labels = probabilities.argmax(0)
    found = score(probabilities, mask, classes=("background", "liver", "kidney"))
    each = f1_score(mask.ravel(), labels.ravel(), average=None)
    assert found["dice_liver"] == pytest.approx(each[1])
    assert found["dice_kidney"] == pytest.approx(each[2])
    assert found["dice"] == pytest.approx(each[1:].mean())
    aucs = [roc_auc_score((mask == k).ravel(), probabilities[k].ravel()) for k in (1, 2)]
    assert found["auc"] == pytest.approx(np.mean(aucs))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.floats(0.1, 12))
def test_pooled_scores_are_those_of_all_pixels_together(images, confidence):
    pooled, p, y = Pooled(2), [], []
    for _ in range(images):
        mask = RANDOM.random((30, 30)) < 0.3
        foreground = expit(confidence * (RANDOM.normal(size=mask.shape) + mask - 0.5))
        probabilities = two(foreground)
        pooled.add(probabilities, mask.astype(np.uint8))
        p.append(probabilities[1].ravel())
        y.append(mask.ravel())
    p, y = np.concatenate(p), np.concatenate(y)
    found = pooled.result()
    assert set(found) == set(POOLED)
    assert found["f1"] == pytest.approx(f1_score(y, p >= 0.5))
    assert found["miou"] == pytest.approx(jaccard_score(y, p >= 0.5, average="macro"))
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-3)


def test_auc_of_many_pixels_is_exact_to_five_digits():
    mask = (RANDOM.random((900, 1000)) < 0.2).astype(np.uint8)
    foreground = expit(3 * RANDOM.normal(size=mask.shape) + 2.0 * mask)
    pooled = Pooled(2)
    found = score(two(foreground), mask, pooled=pooled)
    expected = roc_auc_score(mask.ravel(), two(foreground)[1].ravel())
    assert found["auc"] == pytest.approx(expected, abs=1e-5)
    assert {name: found[name] for name in POOLED} == pytest.approx(pooled.result(), abs=1e-5)


def test_pooling_needs_no_more_memory_for_more_images():
    pooled = Pooled(2)
    before = len(pickle.dumps(pooled))
    for _ in range(3):
        pooled.add(*noisy())
    assert len(pickle.dumps(pooled)) == before


def test_certain_probabilities_are_binned_too():
    mask = square(0, 0, 5, 10)
    pooled = Pooled(2)
    pooled.add(two(mask) * np.float32(1.0000002), mask)
    assert pooled.result()["auc"] == 1


def test_a_model_that_gives_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        score(two(np.full((8, 8), np.nan)), np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize(
    ("mask", "fov", "sentence"),
    [
        (np.zeros((8, 9), np.uint8), None, "mask has shape"),
        (np.full((8, 8), 2, np.uint8), None, "classes 2 to 2"),
        (np.zeros((8, 8), np.uint8), np.ones((4, 4), bool), "field of view has shape"),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), bool), "empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(mask, fov, sentence):
    with pytest.raises(InputError, match=sentence):
        score(two(np.zeros((8, 8))), mask, fov)


@given(st.integers(2, 60), st.sampled_from([3, 40, 10**6]), st.integers(0, 99))
def test_auc_is_exact_with_ties_as_well(pixels, steps, seed):
    random = np.random.default_rng(seed)
    foreground = (random.integers(0, steps, (1, pixels)) / steps).astype(np.float32)
    mask = np.zeros((1, pixels), np.uint8)
    mask[0, : random.integers(1, pixels)] = 1
    expected = roc_auc_score(mask[0], foreground[0])
    assert score(two(foreground), mask)["auc"] == pytest.approx(expected, abs=1e-12)
