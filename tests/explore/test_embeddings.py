"""Semantic vectors of patches, and the rows of the table."""

import numpy as np
import pytest
import torch

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.errors import InputError
from src_training.evaluation.metrics import score
from src_training.explore.embeddings import PatchEmbedder, image_vectors, mask_vectors
from src_training.inference.bn_adaptation import BatchNormAdaptation
from src_training.inference.image_threshold import expected_dice_threshold, quantise
from tests.explore.scans import domain, extracted


def patch_tensor(pixels, top, left):
    """A patch (1, 1, 32, 32) of prepared pixels, zeros beyond the image."""
    patch = torch.zeros(1, 1, 32, 32)
    window = torch.from_numpy(pixels[:, top : top + 32, left : left + 32])
    patch[0, :, : window.shape[1], : window.shape[2]] = window
    return patch


def test_image_vectors_are_those_of_each_bottleneck(model):
    scans = domain(masks=False)
    found, table = image_vectors(model, scans), extracted(model, [scans])
    assert found.shape == (3, 3) and found.dtype == np.float64
    assert table.corners.tolist() == [[2, 4], [36, 4], [0, 0]]
    assert table.cases == ("tall", "tall", "small")
    for row, case, corner in zip(found, table.cases, table.corners, strict=True):
        pixels = model.card.preprocessing.prepare(scans[scans.names.index(case)].image).pixels
        with torch.no_grad():
            expected = model.semantics(model.network.encode(patch_tensor(pixels, *corner))[1])[0]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


def test_the_same_images_have_the_same_vectors(model):
    first, second = (image_vectors(model, domain()) for _ in range(2))
    assert np.array_equal(first, second)


def test_mask_vectors_are_those_of_each_mask(autoencoder):
    scans = domain()
    found = mask_vectors(autoencoder, scans, IntensityPreprocessing(percentiles=(0, 100)), 32)
    mask = torch.zeros(3, 32, 32, dtype=torch.uint8)
    mask[0] = torch.from_numpy(scans[0].mask[2:34, 4:36])
    mask[1] = torch.from_numpy(scans[0].mask[36:68, 4:36])
    mask[2, :20] = torch.from_numpy(scans[1].mask[:, :32])
    with torch.no_grad():
        expected = autoencoder.vectors(mask)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_rows_are_the_vectors_that_fsd_compares(model, autoencoder):
    found = extracted(model, [domain()], autoencoder=autoencoder)
    images, masks = found.where(kind="image"), found.where(kind="mask")
    np.testing.assert_allclose(images.values, image_vectors(model, domain()), atol=1e-6)
    priors = mask_vectors(autoencoder, domain(), model.card.preprocessing, 32)
    np.testing.assert_allclose(masks.values, priors, atol=1e-6)
    assert masks.cases == images.cases and np.array_equal(masks.corners, images.corners)
    assert np.isnan(masks.dice).all() and set(found.domains) == {"scans"}


def test_areas_and_dice_are_those_of_the_patch(model):
    found, scans = extracted(model, [domain()]), domain()
    for row, case in enumerate(found.cases):
        scan = scans[scans.names.index(case)]
        top, left = found.corners[row]
        mask = scan.mask[top : top + 32, left : left + 32]
        assert found.areas[row, 0] == pytest.approx(mask.mean())
        pixels = model.card.preprocessing.prepare(scan.image).pixels
        with torch.no_grad():
            maps = model.network(patch_tensor(pixels, top, left)).softmax(1)[0].numpy()
        maps = maps[:, : mask.shape[0], : mask.shape[1]]
        assert found.dice[row] == pytest.approx(score(maps, mask)["dice"])


