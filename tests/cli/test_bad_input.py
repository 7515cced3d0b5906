"""Every kind of bad input gives one sentence, and does not damage earlier results."""

import errno
import json
import os
import pickle

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file

from src_training.data.preprocessing import FundusPreprocessing, IntensityPreprocessing
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.inference.predictor import Predictor
from src_training.io import atomic
from src_training.runs.state import find_runs, run_state


def one_sentence(said, *words, code=2):
    assert said.code == code, said
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    for word in words:
        assert str(word) in said.err
    return said.err


def grey(path, size=(48, 48), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def no_mask(folder):
    (folder / "masks" / "001.png").unlink()
    return "001.png"


def mask_of_another_size(folder):
    grey(folder / "masks" / "001.png", (40, 48))
    return "001.png is 48 × 40 px (w × h); expected 48 × 48 px (w × h)"


def empty_image(folder):
    (folder / "images" / "001.png").write_bytes(b"")
    return "001.png"


def truncated_image(folder):
    file = folder / "images" / "001.png"
    file.write_bytes(file.read_bytes()[:200])
    return "001.png"


def truncated_mask(folder):
    file = folder / "masks" / "001.png"
    file.write_bytes(file.read_bytes()[:-30])
    return "001.png"


def all_background(folder):
    for file in (folder / "masks").iterdir():
        grey(file)
    return "every mask of"


def nan(folder):
    (folder / "images" / "001.png").unlink()
    np.save(folder / "images" / "001.npy", np.full((48, 48), np.nan))
    return "001.npy has 2304 values that are NaN"


def five_channels(folder):
    (folder / "images" / "001.png").unlink()
    np.save(folder / "images" / "001.npy", np.ones((48, 48, 5)))
    return "001.npy has shape (48, 48, 5)"


def two_channels(folder):
    (folder / "images" / "001.png").unlink()
    np.save(folder / "images" / "001.npy", np.ones((48, 48, 2)))
    return "scans/001: the image has shape (48, 48, 2)"


def no_images(folder):
    for file in (folder / "images").iterdir():
        file.unlink()
    return "has no readable image in images/"


FAULTS_OF_PIXELS = [nan, two_channels]
"""Seen where an image is read; the others, as the folder is listed."""

FAULTS_OF_FILES = [
    no_mask,
    mask_of_another_size,
    empty_image,
    truncated_image,
    truncated_mask,
    all_background,
    five_channels,
    no_images,
]


@pytest.fixture
def recipe_of(tiny_content, tmp_path):
    """A recipe over a folder, with changes to its fields."""

    def write(folder=None, **changes):
        content = tiny_content | {"preprocessing": {"kind": "intensity"}, "tests": []} | changes
        if folder is not None:
            content["source"] = {"name": "scans", "folder": str(folder)}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize("fault", FAULTS_OF_PIXELS + FAULTS_OF_FILES)
def test_training_on_a_faulty_domain(fault, msankd, make_domain, recipe_of, tmp_path):
    folder = make_domain()
    words = fault(folder)
    said = msankd("distil", recipe_of(folder), "--out", tmp_path / "run", "--device", "cpu")
    one_sentence(said, words)
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize("fault", FAULTS_OF_PIXELS)
def test_scoring_leaves_out_a_faulty_image(fault, msankd, make_domain, model_file, tmp_path):
    folder, scores = make_domain(), tmp_path / "scores.json"
    words = fault(folder)
    said = msankd("evaluate", "--model", model_file, "--domain", folder, "--json", scores)
    assert said.code == 1 and "Traceback" not in said.err, said.err
    count = len([*(folder / "images").iterdir()])
    assert (
        words in said.err
        and f"scans: every figure is over {count - 1} of {count} images" in said.err
    )
    assert f"scans ({count - 1} of {count})" in said.out
    found = json.loads(scores.read_text())["scans"]
    assert [*found["left_out"]] == ["001"] and "001" not in found["images"]
    for part in ("images", "masks"):
        for file in (folder / part).glob("001.*"):
            file.unlink()
    msankd("evaluate", "--model", model_file, "--domain", folder, "--json", scores)
    assert json.loads(scores.read_text())["scans"] == found | {"left_out": {}}


@pytest.mark.parametrize("fault", FAULTS_OF_PIXELS)
def test_tune_writes_no_model_of_fewer_images(fault, msankd, make_domain, model_file, tmp_path):
    folder, out = make_domain(), tmp_path / "tuned.safetensors"
    words = fault(folder)
    one_sentence(msankd("tune", model_file, "--domain", folder, "--out", out), words)
    assert not out.exists()


@pytest.mark.parametrize("fault", FAULTS_OF_FILES)
def test_scoring_a_faulty_domain(fault, msankd, make_domain, model_file, tmp_path):
    folder, scores = make_domain(), tmp_path / "scores.json"
    scores.write_text("former")
    words = fault(folder)
    said = msankd("evaluate", "--model", model_file, "--domain", folder, "--json", scores)
    one_sentence(said, words)
    assert scores.read_text() == "former"


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
@pytest.mark.parametrize(
    "preprocessing",
    [
        IntensityPreprocessing(percentiles=(0, 100)),
        IntensityPreprocessing(),
        FundusPreprocessing(diameter=64),
    ],
)
def test_an_image_of_few_pixels_is_segmented_in_its_size(
    preprocessing, size, msankd, tiny_model, tmp_path
):
    tiny_model(preprocessing).save(tmp_path / "m.safetensors")
    grey(tmp_path / "dot.png", size, 9)
    model, out = tmp_path / "m.safetensors", tmp_path / "out"
    said = msankd("segment", tmp_path / "dot.png", "--model", model, "--out", out)
    assert said.code == 0, said.err
    assert np.asarray(Image.open(out / "dot.png")).shape == size


@pytest.mark.parametrize("shape", [(48, 48, 1), (48, 48, 3), (48, 48, 4)])
def test_one_three_and_four_channels_are_an_image(shape, msankd, model_file, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape))
    out = tmp_path / "out"
    assert msankd("segment", tmp_path / "a.npy", "--model", model_file, "--out", out).code == 0
    assert np.asarray(Image.open(out / "a.png")).shape == (48, 48)


