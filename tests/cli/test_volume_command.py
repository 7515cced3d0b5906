"""`msankd segment` of volumes: files in and out, kills, clusters."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

from src_training.evaluation.calibration import update_card
from src_training.inference.bn_adaptation import KnownInputs
from src_training.inference.expected_dice import ClassQuality, Quality
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes import slabs
from tests.io.volumes.files import WRITERS, save_volume

SHAPE = (80, 72, 14)  # x, y, z
AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
SLICES = 2
"""Slices of a slab, for a volume of several."""

# Program of a child process: the command with slabs of a few slices.
CHILD = f"""
from src_training.inference.volumes import slabs
slabs.SLAB_VOXELS = {SLICES * SHAPE[0] * SHAPE[1]}
from src_training.cli import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def scan(tmp_path):
    """A NIfTI file whose axes are not canonical."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(voxels, AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def model_file(tiny_model, tmp_path):
    """A model that finds a vessel in half of the voxels of noise."""
    model = tiny_model()
    noise = np.random.default_rng(1).integers(-1000, 1000, (72, 80)).astype(np.int16)
    median = float(np.median(Predictor(model, "cpu").predict(noise)[1]))
    update_card(Predictor(model, "cpu"), threshold=median)
    model.save(tmp_path / "half.safetensors")
    return tmp_path / "half.safetensors"


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_VOXELS", SLICES * SHAPE[0] * SHAPE[1])


def voxels_of(path):
    return np.asarray(nib.load(path).dataobj)


def written_labels(folder):
    """Names of what a folder holds beside the tables."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".csv")


def in_memory(model_file, scan):
    """Labels on the file's axes, slice by slice: canonical y runs the other way than its own."""
    predictor = Predictor(load_model(model_file), "cpu")
    labels = np.zeros(SHAPE, np.uint8)
    for z, plane in enumerate(np.moveaxis(voxels_of(scan), 2, 0)):
        maps = predictor.predict(plane.T[::-1])
        cut = labels_from(maps, predictor.model.card.threshold_for(maps))
        labels[..., z] = cut[::-1].T
    return labels


def test_labels_of_a_nifti_are_those_in_memory_on_its_grid(
    msankd, scan, model_file, small_slabs, tmp_path
):
    said = msankd("segment", scan, "--model", model_file, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "14 x 72 x 80 voxels, about" in said.out
    found = nib.load(tmp_path / "out" / "scan.nii.gz")
    assert np.allclose(found.affine, AFFINE) and found.get_data_dtype() == np.uint8
    labels = np.asarray(found.dataobj)
    assert np.array_equal(labels, in_memory(model_file, scan)) and 0 < labels.mean() < 1
    assert written_labels(tmp_path / "out") == ["scan.nii.gz"]


def test_a_folder_may_hold_volumes_and_images(msankd, scan, make_domain, model_file, tmp_path):
    folder = make_domain() / "images"
    scan.rename(folder / scan.name)
    said = msankd("segment", folder, "--model", model_file, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert written_labels(tmp_path / "out") == ["000.png", "001.png", "002.png", "scan.nii.gz"]


@pytest.mark.parametrize("command", ["segment", "triage"])
def test_a_volume_that_cannot_be_opened_stops_no_other(command, msankd, scan, model_file, tmp_path):
    folder, out = tmp_path / "mixed", tmp_path / "out"
    folder.mkdir()
    (folder / "good.nii.gz").write_bytes(scan.read_bytes())
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 3, 2), np.int16), np.eye(4)), folder / "bad.nii.gz")
    said = msankd(command, folder, "--model", model_file, "--out", out)
    assert said.code == 1 and "bad.nii.gz" in said.err
    assert [path.name for path in out.rglob("*.nii.gz")] == ["good.nii.gz"]
    (folder / "good.nii.gz").unlink()
    assert msankd(command, folder, "--model", model_file, "--out", tmp_path / "none").code == 2


