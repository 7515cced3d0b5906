"""Maps of an image: values and positions."""

import numpy as np
import pytest
import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import FundusPreprocessing, IntensityPreprocessing
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.gkd.dicd import cross_predictions as training_predictions
from src_training.errors import InputError
from src_training.explore.feature_maps import (
    cross_predictions,
    feature_maps,
    reconstruct_bottleneck,
)
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks import NETWORKS, build_network
from tests.small_networks import SMALL_OPTIONS

SIDE = 32
ROLES = pytest.mark.parametrize("role", ["teacher", "student"])


MINMAX = IntensityPreprocessing(percentiles=(0, 100))


def pair(how=MINMAX):
    torch.manual_seed(0)
    teacher = build_network("fanet", 1, 2, width=2).eval()
    student = build_network("enet", 1, 2).eval()
    tan, san = (AlignmentNetwork(c, (4, 4), 6, 4).eval() for c in (16, 128))
    return TeacherStudentPair(teacher, tan, student, san, how, Augmentation(), SIDE, True)


def model(network="fanet", how=MINMAX, **options):
    torch.manual_seed(0)
    card = ModelCard(
        name="mine",
        architecture=network,
        options=options,
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing=how,
        patch=SIDE,
    )
    return SegmentationModel(card, card.build().eval())


def picture(size=(SIDE, SIDE), seed=0):
    image = np.random.default_rng(seed).random(size, np.float32)
    image.flat[:2] = 0, 1
    return image


