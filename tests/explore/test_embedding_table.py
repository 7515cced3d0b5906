import copy
import csv

import numpy as np
import pytest
import torch

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.augmentation import Augmentation
from src_training.data.domain import Domain
from src_training.data.prepared import prepared_images
from src_training.errors import InputError
from src_training.evaluation.metrics import score
from src_training.explore.embedding_table import Extracted, extract, joined
from src_training.explore.embeddings import image_vectors, mask_vectors
from src_training.explore.patch_embeddings import PatchEmbedder
from src_training.inference.bn_adaptation import adapt_batch_norm
from src_training.inference.image_threshold import expected_dice_threshold, quantise
from src_training.networks import build_network


def domain(name="scans", masks=True, fovs=None, seed=0):
    random = np.random.default_rng(seed)
    images = [random.random((70, 40)), random.random((20, 33))]
    labels = [(image > 0.5).astype(np.uint8) for image in images] if masks else None
    return Domain.from_arrays(name, images, labels, fovs, names=["tall", "small"])


@pytest.fixture
def model(tiny_model):
    made = tiny_model()
    made.card = made.card.model_copy(update={"augmentation": Augmentation()})
    return made


@pytest.fixture
def autoencoder():
    torch.manual_seed(5)
    return SemanticAutoencoder(1, patch=32, width=2, latent=3, hidden=4).eval()


def table_of(*arguments, **options):
    *_, last = extract(*arguments, **options)
    return last.table


def first_image(model):
    return next(prepared_images(domain(), model.card.preprocessing))


def test_each_image_is_told_and_the_last_brings_the_table(model):
    told = list(extract(model, [domain(), domain("other")]))
    assert [(each.done, each.total) for each in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each.table is None for each in told] == [True, True, True, False]
    assert isinstance(told[0], Extracted) and len(told[-1].table) == 6


def test_rows_are_the_vectors_that_fsd_compares(model, autoencoder):
    found = table_of(model, [domain()], autoencoder=autoencoder)
    images, masks = found.where(kind="image"), found.where(kind="mask")
    expected = image_vectors(model, domain())
    np.testing.assert_allclose(images.values, expected.values, atol=1e-6)
    assert images.cases == expected.cases and np.array_equal(images.corners, expected.corners)
    priors = mask_vectors(autoencoder, domain(), model.card.preprocessing, 32)
    np.testing.assert_allclose(masks.values, priors.values, atol=1e-6)
    assert np.array_equal(masks.corners, priors.corners) and np.isnan(masks.dice).all()
    assert set(found.domains) == {"scans"}


def test_areas_and_dice_are_those_of_the_patch(model):
    found, scans = table_of(model, [domain()]), domain()
    for row, case in enumerate(found.cases):
        prepared = scans[scans.names.index(case)]
        top, left = found.corners[row]
        window = (slice(top, top + 32), slice(left, left + 32))
        mask = prepared.mask[window]
        assert found.areas[row, 0] == pytest.approx(mask.mean())
        pixels = np.zeros((1, 1, 32, 32), np.float32)
        seen = model.card.preprocessing.prepare(prepared.image).pixels[0][window]
        pixels[0, 0, : seen.shape[0], : seen.shape[1]] = seen
        with torch.no_grad():
            maps = model.network(torch.from_numpy(pixels)).softmax(1)[0].numpy()
        maps = maps[:, : seen.shape[0], : seen.shape[1]]
        assert found.dice[row] == pytest.approx(score(maps, mask)["dice"])


def test_dice_is_by_the_statistics_and_the_threshold_of_the_whole_image(model):
    model.network.head.bias.data[1] -= 1
    update = {"bn_mixing": 1.0, "per_image_threshold": True, "threshold": 0.01}
    plain = table_of(model, [domain()])
    model.card = model.card.model_copy(update=update)
    found, scans = table_of(model, [domain()], views=2), domain()
    tall = found.where(view=0).corners[:2]
    pixels = model.card.preprocessing.prepare(scans[0].image).pixels
    windows = [(slice(top, top + 32), slice(left, left + 32)) for top, left in tall]
    stack = torch.from_numpy(np.stack([pixels[:, rows, columns] for rows, columns in windows]))
    with torch.no_grad():
        adapted = adapt_batch_norm([stack], model.network, 1.0)
        maps = adapted(stack).softmax(1).numpy()
    threshold = expected_dice_threshold(quantise(np.concatenate(list(maps[:, 1]))))
    for each, window, row in zip(maps, windows, (0, 3), strict=True):
        labels, mask = each[1] >= threshold, scans[0].mask[window] == 1
        assert found.dice[row] == pytest.approx(
            2 * (labels & mask).sum() / (labels.sum() + mask.sum())
        )
    np.testing.assert_allclose(found.where(view=0).values, plain.values, atol=1e-6)
    assert not np.allclose(found.where(view=0).dice, plain.dice)


