"""bioimage.io folders are valid, and onnxruntime and other programs reproduce the output."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
import yaml

from src_training.data.preprocessing import IntensityPreprocessing, WindowPreprocessing
from src_training.errors import InputError
from src_training.export import export_bioimageio
from src_training.export.bioimageio import spdx_licence
from src_training.export.preprocessing_spec import (
    bioimageio_preprocessing,
    postprocessing_text,
    preprocessing_text,
)
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("bioimageio.spec")

PREPARED = {
    "percentiles": IntensityPreprocessing(percentiles=(1, 99)),
    "extremes": IntensityPreprocessing(percentiles=(0, 100)),
    "window": WindowPreprocessing(window="liver"),
    "resized window": WindowPreprocessing(window="liver", side=48),
}


def description_in(folder):
    return yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))


def preprocessed(steps, tensor):
    """Apply preprocessing to a tensor (1, C, h, w) by bioimage.io's definitions."""
    for step in steps:
        options = step["kwargs"]
        if step["id"] == "ensure_dtype":
            tensor = tensor.astype(options["dtype"])
        elif step["id"] == "scale_linear":
            tensor = tensor * options["gain"] + options["offset"]
        elif step["id"] == "scale_range":
            axes = tuple(["batch", "channel", "y", "x"].index(name) for name in options["axes"])
            limits = [options["min_percentile"], options["max_percentile"]]
            low, high = np.percentile(tensor, limits, axis=axes, keepdims=True)
            tensor = (tensor - low) / (high - low + 1e-6)
        elif step["id"] == "clip":
            tensor = tensor.clip(options["min"], options["max"])
        else:
            raise AssertionError(step)
    return tensor.astype(np.float32)


@pytest.fixture
def export(unpooling, translated, tmp_path):
    """Export the model with other preprocessing or fields of its card."""

    def make(folder="exported", preprocessing=None, sample=None, **fields):
        update = fields | ({"preprocessing": preprocessing} if preprocessing else {})
        card = unpooling.card.model_copy(update=update)
        export_bioimageio(SegmentationModel(card, unpooling.network), tmp_path / folder, sample)
        return tmp_path / folder

    return make


def test_the_folder_is_complete_and_nothing_is_left_beside_it(export):
    folder = export("vessels of mine")
    assert {file.name for file in folder.iterdir()} == {
        "rdf.yaml",
        "weights.onnx",
        "test_input.npy",
        "test_output.npy",
        "cover.png",
        "README.md",
    }
    assert list(folder.parent.iterdir()) == [folder]


