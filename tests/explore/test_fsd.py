import json

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import LedoitWolf

from src_training.errors import InputError
from src_training.explore.fsd import (
    fit_gaussian,
    frechet_distance,
    is_collapsed,
)

RANDOM = np.random.default_rng(0)
values = st.floats(-100, 100, allow_nan=False, width=32)
sets = arrays(np.float64, st.tuples(st.integers(2, 6), st.just(3)), elements=values)


def by_sqrtm(a, b, covariance):
    """The textbook formula through scipy's matrix square root."""
    root = scipy.linalg.sqrtm(covariance(a) @ covariance(b)).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return shift + np.trace(covariance(a) + covariance(b) - 2 * root)


def empirical(rows):
    return np.cov(rows, rowvar=False)


def ledoit_wolf(rows):
    return LedoitWolf().fit(rows).covariance_


def correlated(n, d, shift=0.0):
    return RANDOM.normal(size=(n, d)) @ RANDOM.normal(size=(d, d)) + shift


def test_two_gaussians_have_the_closed_form():
    # Unit variances, zero covariance.
    unit = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * 3**0.5 / 2
    a, b = unit * [1, 2], unit * [5, 1] + [3, -4]
    found = frechet_distance(a, b, "empirical", interval=False).value
    assert found == pytest.approx(25 + (5 - 1) ** 2 + (2 - 1) ** 2)


def test_one_dimension_has_the_closed_form():
    a, b = RANDOM.normal(size=(50, 1)), RANDOM.normal(2, 3, size=(40, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b, interval=False).value == pytest.approx(expected)


def test_the_empirical_distance_is_that_of_sqrtm():
    a, b = correlated(200, 20), correlated(150, 20, shift=1.0)
    found = frechet_distance(a, b, "empirical", interval=False).value
    assert found == pytest.approx(by_sqrtm(a, b, empirical), rel=1e-6)


@pytest.mark.parametrize("least", [1.0, 1e-3, 1e-7, 0.0])
def test_nearly_singular_covariances_agree_with_sqrtm(least):
    scales = np.geomspace(1, least, 20) if least else np.r_[np.ones(15), np.zeros(5)]
    turned = np.linalg.qr(correlated(20, 20))[0]
    a, b = ((RANDOM.normal(size=(200, 20)) * scales) @ turned for _ in range(2))
    found = frechet_distance(a, b + 1, "empirical", interval=False).value
    varying = scales > 0
    flat_a, flat_b = (a @ turned.T)[:, varying], (b @ turned.T)[:, varying]
    expected = by_sqrtm(flat_a, flat_b, empirical) - ((flat_a - flat_b).mean(0) ** 2).sum()
    shift = ((a.mean(0) - b.mean(0) - 1) ** 2).sum()
    assert found == pytest.approx(expected + shift, rel=1e-6)


@pytest.mark.parametrize("n", [12, 60])
def test_the_shrunk_distance_is_that_of_sqrtm(n):
    a, b = correlated(n, 40), correlated(n + 5, 40, shift=1.0)
    found = frechet_distance(a, b, interval=False)
    assert found.covariance == "ledoit_wolf"
    assert found.value == pytest.approx(by_sqrtm(a, b, ledoit_wolf), rel=1e-6)


def test_fewer_vectors_than_dimensions_agree_with_the_svd_form():
    a, b = correlated(15, 40), correlated(12, 40, shift=1.0)
    left, right = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    shared = scipy.linalg.svdvals(left @ right.T).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (left**2).sum() + (right**2).sum()
    found = frechet_distance(a, b, "empirical", interval=False).value
    assert found == pytest.approx(expected - 2 * shared, rel=1e-9)


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("covariance", ["empirical", "ledoit_wolf"])
def test_a_set_has_no_distance_from_itself(covariance, n):
    a = correlated(n, 64, shift=3.0)
    assert frechet_distance(a, a, covariance, interval=False).value == 0


@settings(deadline=None, max_examples=40)
@given(sets, sets, st.sampled_from(["empirical", "ledoit_wolf"]))
def test_the_distance_is_symmetric_finite_and_not_negative(a, b, covariance):
    there = frechet_distance(a, b, covariance, interval=False).value
    back = frechet_distance(b, a, covariance, interval=False).value
    assert np.isfinite(there) and there >= 0
    assert there == pytest.approx(back, rel=1e-6, abs=1e-6 * (1 + (a**2).sum() + (b**2).sum()))


@settings(deadline=None, max_examples=20)
@given(sets, sets)
def test_moving_both_sets_leaves_the_distance(a, b):
    near = frechet_distance(a, b, interval=False).value
    far = frechet_distance(a + 7, b + 7, interval=False).value
    assert far == pytest.approx(near, abs=1e-6 * (1 + (a**2).sum() + (b**2).sum()))


def test_constant_vectors_differ_by_their_means_alone():
    found = frechet_distance(np.zeros((5, 3)), np.full((4, 3), 2.0))
    assert found.value == pytest.approx(12) and found.low == found.high == found.value


def test_a_shrinkage_that_rounds_below_zero_is_zero():
    b = np.array([[52.0, 14.875, 1.00001001], [1.00001001, 1.00001001, 1.00001001]])
    assert np.isfinite(frechet_distance(np.zeros((2, 3)), b).value)


def test_auto_shrinks_below_two_vectors_per_dimension():
    assert fit_gaussian(correlated(19, 10)).covariance == "ledoit_wolf"
    assert fit_gaussian(correlated(20, 10)).covariance == "empirical"
    assert frechet_distance(correlated(20, 10), correlated(19, 10), interval=False).covariance == (
        "ledoit_wolf"
    )


def test_the_fit_has_the_covariance_of_its_estimator():
    rows = correlated(30, 40)
    for name, reference in [("empirical", empirical), ("ledoit_wolf", ledoit_wolf)]:
        fitted = fit_gaussian(rows, name)
        np.testing.assert_allclose(fitted.factor.T @ fitted.factor, reference(rows), atol=1e-10)


def standard_error(found):
    return (found.high - found.value) / 1.96


def test_the_interval_narrows_with_more_vectors():
    few = frechet_distance(RANDOM.normal(size=(20, 4)), RANDOM.normal(1, 1, size=(20, 4)))
    many = frechet_distance(RANDOM.normal(size=(500, 4)), RANDOM.normal(1, 1, size=(500, 4)))
    for found in (few, many):
        assert 0 <= found.low < found.value < found.high
    assert many.high - many.low < few.high - few.low
    assert (few.n_a, few.n_b) == (20, 20)


def test_one_dimension_has_the_closed_standard_error():
    a, b = RANDOM.normal(size=50), RANDOM.normal(2, 3, size=40)
    variance = 0.0
    for own, other in ((a, b), (b, a)):
        centered = own - own.mean()
        moved = 2 * centered * (own.mean() - other.mean())
        moved += (1 - other.std(ddof=1) / own.std(ddof=1)) * centered**2
        variance += moved.var() / len(own)
    found = frechet_distance(a[:, None], b[:, None])
    assert standard_error(found) == pytest.approx(variance**0.5, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(60, 4), (200, 12)])
