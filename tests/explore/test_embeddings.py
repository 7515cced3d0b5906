import numpy as np
import pytest
import torch

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.domain import Domain
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.errors import InputError
from src_training.explore.embeddings import image_vectors, mask_vectors


def domain(masks=True, size=(70, 40)):
    random = np.random.default_rng(0)
    images = [random.random(size), random.random((20, 33))]
    labels = [(image > 0.5).astype(np.uint8) for image in images] if masks else None
    return Domain.from_arrays("scans", images, labels, names=["tall", "small"])


def test_each_patch_has_a_vector_and_tells_where_it_lies(tiny_model):
    found = image_vectors(tiny_model(), domain(masks=False))
    assert found.cases == ("tall", "tall", "small")
    assert found.values.shape == (3, 3) and found.values.dtype == np.float64
    assert found.corners.tolist() == [[2, 4], [36, 4], [0, 0]]
    assert np.isfinite(found.values).all()


def test_a_vector_is_the_encoders_of_the_bottleneck_of_its_patch(tiny_model):
    model, scans = tiny_model(), domain(masks=False)
    found = image_vectors(model, scans)
    for row, case, (top, left) in zip(found.values, found.cases, found.corners, strict=True):
        pixels = model.card.preprocessing.prepare(scans[scans.names.index(case)].image).pixels
        patch = torch.zeros(1, 1, 32, 32)
        window = torch.from_numpy(pixels[:, top : top + 32, left : left + 32])
        patch[0, :, : window.shape[1], : window.shape[2]] = window
        with torch.no_grad():
            expected = model.semantics(model.network.encode(patch)[1])[0]
        assert np.allclose(row, expected.numpy(), atol=1e-5)


def test_the_same_images_have_the_same_vectors(tiny_model):
    model = tiny_model()
    first, second = (image_vectors(model, domain()).values for _ in range(2))
    assert np.array_equal(first, second)


def test_masks_have_vectors_at_the_same_places(tiny_model):
    autoencoder = SemanticAutoencoder(1, patch=32, width=2, latent=3, hidden=4).eval()
    preprocessing = IntensityPreprocessing(percentiles=(0, 100))
    found = mask_vectors(autoencoder, domain(), preprocessing, 32)
    images = image_vectors(tiny_model(), domain())
    assert found.values.shape == images.values.shape and found.cases == images.cases
    assert np.array_equal(found.corners, images.corners)


def test_what_has_no_vectors_is_said_in_one_sentence(tiny_model):
    with pytest.raises(InputError, match="model tiny has no semantic encoder"):
        image_vectors(tiny_model(semantics=False), domain())
    autoencoder = SemanticAutoencoder(1, patch=32, width=2, latent=3, hidden=4)
    with pytest.raises(InputError, match="scans has images without mask"):
        mask_vectors(
            autoencoder, domain(masks=False), IntensityPreprocessing(percentiles=(0, 100)), 32
        )
    broken = Domain.from_arrays("scans", [np.full((8, 8), np.inf)], names=["first"])
    with pytest.raises(InputError, match="scans/first: the image has 64 values"):
        image_vectors(tiny_model(), broken)