@pytest.mark.parametrize("shape", [(48, 48, 2), (48, 48, 5), (48,), (2, 2, 2, 48, 48), (0, 48)])
def test_a_wrong_number_of_channels_or_axes(shape, msankd, model_file, tmp_path):
    np.save(tmp_path / "a.npy", np.ones(shape))
    out = tmp_path / "out"
    said = msankd("segment", tmp_path / "a.npy", "--model", model_file, "--out", out)
    one_sentence(said, tmp_path / "a.npy", "expected")
    assert not out.exists()


def test_a_broken_image_among_good_ones_leaves_their_labels(
    msankd, make_domain, model_file, tmp_path
):
    folder, out = make_domain(), tmp_path / "out"
    images = folder / "images"
    assert msankd("segment", images, "--model", model_file, "--out", out).code == 0
    former = {file.name: file.read_bytes() for file in out.iterdir()}
    truncated_image(folder)
    said = msankd("segment", images, "--model", model_file, "--out", out)
    one_sentence(said, images / "001.png", code=1)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == former


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value, msankd, tiny_model, model_file, tmp_path):
    image = np.ones((48, 48), np.float32)
    image[3, 5] = value
    np.save(tmp_path / "a.npy", image)
    said = msankd("segment", tmp_path / "a.npy", "--model", model_file, "--out", tmp_path / "out")
    one_sentence(said, tmp_path / "a.npy", "1 value")
    with pytest.raises(InputError, match="1 value"):
        Predictor(tiny_model(), device="cpu").predict(image)
    with pytest.raises(InputError, match="1 value"):
        FundusPreprocessing().prepare(image)


def test_a_domain_of_more_classes_than_the_model(msankd, make_domain, model_file):
    folder = make_domain()
    for value, file in enumerate(sorted((folder / "masks").iterdir())):
        grey(file, value=value)
    said = msankd("evaluate", "--model", model_file, "--domain", folder)
    one_sentence(said, "scans", "expected the model's 2 classes, background, vessel")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "the field colour is unknown"),
        ({"patch": "large"}, "the field patch is 'large'"),
        ({"student": {"name": "enet", "options": {"depth": 3}}}, "option 'depth' is unknown"),
        ({"teacher": {"name": "fanet", "options": {"width": "x"}}}, "width is 'x'"),
    ],
)
def test_a_recipe_with_an_unknown_key_or_a_wrong_type(
    changes, words, msankd, make_domain, recipe_of, tmp_path
):
    recipe = recipe_of(make_domain(), **changes)
    said = msankd("distil", recipe, "--out", tmp_path / "run", "--device", "cpu")
    one_sentence(said, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"name": "mobile_unet", "options": {"width": "0.35"}}}, "width is '0.35'"),
        (
            {"student": {"name": "resnet18"}, "distillation": [{"method": "graph_flow"}]},
            "graph_flow cannot teach this student, whose encoder_quarter has 64 channels",
        ),
        (
            {"student": {"name": "mobile_unet"}, "stages.student.batch": 1},
            "stages.student.batch is 1; expected at least 2",
        ),
    ],
)
def test_what_no_stage_can_come_to_is_said_before_the_first(
    changes, words, msankd, make_domain, recipe_of, tmp_path
):
    options = ["--set", "stages.student.batch=1"] if changes.pop("stages.student.batch", 0) else []
    recipe = recipe_of(make_domain(), **changes)
    said = msankd("distil", recipe, "--out", tmp_path / "run", "--device", "cpu", *options)
    one_sentence(said, words)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_validation_case_that_is_not_there(msankd, make_domain, recipe_of, tmp_path):
    recipe = recipe_of(make_domain(), validation=["999"])
    said = msankd("distil", recipe, "--out", tmp_path / "run", "--device", "cpu")
    one_sentence(said, "'999' was selected from domain scans")


