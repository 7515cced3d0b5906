"""Complete recipes from four choices."""

import subprocess
import sys

import numpy as np
import pytest

from src_training.config.domains import DomainRecipe, Phantoms
from src_training.config.presets import PURPOSE, TIMES, preprocessing_for, preset, recipe_for
from src_training.config.recipe import Recipe, preset_recipes
from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.errors import InputError
from src_training.inference.model_file import load_model
from src_training.networks import NETWORKS

SOURCE = DomainRecipe(name="A", phantoms=Phantoms(scanner="A", images=3, size=64))
TARGET = DomainRecipe(name="B", phantoms=Phantoms(scanner="B", images=1, size=64))


def work(recipe):
    stages = recipe.stages
    return sum(stage.steps * stage.batch for stage in stages.values()) * recipe.patch**2


@pytest.mark.parametrize("student", NETWORKS)
@pytest.mark.parametrize("time", TIMES)
def test_every_preset_makes_a_recipe_with_every_student(time, student):
    recipe = recipe_for("mine", [SOURCE], [TARGET], student, time)
    assert recipe.sources[0] == SOURCE and recipe.tests == [TARGET]
    assert recipe.student.name == student
    assert all(stage.steps for stage in recipe.stages.values())
    assert all(stage.steps % stage.validate_every == 0 for stage in recipe.stages.values())


def test_presets_differ_in_cost_and_each_has_a_description():
    recipes = [recipe_for("mine", [SOURCE], [], None, time) for time in TIMES]
    costs = [work(recipe) for recipe in recipes]
    assert costs == sorted(costs) and costs[0] * 5 < costs[1]
    assert [recipe.teacher.options.get("width") for recipe in recipes] == [8, 8, 32]
    assert tuple(PURPOSE) == TIMES