def test_a_folder_of_stacks_is_segmented_once(msankd, model_file, tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (4, 40, 48)).astype(np.uint8)
    (tmp_path / "stacks").mkdir()
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "stacks" / "s.tif", stack, imagej=True, metadata=metadata)
    tifffile.imwrite(tmp_path / "stacks" / "photograph.tif", stack[0])
    out = tmp_path / "out"
    options = ("--model", model_file, "--out", out, "--device", "cpu")
    command = msankd("segment", tmp_path / "stacks", *options)
    assert command.code == 0, command.err
    assert written_labels(out) == ["photograph.png", "s.tif"]
    assert command.out.count("Written to") == 2  # the images, and the stack
    assert tifffile.imread(out / "s.tif").shape == stack.shape


def test_volumes_of_every_format_are_scored_alike(msankd, model_file, tmp_path):
    random = np.random.default_rng(0)
    voxels = random.integers(-1000, 1000, (5, 40, 48)).astype(np.int16)
    labels = np.zeros(voxels.shape, np.uint8)
    labels[1:4, 5:30, 5:30] = 1
    scores = {}
    for name in WRITERS:
        folder = tmp_path / name / "ct"
        save_volume(name, folder / "images", "a", voxels, (3.0, 0.5, 0.75))
        save_volume(name, folder / "masks", "a", labels, (3.0, 0.5, 0.75))
        report = tmp_path / name / "scores.json"
        options = ("--model", model_file, "--domain", folder, "--json", report)
        command = msankd("evaluate", *options, "--device", "cpu")
        assert command.code == 0, command.err
        assert "volumes as wholes" in command.out and "HD95, mm" in command.out
        scores[name] = json.loads(report.read_text())["ct"]
    assert scores["nifti"]["volumes"]["a"]["hd95"] > 0
    [size] = scores["nifti"]["milliliters"]["a"].values()
    assert size["real"] == pytest.approx(3 * 25 * 25 * 3.0 * 0.5 * 0.75 / 1000)
    assert size["expected"] > 0
    assert all(each == scores["nifti"] for each in scores.values())


def test_axis_average_and_clean_up_are_heeded(msankd, scan, model_file, tmp_path):
    def labels(name, *options):
        said = msankd("segment", scan, "--model", model_file, "--out", tmp_path / name, *options)
        assert said.code == 0, said.err
        return voxels_of(tmp_path / name / "scan.nii.gz")

    z, x, average = labels("z"), labels("x", "--axis", "x"), labels("o", "--orthogonal")
    assert (z != x).any() and (average != z).any() and (average != x).any()
    cleaned = labels("c", "--keep-largest", "vessel", "--fill-holes", "vessel")
    assert (cleaned != z).any()


def test_wishes_that_cannot_be_met_are_one_sentence(msankd, scan, model_file, tmp_path):
    options = ("--model", model_file, "--out", tmp_path / "out")
    for wish, words in (
        (("--keep-largest", "spleen"), "--keep-largest spleen: the model has no such class"),
        (("--workers", "0"), "--workers is 0; expected at least 1"),
        (("--workers", "2", "--scheduler", "tcp://nowhere:1"), "expected one"),
        (("--probabilities",), "is a volume; expected images only"),
    ):
        said = msankd("segment", scan, *options, *wish)
        assert said.code == 2 and words in said.err and said.err.count("\n") == 1


def test_labels_never_replace_their_volume(msankd, scan, model_file):
    before = scan.read_bytes()
    said = msankd("segment", scan, "--model", model_file, "--out", scan.parent)
    assert said.code == 2 and "would replace it" in said.err
    assert scan.read_bytes() == before