def test_what_lies_outside_the_field_of_view_counts_for_nothing(model):
    fov = np.zeros((70, 40), bool)
    fov[:20] = True
    found = table_of(model, [domain(fovs=[fov, None])])
    mask = domain()[0].mask
    assert found.areas[0, 0] == pytest.approx(mask[2:20, 4:36].mean())
    blind = table_of(model, [domain(fovs=[np.zeros((70, 40), bool), None])])
    assert np.isnan(blind.dice[:2]).all() and np.isnan(blind.areas[:2]).all()


def test_without_masks_areas_and_dice_are_unknown(model, autoencoder):
    found = table_of(model, [domain(masks=False)], autoencoder=autoencoder)
    assert np.isnan(found.areas).all() and np.isnan(found.dice).all()
    assert set(found.kinds) == {"image"} and found.areas.shape == (3, 1)


def test_views_follow_their_patch_and_are_the_same_every_time(model):
    found = table_of(model, [domain()], views=2)
    assert found.views.tolist() == [0, 1, 2] * 3
    assert found.corners.tolist() == [[2, 4]] * 3 + [[36, 4]] * 3 + [[0, 0]] * 3
    again = table_of(model, [domain()], views=2)
    np.testing.assert_array_equal(found.values, again.values)
    other = table_of(model, [domain()], views=2, seed=1)
    np.testing.assert_allclose(found.where(view=0).values, other.where(view=0).values, atol=1e-6)
    assert not np.allclose(found.where(view=1).values, other.where(view=1).values)
    np.testing.assert_allclose(
        found.where(view=0).values, table_of(model, [domain()]).values, atol=1e-6
    )


