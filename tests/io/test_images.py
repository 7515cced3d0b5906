"""Every format is read with its stored values, and a broken file gives one sentence."""

import gzip
import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from src_training.errors import InputError
from src_training.io.images import (
    IMAGE_SUFFIXES,
    image_files,
    image_shape,
    image_size,
    read_image,
    write_image,
    write_labels,
)
from src_training.io.masks import read_mask

reuses_folder = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
numbers = st.sampled_from(["u1", "u2", "<i2", ">i2", "i4", "f4", ">f8", "f2", "?"])


def colours(seed: int = 0, size: tuple[int, int] = (24, 31)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@reuses_folder
@given(pixels=hnp.arrays(numbers, sizes, elements={"min_value": 0, "max_value": 1}))
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".zarr"])
def test_arrays_of_any_dtype_come_back_with_their_values(
    suffix: str, pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    elif suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        zarr.save_array(str(path), pixels)
    read = read_image(path)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype.isnative
    assert read.dtype == (np.uint8 if pixels.dtype.kind == "b" else pixels.dtype.newbyteorder("="))
    assert image_size(path) == pixels.shape


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_rgb_is_read_exactly(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(colours()).save(path)
    np.testing.assert_array_equal(read_image(path), colours())
    assert image_size(path) == (24, 31)


def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "image.jpg")
    with Image.open(tmp_path / "image.jpg") as picture:
        expected = np.asarray(picture)
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_dropped_and_not_blended(suffix: str, channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, channels), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"image{suffix}")
    expected = pixels[..., 0] if channels == 2 else pixels[..., :3]
    np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}"), expected)


def test_16_bit_png_keeps_its_depth(tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    write_image(tmp_path / "image.png", pixels)
    read = read_image(tmp_path / "image.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@reuses_folder
@given(
    indices=hnp.arrays(np.uint8, sizes, elements=st.integers(0, 3)),
    palette=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=4, max_size=4, unique=True),
)
@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif"])
def test_a_palette_gives_colours_to_images_and_indices_to_masks(
    suffix: str,
    indices: np.ndarray,
    palette: list[tuple[int, int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    palette = [(200, 0, 0), *palette[1:]]
    path = tmp_path_factory.mktemp("palette") / f"image{suffix}"
    picture = Image.fromarray(indices)
    picture.putpalette([value for colour in palette for value in colour])
    picture.save(path, **({"optimize": False} if suffix == ".gif" else {}))
    np.testing.assert_array_equal(read_image(path), np.array(palette, np.uint8)[indices])
    np.testing.assert_array_equal(read_mask(path), indices)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_a_grey_palette_gives_grey_values_if_white_is_index_0(suffix: str, tmp_path: Path) -> None:
    indices = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / f"fov{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"fov{suffix}") > 0, indices == 0)


def test_stacks_are_read_as_stacks(tmp_path: Path) -> None:
    stack = np.random.default_rng(2).integers(0, 9, (4, 12, 11), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", colours()[None].repeat(3, 0), photometric="rgb")
    np.save(tmp_path / "c.npy", stack)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), stack)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), stack)
    assert read_image(tmp_path / "b.tif").shape == (3, 24, 31, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "c.npy"), stack)
    with pytest.raises(InputError, match=r"a\.tif has shape \(4, 12, 11\); expected a single"):
        image_size(tmp_path / "a.tif")


def test_planes_of_colour_move_last(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(colours().transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colours())
    assert image_size(tmp_path / "a.tif") == (24, 31)


def test_a_1x1_image_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "dot.png", np.array([[7]], np.uint8))
    assert read_image(tmp_path / "dot.png").tolist() == [[7]]


def test_masks_of_equal_colours_or_whole_floats_become_labels(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    Image.fromarray(labels[..., None].repeat(3, 2)).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", labels.astype(float))
    Image.fromarray(labels > 0).save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.npy"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "c.png"), labels > 0)
    assert read_mask(tmp_path / "b.npy").dtype.kind == "i"


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[object()]]), "cannot be read"),
        (np.array([["text"]]), "holds <U4"),
        (np.array([[1j]]), "holds complex128"),
        (np.zeros((0, 3)), "cannot be read|no pixels"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((1, 2, 3, 4, 5)), r"shape \(1, 2, 3, 4, 5\)"),
        (np.array([[0.0, np.nan]]), "1 values that are NaN"),
        (np.array([[np.inf, np.nan]]), "2 values that are NaN"),
    ],
)
def test_unusable_arrays_are_refused(array: np.ndarray, found: str, tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(InputError, match=rf"image\.npy.*({found}).*; expected"):
        read_image(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (f"{marker}", "w"))  # type: ignore[return-value]

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], object), allow_pickle=True)
    with pytest.raises(InputError):
        read_image(tmp_path / "trap.npy")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[1e12]]), "1e.12"),
        (np.array([[np.nan]]), "NaN"),
        (np.arange(12.0).reshape(2, 2, 3), "4 colors: .0, 1, 2. 1 px"),
    ],
)
def test_masks_that_are_no_labels_are_refused(
    array: np.ndarray, found: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "mask.npy", array)
    with pytest.raises(InputError, match=rf"mask\.npy.*{found}.*expected"):
        read_mask(tmp_path / "mask.npy")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_missing_empty_and_foreign_files_are_one_sentence(
    read: object, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"image{suffix}"
    with pytest.raises(InputError, match=rf"image\{suffix} does not exist; expected"):
        read(path)  # type: ignore[operator]
    for content in (b"", b"not an image at all"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"image\{suffix}.*; expected") as told:
            read(path)  # type: ignore[operator]
        assert "\n" not in str(told.value)


def test_folders_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"'\.docx'; expected one of \.bmp"):
        read_image(tmp_path / "a.docx")
    zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    with pytest.raises(InputError, match="zarr group"):
        read_image(tmp_path / "g.zarr")


