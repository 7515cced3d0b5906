"""Extraction of domains: progress and cache."""

import copy

import numpy as np
import pytest
import torch

from src_training.data.domain import Domain
from src_training.errors import InputError
from src_training.explore.embeddings import PatchEmbedder
from src_training.explore.extraction import ExtractionProgress, extract
from src_training.networks import build_network
from tests.explore.scans import domain, extracted


def test_progress_comes_after_each_image_the_table_at_the_end(model):
    steps = list(extract(model, [domain(), domain("other")]))
    assert [(each.done, each.total) for each in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each.table is None for each in steps] == [True, True, True, False]
    assert isinstance(steps[0], ExtractionProgress) and len(steps[-1].table) == 6


def test_one_image_of_one_patch_is_a_table_of_one_row(model):
    one = Domain.from_arrays("one", [np.random.default_rng(0).random((20, 20))])
    assert len(extracted(model, [one])) == 1


def test_cached_rows_are_read_not_made(model, autoencoder, tmp_path, monkeypatch):
    model.save(tmp_path / "model.safetensors")
    cache, options = tmp_path / "cache", {"views": 1, "autoencoder": autoencoder}
    made = extracted(model, [domain()], cache=cache, **options)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(PatchEmbedder, "rows", None)
    read = extracted(model, [domain("renamed")], cache=cache, **options)
    for name in ("values", "corners", "views", "areas", "dice"):
        np.testing.assert_array_equal(getattr(made, name), getattr(read, name))
    assert read.kinds == made.kinds and read.cases == made.cases
    assert set(read.domains) == {"renamed"}


def test_whatever_rows_depend_on_makes_them_anew(model, autoencoder, tmp_path):
    model.save(tmp_path / "model.safetensors")
    cache = tmp_path / "cache"
    other = copy.deepcopy(autoencoder)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for options in ({}, {"views": 1}, {"views": 1, "seed": 1}, {"autoencoder": autoencoder}):
        extracted(model, [domain()], cache=cache, **options)
    extracted(model, [domain()], cache=cache, autoencoder=other)
    extracted(model, [domain(masks=False)], cache=cache)
    extracted(model, [domain(seed=1)], cache=cache)
    assert len(list(cache.iterdir())) == 7 * 2
    # Without views the result does not depend on the seed.
    extracted(model, [domain()], cache=cache, seed=9)
    assert len(list(cache.iterdir())) == 7 * 2


def test_another_neighbouring_slice_makes_rows_anew(tiny_model, tmp_path):
    model = tiny_model()
    how = model.card.preprocessing.model_copy(update={"neighbours": 3})
    model.card = model.card.model_copy(update={"preprocessing": how, "in_channels": 3})
    model.network = build_network("fanet", 3, 2, width=2).eval()
    model.sha256 = "of no file"
    slices = list(np.random.default_rng(0).random((3, 40, 40)))

    def last_step():
        scans = Domain.from_arrays("scans", slices, names=["ct_z0", "ct_z1", "ct_z2"])
        *_, last = extract(model, [scans], cache=tmp_path)
        return last

    first = last_step()
    assert last_step().cached == 3
    slices[2] = slices[2].T.copy()
    last = last_step()
    assert last.cached == 1
    np.testing.assert_array_equal(last.table.values[0], first.table.values[0])
    assert not np.allclose(last.table.values[1], first.table.values[1])


def test_a_stop_keeps_the_cache_and_damage_is_repaired(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    cache = tmp_path / "cache"
    steps = extract(model, [domain()], cache=cache)
    next(steps)
    steps.close()
    [file] = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(
        extracted(model, [domain()], cache=cache).values, extracted(model, [domain()]).values
    )
    assert file.read_bytes()[:2] == b"PK" and len(file.read_bytes()) == len(whole)


def test_a_model_that_was_never_saved_is_not_cached(model, tmp_path):
    extracted(model, [domain()], cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_extracted_is_refused(model):
    def refused(sentence, *domains):
        with pytest.raises(InputError, match=sentence):
            list(extract(model, domains))

    refused("no domain was given")
    refused("two domains are called scans", domain(), domain())
    three = Domain.from_arrays("w", [np.eye(20)], [np.full((20, 20), 2)], None, ("b", "c", "d"))
    refused("w/000: the mask holds class 2; expected the 2 classes", three)
