"""Maps over an image: the right features in the right place."""

import numpy as np
import pytest
import torch

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import FundusPreprocessing, IntensityPreprocessing
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.gkd import cross_predictions
from src_training.errors import InputError
from src_training.explore.feature_maps import cross, feature_maps, rebuilt, taps_of
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.explore.tiling import Mosaic
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


def eye(size=(120, 160), radius=50):
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = (rows - 62) ** 2 + (columns - 90) ** 2 < radius**2
    return np.where(inside, 80 + 100 * picture(size), 0).astype(np.uint8), inside


def tensor(image):
    return torch.from_numpy(image)[None, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tap_of_every_network_can_be_shown(name):
    found, image = model(name, **SMALL_OPTIONS.get(name, {})), picture((41, 50))
    for tap in taps_of(found):
        maps = feature_maps(found, image, tap)
        assert maps.maps.dtype == np.float32 and np.isfinite(maps.maps).all()
        height, width = maps.maps.shape[1:]
        assert height * maps.scale[0] >= 41 and width * maps.scale[1] >= 50
        assert maps.scale[0] == maps.scale[1]
    with torch.no_grad():
        expected = found.network.encode(tensor(image))[1][0]
    assert np.allclose(feature_maps(found, image, "bottleneck").maps, expected, atol=1e-6)


def test_energy_is_the_mean_square_over_the_channels():
    maps = feature_maps(model(), picture(), "decoder_half")
    expected = [[(maps.maps[:, i, j] ** 2).mean() for j in range(16)] for i in range(16)]
    assert maps.energy.shape == (16, 16) and np.allclose(maps.energy, expected)


@pytest.mark.parametrize("tap", ["encoder_half", "bottleneck"])
def test_maps_lie_where_their_pixels_came_from(tap):
    image, inside = eye()
    found = model(how=FundusPreprocessing(diameter=72))
    maps = feature_maps(found, image, tap, inside)
    geometry = found.card.preprocessing.prepare(image, inside).geometry
    # Where each original pixel lies on the prepared grid, by the way back itself.
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


def test_a_map_of_an_image_that_is_not_resized_begins_half_its_pixel_inside():
    maps = feature_maps(model(), picture((64, 48)), "bottleneck")
    assert maps.scale == (8, 8) and maps.translate == (3.5, 3.5)


@ROLES
@torch.no_grad()
def test_of_one_patch_the_header_rebuilds_what_the_alignment_network_does(role):
    networks, image = pair(), picture()
    found = rebuilt(networks, role, image)
    network, alignment = (
        (networks.teacher, networks.tan) if role == "teacher" else (networks.student, networks.san)
    )
    bottleneck = network.encode(tensor(image))[1]
    again = alignment(bottleneck)
    assert np.allclose(found.bottleneck.maps, bottleneck[0], atol=1e-5)
    assert np.allclose(found.rebuilt.maps, again[0], atol=1e-5)
    difference = (again - bottleneck)[0].numpy()
    assert np.allclose(found.error, (difference**2).mean(0), atol=1e-5)
    share = (difference**2).sum() / (bottleneck.numpy() ** 2).sum()
    assert found.share == pytest.approx(share, rel=1e-4)


@ROLES
def test_what_is_rebuilt_covers_an_image_of_any_size(role):
    found = rebuilt(pair(), role, picture((75, 40)))
    assert found.error.shape == (10, 5) and np.isfinite(found.rebuilt.maps).all()
    assert found.rebuilt.scale == (8, 8) and found.bottleneck.translate == (3.5, 3.5)


def test_who_decodes_whom_is_what_distillation_makes_of_it():
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
        logits = [each.logits for each in passes] + list(cross_predictions(*passes))
    found = cross(networks, image)
    maps = (found.teacher, found.student, found.first, found.second)
    for expected, probabilities in zip(logits, maps, strict=True):
        assert probabilities.shape == (2, SIDE, SIDE) and probabilities.dtype == np.float32
        assert np.allclose(probabilities, expected[0].softmax(0), atol=1e-5)


def test_predictions_lie_on_the_images_own_grid_and_outside_is_background():
    image, inside = eye()
    for fov in (None, inside):
        found = cross(pair(FundusPreprocessing(diameter=64)), image, fov)
        for maps in (found.teacher, found.student, found.first, found.second):
            assert maps.shape == (2, *image.shape)
            assert np.allclose(maps.sum(0), 1, atol=1e-5)
            assert (maps[0, :5] == 1).all()
    assert (found.first[0, ~inside] == 1).all()


@pytest.mark.parametrize("size", [(32, 32), (20, 33), (70, 100)])
@pytest.mark.parametrize("stride", [1, 8])
def test_patches_joined_again_are_the_image(size, stride):
    image = picture(size)[None]
    mosaic = Mosaic(image, SIDE, stride)
    patches = torch.cat(list(mosaic.batches()))
    assert patches.shape[1:] == (1, SIDE, SIDE)
    joined = mosaic.joined(patches)
    assert tuple(joined.shape[1:]) == mosaic.size
    assert np.allclose(joined[:, : size[0], : size[1]], image, atol=1e-6)
    assert not joined[:, size[0] :].any() and not joined[:, :, size[1] :].any()


def test_coarser_maps_are_joined_at_their_own_grain():
    image = picture((64, 40))[None]
    mosaic = Mosaic(image, SIDE, 8)
    means = torch.nn.functional.avg_pool2d(torch.cat(list(mosaic.batches())), 8)
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(image), 8)
    assert np.allclose(mosaic.joined(means), expected, atol=1e-6)


def test_what_cannot_be_shown_is_said_in_one_sentence():
    with pytest.raises(InputError, match="mine has no tap 'sky'; expected one of encoder_half, "):
        feature_maps(model(), picture(), "sky")
    with pytest.raises(InputError, match="the prepared image is 2049 x 2048 pixels; expected"):
        feature_maps(model(), np.zeros((2049, 2048), np.uint8), "bottleneck")