def test_the_standard_error_agrees_with_the_jackknife(n, d):
    a, b = correlated(n, d), correlated(n + 10, d, shift=0.3)
    found, variance = frechet_distance(a, b), 0.0
    for own, other in ((a, b), (b, a)):
        without = [
            frechet_distance(np.delete(own, i, 0), other, found.covariance, interval=False).value
            for i in range(len(own))
        ]
        variance += (len(own) - 1) * np.var(without)
    assert standard_error(found) == pytest.approx(variance**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("n", "d", "shift", "most"),
    [(200, 6, 0.5, 1.15), (50, 40, 0.5, 1.6), (200, 6, 0.0, 2)],
    ids=["another scanner", "shrunk", "the same scanner"],
)
def test_the_standard_error_agrees_with_repeated_sampling(n, d, shift, most):
    random, mixing = np.random.default_rng(1), np.random.default_rng(2).normal(size=(d, d))

    def drawn():
        a, b = (random.normal(size=(count, d)) @ mixing for count in (n, n - 10))
        return frechet_distance(a, b * (1 + shift) + shift)

    samples = [drawn() for _ in range(300)]
    spread = np.std([found.value for found in samples])
    error = np.mean([standard_error(found) for found in samples])
    # With few vectors, or at distance 0, the standard error is overestimated.
    assert 0.87 * spread < error < most * spread, error / spread


@pytest.mark.parametrize("covariance", ["empirical", "ledoit_wolf"])
def test_constant_or_few_vectors_have_a_finite_interval(covariance):
    spread, constant = RANDOM.normal(size=(5, 3)), np.full((4, 3), 2.0)
    for a, b in ((spread, constant), (constant, spread), (spread[:2], spread[2:4])):
        found = frechet_distance(a, b, covariance)
        assert 0 <= found.low <= found.value <= found.high < np.inf


@pytest.mark.parametrize(("noise", "collapsed"), [(1e-4, True), (1e-2, False)])
def test_practically_equal_vectors_are_collapsed(noise, collapsed):
    assert is_collapsed(1 + noise * correlated(40, 3)) is collapsed


def test_the_result_is_json():
    a = correlated(6, 3)
    assert json.loads(json.dumps(frechet_distance(a, a + 1).to_dict()))["n_a"] == 6


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2"),
        (np.zeros((4, 3)), np.zeros(3), "vectors b"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "expected 3"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "NaN"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(a, b, sentence):
    with pytest.raises(InputError, match=sentence):
        frechet_distance(a, b)
