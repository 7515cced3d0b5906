import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src_training.errors import InputError
from src_training.explore.projection import project

RANDOM = np.random.default_rng(0)
values = st.floats(-100, 100, allow_nan=False, width=32)
sets = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(3)), elements=values)


def test_pca_keeps_the_distances_of_points_in_a_plane():
    axes = np.linalg.qr(RANDOM.normal(size=(10, 2)))[0]
    flat = RANDOM.normal(size=(20, 2)) * [5, 1]
    found = project({"a": flat @ axes.T + 3})
    between = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    shown = found.points["a"]
    np.testing.assert_allclose(np.linalg.norm(shown[:, None] - shown[None], axis=-1), between)
    assert sum(found.explained) == pytest.approx(1) and found.explained[0] > found.explained[1]


def test_one_projection_serves_all_models():
    a, b = RANDOM.normal(size=(12, 6)), RANDOM.normal(size=(9, 6)) + 2
    apart, together = project({"a": a, "b": b}), project({"both": np.concatenate([a, b])})
    np.testing.assert_allclose(apart.points["a"], together.points["both"][:12])
    np.testing.assert_allclose(apart.points["b"], together.points["both"][12:])


@given(sets, sets)
def test_pca_gives_each_vector_a_finite_point(a, b):
    found = project({"a": a, "b": b})
    assert found.points["a"].shape == (len(a), 2) and found.points["b"].shape == (len(b), 2)
    assert all(np.isfinite(points).all() for points in found.points.values())
    assert 0 <= sum(found.explained) <= 1 + 1e-9


def test_tsne_separates_clusters_and_repeats_with_the_seed():
    rows = np.concatenate([RANDOM.normal(size=(20, 8)), RANDOM.normal(size=(20, 8)) + 50])
    found, again = (project({"a": rows}, "tsne", seed=3) for _ in range(2))
    np.testing.assert_array_equal(found.points["a"], again.points["a"])
    near, far = found.points["a"][:20], found.points["a"][20:]
    gap = np.linalg.norm(near.mean(0) - far.mean(0))
    assert gap > 2 * max(near.std(), far.std())
    assert found.settings["seed"] == 3 and found.settings["perplexity"] == 13
    assert "t-SNE" in found.caption and "perplexity 13" in found.caption and found.explained is None


@pytest.mark.parametrize("count", [4, 5, 7])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_tsne_takes_few_vectors(count, length):
    found = project({"a": RANDOM.normal(size=(count, length))}, "tsne")
    assert found.method == "tsne" and np.isfinite(found.points["a"]).all()


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.parametrize("rows", [np.ones((1, 5)), np.ones((40, 5)), np.eye(3, 5)])
def test_fewer_than_four_distinct_vectors_use_pca(method, rows):
    found = project({"a": rows}, method)
    assert found.method == "pca" and np.isfinite(found.points["a"]).all()
    assert ("instead of" in found.settings) == (method != "pca")


def test_no_vectors_make_no_points():
    assert project({}).points == {}
    assert project({"a": np.zeros((0, 4))}, "tsne").points["a"].shape == (0, 2)


@pytest.mark.parametrize(("count", "neighbours"), [(6, 5), (100, 15)])
def test_umap_gets_the_seed_and_enough_neighbours(monkeypatch, count, neighbours):
    settings = {}

    class Umap:
        def __init__(self, **options):
            settings.update(options)

        def fit_transform(self, rows):
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    found = project({"a": RANDOM.normal(size=(count, 8))}, "umap", seed=4)
    assert settings["n_neighbors"] == neighbours < count and settings["random_state"] == 4
    assert found.method == "umap" and found.settings["neighbours"] == neighbours


def test_without_umap_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"expected it for UMAP: pip install 'napari-msankd\[umap"):
        project({"a": RANDOM.normal(size=(10, 3))}, "umap")


def test_what_cannot_be_projected_is_refused():
    with pytest.raises(InputError, match="of student have 3 components and those of teacher 5"):
        project({"teacher": np.zeros((4, 5)), "student": np.zeros((4, 3))})
    with pytest.raises(InputError, match="of a hold NaN"):
        project({"a": np.full((4, 2), np.nan)})
    with pytest.raises(InputError, match="'mds' is unknown; expected one of pca, tsne, umap"):
        project({"a": np.zeros((4, 2))}, "mds")