def test_dice_has_the_statistics_and_threshold_of_its_image(model):
    model.network.head.bias.data[1] -= 1
    update = {"bn_mixing": 1.0, "per_image_threshold": True, "threshold": 0.01}
    plain = extracted(model, [domain()])
    model.card = model.card.model_copy(update=update)
    found, scans = extracted(model, [domain()], views=2), domain()
    corners = found.where(view=0).corners[:2]
    pixels = model.card.preprocessing.prepare(scans[0].image).pixels
    stack = torch.cat([patch_tensor(pixels, top, left) for top, left in corners])
    with torch.no_grad():
        adapted = BatchNormAdaptation(model.network).adapt([stack], 1.0)
        maps = adapted(stack).softmax(1).numpy()
    threshold = expected_dice_threshold(quantise(np.concatenate(list(maps[:, 1]))))
    for each, (top, left), row in zip(maps, corners, (0, 3), strict=True):
        labels = each[1] >= threshold
        mask = scans[0].mask[top : top + 32, left : left + 32] == 1
        expected = 2 * (labels & mask).sum() / (labels.sum() + mask.sum())
        assert found.dice[row] == pytest.approx(expected)
    np.testing.assert_allclose(found.where(view=0).values, plain.values, atol=1e-6)
    assert not np.allclose(found.where(view=0).dice, plain.dice)


def test_only_the_field_of_view_counts(model):
    fov = np.zeros((70, 40), bool)
    fov[:20] = True
    found = extracted(model, [domain(fovs=[fov, None])])
    assert found.areas[0, 0] == pytest.approx(domain()[0].mask[2:20, 4:36].mean())
    empty = extracted(model, [domain(fovs=[np.zeros((70, 40), bool), None])])
    assert np.isnan(empty.dice[:2]).all() and np.isnan(empty.areas[:2]).all()


def test_without_masks_areas_and_dice_are_unknown(model, autoencoder):
    found = extracted(model, [domain(masks=False)], autoencoder=autoencoder)
    assert np.isnan(found.areas).all() and np.isnan(found.dice).all()
    assert set(found.kinds) == {"image"} and found.areas.shape == (3, 1)


def test_views_follow_their_patch_and_repeat_with_the_seed(model):
    found = extracted(model, [domain()], views=2)
    assert found.views.tolist() == [0, 1, 2] * 3
    assert found.corners.tolist() == [[2, 4]] * 3 + [[36, 4]] * 3 + [[0, 0]] * 3
    again = extracted(model, [domain()], views=2)
    np.testing.assert_array_equal(found.values, again.values)
    other, plain = extracted(model, [domain()], views=2, seed=1), extracted(model, [domain()])
    for same in (other, plain):
        np.testing.assert_allclose(found.where(view=0).values, same.where(view=0).values, atol=1e-6)
    assert not np.allclose(found.where(view=1).values, other.where(view=1).values)


def test_the_views_of_a_row_can_be_made_again(model):
    found = extracted(model, [domain()], views=2)
    image = next(prepare_cases(domain(), model.card.preprocessing))
    shown = PatchEmbedder(model, views=2).views(image, (36, 4))
    with torch.no_grad():
        vectors = model.semantics(model.network.encode(torch.from_numpy(shown.images))[1])
    np.testing.assert_allclose(found.values[3:6], vectors.numpy(), atol=1e-6)
    assert shown.images.shape == (3, 1, 32, 32) and shown.images.dtype == np.float32


def test_what_cannot_be_encoded_is_refused(tiny_model, model, autoencoder):
    with pytest.raises(InputError, match="model tiny has no semantic encoder"):
        image_vectors(tiny_model(semantics=False), domain())
    with pytest.raises(InputError, match="scans has images without mask"):
        mask_vectors(
            autoencoder, domain(masks=False), IntensityPreprocessing(percentiles=(0, 100)), 32
        )
    broken = Domain.from_arrays("scans", [np.full((8, 8), np.inf)], names=["first"])
    with pytest.raises(InputError, match="scans/first: the image has 64 values"):
        image_vectors(model, broken)
    with pytest.raises(InputError, match="views is -1"):
        PatchEmbedder(model, views=-1)


@pytest.mark.parametrize(
    ("foreground", "patch", "latent", "sentence"),
    [
        (2, 32, 3, "classes is 3; expected 2"),
        (1, 64, 3, "patch is 64; expected 32"),
        (1, 32, 5, "latent size is 5; expected 3"),
    ],
)
def test_an_autoencoder_of_another_model_is_refused(model, foreground, patch, latent, sentence):
    other = SemanticAutoencoder(foreground, patch, 2, latent, 4).eval()
    with pytest.raises(InputError, match=sentence):
        PatchEmbedder(model, autoencoder=other)


def test_views_need_the_augmentation_of_the_training(tiny_model):
    with pytest.raises(InputError, match="card of model tiny has no augmentation"):
        PatchEmbedder(tiny_model(), views=1)
