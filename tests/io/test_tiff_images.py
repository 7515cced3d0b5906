"""TIFFs of all compressions, photometric interpretations and axes are read alike."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from src_training.errors import InputError
from src_training.io.images import (
    image_shape,
    read_image,
)
from src_training.io.masks import read_mask
from tests.io.test_images import colours


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16", "I", "F"])
def test_a_tiff_is_the_same_in_every_compression(
    mode: str, compression: str, tmp_path: Path
) -> None:
    grey = colours()[..., 0]
    pictures = {
        "RGBA": Image.fromarray(np.dstack([colours(), grey])),
        "LA": Image.fromarray(colours()[..., :2]),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 200),
    }
    picture = pictures.get(mode) or Image.fromarray(colours() if mode != "F" else grey)
    picture = picture if mode in pictures else picture.convert(mode)
    picture.save(tmp_path / "plain.tif")
    picture.save(tmp_path / "packed.tif", compression=compression)
    expected = read_image(tmp_path / "plain.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "packed.tif"), expected)
    colour = picture.convert("RGB") if mode in ("P", "CMYK", "RGBA") else picture
    shown = np.asarray(colour)[..., 0] if mode == "LA" else np.asarray(colour)
    np.testing.assert_array_equal(expected, shown)
    assert mode == "P" or image_shape(tmp_path / "packed.tif") == expected.shape


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("white", [0, 1])
def test_a_fax_is_read_as_pillow_reads_it(compression: str, white: int, tmp_path: Path) -> None:
    mask = colours()[..., 0] > 200
    options = {"compression": compression, "tiffinfo": {262: white}}
    Image.fromarray(mask).save(tmp_path / "mask.tif", **options)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), mask)


@pytest.mark.parametrize("mode", ["RGB", "L", "YCbCr", "CMYK"])
def test_a_jpeg_tiff_is_read_as_pillow_reads_it(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(colours()).convert(mode).save(path, compression="jpeg")
    with Image.open(path) as picture:
        expected = np.asarray(picture if mode == "L" else picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize(
    ("bits", "compression"),
    [
        *((bits, None) for bits in (1, 4, 8, 12, 16)),
        *((bits, name) for bits in (8, 16) for name in ("zlib", "lzw")),
    ],
)
def test_white_is_high_where_it_is_stored_as_zero(
    bits: int, compression: str | None, tmp_path: Path
) -> None:
    values = colours()[..., 0].astype(np.uint16) & (2**bits - 1)
    stored = (2**bits - 1 - values).astype(bool if bits == 1 else "u1" if bits <= 8 else "u2")
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="miniswhite",
        compression=compression,
        bitspersample=bits,
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "float64"])
def test_a_packed_tiff_keeps_its_dtype(dtype: str, tmp_path: Path) -> None:
    values = (np.arange(64).reshape(8, 8) * 2 - 64).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="lzw")
    read = read_image(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("axes", "shape"), [("CYX", (24, 31, 3)), ("ZCYX", (5, 24, 31, 3)), ("ZYX", (5, 24, 31))]
)
def test_axes_do_not_depend_on_compression(
    axes: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    stored = np.zeros([{"C": 3, "Z": 5, "Y": 24, "X": 31}[axis] for axis in axes], np.uint8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, stored, compression="lzw", metadata={"axes": axes}, photometric="minisblack"
    )
    assert read_image(path).shape == image_shape(path) == shape


def test_the_preview_in_a_tiff_is_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(colours(), photometric="rgb", compression="lzw")
        file.write(colours()[::2, ::2], photometric="rgb", compression="lzw", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colours())


def test_colours_that_cannot_be_converted_are_refused(tmp_path: Path) -> None:
    inks = np.zeros((9, 7, 4), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    with pytest.raises(InputError, match=r"a\.tif holds CMYK as 4 channels of uint16; expected"):
        read_image(tmp_path / "a.tif")