def test_full_is_the_recipe_of_chasedb1(monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_DATA", str(tmp_path))
    shipped = Recipe.load("chasedb1")
    source = SOURCE.model_copy(update={"angle": shipped.sources[0].angle})
    ours = recipe_for("mine", [source], [], None, "full")
    for field in (
        "preprocessing",
        "augmentation",
        "patch",
        "distillation",
        "teacher",
        "student",
        "supervised",
    ):
        assert getattr(ours, field) == getattr(shipped, field), field
    for name in preset("full", "wnet")["stages"]:
        assert ours.stages[name] == shipped.stages[name], name
    shipped, card = Recipe.load("vessels"), load_model("vessels").card
    assert card.architecture == shipped.student.name and card.options == shipped.student.options
    assert card.preprocessing == shipped.preprocessing and card.patch == shipped.patch


def test_a_student_follows_from_how_images_are_prepared(monkeypatch, tmp_path):
    def student(preprocessing):
        made = recipe_for("a", [SOURCE], [], None, "quick", preprocessing=preprocessing)
        return made.student.name

    assert student(None) == student(FundusPreprocessing()) == "wnet"
    assert student(IntensityPreprocessing()) == "wnet"
    assert student(WindowPreprocessing()) == "little_unet"
    monkeypatch.setenv("MSANKD_DATA", str(tmp_path))
    for name in preset_recipes():
        recipe = Recipe.load(name)
        assert recipe.student.name in ("wnet", "little_unet"), name


@pytest.mark.parametrize("name", ["wnet", "little_unet"])
def test_networks_for_ct_have_five_levels(name):
    def options(student, **fields):
        return recipe_for("a", [SOURCE], [], student, "quick", **fields).student.options

    ct = WindowPreprocessing()
    assert options(name, preprocessing=ct) == {"depth": 5}
    assert options({"name": name, "options": {"depth": 4}}, preprocessing=ct) == {"depth": 4}
    assert options(name) == {}


def test_students_at_full_resolution_take_many_small_steps():
    for time in ("standard", "full"):
        small, large = (
            recipe_for("mine", [SOURCE], [], student, time).stages for student in ("wnet", "enet")
        )
        for stage in ("student", "distil"):
            assert small[stage].batch < large[stage].batch, (time, stage)
            assert small[stage].steps > large[stage].steps, (time, stage)
        assert small["teacher"] == large["teacher"]


def test_fine_tuning_is_shorter_and_slower(monkeypatch):
    made = {}
    monkeypatch.setattr(Recipe, "validated", lambda content, _where: made.update(content))
    recipe_for("mine", [SOURCE], [], {"start_from": "vessels"}, "standard")
    fresh = preset("standard", "wnet")["stages"]
    assert made["student"] == {"start_from": "vessels"}
    assert made["stages"]["student"]["steps"] == fresh["student"]["steps"] // 3
    assert made["stages"]["student"]["rate"] == pytest.approx(fresh["student"]["rate"] / 3)
    assert made["stages"]["teacher"] == fresh["teacher"]
    assert made["preprocessing"] == {"kind": "fundus", "diameter": 640}


def test_a_preset_takes_a_teacher_and_images_without_masks():
    frozen = {"start_from": "vessels", "train": False}
    recipe = recipe_for("mine", [SOURCE], [], "enet", "quick", teacher=frozen, unlabelled=[TARGET])
    assert (recipe.teacher.name, recipe.teacher.train) == ("wnet", False)
    assert recipe.preprocessing.diameter == 640 and recipe.unlabelled == [TARGET]
    assert recipe.schedule("teacher").steps == 0 < recipe.schedule("student").steps
    narrow = recipe_for("mine", [SOURCE], [], "enet", "quick", teacher="raunet").teacher
    assert narrow.options == {"width": 8}


def test_only_given_preprocessing_fields_replace_the_presets():
    def prepared(preprocessing):
        made = recipe_for("a", [SOURCE], [], "enet", "quick", preprocessing=preprocessing)
        return made.preprocessing

    assert prepared(FundusPreprocessing()).diameter == 512
    assert prepared(FundusPreprocessing(diameter=900)).diameter == 900
    assert prepared(IntensityPreprocessing(channels=3)).in_channels == 3


def test_ct_is_learnt_from_most_of_a_slice_the_right_way_round():
    def made(preprocessing):
        return recipe_for("a", [SOURCE], [], "enet", "quick", preprocessing=preprocessing)

    ct = made(preprocessing_for(ct_slice()))
    assert ct.patch < ct.preprocessing.side <= 1.5 * ct.patch
    assert not ct.augmentation.flips and 0 < ct.augmentation.turn < 45
    finer = made(WindowPreprocessing(window=(0, 100), side=256)).preprocessing
    assert finer.side == 256 and finer.window == (0, 100)
    other = made(IntensityPreprocessing())
    assert other.preprocessing.side is None and other.augmentation.flips


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine", [SOURCE], [], "enet", "slow"), "time is 'slow'; expected one of quick"),
        (("mine", [SOURCE], [], "unet", "quick"), "'unet' is unknown"),
        (("my run", [SOURCE], [], "enet", "quick"), "the field name is 'my run'"),
        (("mine", [SOURCE], [TARGET, TARGET], "enet", "quick"), "two targets are called B"),
    ],
)
def test_a_choice_that_cannot_be_is_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        recipe_for(*arguments)


def ct_slice():
    """A round body of 50 HU in air, which is not a fundus photograph."""
    row, column = np.mgrid[:256, :256] - 128
    return np.where(np.hypot(row, column) < 110, 50, -1000).astype(np.int16)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (fundus_phantom(1, 256, "A").image, FundusPreprocessing()),
        (fundus_phantom(1, 256, "A").image[..., 1], FundusPreprocessing()),
        (np.zeros((40, 40)), IntensityPreprocessing(channels=1)),
        (ct_slice(), WindowPreprocessing(window=(-160, 240))),
        (
            np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8),
            IntensityPreprocessing(channels=3),
        ),
    ],
)
def test_preprocessing_is_chosen_by_the_image(image, expected):
    assert preprocessing_for(image) == expected


def test_offering_the_choices_loads_no_torch():
    code = (
        "import sys; from src_training.config.presets import TIMES, preset\n"
        "[preset(time, 'enet') for time in TIMES]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