def test_onnxruntime_reproduces_the_test_of_a_fundus_model(export, unpooling):
    folder = export()
    image, expected = (np.load(folder / f"test_{each}.npy") for each in ("input", "output"))
    with torch.no_grad():
        pytorch = unpooling.network(torch.from_numpy(image)).softmax(1).numpy()
    np.testing.assert_array_equal(expected, pytorch)
    session = onnxruntime.InferenceSession(folder / "weights.onnx")
    np.testing.assert_allclose(session.run(None, {"image": image})[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", PREPARED)
def test_other_programs_reproduce_the_test_of_scaled_models(export, name):
    sample = np.random.default_rng(0).integers(-300, 900, (60, 72)).astype(np.int16)
    folder = export(preprocessing=PREPARED[name], sample=sample)
    [described] = description_in(folder)["inputs"]
    image, expected = (np.load(folder / f"test_{each}.npy") for each in ("input", "output"))
    assert image.min() < -50 and image.max() > 500, "a program gives intensities as they are"
    prepared = preprocessed(described["preprocessing"], image)
    session = onnxruntime.InferenceSession(folder / "weights.onnx")
    found = session.run(None, {"image": prepared})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "preprocessing",
    [
        IntensityPreprocessing(percentiles=(1, 99)),
        IntensityPreprocessing(percentiles=(0, 100), channels=3),
        WindowPreprocessing(window="liver"),
        WindowPreprocessing(window="kidney", neighbours=3),
    ],
    ids=["percentiles", "colours", "window", "slices"],
)
def test_the_steps_are_those_of_preprocessing(preprocessing):
    shape = (20, 30, preprocessing.in_channels)
    image = np.random.default_rng(0).integers(-400, 900, shape).astype(np.int16)
    found = preprocessed(
        bioimageio_preprocessing(preprocessing), image.transpose(2, 0, 1)[None].astype(np.float32)
    )
    np.testing.assert_allclose(found[0], preprocessing.prepare(image).pixels, atol=1e-5)


def test_fundus_photographs_are_left_to_the_caller(export):
    folder = export()
    [described] = description_in(folder)["inputs"]
    assert not described["preprocessing"] and "the caller does" in described["description"]
    assert "**the caller does it**" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_readme_describes_input_output_and_terms(export, unpooling):
    text = (export() / "README.md").read_text(encoding="utf-8")
    assert preprocessing_text(unpooling.card.preprocessing) in text
    assert postprocessing_text(unpooling.card) in text
    assert "CC BY 4.0" in text and "## Validation" in text


def test_the_readme_of_a_resized_window_states_the_order(export):
    text = (export(preprocessing=PREPARED["resized window"]) / "README.md").read_text("utf-8")
    assert "They resize before they scale" in text


def test_the_description_names_terms_and_holds_the_card(export, unpooling):
    described = description_in(export())
    assert described["license"] == "CC-BY-4.0"
    assert ModelCard.model_validate(described["config"]["msankd"]) == unpooling.card


@pytest.mark.skipif(
    not importlib.util.find_spec("bioimageio.core"),
    reason="bioimageio.core 0.11 needs pydantic < 2.14",
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("preprocessing", [None, *PREPARED.values()])
def test_the_test_of_bioimageio_core_passes(export, preprocessing):
    from bioimageio.core import test_model

    folder = export(preprocessing=preprocessing)
    assert test_model(folder / "rdf.yaml", devices=["cpu"]).status == "passed"


def test_other_terms_are_written_to_a_file(export):
    sample = np.random.default_rng(0).integers(0, 255, (60, 50), np.uint8)
    folder = export(licence="Ask me first.", sample=sample)
    assert (folder / "LICENSE.md").read_text(encoding="utf-8") == "Ask me first.\n"


def test_a_name_that_is_not_allowed_is_changed(export):
    assert description_in(export(name="É/x"))["name"] == "model --x"


@pytest.mark.parametrize("name", ["肝臓", "הלב", "a/b", "\x1b[2J", "..", "=1+1"])
def test_classes_of_every_script_are_exported(export, name):
    folder = export(name=f"{name} model", classes=["background", name])
    description = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
    names = description["outputs"][0]["axes"][1]["channel_names"]
    assert len(set(names)) == 2 and all(each.isidentifier() for each in names)
    assert description["config"]["msankd"]["classes"] == ["background", name]


def test_a_folder_with_something_in_it_is_left_alone(export, tmp_path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty; expected a new or an empty folder"):
        export()
    assert [file.name for file in (tmp_path / "exported").iterdir()] == ["mine.txt"]


def test_a_folder_that_the_validator_refuses_is_not_left(export, tmp_path):
    with pytest.raises(InputError, match=r"validator of bioimage\.io says"):
        export(preprocessing=IntensityPreprocessing(percentiles=(0, 0.5)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "bioimageio.spec"])
def test_a_missing_extra_is_one_sentence(package, unpooling, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'napari-msankd\[export\]'") as caught:
        export_bioimageio(unpooling, tmp_path / "folder")
    assert package in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by-nc-sa-3.0", "CC-BY-NC-SA-3.0"),
        ("CC0 1.0", "CC0-1.0"),
        ("CC BY 4.0; attribute X", {"source": "LICENSE.md"}),
        ("", None),
    ],
)
def test_terms_have_an_spdx_name_or_a_file(terms, named):
    assert spdx_licence(terms) == named