def test_a_full_disk_is_one_sentence_and_is_resumed_from(
    msankd, scan, model_file, small_slabs, tmp_path, largest_file
):
    options = ("segment", scan, "--model", model_file, "--out", tmp_path / "out")
    with largest_file(1200):
        said = msankd(*options)
    assert said.code == 1 and "scan.nii.gz.part" in said.err and "Traceback" not in said.err
    assert msankd(*options).code == 0
    labels = voxels_of(tmp_path / "out" / "scan.nii.gz")
    assert np.array_equal(labels, in_memory(model_file, scan))


def started(tmp_path, scan, model_file, *options):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    arguments = ["segment", scan, "--model", model_file, "--out", tmp_path / "out", *options]
    return subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, child, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        if child.poll() is not None and not condition():
            pytest.fail(child.communicate()[0])
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
def test_workers_end_with_the_command_that_is_killed(scan, model_file, tmp_path):
    import psutil

    child = started(tmp_path, scan, model_file, "--workers", "2")
    part = tmp_path / "out" / "scan.nii.gz.part"
    wait_for(lambda: len(list((part / "done").glob("0-*"))) >= 1, child)
    others = psutil.Process(child.pid).children(recursive=True)
    assert len(others) > 2
    child.kill()
    child.communicate()
    assert psutil.wait_procs(others, timeout=60)[1] == []


@pytest.mark.slow
def test_workers_give_the_same_bits_though_one_is_killed(scan, model_file, tmp_path):
    import psutil

    child = started(tmp_path, scan, model_file, "--workers", "2")
    part = tmp_path / "out" / "scan.nii.gz.part"
    wait_for(lambda: len(list((part / "done").glob("0-*"))) >= 1, child)
    # The command's child forks the workers.
    workers = [
        each for server in psutil.Process(child.pid).children() for each in server.children()
    ]
    workers[0].kill()
    out, _ = child.communicate(timeout=200)
    assert child.returncode == 0, out
    labels = voxels_of(tmp_path / "out" / "scan.nii.gz")
    assert np.array_equal(labels, in_memory(model_file, scan))


def test_a_volume_has_an_expected_dice_and_millilitres(msankd, scan, model_file, tmp_path):
    found = {}
    for name, options in (("whole", []), ("averaged", ["--orthogonal"])):
        out = tmp_path / name
        said = msankd("segment", scan, "--model", model_file, "--out", out, *options)
        assert said.code == 0 and "expected Dice 0." in said.out, said.err
        with (out / "expected_dice.csv").open(newline="") as file:
            [found[name]] = csv.DictReader(file)
        labels = np.asarray(nib.load(out / "scan.nii.gz").dataobj)
        voxels = int(found[name]["pixels, vessel"])
        assert voxels == np.count_nonzero(labels)
        assert float(found[name]["ml, vessel"]) == pytest.approx(voxels * 0.7 * 0.8 * 3 / 1000)
        with (out / "scan_expected_dice.csv").open(newline="") as file:
            assert len([*csv.DictReader(file)]) == SHAPE[2]
    assert 0 < float(found["averaged"]["expected Dice"]) < 1


@pytest.mark.parametrize(("limit", "foreign"), [(1e-6, True), (1e9, False)])
def test_a_volume_of_another_kind_has_no_expected_dice(
    msankd, scan, tiny_model, tmp_path, limit, foreign
):
    seen = ClassQuality(
        slope=1, offset=0, margin=0.4, lowest=0.1, largest=1, empty=0, size=0, size_margin=0.1
    )
    axes = [[1.0, *[0.0] * 63]]
    known = KnownInputs(mean=[0.0] * 64, axes=axes, variances=[1.0], noise=1.0, limit=limit)
    quality = Quality(classes=[seen], images=4, restyled=12, known=known)
    model = tiny_model()
    model.card = model.card.model_copy(update={"quality": quality, "bn_mixing": 0.5})
    model.save(tmp_path / "model.safetensors")
    options = ("--model", tmp_path / "model.safetensors", "--out", tmp_path / "out")
    said = msankd("segment", scan, *options)
    assert said.code == 0 and ("expected Dice cannot be told" in said.out) == foreign
