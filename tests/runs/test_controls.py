"""Control runs: the student without a teacher, which a distillation is compared with."""

import pytest
import torch
from safetensors.torch import load_file

from src_training.inference.model_file import read_card
from src_training.runs.directory import RunDirectory
from src_training.runs.run import distil


def weights(run, stage):
    return load_file(RunDirectory(run).stage(stage) / "last.safetensors")


def without_teacher(**options):
    return [{"method": "masks", "views": 0, **options}]


def test_without_teacher_and_views_distil_is_the_baseline(make_recipe, tmp_path):
    # A network without biases before its batch norms, whose gradients are rounding errors.
    fanet = {"name": "fanet", "options": {"width": 2}}
    recipe = make_recipe(student=fanet, distillation=without_teacher())
    distil(recipe, tmp_path / "run", device="cpu")
    baseline, distilled = (weights(tmp_path / "run", name) for name in ("baseline", "distil"))
    same = [name for name in baseline if name.startswith("weights/")]
    assert same
    for name in same:
        assert torch.equal(baseline[name], distilled[name]), name
    card = read_card(tmp_path / "run" / "model.safetensors")
    assert card.method == "student, from masks alone"


@pytest.mark.parametrize(
    ("options", "steps", "batch"),
    [
        ({}, 3, 1),
        ({"longer": 2.4}, 7, 1),
        ({"whole_batch": True}, 3, 2),
    ],
)
def test_how_long_and_wide_a_student_alone_trains(make_recipe, options, steps, batch):
    recipe = make_recipe(distillation=without_teacher(**options), labelled=0.5)
    schedule = recipe.schedule("distil")
    assert (schedule.steps, schedule.batch) == (steps, batch)
    assert recipe.schedule("baseline").batch == 1
    assert make_recipe(labelled=0.5).schedule("distil").batch == 2
