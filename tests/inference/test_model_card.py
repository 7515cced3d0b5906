"""Model cards: validation, round trips through files, and files of format 1."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import FundusPreprocessing, IntensityPreprocessing
from src_training.errors import InputError
from src_training.inference.model_card import FORMAT, ModelCard, TrainingDomain, parse_card
from src_training.inference.model_file import load_model, read_card, save_model
from src_training.inference.predictor import Predictor

FORMAT_1 = Path(__file__).parent / "format_1"
"""Models written in format 1, and the predictions of the version that wrote them."""


def former_content(name):
    """The card of a format 1 file, as a dictionary."""
    with safe_open(FORMAT_1 / f"{name}.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["msankd"])


def rewritten(path, change):
    """A model file, with its card changed as a dictionary."""
    content = json.loads(read_card(path).model_dump_json())
    change(content)
    save_file(load_file(path), path, {"msankd": json.dumps(content)})
    return path


@pytest.fixture
def saved(tiny_model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    tiny_model().save(path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.update(format=3), "format 3; expected format 1 or 2"),
        (lambda card: card.update(classes=["one"]), "classes"),
        (lambda card: card.update(colour="red"), "colour"),
        (lambda card: card.pop("patch"), "patch"),
        (lambda card: card.update(in_channels=3), "in_channels is 3"),
        (lambda card: card.update(threshold=2), "threshold"),
        (lambda card: card.update(architecture="resnet"), "resnet"),
        (lambda card: card.update(options={"depth": 3}), "depth"),
        (lambda card: card.update(options={"width": 9}), r"down\.0\.weight is"),
        (lambda card: card.update(classes=["a", "b", "c"]), r"up\.1\.weight is"),
    ],
)
def test_a_wrong_card_is_refused_in_one_sentence(saved, change, words):
    with pytest.raises(InputError, match=rf"tiny\.safetensors: .*{words}") as caught:
        load_model(rewritten(saved, change))
    assert "\n" not in str(caught.value)


def test_a_card_that_is_not_json_is_refused():
    with pytest.raises(InputError, match=r"a\.safetensors: the card is not JSON"):
        parse_card("{", "a.safetensors")


def test_channels_must_be_those_of_the_preprocessing():
    with pytest.raises(ValidationError, match="in_channels"):
        ModelCard(
            name="a",
            architecture="enet",
            in_channels=3,
            classes=["a", "b"],
            preprocessing=FundusPreprocessing(),
            patch=8,
        )


def test_a_card_survives_its_file(tiny_model, tmp_path):
    model = tiny_model("window", window="kidney", neighbours=5, side=64)
    card = model.card.model_copy(
        update={
            "sources": [TrainingDomain(name="CHASE_DB1", images=20, terms="CC BY 4.0")],
            "metrics": {"CHASE_DB1": {"dice": 0.8, "hd95": None}},
            "recipe": "student: enet\n",
            "options": {"width": 8, "flag": True, "rate": 0.5, "mode": "x"},
            "augmentation": Augmentation(flips=False, turn=15),
            "spacing": (2.5, 0.7, 0.7),
            "per_image_threshold": True,
            "bn_mixing": 0.25,
        }
    )
    save_model(card, model.network, tmp_path / "a.safetensors")
    read = read_card(tmp_path / "a.safetensors")
    assert read == card and read.options["flag"] is True
    assert read.preprocessing.window == (-200, 300)


@pytest.mark.parametrize("name", ["fundus", "window"])
def test_a_format_1_model_predicts_as_it_did(name):
    former = np.load(FORMAT_1 / f"{name}.npz")
    model = load_model(FORMAT_1 / f"{name}.safetensors")
    maps = Predictor(model, "cpu").predict(former["image"])
    np.testing.assert_allclose(maps[1:], former["foreground"], atol=1e-4)
    assert model.card.threshold_for(maps) == pytest.approx(former["threshold"], abs=0.011)


@pytest.mark.parametrize("name", ["fundus", "window"])
def test_a_migrated_file_predicts_like_its_former_one(name, tmp_path):
    former = load_model(FORMAT_1 / f"{name}.safetensors")
    former.save(tmp_path / "migrated.safetensors")
    assert former.card.format == FORMAT
    migrated = load_model(tmp_path / "migrated.safetensors")
    former = load_model(FORMAT_1 / f"{name}.safetensors")
    assert migrated.card == former.card
    image = np.load(FORMAT_1 / f"{name}.npz")["image"]
    maps = [Predictor(model, "cpu").predict(image) for model in (former, migrated)]
    np.testing.assert_array_equal(*maps)
    assert migrated.card.threshold_for(maps[1]) == former.card.threshold_for(maps[0])
    bottleneck = torch.rand(1, former.network.bottleneck_channels, *former.card.semantics.grid)
    with torch.no_grad():
        assert torch.equal(former.semantics(bottleneck), migrated.semantics(bottleneck))


@pytest.mark.parametrize("name", ["fundus", "window"])
def test_migration_loses_no_field_of_format_1(name):
    former, card = former_content(name), read_card(FORMAT_1 / f"{name}.safetensors")
    assert former["format"] == 1
    content = card.model_dump(mode="json")
    renamed = {
        "own_threshold": "per_image_threshold",
        "own_statistics": "bn_mixing",
        "domains": "sources",
    }
    for field in former.keys() - {"format", "preprocessing"}:
        assert content[renamed.get(field, field)] == former[field], field
    for field in content["preprocessing"]:
        assert content["preprocessing"][field] == former["preprocessing"][field], field


@pytest.mark.parametrize("name", ["fundus", "window"])
def test_migration_takes_the_augmentation_from_the_recipe(name):
    card = read_card(FORMAT_1 / f"{name}.safetensors")
    former = yaml.safe_load(former_content(name)["recipe"])["augmentation"]
    assert card.augmentation.model_dump() == former != Augmentation().model_dump()


@pytest.mark.parametrize(
    "recipe", ["", "patch: 32", "augmentation: [", "augmentation: {turn: far}"]
)
def test_a_format_1_card_may_lack_an_augmentation(recipe):
    content = former_content("fundus") | {"recipe": recipe}
    card = parse_card(json.dumps(content), "former")
    assert card.augmentation is None and card.recipe == recipe


def test_the_oldest_format_1_cards_lack_later_fields():
    content = former_content("fundus")
    for field in ("spacing", "own_statistics", "own_threshold"):
        del content[field]
    for field in ("window", "neighbours", "side", "angle"):
        del content["preprocessing"][field]
    card = parse_card(json.dumps(content), "former")
    assert card.spacing is None and card.bn_mixing == 0 and not card.per_image_threshold
    assert card.preprocessing.neighbours == 1


def test_the_former_default_of_enet_is_no_option():
    former = {"architecture": "enet", "options": {"unpooling": "indices"}}
    card = parse_card(json.dumps(former_content("fundus") | former), "former")
    assert card.options == {} and card.build().in_channels == 1


@pytest.mark.parametrize(
    ("kind", "percentiles"), [("minmax", (0.0, 100.0)), ("percentile", (1.0, 99.0))]
)
def test_former_kinds_of_scaling_are_percentiles(kind, percentiles):
    content = former_content("fundus")
    content["preprocessing"] |= {"kind": kind, "angle": None}
    card = parse_card(json.dumps(content), "former")
    assert card.preprocessing == IntensityPreprocessing(percentiles=percentiles)


def test_a_format_1_card_is_as_strict_as_it_was():
    content = former_content("fundus") | {"colour": "red"}
    with pytest.raises(InputError, match="former: colour of the card is not valid"):
        parse_card(json.dumps(content), "former")
    with pytest.raises(InputError, match="former: bn_mixing of the card is not valid"):
        parse_card(json.dumps(former_content("fundus") | {"own_statistics": 2}), "former")
