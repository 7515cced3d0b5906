"""Model files with invalid weights or cards are rejected with a message."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from src_training.cli import main
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.errors import InputError
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import load_model, save_model
from src_training.inference.predictor import Predictor
from src_training.io.images import write_image
from src_training.networks import build_network
from src_training.runs.library import Library
from tests.faults.harness import in_child, linux, msankd

CARD = ModelCard(
    name="tiny",
    architecture="little_unet",
    options={"width": 2},
    in_channels=1,
    classes=["background", "vessel"],
    preprocessing=IntensityPreprocessing(),
    patch=64,
)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_model(CARD, build_network("little_unet", 1, 2, width=2), path)
    return path


def with_card(path, **fields):
    """Replace the card of a model file without validation."""
    card = CARD.model_dump(mode="json") | fields
    save_file(load_file(path), path, {"msankd": json.dumps(card)})


def changed(path, change):
    """Rewrite one weight of a model file; returns its name."""
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("weight"))
    tensors[name] = change(tensors[name].clone())
    save_file(tensors, path, {"msankd": CARD.model_dump_json()})
    return name


def fill_one(value, dtype=torch.float32):
    def change(tensor):
        tensor = tensor.to(dtype)
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (fill_one(float("nan")), "1 of 288 values that are NaN"),
        (fill_one(float("-inf")), "1 of 288 values that are NaN"),
        (fill_one(1e300, torch.float64), "1 of 288 values that are NaN"),
        (lambda tensor: tensor.to(torch.int32), "holds int32; expected floating point"),
        (lambda tensor: tensor > 0, "holds bool; expected floating point"),
        (lambda tensor: tensor.to(torch.complex64), "holds c64; expected floating point"),
    ],
)
def test_a_weight_that_is_no_number_is_named(saved, change, found):
    name = changed(saved, change)
    with pytest.raises(InputError, match=found) as caught:
        load_model(saved)
    assert str(caught.value).startswith(f"{saved}: {name} ")


def test_segment_writes_no_mask_by_a_model_of_nan(saved, tmp_path, capsys, monkeypatch):
    changed(saved, fill_one(float("nan")))
    write_image(tmp_path / "a.png", np.zeros((40, 40), np.uint8))
    out = tmp_path / "out"
    command = ["msankd", "segment", tmp_path / "a.png", "--model", saved, "--out", out]
    monkeypatch.setattr("sys.argv", list(map(str, command)))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and not out.exists()
    assert "NaN" in capsys.readouterr().err


def test_a_negative_variance_is_named(tmp_path):
    model = load_model("vessels")
    model.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    name = next(each for each in sorted(tensors) if each.endswith("running_var"))
    tensors[name][0] = -1
    save_file(tensors, tmp_path / "a.safetensors", {"msankd": model.card.model_dump_json()})
    with pytest.raises(InputError, match=rf"{name} has a variance of -1"):
        load_model(tmp_path / "a.safetensors")


def test_finite_weights_that_overflow_give_no_mask(saved):
    changed(saved, lambda tensor: torch.full_like(tensor, 1e38))
    predictor = Predictor(load_model(saved))
    image = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    with pytest.raises(InputError, match="tiny returns probabilities that are not finite"):
        predictor.predict(image, np.ones((40, 40), bool))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"in_channels": 100_000}, "in_channels of the card is not valid"),
        ({"patch": 10**12}, "patch of the card is not valid"),
        ({"semantics": {"grid": [10**6, 9], "latent": 9, "hidden": 9}}, "semantics.grid.0 of"),
        ({"semantics": {"grid": [4, 4], "latent": 10**11, "hidden": 9}}, "semantics.latent of"),
        ({"options": {"width": 10**30}}, "option width is 1000000"),
        ({"options": {"width": 100_000}}, "expected a positive integer up to 512"),
        ({"options": {"depth": 10**9}}, "expected an integer from 3 to 6"),
        ({"spacing": [float("inf"), 1, 1]}, "spacing.0 of the card is not valid"),
        ({"threshold": float("nan")}, "threshold of the card is not valid"),
        ({"format": "9" * 10**6}, "the card has format 999"),
    ],
)
def test_a_card_beyond_its_bounds_is_refused(saved, fields, found):
    with_card(saved, **fields)
    with pytest.raises(InputError, match=found) as caught:
        load_model(saved)
    assert str(caught.value).startswith(f"{saved}") and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ' + "9" * 5000 + "}", "thousands of digits"),
        (" " * 2**25, "has 32.0 MB"),
        ("no JSON", "Expecting value"),
    ],
)
def test_a_card_that_is_no_json_is_refused(saved, card, found):
    save_file(load_file(saved), saved, {"msankd": card})
    with pytest.raises(InputError, match=f"the card is not JSON .*{found}"):
        load_model(saved)


@linux
def test_a_card_of_a_large_network_allocates_none_of_it(saved):
    with_card(saved, architecture="unet_plus_plus", options={"width": 512})
    ended = in_child(
        msankd, "segment", saved, "--model", saved, "--out", saved.parent, memory=10**9
    )
    assert ended.code == 2, ended.said


@pytest.mark.parametrize(
    "fields",
    [{"sources": [1]}, {"metrics": [1]}, {"metrics": {"a": {"dice": "x"}}}, {"classes": 7}],
)
def test_a_card_of_other_things_hides_no_other_model(saved, fields):
    other = saved.with_name("other.safetensors")
    other.write_bytes(saved.read_bytes())
    with_card(saved, **fields)
    library = Library((), saved.parent)
    assert [each.name for each in library.list_models() if each.origin == "file"] == ["other"]
    assert str(saved) in library.unreadable()[0]
