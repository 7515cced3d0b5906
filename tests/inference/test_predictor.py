import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src_training.data.preprocessing import IntensityPreprocessing
from src_training.data.preprocessing.geometry import PADDING
from src_training.data.slice_context import neighbouring
from src_training.device import find_device
from src_training.errors import InputError
from src_training.inference.image_files import segment_file
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.sliding_window import BlendedMaps, round_up, sliding_windows, tile_shape

RADIUS = 12  # upper bound of the receptive field's radius of the tiny network, pixels
shared_fixture = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(height=90, width=117, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width)).astype(np.uint8)


def fundus(height=150, width=180, radius=70):
    y, x = np.ogrid[:height, :width]
    disc = np.hypot(y - height / 2, x - width / 2) < radius
    red_to_blue = np.array([1.0, 0.6, 0.3])
    grain = np.random.default_rng(0).integers(120, 220, (height, width, 1))
    return (grain * disc[..., None] * red_to_blue).astype(np.uint8), disc


def whole_pass(model, image):
    """The same without a Predictor: prepare, one pass with padding, map back."""
    prepared = model.card.preprocessing.prepare(image)
    with torch.no_grad():
        padded = F.pad(torch.from_numpy(prepared.pixels)[None], [PADDING] * 4)
        logits = model.network(padded)[..., PADDING:-PADDING, PADDING:-PADDING]
    return prepared.geometry.to_original(logits.softmax(1)[0].numpy())


def inner_borders(size, windows, whole):
    """Pixels within reach of a border of a tile, which may lie in the padding."""
    near = np.zeros(size, bool)
    for window in windows:
        for axis, part in enumerate(window):
            for edge in (part.start, part.stop):
                if 0 < edge < whole[axis]:
                    band = slice(max(edge - PADDING - RADIUS, 0), max(edge - PADDING + RADIUS, 0))
                    near[(slice(None),) * axis + (band,)] = True
    return near


def test_one_tile_is_the_pass_over_the_whole_image(tiny_model):
    model = tiny_model()
    found = Predictor(model, "cpu").predict(picture())
    np.testing.assert_allclose(found, whole_pass(model, picture()), atol=1e-5)


@shared_fixture
@given(st.integers(60, 130), st.integers(60, 130), st.integers(30, 70))
def test_tiles_agree_with_the_whole_away_from_their_borders(tiny_model, height, width, side):
    model, image = tiny_model(), picture(height, width)
    found = Predictor(model, "cpu", tile=side, batch=1).predict(image)
    size = (height + 2 * PADDING, width + 2 * PADDING)
    whole = tuple(round_up(length, 4) for length in size)
    windows = sliding_windows(size, tile_shape(size, side, 32, 4), 0.25, 4)
    away = ~inner_borders(image.shape, windows, whole)
    assert len(windows) == 1 or not away.all()
    difference = np.abs(found - whole_pass(model, image))[:, away]
    assert difference.size == 0 or difference.max() <= 1e-4


@given(*[st.integers(1, 400)] * 2, st.integers(1, 200), st.floats(0, 0.95), st.sampled_from([1, 8]))
def test_windows_cover_the_image_at_multiples_of_the_stride(height, width, side, overlap, stride):
    size = (height, width)
    tile = tile_shape(size, side, 64, stride)
    covered = np.zeros([round_up(length, stride) for length in size], bool)
    for window in sliding_windows(size, tile, overlap, stride):
        assert all(part.start % stride == 0 for part in window)
        assert covered[window].shape == tile
        covered[window] = True
    assert covered.all()


def test_enet_in_tiles_agrees_deep_inside_the_tiles():
    torch.manual_seed(0)
    card = ModelCard(
        name="enet",
        architecture="enet",
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing=IntensityPreprocessing(percentiles=(0, 100)),
        patch=256,
    )
    model, image = SegmentationModel(card, card.build().eval()), picture(128, 1024)
    found = Predictor(model, "cpu", tile=640, batch=1).predict(image)
    difference = np.abs(found - whole_pass(model, image))[..., :120]
    # Rounding errors can move the position of a maximum, which changes the unpooling.
    assert (difference > 1e-4).mean() < 0.002