def disc(radius, size=(120, 160)):
    """The disc (H, W) of a field of view."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - 62) ** 2 + (columns - 90) ** 2 < radius**2


def fundus():
    inside = disc(50)
    return np.where(inside, 80 + 100 * picture(inside.shape), 0).astype(np.uint8)


def tensor(image):
    return torch.from_numpy(image)[None, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tap_of_every_network_can_be_shown(name):
    found, image = model(name, **SMALL_OPTIONS.get(name, {})), picture((41, 50))
    for tap in found.network.taps:
        maps = feature_maps(found, image, tap)
        assert maps.maps.dtype == np.float32 and np.isfinite(maps.maps).all()
        height, width = maps.maps.shape[1:]
        assert height * maps.scale[0] >= 41 and width * maps.scale[1] >= 50
        assert maps.scale[0] == maps.scale[1]
    with torch.no_grad():
        expected = found.network.encode(tensor(image))[1][0]
    assert np.allclose(feature_maps(found, image, "bottleneck").maps, expected, atol=1e-6)


def test_energy_is_the_mean_square_over_channels():
    maps = feature_maps(model(), picture(), "decoder_half")
    expected = [[(maps.maps[:, i, j] ** 2).mean() for j in range(16)] for i in range(16)]
    assert maps.energy.shape == (16, 16) and np.allclose(maps.energy, expected)


@pytest.mark.parametrize("tap", ["encoder_half", "bottleneck"])
def test_maps_lie_where_their_pixels_came_from(tap):
    image = fundus()
    found = model(how=FundusPreprocessing(diameter=72))
    maps = feature_maps(found, image, tap)
    geometry = found.card.preprocessing.prepare(image).geometry
    # Position of each original pixel on the prepared grid, by `Geometry.to_original`.
    height, width = geometry.prepared
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    prepared = geometry.to_original(grid.astype(np.float32))
    cell = 2 if tap == "encoder_half" else 8
    for axis in (0, 1):
        for index in range(2, maps.maps.shape[1 + axis] - 2):
            place = maps.translate[axis] + index * maps.scale[axis]
            line = prepared[0][:, 90] if axis == 0 else prepared[1][62]
            found_at = np.interp(place, np.arange(len(line)), line)
            assert found_at == pytest.approx((index + 0.5) * cell - 0.5, abs=0.1)


def test_a_map_begins_at_the_centre_of_its_first_pixel():
    maps = feature_maps(model(), picture((64, 48)), "bottleneck")
    assert maps.scale == (8, 8) and maps.translate == (3.5, 3.5)


@ROLES
@torch.no_grad()
def test_one_patch_is_reconstructed_by_its_alignment_network(role):
    networks, image = pair(), picture()
    found = reconstruct_bottleneck(networks, role, image)
    network, alignment = (
        (networks.teacher, networks.tan) if role == "teacher" else (networks.student, networks.san)
    )
    bottleneck = network.encode(tensor(image))[1]
    again = alignment(bottleneck)
    assert np.allclose(found.bottleneck.maps, bottleneck[0], atol=1e-5)
    assert np.allclose(found.reconstructed.maps, again[0], atol=1e-5)
    difference = (again - bottleneck)[0].numpy()
    assert np.allclose(found.error, (difference**2).mean(0), atol=1e-5)
    share = (difference**2).sum() / (bottleneck.numpy() ** 2).sum()
    assert found.relative_error == pytest.approx(share, rel=1e-4)


@ROLES
def test_reconstructions_cover_an_image_of_any_size(role):
    found = reconstruct_bottleneck(pair(), role, picture((75, 40)))
    assert found.error.shape == (10, 5) and np.isfinite(found.reconstructed.maps).all()
    assert found.reconstructed.scale == (8, 8) and found.bottleneck.translate == (3.5, 3.5)


def test_cross_predictions_are_those_of_training():
    networks, image = pair(), picture()
    with torch.no_grad():
        passes = []
        for network, alignment in (
            (networks.teacher, networks.tan),
            (networks.student, networks.san),
        ):
            skips, bottleneck = network.encode(tensor(image))
            logits = network.decode(skips, bottleneck)
            passes.append(ForwardOutputs(network, alignment, skips, bottleneck, logits, bottleneck))
        logits = [each.logits for each in passes] + list(training_predictions(*passes))
    found = cross_predictions(networks, image)
    maps = (found.teacher, found.student, found.p1, found.p2)
    for expected, probabilities in zip(logits, maps, strict=True):
        assert probabilities.shape == (2, SIDE, SIDE) and probabilities.dtype == np.float32
        assert np.allclose(probabilities, expected[0].softmax(0), atol=1e-5)


def test_predictions_are_background_outside_the_field_of_view():
    image = fundus()
    found = cross_predictions(pair(FundusPreprocessing(diameter=64)), image)
    for maps in (found.teacher, found.student, found.p1, found.p2):
        assert maps.shape == (2, *image.shape)
        assert np.allclose(maps.sum(0), 1, atol=1e-5)
        assert (maps[0, ~disc(54)] == 1).all() and maps[0, disc(40)].mean() < 1


def test_patches_are_stitched_where_they_were_cut():
    networks, image = pair(), picture((64, 44))
    found = reconstruct_bottleneck(networks, "teacher", image).bottleneck.maps
    padded = np.zeros((64, 48), np.float32)
    padded[:, :44] = image
    total, count = np.zeros((16, 8, 6)), np.zeros((8, 6))
    for top in (0, 32):
        for left in (0, 16):
            patch = tensor(padded[top : top + SIDE, left : left + SIDE])
            with torch.no_grad():
                bottleneck = networks.teacher.encode(patch)[1][0].numpy()
            place = (..., slice(top // 8, top // 8 + 4), slice(left // 8, left // 8 + 4))
            total[place] += bottleneck
            count[place] += 1
    assert np.allclose(found, total / count, atol=1e-5)


def test_unknown_taps_and_large_images_are_refused():
    with pytest.raises(InputError, match="mine has no tap 'sky'; expected one of encoder_half, "):
        feature_maps(model(), picture(), "sky")
    with pytest.raises(InputError, match="the prepared image is 2049 x 2048 pixels; expected"):
        feature_maps(model(), np.zeros((2049, 2048), np.uint8), "bottleneck")
