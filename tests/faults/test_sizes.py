"""Small files with huge sizes in their headers, and full memory: errors, but no crash."""

import gzip
import json
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import nibabel
import numpy as np
import psutil
import pytest
import tifffile
import torch
import zarr
from PIL import Image

from src_training.data.validation import inspect_folder
from src_training.errors import InputError, is_out_of_memory
from src_training.inference.predictor import Predictor
from src_training.inference.volumes.job import VolumeJob, VolumeOptions
from src_training.inference.volumes.segment import segment_slab
from src_training.inference.volumes.slabs import Slab
from src_training.io.images import read_image
from src_training.io.volumes import dicom_frames
from src_training.io.volumes.registry import open_volume
from tests.faults import harness
from tests.faults.harness import in_child, linux


def huge_npy(path):
    """Write a sparse file of 10 TB with a matching header."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (1_600_000, 1_600_000)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(4 * 1_600_000**2 + 128)


def huge_zarr(path, shape, chunks):
    array = zarr.create_array(path, shape=(2,) * len(shape), chunks=(2,) * len(shape), dtype="u2")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["shape"] = list(shape)
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = list(chunks)
    (path / "zarr.json").write_text(json.dumps(metadata))
    return array


def huge_png(path):
    """Write a picture whose header claims 2 billion pixels a side."""
    Image.new("L", (4, 4)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def huge_tiff(path):
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), contiguous=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(10**9)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.npy", huge_npy),
        ("a.zarr", lambda path: huge_zarr(path, (10**7, 10**7), (512, 512))),
        ("b.zarr", lambda path: huge_zarr(path, (4, 4), (10**6, 10**6))),
        ("a.png", huge_png),
        ("a.tif", huge_tiff),
    ],
)
def test_an_image_of_an_absurd_size_is_not_read(name, write, tmp_path):
    write(tmp_path / name)
    with pytest.raises(InputError, match=r"takes about .* GB of memory to read") as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_packed_picture_unpacks_to_what_its_header_says(tmp_path):
    path = tmp_path / "a.ppm.gz"
    path.write_bytes(gzip.compress(b"P6 4 4 255\n" + bytes(10**8)))
    tracemalloc.start()
    assert read_image(path).shape == (4, 4, 3)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "chunks", "found"),
    [
        ((10**6, 10**6, 10**6), (1, 10**6, 10**6), "GB of memory to read"),
        ((10**9, 10**9, 10**9), (1, 1, 1), "expected at most 10,000,000"),
    ],
)
def test_a_volume_of_absurd_chunks_is_not_opened(shape, chunks, found, tmp_path):
    huge_zarr(tmp_path / "a.zarr", shape, chunks)
    with pytest.raises(InputError, match=found):
        open_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_header_beyond_64_bits_is_refused(name, tmp_path):
    image = nibabel.Nifti2Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    header = image.header
    header["dim"][1:4] = 2**31
    content = header.binaryblock + bytes(8)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match=r"is truncated|GB of memory to read"):
        open_volume(tmp_path / name)


def test_a_slice_beyond_memory_is_not_read(tiny_model, tmp_path):
    huge_zarr(tmp_path / "a.zarr", (4, 10**6, 10**6), (1, 10**4, 10**4))
    volume = open_volume(tmp_path / "a.zarr")
    model = tiny_model()
    model.save(tmp_path / "m.safetensors")
    job = VolumeJob.of(model, volume, VolumeOptions())
    with pytest.raises(InputError, match=r"slices 1 to 1 along z .* GB of memory to read"):
        segment_slab(Predictor(model, "cpu"), volume.voxels, job, Slab(0, 1, 2))


def test_memory_that_is_full_is_no_bad_field_of_dicom(monkeypatch, tmp_path):
    class Header:
        def __contains__(self, _tag):
            return True

        def get(self, _name):
            raise MemoryError

    monkeypatch.setattr("pydicom.dcmread", lambda *_args, **_options: Header())
    with pytest.raises(InputError, match="needs more memory than is free") as caught:
        dicom_frames.read_header(tmp_path / "a.dcm")
    assert "has SOPClassUID" not in str(caught.value)


def test_inspect_names_a_huge_image_and_goes_on(make_domain):
    folder = make_domain()
    first = min((folder / "images").iterdir())
    huge_npy(first.with_suffix(".npy"))
    first.unlink()
    found = [*inspect_folder(folder)]
    problems = [each.sentence for each in found if hasattr(each, "sentence")]
    assert any("GB of memory" in each and "000.npy" in each for each in problems)
    assert any(getattr(each, "name", "") == "001" for each in found)


def test_distances_say_which_images_they_leave_out(msankd, make_domain, model_file, tmp_path):
    folder, rest = (make_domain(name, masks=False) for name in ("scans", "rest"))
    for each in (folder, rest):
        (each / "images" / "000.png").unlink()
    huge_npy(folder / "images" / "000.npy")
    domains = ("--domain", folder, "--domain", rest, "--json", tmp_path / "fsd.json")
    ended = msankd("fsd", "--model", model_file, *domains)
    assert ended.code == 1 and "Traceback" not in ended.err
    assert (
        "000.npy is of shape" in ended.err
        and "scans: every figure is over 2 of 3 images" in ended.err
    )
    assert "scans (2 of 3)" in " ".join(ended.out.split()) and "rest (" not in ended.out
    [distance] = json.loads((tmp_path / "fsd.json").read_text())
    assert [*distance["left_out"]["scans"]] == ["000"] and not distance["left_out"]["rest"]
    assert distance["n_a"] == distance["n_b"] and distance["value"] == pytest.approx(0, abs=1e-6)


def test_an_image_beyond_memory_is_in_no_score(msankd, make_domain, model_file, monkeypatch):
    folder, predict, asked = make_domain(), Predictor.predict, []

    def full(*arguments, **options):
        asked.append(0)
        if len(asked) == 1:
            raise MemoryError
        return predict(*arguments, **options)

    monkeypatch.setattr(Predictor, "predict", full)
    ended = msankd("evaluate", "--model", model_file, "--domain", folder)
    assert ended.code == 1 and "image 000: it needs more memory than is free" in ended.err
    assert "scans (2 of 3)" in ended.out


def test_segment_names_a_huge_image_and_goes_on(msankd, make_domain, model_file, tmp_path):
    images, out = make_domain() / "images", tmp_path / "out"
    huge_npy(images / "0.npy")
    ended = msankd("segment", images, "--model", model_file, "--out", out)
    assert ended.code == 1 and "0.npy is of shape" in ended.err and "Traceback" not in ended.err
    written = {file.name for file in out.iterdir()}
    assert written >= {"000.png", "001.png"} and "0.png" not in written


@linux
def test_memory_that_fills_while_segmenting_is_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(10**8, dtype=np.uint8).reshape(10**4, 10**4))
    np.save(tmp_path / "b.npy", np.random.default_rng(0).random((64, 64), np.float32))
    out = tmp_path / "out"
    arguments = ("segment", tmp_path / "a.npy", tmp_path / "b.npy", "--out", out)
    model = ("--model", "vessels")
    ended = in_child(harness.msankd, *arguments, *model, memory=3 * 10**8)
    assert "a.npy: it needs more memory than is free; expected a smaller image" in ended.said
    assert "Traceback" not in ended.said and ended.code == 1
    assert (out / "b.png").exists() and not (out / "a.png").exists()


def test_what_torch_raises_beyond_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("side", [0, -1])
def test_a_nifti_of_sides_below_one_is_refused(side, tmp_path):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["dim"][2] = side
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(360))
    with pytest.raises(InputError, match=r"expected at least one|truncated|cannot be read"):
        open_volume(tmp_path / "a.nii")


def test_memory_of_a_large_image_is_estimated_first(monkeypatch, tiny_model):
    predictor = Predictor(tiny_model(), "cpu")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**8))
    image = np.broadcast_to(np.uint8(0), (5000, 5000))
    with pytest.raises(InputError, match=r"5000 × 5000 px .* take about .* GB of memory"):
        predictor.predict(image)


@linux
def test_memory_that_fills_while_inspecting_is_a_problem(tmp_path):
    for folder, value in (("images", 0), ("masks", 1)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", np.full((9000, 9000), value, np.uint8))
        np.save(tmp_path / folder / "b.npy", np.eye(64, dtype=np.uint8))
    ended = in_child(harness.msankd, "inspect", tmp_path, memory=4 * 10**8)
    assert "needs more memory than is free" in ended.said and "Traceback" not in ended.said
    assert ended.code == 1 and "64 × 64 px" in ended.said


@linux
@pytest.mark.slow
def test_memory_that_fills_while_training_is_one_sentence(make_recipe, tmp_path):
    large = {"student": {"name": "fanet", "options": {"width": 32}}, "patch": 256}
    recipe = make_recipe(teacher={"name": "fanet", "options": {"width": 32}}, **large)
    recipe.save(tmp_path / "r.yaml")
    arguments = ("distil", tmp_path / "r.yaml", "--out", tmp_path / "run", "--device", "cpu")
    ended = in_child(harness.msankd, *arguments, memory=2 * 10**8)
    assert ended.code in (1, 2) and "Traceback" not in ended.said
    assert "expected" in ended.said and "memory" in ended.said.lower()
