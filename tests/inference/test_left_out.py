"""Notes name the files of a folder that are not segmented."""

import gzip

import numpy as np
import pytest
import tifffile
from PIL import Image

from src_training.inference.image_files import find_images, label_files, not_segmented
from src_training.inference.volumes.segment import find_volumes
from src_training.io.decoders.tiff import series_notes
from src_training.io.volumes.registry import open_volume
from tests.io.volumes.files import save_volume


def test_files_that_are_not_segmented_are_counted_and_named(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "a.webp")
    for name in ("._a.webp", "Thumbs.db", "grades.csv", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    for number in range(5):
        (tmp_path / f"z{number}.txt").write_bytes(b"x")
    others, system = not_segmented([tmp_path], find_images([tmp_path]))
    assert "7 files are not segmented: grades.csv, notes.txt, z0.txt and 4 more" in others
    assert "2 files of the system are not segmented: ._a.webp, Thumbs.db" in system


def test_a_picture_beside_dicom_slices_is_named(tmp_path):
    series = save_volume("dicom", tmp_path, "a", np.zeros((3, 9, 11), np.int16), (2, 1, 1))
    Image.new("RGB", (9, 8)).save(tmp_path / "a" / "photo.png")
    assert open_volume(tmp_path / "a").notes == ("1 file is not read, as no DICOM: photo.png",), (
        series
    )


def test_a_tiff_of_several_images_says_which_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(np.zeros((20, 30), np.uint8))
        file.write(np.zeros((10, 15), np.uint8))
    (note,) = series_notes(tmp_path / "two.tif")
    assert note == "two.tif holds 2 images (20 × 30 and 10 × 15); number 1 is read"


def test_a_folder_of_stacks_is_segmented_once(tmp_path):
    stack = np.zeros((4, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    Image.new("L", (9, 8)).save(tmp_path / "p.png")
    volumes, others = find_volumes([tmp_path])
    assert volumes == [tmp_path / "s.tif"] and find_images(others) == [tmp_path / "p.png"]


@pytest.mark.parametrize("name", ["im0001.ppm.gz", "im0001.PPM"])
def test_labels_of_a_packed_picture_have_its_stem(name, tmp_path):
    content = b"P6 2 1 255\n" + bytes(6)
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    stems, _ = label_files(find_images([tmp_path]), [], tmp_path / "out")
    assert stems == {file: tmp_path / "out" / "im0001"}
