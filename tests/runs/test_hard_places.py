"""Runs whose folders have unusual names, or are removed."""

import shutil

import pytest

from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.runs.events import StageFinished
from src_training.runs.run import distil
from src_training.runs.state import run_state


@pytest.mark.parametrize(
    "name", ["Zwei Augen, größer", "眼底 写真", "x" * 200], ids=["spaces", "unicode", "long"]
)
def test_a_run_lives_in_a_folder_of_any_name(name, make_recipe, make_domain, tmp_path):
    source = tmp_path / name / "images of mine"
    source.parent.mkdir()
    make_domain().rename(source)
    recipe = make_recipe(steps=1, source={"name": "mine", "folder": str(source)}, tests=[])
    model = distil(recipe, tmp_path / name / "run", device="cpu")
    assert model.is_file()
    assert Recipe.load(tmp_path / name / "run" / "recipe.yaml") == recipe
    assert run_state(tmp_path / name / "run").state == "finished"


def test_a_source_removed_in_mid_run_is_named_and_may_return(make_recipe, make_domain, tmp_path):
    source, away = make_domain(), tmp_path / "away"
    recipe = make_recipe(steps=1, source={"name": "mine", "folder": str(source)}, tests=[])

    def remove(event):
        if isinstance(event, StageFinished) and event.stage == "student":
            shutil.move(source, away)

    with pytest.raises((InputError, OSError), match="scans"):
        distil(recipe, tmp_path / "run", device="cpu", listener=remove)
    state = run_state(tmp_path / "run")
    assert state.state == "stopped" and "scans" in state.stop_reason
    shutil.move(away, source)
    assert distil(recipe, tmp_path / "run", resume=True, device="cpu").is_file()