def test_views_leave_the_generator_as_it_was(model):
    before = torch.random.get_rng_state()
    table_of(model, [domain()], views=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_view_can_be_shown_again_by_its_corner(model):
    found = table_of(model, [domain()], views=2)
    encoder = PatchEmbedder(model, views=2)
    shown = encoder.patch(first_image(model), (36, 4))
    with torch.no_grad():
        vectors = model.semantics(model.network.encode(torch.from_numpy(shown.images))[1])
    np.testing.assert_allclose(found.values[3:6], vectors.numpy(), atol=1e-6)
    assert shown.images.shape == (3, 1, 32, 32) and shown.images.dtype == np.float32


def unstyled(**moved):
    """Views that differ by how they lie alone."""
    still = dict.fromkeys(("brightness", "contrast", "gamma", "blur", "noise", "illumination"), 0)
    return Augmentation(resolution=1, **still, **moved)


def test_the_mask_of_a_view_is_turned_with_it(model):
    model.card = model.card.model_copy(update={"augmentation": unstyled()})
    shown = PatchEmbedder(model, views=20).patch(first_image(model), (2, 4))
    # The mask is where the image is above a half of its range.
    image = first_image(model).case.image
    half = (0.5 - image.min()) / (image.max() - image.min())
    np.testing.assert_array_equal(shown.images[:, 0] > half, shown.mask == 1)
    assert len({view.tobytes() for view in shown.images}) > 4
    assert shown.fov.all()


@pytest.mark.parametrize(
    ("moved", "count"),
    [
        ({"flips": False, "turn": 15}, 1),
        ({"flips": False, "turn": 90}, 3),
        ({"flips": False}, 4),
        ({"turn": 15}, 2),
        ({}, 8),
    ],
)
def test_views_lie_as_the_augmentation_lets_them(model, moved, count):
    model.card = model.card.model_copy(update={"augmentation": unstyled(**moved)})
    shown = PatchEmbedder(model, views=80).patch(first_image(model), (2, 4))
    assert len({view.tobytes() for view in shown.images.round(4)}) == count


def test_what_was_extracted_is_stale_where_a_neighbouring_slice_is_another(tiny_model, tmp_path):
    model = tiny_model()
    how = model.card.preprocessing.model_copy(update={"neighbours": 3})
    wide = build_network("fanet", 3, 2, width=2).eval()
    model.card = model.card.model_copy(update={"preprocessing": how, "in_channels": 3})
    model.network = wide
    model.sha256 = "of no file"
    slices = list(np.random.default_rng(0).random((3, 40, 40)))

    def extracted():
        scans = Domain.from_arrays("scans", slices, names=["ct_z0", "ct_z1", "ct_z2"])
        *_, last = extract(model, [scans], cache=tmp_path)
        return last

    first = extracted()
    assert extracted().kept == 3
    slices[2] = slices[2].T.copy()
    last = extracted()
    assert last.kept == 1
    np.testing.assert_array_equal(last.table.values[0], first.table.values[0])
    assert not np.allclose(last.table.values[1], first.table.values[1])


def test_what_was_extracted_is_read_again(model, autoencoder, tmp_path, monkeypatch):
    model.save(tmp_path / "model.safetensors")
    cache, options = tmp_path / "cache", {"views": 1, "autoencoder": autoencoder}
    made = table_of(model, [domain()], cache=cache, **options)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(PatchEmbedder, "rows", None)
    read = table_of(model, [domain("renamed")], cache=cache, **options)
    for name in ("values", "corners", "views", "areas", "dice"):
        np.testing.assert_array_equal(getattr(made, name), getattr(read, name))
    assert read.kinds == made.kinds and read.cases == made.cases
    assert set(read.domains) == {"renamed"}


def test_whatever_the_rows_depend_on_makes_them_anew(model, autoencoder, tmp_path):
    model.save(tmp_path / "model.safetensors")
    cache = tmp_path / "cache"
    other = copy.deepcopy(autoencoder)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    for options in ({}, {"views": 1}, {"views": 1, "seed": 1}, {"autoencoder": autoencoder}):
        table_of(model, [domain()], cache=cache, **options)
    table_of(model, [domain()], cache=cache, autoencoder=other)
    table_of(model, [domain(masks=False)], cache=cache)
    table_of(model, [domain(seed=1)], cache=cache)
    assert len(list(cache.iterdir())) == 7 * 2
    # A seed without views changes nothing.
    table_of(model, [domain()], cache=cache, seed=9)
    assert len(list(cache.iterdir())) == 7 * 2


def test_a_stop_keeps_the_images_that_were_done_and_a_broken_file_is_made_anew(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    cache = tmp_path / "cache"
    begun = extract(model, [domain()], cache=cache)
    next(begun)
    begun.close()
    [file] = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(
        table_of(model, [domain()], cache=cache).values, table_of(model, [domain()]).values
    )
    assert file.read_bytes()[:2] == b"PK" and len(file.read_bytes()) == len(whole)


def test_a_model_that_was_never_saved_is_not_cached(model, tmp_path):
    table_of(model, [domain()], cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_rows_are_taken_by_index_and_by_mask(model):
    found = table_of(model, [domain(), domain("other", masks=False)])
    taken = found.take([4, 0])
    assert taken.domains == ("other", "scans")
    np.testing.assert_array_equal(taken.values, found.values[[4, 0]])
    assert len(found.take(np.isnan(found.dice))) == 3 and len(found.take([])) == 0
    assert joined([found.take([0, 1]), found.take([2])]).cases == found.cases[:3]


def test_the_table_is_saved_as_csv(model, tmp_path):
    found = table_of(model, [domain(), domain("a, b", masks=False)], views=1)
    found.save_csv(tmp_path / "vectors.csv")
    rows = list(csv.DictReader((tmp_path / "vectors.csv").read_text().splitlines()))
    assert list(rows[0])[:8] == ["domain", "case", "kind", "view", "top", "left", "dice", "area_1"]
    assert len(rows) == 12 and rows[-1]["domain"] == "a, b" and rows[-1]["dice"] == ""
    assert (rows[1]["view"], rows[1]["top"], rows[1]["left"]) == ("1", "2", "4")
    values = [[float(row[f"z_{i}"]) for i in range(3)] for row in rows]
    np.testing.assert_allclose(values, found.values, rtol=1e-8)


def test_one_image_of_one_patch_is_a_table_of_one_row(model):
    alone = Domain.from_arrays("one", [np.random.default_rng(0).random((20, 20))])
    assert len(table_of(model, [alone])) == 1


def test_what_cannot_be_extracted_is_said_in_one_sentence(tiny_model, model):
    def refused(words, *arguments, **options):
        with pytest.raises(InputError, match=words):
            list(extract(*arguments, **options))

    refused("model tiny has no semantic encoder", tiny_model(semantics=False), [domain()])
    refused("card of model tiny has no augmentation", tiny_model(), [domain()], views=1)
    refused("views is -1", model, [domain()], views=-1)
    refused("no domain was given", model, [])
    refused("two domains are called scans", model, [domain(), domain()])
    three = Domain.from_arrays("w", [np.eye(20)], [np.full((20, 20), 2)], None, ("b", "c", "d"))
    refused("w/000: the mask holds class 2; expected the 2 classes", model, [three])
    for made, words in (
        (SemanticAutoencoder(2, 32, 2, 3, 4), "classes is 3; expected 2"),
        (SemanticAutoencoder(1, 64, 2, 3, 4), "patch is 64; expected 32"),
        (SemanticAutoencoder(1, 32, 2, 5, 4), "latent size is 5; expected 3"),
    ):
        refused(words, model, [domain()], autoencoder=made.eval())