@pytest.mark.parametrize("kind", ["intensity", "fundus"])
@pytest.mark.parametrize("diameter", [64, 96, 300])
def test_regions_paste_together_to_the_whole_map(tiny_model, kind, diameter):
    model = tiny_model(kind, **({"diameter": diameter} if kind == "fundus" else {}))
    image, disc = fundus()
    prepared = model.card.preprocessing.prepare(image, disc)
    with torch.inference_mode():
        pixels = model.network.pad(torch.from_numpy(prepared.padded)[None])
        blended = BlendedMaps(2, tuple(pixels.shape[2:]), (40, 40))
        for window in sliding_windows(tuple(pixels.shape[2:]), (40, 40), 0.25, 4):
            blended.add(model.network(pixels[:, :, *window]).softmax(1), [window])
    height, width = prepared.geometry.prepared
    inside = (slice(PADDING, PADDING + height), slice(PADDING, PADDING + width))
    expected = prepared.geometry.to_original(blended.read(inside))
    found = Predictor(model, "cpu", tile=40, batch=3).predict(image, disc)
    np.testing.assert_allclose(found[:, disc], expected[:, disc], atol=1e-5)


def test_progress_grows_to_the_whole_image(tiny_model):
    tiled = Predictor(tiny_model(), "cpu", tile=40, batch=2)
    seen = np.zeros((90, 117), bool)
    for progress in tiled.tiles(picture()):
        assert progress.probabilities.shape == (2, *seen[progress.region].shape)
        assert progress.probabilities.dtype == np.float32
        seen[progress.region] = True
    assert seen.all() and progress.done == progress.total > 4


def test_where_no_tile_has_been_the_background_is_certain(tiny_model):
    tiled = Predictor(tiny_model(), "cpu", tile=40, batch=4)
    first = next(iter(tiled.tiles(picture())))
    np.testing.assert_allclose(first.probabilities.sum(0), 1, atol=1e-5)


def test_closing_stops_at_the_next_batch(tiny_model):
    model, passes = tiny_model(), []
    model.network.register_forward_hook(lambda *_: passes.append(1))
    tiles = Predictor(model, "cpu", tile=40, batch=1).tiles(picture())
    next(tiles)
    tiles.close()
    assert len(passes) == 1


def test_inference_mode_does_not_leak_to_the_caller(tiny_model):
    for _ in Predictor(tiny_model(), "cpu", tile=40).tiles(picture()):
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("given_fov", [True, False])
def test_outside_the_field_of_view_all_is_background(tiny_model, given_fov):
    image, disc = fundus()
    found = Predictor(tiny_model("fundus"), "cpu").predict(image, disc if given_fov else None)
    # A field of view that is found follows the rim to within its smoothing.
    outside = ~disc if given_fov else ~fundus(radius=76)[1]
    assert (found[0, outside] == 1).all() and (found[1, outside] == 0).all()
    assert found[1, disc].max() > 0
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_flips_average_the_four_mirrored_passes(tiny_model):
    model, image = tiny_model(), picture(64, 64)
    mirrored = [
        np.flip(Predictor(model, "cpu").predict(np.flip(image, axes)), [1 + a for a in axes])
        for axes in [(), (0,), (1,), (0, 1)]
    ]
    found = Predictor(model, "cpu", flips=True).predict(image)
    np.testing.assert_allclose(found, np.mean(mirrored, 0), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 5), (41, 40)])
def test_any_size_comes_back_in_its_size(tiny_model, size):
    image = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    for tile in (None, 16):
        found = Predictor(tiny_model(classes=3), "cpu", tile=tile).predict(image)
        assert found.shape == (3, *size) and np.isfinite(found).all()


def test_the_default_tile_is_the_whole_up_to_two_megapixels():
    assert tile_shape((1536, 1536), None, 32, 4) == (1536, 1536)
    assert tile_shape((1537, 1536), None, 32, 4) == (512, 512)
    assert tile_shape((1537, 1536), None, 640, 4) == (640, 640)
    assert tile_shape((300, 9000), None, 32, 4) == (300, 512)


