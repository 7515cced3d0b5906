"""`msankd segment` on images and stacks."""

import csv

import numpy as np
import pytest
import tifffile
from PIL import Image

from src_training.data.preprocessing import FundusPreprocessing
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.images import read_image


def test_segment_writes_the_labels_of_every_image(msankd, make_domain, model_file, tmp_path):
    images = make_domain() / "images"
    said = msankd("segment", images, "--model", model_file, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    predictor = Predictor(load_model(model_file), device="cpu")
    for file in sorted(images.iterdir()):
        found = np.asarray(Image.open(tmp_path / "out" / file.name))
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels_from(predictor.predict(read_image(file)), 0.5))


def test_segment_writes_probabilities_and_heeds_the_threshold(
    msankd, make_domain, model_file, tmp_path
):
    image, out = make_domain() / "images" / "000.png", tmp_path / "out"
    options = ("--model", model_file, "--out", out, "--probabilities", "--threshold")
    assert msankd("segment", image, *options, "0").code == 0
    assert np.asarray(Image.open(out / "000.png")).all()
    maps = np.load(out / "000_probabilities.npy")
    assert maps.shape == (2, 48, 48) and np.allclose(maps.sum(0), 1, atol=1e-5)
    assert msankd("segment", image, *options, "1").code == 0
    assert not np.asarray(Image.open(out / "000.png")).any()


def test_the_angle_of_a_camera_is_heeded_and_goes_with_images(
    msankd, make_domain, tiny_model, tmp_path
):
    model = tiny_model(FundusPreprocessing(diameter=64, angle=30))
    model.save(tmp_path / "fundus.safetensors")
    domain = make_domain()
    of_model = ("--model", model.source)
    image = sorted((domain / "images").iterdir())[0]
    said = msankd("segment", image, *of_model, "--out", tmp_path, "--angle", 45, "--probabilities")
    assert said.code == 0, said.err
    found = np.load(tmp_path / f"{image.stem}_probabilities.npy")
    expected = Predictor(model.for_camera(45), "cpu").predict(read_image(image))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scores = []
    for angle in (30, 60):
        scores.append(tmp_path / f"{angle}.json")
        asked = ("--domain", domain, "--angle", angle, "--json", scores[-1])
        assert msankd("evaluate", *of_model, *asked).code == 0
    assert scores[0].read_bytes() != scores[1].read_bytes()
    refused = msankd("fsd", *of_model, "--domain", domain, "--domain", tmp_path, "--angle", 45)
    assert "--angle and --domain were given 1 and 2 times; expected an angle" in refused.err
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((5, 20, 20), np.uint8))
    refused = msankd("segment", stack, *of_model, "--out", tmp_path / "o", "--angle", 45)
    assert refused.code == 2 and "--angle: " in refused.err and "is a volume" in refused.err


def test_a_stack_is_segmented_slice_by_slice(msankd, model_file, tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (3, 40, 36), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    said = msankd("segment", tmp_path / "stack.tif", "--model", model_file, "--out", tmp_path / "o")
    assert said.code == 0, said.err
    assert tifffile.imread(tmp_path / "o" / "stack.tif").shape == stack.shape


def test_labels_never_replace_the_images_they_are_of(msankd, make_domain, model_file):
    images = make_domain() / "images"
    former = {file.name: file.read_bytes() for file in images.iterdir()}
    said = msankd("segment", images, "--model", model_file, "--out", images)
    assert said.code == 2 and "would replace it" in said.err
    assert {file.name: file.read_bytes() for file in images.iterdir()} == former


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "nowhere"], "nowhere: there is no such folder; expected one with images/"),
        (["distil", "--resume", "nowhere"], "nowhere: there is no run in it; expected recipe.yaml"),
    ],
)
def test_a_folder_that_is_not_there_is_said_to_be_missing(msankd, words, said):
    answer = msankd(*words)
    assert answer.code != 0 and not answer.out
    assert answer.err.startswith(said)


def test_segment_writes_the_expected_dice_of_every_file(msankd, make_domain, model_file, tmp_path):
    out, images = tmp_path / "out", sorted((make_domain() / "images").iterdir())
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((3, 40, 36), np.uint8), photometric="minisblack"
    )
    for inputs in (images[:2], [images[2], tmp_path / "stack.tif"]):
        said = msankd("segment", *inputs, "--model", model_file, "--out", out)
        assert said.code == 0, said.err
    with (out / "expected_dice.csv").open(newline="") as file:
        rows = {row["labels"]: row for row in csv.DictReader(file)}
    labels = {path.name for path in out.iterdir() if path.suffix != ".csv"}
    assert rows.keys() == labels and len(rows) == 4
    for name, row in rows.items():
        assert 0 <= float(row["expected Dice"]) <= 1 and row["low"] == ""
        if name != "stack.tif":
            assert int(row["pixels, vessel"]) == np.count_nonzero(Image.open(out / name))
    with (out / "stack_expected_dice.csv").open(newline="") as file:
        assert [row["slice"] for row in csv.DictReader(file)] == ["0", "1", "2"]