def test_a_run_directory_in_use(msankd, recipe_of, make_domain, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with FileLock(run / ".lock"):
        said = msankd("distil", recipe_of(make_domain()), "--out", run, "--device", "cpu")
    one_sentence(said, f"{run} is in use by another process")
    assert [file.name for file in run.iterdir()] == [".lock"]


def truncated_model(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty_model(path):
    path.write_bytes(b"")


def pickled_model(path):
    path.write_bytes(pickle.dumps({"weights": [1.0]}))


def foreign_model(path):
    save_file({"a": torch.zeros(2)}, path)


def text_as_model(path):
    path.write_text("a text, and no model at all")


@pytest.mark.parametrize(
    "fault", [truncated_model, empty_model, pickled_model, foreign_model, text_as_model]
)
@pytest.mark.parametrize("command", ["segment", "evaluate", "fsd"])
def test_a_model_that_is_broken_or_not_ours(
    fault, command, msankd, make_domain, model_file, tmp_path
):
    folder, out = make_domain(), tmp_path / "out"
    fault(model_file)
    arguments = {
        "segment": [folder / "images", "--out", out],
        "evaluate": ["--domain", folder],
        "fsd": ["--domain", folder, "--domain", make_domain("other")],
    }
    one_sentence(msankd(command, *arguments[command], "--model", model_file), model_file)
    assert not out.exists()


def test_a_model_without_semantic_encoder_has_no_distance(
    msankd, tiny_model, make_domain, tmp_path
):
    tiny_model(semantics=False).save(tmp_path / "m.safetensors")
    domains = ("--domain", make_domain("a"), "--domain", make_domain("b"))
    said = msankd("fsd", "--model", tmp_path / "m.safetensors", *domains)
    one_sentence(said, "tiny has no semantic encoder")


def test_a_device_that_is_not_there(msankd, make_domain, model_file, tmp_path):
    image = make_domain() / "images" / "000.png"
    arguments = ("segment", image, "--model", model_file, "--out", tmp_path / "out")
    one_sentence(msankd(*arguments, "--device", "abacus"), "'abacus'")


def test_a_full_disk_while_segmenting(msankd, make_domain, model_file, tmp_path, largest_file):
    image, out = make_domain() / "images" / "000.png", tmp_path / "out"
    arguments = ("segment", image, "--model", model_file, "--out", out)
    assert msankd(*arguments).code == 0
    former = (out / "000.png").read_bytes()
    with largest_file(20):
        said = msankd(*arguments, "--probabilities")
    one_sentence(said, out / "000.png", os.strerror(errno.EFBIG), code=1)
    assert (out / "000.png").read_bytes() == former
    assert {file.name for file in out.iterdir()} == {"000.png", "expected_dice.csv"}


def test_a_full_disk_while_saving_a_model(tiny_model, model_file, monkeypatch):
    former = model_file.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError) as caught:
        tiny_model(seed=1).save(model_file)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(model_file)
    assert model_file.read_bytes() == former and read_card(model_file).name == "tiny"
    assert [file.name for file in model_file.parent.iterdir()] == [model_file.name]


def test_a_full_disk_while_training_leaves_a_run_that_can_go_on(
    msankd, make_domain, recipe_of, tmp_path, monkeypatch, largest_file
):
    run = tmp_path / "run"
    recipe = recipe_of(make_domain())
    with largest_file(10_000):
        said = msankd("distil", recipe, "--out", run, "--device", "cpu")
    one_sentence(said, run / "stages" / "teacher", os.strerror(errno.EFBIG), code=1)
    state = run_state(run)
    assert (state.state, state.stage) == ("stopped", "teacher")
    assert os.strerror(errno.EFBIG) in state.stop_reason
    assert not list(run.rglob("*.safetensors"))
    monkeypatch.setattr("src_training.runs.run.execute", lambda *_: None)
    (run / "report").mkdir()
    (run / "report" / "report.md").write_text("report")
    (run / "model.safetensors").touch()
    assert msankd("distil", "--resume", run, "--device", "cpu").code == 0


def test_segment_of_a_domain_names_the_folder_of_its_images(
    msankd, make_domain, model_file, tmp_path
):
    domain = make_domain()
    said = msankd("segment", domain, "--model", model_file, "--out", tmp_path / "out")
    one_sentence(said, f"expected at least one, as in {domain / 'images'}")