def test_labels_follow_the_threshold_or_the_most_probable_class():
    two = np.array([[[0.6, 0.5, 0.3]], [[0.4, 0.5, 0.7]]], np.float32)
    assert labels_from(two, 0.5).tolist() == [[0, 1, 1]]
    assert labels_from(two, 0.4).tolist() == [[1, 1, 1]]
    three = np.array([[[0.2]], [[0.3]], [[0.5]]], np.float32)
    assert labels_from(three, 0.9).tolist() == [[2]] and labels_from(three, 0.9).dtype == np.uint8


def test_a_device_that_does_not_exist_is_refused():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in {"cuda", "mps", "cpu"}
    for absent in ("cuda:99", "tpu", ""):
        with pytest.raises(InputError, match="expected auto or one of"):
            find_device(absent)


@pytest.mark.parametrize("options", [{"tile": 0}, {"batch": 0}])
def test_numbers_out_of_range_are_refused(tiny_model, options):
    with pytest.raises(InputError, match=next(iter(options))):
        Predictor(tiny_model(), "cpu", **options)


@pytest.mark.parametrize("kind", ["intensity", "fundus"])
def test_a_field_of_view_of_another_size_is_refused(tiny_model, kind):
    with pytest.raises(InputError, match="field of view has shape"):
        Predictor(tiny_model(kind), "cpu").predict(picture(), np.ones((4, 4), bool))


def test_a_half_channels_last_gpu_agrees_with_the_cpu(tiny_model):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    image = picture(300, 400)
    on_cpu = Predictor(tiny_model(), "cpu", tile=128).predict(image)
    on_gpu = Predictor(tiny_model(), "cuda", tile=128).predict(image)
    assert np.abs(on_cpu - on_gpu).mean() < 0.01


def test_a_network_sees_an_image_in_a_dark_frame(tiny_model):
    model, seen = tiny_model(), []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    Predictor(model, "cpu").predict(np.arange(1, 4001, dtype=np.uint16).reshape(50, 80))
    frame = torch.ones(seen[0].shape[-2:], dtype=bool)
    frame[PADDING : PADDING + 50, PADDING : PADDING + 80] = False
    assert not seen[0][0, 0][frame].any() and frame[:PADDING].all() and frame[:, :PADDING].all()
    assert (seen[0][0, 0][~frame] > 0).sum() == 50 * 80 - 1


@pytest.mark.parametrize("side", [None, 48])
def test_neighbouring_slices_keep_the_pixels_of_the_slice(tiny_model, side):
    model = tiny_model("window", window=(0, 100), neighbours=3, side=side)
    slices = np.random.default_rng(0).uniform(-50, 150, (64, 80, 3)).astype(np.float32)
    maps = Predictor(model, "cpu").predict(slices)
    assert maps.shape == (2, 64, 80)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)
    turned = Predictor(model, "cpu").predict(slices[..., ::-1])
    assert not np.allclose(maps, turned), "the order of the slices counts"
    alone = Predictor(model, "cpu").predict(slices[..., 1])
    repeated = Predictor(model, "cpu").predict(np.repeat(slices[..., 1:2], 3, -1))
    np.testing.assert_array_equal(alone, repeated)


def test_a_stack_in_a_file_is_segmented_with_its_neighbours(tiny_model, tmp_path):
    predictor = Predictor(tiny_model("window", window=(0, 100), neighbours=3), "cpu")
    stack = np.random.default_rng(0).integers(-50, 150, (3, 24, 32)).astype(np.int16)
    tifffile.imwrite(tmp_path / "ct.tif", stack, photometric="minisblack")
    written = segment_file(predictor, tmp_path / "ct.tif", tmp_path / "labels").labels
    for z, labels in enumerate(tifffile.imread(written)):
        maps = predictor.predict(neighbouring(stack, z, 3))
        np.testing.assert_array_equal(labels, labels_from(maps, 0.5))