@settings(deadline=None, max_examples=15)
@given(kept=st.floats(0.02, 0.9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".npy", "lzw.tif"])
def test_a_truncated_file_is_never_filled_up(
    suffix: str, kept: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, colours())
    else:
        options = {"compression": "tiff_lzw"} if suffix == "lzw.tif" else {}
        Image.fromarray(colours()).save(path, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(kept * len(whole)))])
    with pytest.raises(InputError, match=r"image.*; expected"):
        read_image(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_truncated_blosc_chunk_is_refused(zarr_format: int, tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    codec = numcodecs.Blosc() if zarr_format == 2 else zarr.codecs.BloscCodec()
    zarr.create_array(path, data=colours(), compressors=codec, zarr_format=zarr_format)
    np.testing.assert_array_equal(read_image(path), colours())
    chunk = path / ("0.0.0" if zarr_format == 2 else "c/0/0/0")
    whole = chunk.read_bytes()
    for size in (10, 16, len(whole) // 2, len(whole) - 1):
        chunk.write_bytes(whole[:size])
        expected = max(16, size if size < 16 else len(whole))
        with pytest.raises(InputError, match=f"truncated chunk: {size} of {expected} bytes"):
            read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_labels_are_read_back_and_a_bad_write_keeps_the_old(name: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(3).integers(0, 256, (13, 17))
    write_labels(tmp_path / name, labels)
    np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    for bad in (labels + 1000, labels - 256, labels / 2, labels[0]):
        with pytest.raises(InputError, match=rf"{name}.*expected"):
            write_labels(tmp_path / name, bad)
    np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_stack_of_labels_goes_to_tiff_only(tmp_path: Path) -> None:
    labels = np.ones((3, 5, 6), bool)
    write_labels(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), labels)
    with pytest.raises(InputError, match=r"\(3, 5, 6\) cannot be written"):
        write_labels(tmp_path / "a.png", labels)
    with pytest.raises(InputError, match="float64"):
        write_image(tmp_path / "a.png", np.zeros((4, 4)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_images_and_masks_come_upright(tmp_path, suffix, orientation):
    stored = np.zeros((16, 24), np.uint8)
    stored[:4, :12] = 200
    path = tmp_path / f"photograph{suffix}"
    if suffix == ".tif":
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, stored, extratags=tags)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(path, exif=exif)
    exif = Image.Exif()
    exif[274] = orientation
    with io.BytesIO() as file:
        Image.fromarray(stored).save(file, "PNG", exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    for read in (read_image, read_mask):
        found = read(path)
        assert found.shape == expected.shape
        assert ((found > 100) == (expected > 100)).all()
    assert image_shape(path) == expected.shape


def test_a_stack_of_colours_comes_upright(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (3, 10, 14, 3), np.uint8)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read_image(path), np.rot90(stack, -1, (1, 2)))
    assert image_shape(path) == (3, 14, 10, 3)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif", ".jpg"])
def test_an_image_beyond_pillows_limit_is_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / f"large{suffix}", np.full((40, 50), 255, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 50 // 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as threads:
            pixels = list(threads.map(read_mask, [file] * 16))
        assert image_size(file) == (40, 50)
        # The original filters are restored.
        with pytest.raises(UserWarning):
            warnings.warn("still an error", UserWarning, stacklevel=1)
    assert all((each == 255).all() for each in pixels)
    assert Image.MAX_IMAGE_PIXELS == 500


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_image_beyond_memory_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / f"large{suffix}", np.zeros((3000, 5000), np.uint8))
    memory = SimpleNamespace(available=1_000_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    sentence = r"large\.\w+ is 5000 × 3000 px \(w × h\) and takes about .* MB .* 1\.0 MB are free"
    with pytest.raises(InputError, match=sentence):
        read_image(file)


@pytest.mark.parametrize("suffix", [".ppm", ".PPM", ".pnm", ".webp", ".ppm.gz", ".GIF", ".BMP"])
def test_less_common_pictures_are_read(suffix: str, tmp_path: Path) -> None:
    pixels = np.full((6, 8, 3), 120, np.uint8)
    written, kind = io.BytesIO(), suffix.lower().split(".")[1].replace("pnm", "ppm")
    options = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(pixels).save(written, format=kind, **options)
    path = tmp_path / f"photo{suffix}"
    content = written.getvalue()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    assert image_files(tmp_path) == [path] and image_size(path) == (6, 8)
    assert np.array_equal(read_image(path), pixels)
