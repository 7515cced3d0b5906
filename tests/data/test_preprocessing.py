"""Preprocessing: range, geometry and its inverse, migration, and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter, ValidationError
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.filters import threshold_otsu

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    Preprocessing,
    WindowPreprocessing,
    migrate_preprocessing,
)
from src_training.data.preprocessing.field_of_view import (
    bounding_box,
    fill_holes,
    find_field_of_view,
)
from src_training.data.preprocessing.geometry import Geometry, resize
from src_training.errors import InputError

FUNDUS = FundusPreprocessing(diameter=64)
MINMAX = IntensityPreprocessing(percentiles=(0, 100))
KINDS = pytest.mark.parametrize(
    "preprocessing",
    [FUNDUS, MINMAX, IntensityPreprocessing(), WindowPreprocessing()],
    ids=lambda preprocessing: preprocessing.kind,
)
content = TypeAdapter(Preprocessing)
DTYPES = ["u1", "u2", "i2", "i4", "i8", "f2", "f4", "f8", "?"]


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    row, column = np.mgrid[: size[0], : size[1]]
    return np.hypot(row - centre[0], column - centre[1]) <= radius


@settings(deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_holes_are_filled_as_by_scipy(mask):
    np.testing.assert_array_equal(fill_holes(mask), binary_fill_holes(mask))


@settings(deadline=None, max_examples=60)
@given(
    image=st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])),
            elements={"min_value": 0, "max_value": 100} if dtype != "?" else None,
        )
    ),
    preprocessing=st.one_of(
        st.builds(FundusPreprocessing, diameter=st.just(64)),
        st.builds(
            IntensityPreprocessing,
            percentiles=st.sampled_from([(0, 100), (1, 99), (0, 50)]),
            channels=st.sampled_from([1, 3]),
            side=st.sampled_from([None, 32]),
        ),
        st.builds(
            WindowPreprocessing,
            window=st.sampled_from(["liver", (0, 255)]),
            channels=st.sampled_from([1, 3]),
            side=st.sampled_from([None, 32]),
        ),
    ),
)
def test_any_dtype_and_size_comes_out_finite_in_0_1(
    image: np.ndarray, preprocessing: Preprocessing
) -> None:
    prepared = preprocessing.prepare(image)
    assert prepared.pixels.dtype == np.float32
    assert prepared.pixels.shape == (preprocessing.in_channels, *prepared.fov.shape)
    assert prepared.geometry.prepared == prepared.fov.shape
    assert prepared.geometry.original == image.shape[:2]
    assert np.isfinite(prepared.pixels).all()
    assert prepared.pixels.min() >= 0
    assert prepared.pixels.max() <= 1 + 1e-6


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(2, 60), columns=st.integers(2, 60), scale=st.floats(0.3, 3), data=st.data())
def test_a_constant_map_comes_back_constant_inside_its_box(
    rows: int, columns: int, scale: float, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    box = (top, left, rows, columns)
    size = (max(1, round((rows - top) * scale)), max(1, round((columns - left) * scale)))
    geometry = Geometry((rows, columns), box, size)
    back = geometry.to_original(np.full((2, *size), 0.7, np.float32), outside=-1)
    assert back.shape == (2, rows, columns)
    inside = np.zeros((rows, columns), bool)
    inside[top:, left:] = True
    np.testing.assert_allclose(back[:, inside], 0.7, rtol=1e-5)
    assert (back[:, ~inside] == -1).all()


@given(
    image=hnp.arrays("u2", st.tuples(st.integers(1, 40), st.integers(1, 40))),
    preprocessing=st.sampled_from(
        [
            IntensityPreprocessing(percentiles=(0, 100)),
            IntensityPreprocessing(side=32),
            WindowPreprocessing(window=(0, 255), side=48),
        ]
    ),
)
def test_rows_and_columns_are_treated_alike(image, preprocessing) -> None:
    upright, transposed = preprocessing.prepare(image), preprocessing.prepare(image.T)
    assert transposed.geometry.prepared == upright.geometry.prepared[::-1]
    np.testing.assert_allclose(
        transposed.pixels, upright.pixels.transpose(0, 2, 1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("width", [1, 5])
def test_a_result_of_one_column_keeps_its_rows(width) -> None:
    column = np.random.default_rng(0).random((2, 22, width)).astype(np.float32)
    upright = resize(column.transpose(0, 2, 1), (1, 32)).transpose(0, 2, 1)
    np.testing.assert_allclose(resize(column, (32, 1)), upright, atol=1e-6)


@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))).filter(np.any))
def test_the_bounding_box_is_the_smallest_with_every_pixel(mask) -> None:
    top, left, bottom, right = bounding_box(mask)
    inside = mask[top:bottom, left:right]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any()
    assert inside[:, 0].any() and inside[:, -1].any()


def test_labels_there_and_probabilities_back_stay_in_place() -> None:
    fov = disc((200, 260), (95, 130), 85)
    labels = disc((200, 260), (80, 150), 30).astype(np.uint8) * 2
    image = np.where(fov, 120, 3).astype(np.uint8)
    geometry = FundusPreprocessing(diameter=128).prepare(image, fov).geometry
    there = geometry.to_prepared(labels)
    assert there.dtype == np.uint8
    assert set(np.unique(there)) == {0, 2}
    back = geometry.to_original((there[None] == 2).astype(np.float32))[0] >= 0.5
    overlap = (back & (labels == 2)).sum() / (back | (labels == 2)).sum()
    assert overlap > 0.95


def test_labels_keep_every_class_index() -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    same = Geometry((8, 8), (0, 0, 8, 8), (8, 8)).to_prepared(labels)
    np.testing.assert_array_equal(same, labels)


@pytest.mark.parametrize("size", [192, 256, 400])
def test_every_camera_comes_to_one_diameter(size: int) -> None:
    case = fundus_phantom(1, size, "B")
    prepared = FundusPreprocessing(diameter=160).prepare(case.image, case.fov)
    assert max(prepared.fov.shape) == 160
    assert prepared.fov.mean() == pytest.approx(np.pi / 4, abs=0.02)
    assert not prepared.pixels[0][~prepared.fov].any()


@pytest.mark.parametrize("scanner", ["A", "B", "C"])
def test_the_field_of_view_is_detected_where_it_is_missing(scanner: str) -> None:
    case = fundus_phantom(2, 256, scanner)
    preprocessing = FundusPreprocessing(diameter=128)
    with_fov = preprocessing.prepare(case.image, case.fov)
    without_fov = preprocessing.prepare(case.image)
    np.testing.assert_allclose(without_fov.geometry.box, with_fov.geometry.box, atol=4)


def test_only_the_green_channel_of_a_fundus_counts() -> None:
    case = fundus_phantom(3, 128, "A")
    other = case.image.copy()
    other[..., 0], other[..., 2] = 99, 7
    preprocessing = FundusPreprocessing(diameter=96)
    np.testing.assert_array_equal(
        preprocessing.prepare(case.image, case.fov).pixels,
        preprocessing.prepare(other, case.fov).pixels,
    )


def test_a_fundus_does_not_depend_on_gain_and_offset() -> None:
    case = fundus_phantom(3, 128, "A")
    preprocessing = FundusPreprocessing(diameter=96)
    one = preprocessing.prepare(case.image, case.fov).pixels
    other = preprocessing.prepare(case.image * np.float32(13.5) + 40, case.fov).pixels
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_minmax_and_percentile_are_their_closed_forms() -> None:
    image = np.random.default_rng(0).normal(50, 20, (40, 30)).astype(np.float32)
    expected = (image - image.min()) / (image.max() - image.min())
    prepared = IntensityPreprocessing(percentiles=(0, 100)).prepare(image).pixels[0]
    np.testing.assert_allclose(prepared, expected, atol=1e-6)
    low, high = np.percentile(image, (1, 99))
    expected = np.clip((image - low) / (high - low), 0, 1)
    prepared = IntensityPreprocessing().prepare(image).pixels[0]
    np.testing.assert_allclose(prepared, expected, atol=1e-5)


def test_channels_are_repeated_or_weighted() -> None:
    grey = np.random.default_rng(1).random((9, 8))
    repeated = IntensityPreprocessing(percentiles=(0, 100), channels=3).prepare(grey).pixels
    assert repeated.shape == (3, 9, 8)
    assert (repeated == repeated[:1]).all()
    colour = np.random.default_rng(2).random((9, 8, 3))
    colours = IntensityPreprocessing(percentiles=(0, 100), channels=3).prepare(colour).pixels
    one = IntensityPreprocessing(percentiles=(0, 100), channels=1).prepare(colour).pixels
    np.testing.assert_allclose(one[0], np.tensordot([0.299, 0.587, 0.114], colours, 1), atol=1e-6)


@KINDS
@pytest.mark.parametrize("value", [0, 255])
def test_a_uniform_image_comes_out_uniform(preprocessing: Preprocessing, value: int) -> None:
    pixels = preprocessing.prepare(np.full((20, 30), value, "u1")).pixels
    assert np.ptp(pixels) < 1e-6


@KINDS
def test_a_1x1_image_is_prepared(preprocessing: Preprocessing) -> None:
    prepared = preprocessing.prepare(np.array([[5]], np.uint8))
    assert np.isfinite(prepared.pixels).all()
    assert prepared.geometry.to_original(prepared.pixels).shape[1:] == (1, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 2)), r"shape \(4, 5, 2\); expected"),
        (np.zeros((2, 4, 5, 3)), r"shape \(2, 4, 5, 3\); expected"),
        (np.zeros((0, 5)), r"shape \(0, 5\); expected"),
        (np.array([[0, np.nan]]), "1 values that are NaN or infinite; expected none"),
        (np.array([[np.inf, np.nan]]), "2 values"),
    ],
)
@KINDS
def test_arrays_that_are_no_image_are_refused(
    preprocessing: Preprocessing, image: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        preprocessing.prepare(image)


@KINDS
def test_a_field_of_view_of_another_size_is_refused(preprocessing: Preprocessing) -> None:
    with pytest.raises(InputError, match=r"3 × 3 px \(w × h\); expected 9 × 8"):
        preprocessing.prepare(np.zeros((8, 9)), np.ones((3, 3), bool))


def test_an_empty_field_of_view_is_refused() -> None:
    with pytest.raises(InputError, match=r"field of view of 9 × 8 px .* is empty"):
        FundusPreprocessing().prepare(np.ones((8, 9)), np.zeros((8, 9), bool))


def test_a_photograph_without_frame_is_all_field_of_view() -> None:
    smooth = gaussian_filter(np.random.default_rng(0).random((64, 64)), 6)
    assert find_field_of_view(smooth + 5).all()
    assert find_field_of_view(np.zeros((10, 10))).all()


def test_a_disc_in_a_dark_frame_is_found() -> None:
    truth = disc((180, 200), (90, 100), 80)
    noise = np.random.default_rng(0).normal(0, 3, truth.shape)
    found = find_field_of_view(np.where(truth, 140, 6) + noise)
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_two_values_at_reduced_size_are_parted_in_the_middle() -> None:
    truth = np.zeros((200, 7200), bool)  # downsampled by a factor of 8
    truth[16:184, 16:-16] = True
    found = find_field_of_view(np.where(truth, 255, 0).astype(np.uint8))
    np.testing.assert_allclose(bounding_box(found), bounding_box(truth), atol=3)


@pytest.mark.parametrize("size", [(1100, 1300), (2300, 1901), (1300, 3007)])
def test_a_large_disc_has_the_rim_of_full_size(size: tuple[int, int]) -> None:
    truth = disc(size, (size[0] / 2, size[1] / 2), min(size) * 0.47)
    shade = np.linspace(80, 200, size[1])  # darker on one side
    noise = np.random.default_rng(0).normal(0, 3, size)
    image = np.clip(np.where(truth, shade, 6) + noise, 0, 255).astype(np.uint8)
    smooth = gaussian_filter(image.astype(np.float32), 2)
    full = smooth > 0.35 * (threshold_otsu(smooth) - smooth.min()) + smooth.min()
    found = find_field_of_view(np.stack([image, image // 2], -1))
    assert (found & full).sum() / (found | full).sum() > 0.999
    np.testing.assert_allclose(bounding_box(found), bounding_box(full), atol=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "magic"}, "expected tags: 'fundus', 'intensity', 'window'"),
        ({"kind": "fundus", "diameter": 3}, "greater than or equal to 32"),
        ({"kind": "fundus", "side": 64}, "Extra inputs"),
        ({"kind": "fundus", "neighbours": 3}, "Extra inputs"),
        ({"kind": "intensity", "channels": 2}, "Input should be 1 or 3"),
        ({"kind": "intensity", "percentiles": [99, 1]}, "expected a lower and a higher"),
        ({"kind": "intensity", "percentiles": [-1, 50]}, "greater than or equal to 0"),
        ({"kind": "window", "surprise": 1}, "Extra inputs"),
    ],
)
def test_unknown_fields_and_ranges_are_refused(fields, message) -> None:
    with pytest.raises(ValidationError, match=message):
        content.validate_python(fields)


@KINDS
def test_each_kind_comes_back_from_json(preprocessing: Preprocessing) -> None:
    json = content.dump_json(preprocessing)
    assert content.validate_json(json) == preprocessing
    assert migrate_preprocessing(content.dump_python(preprocessing)) == (
        content.dump_python(preprocessing)
    )


FORMER = {
    "diameter": 512,
    "angle": None,
    "channels": 1,
    "window": [-60.0, 140.0],
    "neighbours": 1,
    "side": 64,
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fundus", FundusPreprocessing(diameter=512)),
        ("minmax", IntensityPreprocessing(percentiles=(0, 100), side=64)),
        ("percentile", IntensityPreprocessing(percentiles=(1, 99), side=64)),
        ("window", WindowPreprocessing(window="liver", side=64)),
    ],
)
def test_former_content_becomes_the_class_of_its_kind(kind, expected) -> None:
    former = {"kind": kind, **FORMER}
    assert content.validate_python(migrate_preprocessing(former)) == expected
    assert former == {"kind": kind, **FORMER}


def test_former_content_without_a_kind_is_a_fundus() -> None:
    assert content.validate_python(migrate_preprocessing({})) == FundusPreprocessing()


@pytest.mark.parametrize("change", [{"angle": 30}, {"surprise": 1}, {"kind": "magic"}])
def test_migration_hides_no_fault(change) -> None:
    with pytest.raises(ValidationError):
        content.validate_python(migrate_preprocessing({"kind": "minmax", **FORMER, **change}))


def test_a_window_is_the_same_for_every_image():
    window = WindowPreprocessing(window="liver")
    assert window.window == (-60, 140)
    image = np.array([[-1000, -60, 40], [140, 141, 3000]], np.int16)
    assert np.allclose(window.prepare(image).pixels, [[[0, 0, 0.5], [1, 1, 1]]])
    assert np.allclose(window.prepare(np.full((2, 2), 40.0)).pixels, 0.5)


@pytest.mark.parametrize("window", ["lung", (10, 10), (20, -20), (0, np.inf), (0, 1, 2)])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValidationError, match="window"):
        WindowPreprocessing(window=window)


@pytest.mark.parametrize("count", [3, 5])
def test_neighbouring_slices_are_channels_under_one_scale(count):
    slices = np.random.default_rng(0).uniform(-200, 300, (8, 9, count))
    window = WindowPreprocessing(window=(0, 100), neighbours=count)
    assert window.in_channels == count
    assert np.allclose(
        window.prepare(slices).pixels, np.clip(slices / 100, 0, 1).transpose(2, 0, 1)
    )
    minmax = IntensityPreprocessing(percentiles=(0, 100), neighbours=count).prepare(slices).pixels
    assert (minmax.min(), minmax.max()) == (0, 1)
    assert np.array_equal(minmax.argmax(0), slices.argmax(-1))


def test_a_single_slice_is_its_own_neighbour():
    image = np.arange(12.0).reshape(3, 4)
    pixels = WindowPreprocessing(window=(0, 10), neighbours=3).prepare(image).pixels
    assert pixels.shape == (3, 3, 4) and (pixels == pixels[0]).all()


@pytest.mark.parametrize("kind", [IntensityPreprocessing, WindowPreprocessing])
def test_neighbours_go_with_grey_slices_only(kind):
    with pytest.raises(ValidationError, match="neighbours is 3; expected 1"):
        kind(neighbours=3, channels=3)


def test_another_number_of_slices_is_one_sentence():
    with pytest.raises(InputError, match=r"shape \(4, 4, 4\); expected .* C = 1 or 3"):
        WindowPreprocessing(neighbours=3).prepare(np.zeros((4, 4, 4)))


@pytest.mark.parametrize("size", [(512, 512), (256, 256), (100, 300)])
def test_a_side_brings_every_matrix_to_one_size_and_masks_back(size):
    window = WindowPreprocessing(window=(0, 255), side=256)
    image = np.full(size, 51, np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    prepared = window.prepare(image)
    assert prepared.pixels.shape[1:] == window.grid_of(size) == prepared.fov.shape
    assert max(prepared.fov.shape) == 256 and prepared.fov.all()
    assert np.allclose(prepared.pixels, 0.2)
    small = prepared.geometry.to_prepared(mask)
    back = prepared.geometry.to_original(small[None].astype(np.float32))[0] >= 0.5
    both = 2 * (back & (mask > 0)).sum() / (back.sum() + mask.sum())
    assert both > 0.95
