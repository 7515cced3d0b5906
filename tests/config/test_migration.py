"""Recipes of former versions are migrated, with a note."""

import pytest
import yaml

from src_training.config.migration import migrate_recipe
from src_training.config.recipe import Recipe
from src_training.errors import InputError


@pytest.fixture
def former(tiny_content, tmp_path):
    """Write the tiny recipe with the former field ``distilling``."""

    def write(distilling):
        content = {name: value for name, value in tiny_content.items() if name != "distillation"}
        path = tmp_path / "former.yaml"
        path.write_text(yaml.safe_dump(content | {"distilling": distilling}))
        return path

    return write


GKD_OF_BEFORE = {
    "methods": {"gkd": 1.0},
    "weights": {},
    "intra": 0.02,
    "inter": 0.5,
    "cross": 1.0,
    "predictions": 20.0,
    "views": 2,
    "edge_loss": "softmax",
    "scope": "batch",
    "temperature": 0.2,
    "centred": False,
    "start": "alone",
}


@pytest.mark.parametrize(
    ("distilling", "methods", "distil_from"),
    [
        ({}, [{"method": "gkd"}], "student"),
        (None, [{"method": "gkd"}], "student"),
        ({"views": 2, "start": "fresh"}, [{"method": "gkd", "views": 2}], "scratch"),
        (
            GKD_OF_BEFORE,
            [
                {"method": "gkd", "inter": 0.5, "predictions": 20, "views": 2, "scope": "batch"}
                | {"edge_loss": "softmax", "temperature": 0.2, "centered": False}
            ],
            "student",
        ),
        # Fields of methods that are not in use had no effect.
        (GKD_OF_BEFORE | {"methods": {"emkd": 1.0}}, [{"method": "emkd"}], "student"),
        (
            {"methods": {"emkd": 0.5, "gkd": 2}, "weights": {"rad_high": 0.2, "flow": 3}},
            [{"method": "emkd", "weight": 0.5, "rad_high": 0.2}, {"method": "gkd", "weight": 2}],
            "student",
        ),
        (
            {"methods": {"graph_flow_normalised": 1}, "weights": {"edges": 0.5}},
            [{"method": "graph_flow_normalised", "edges": 0.5}],
            "student",
        ),
    ],
)
def test_former_distilling_is_read(former, make_recipe, distilling, methods, distil_from):
    notes = []
    recipe = Recipe.load(former(distilling), notes=notes)
    assert recipe == make_recipe(distillation=methods, distil_from=distil_from)
    (note,) = notes
    assert "distilling of a former version is read as distillation: [{" in note and "\n" not in note
    again = yaml.safe_load(recipe.to_yaml())
    assert "distilling" not in again and Recipe.validated(again, "again") == recipe


def test_former_recipes_are_migrated_before_settings(former):
    (gkd,) = Recipe.load(former({"views": 2}), {"distillation.gkd.intra": "0.3"}).distillation
    assert (gkd.views, gkd.intra) == (2, 0.3)


def test_the_former_name_of_centered_is_read(make_recipe, tiny_content, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(
        yaml.safe_dump(tiny_content | {"distillation": [{"method": "gkd", "centred": False}]})
    )
    recipe = make_recipe(distillation=[{"method": "gkd", "centered": False}])
    assert Recipe.load(file).distillation == recipe.distillation
    assert not Recipe.load(file).centered_vectors
    assert Recipe.load("phantom", {"distillation.gkd.centred": "true"}).centered_vectors
    both = tiny_content | {"distillation": [{"method": "gkd", "centred": True, "centered": True}]}
    with pytest.raises(
        InputError, match=r"gkd\.centred is given beside distillation\.gkd\.centered"
    ):
        Recipe.validated(both, "both")


def test_the_command_line_prints_the_note(former, msankd, tmp_path):
    said = msankd("distil", former({"views": 1}), "--out", tmp_path / "run")
    assert said.code == 2 and "distillation.gkd.views is 1" in said.err
    words = ["compare", former({"views": 2}), "--method", "none", "--out", tmp_path / "out"]
    assert "distilling of a former version is read as distillation: [{method: gkd" in (
        msankd(*words).err
    )


def test_recipes_of_today_have_no_note(tiny_content, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_content))
    notes = []
    Recipe.load(tmp_path / "tiny.yaml", notes=notes)
    assert notes == []


@pytest.mark.parametrize(
    ("distilling", "words"),
    [
        ("gkd", "the field distilling is 'gkd'; expected fields with values"),
        ({"methods": "emkd"}, "the field distilling.methods is 'emkd'; expected fields"),
        ({"vews": 2}, "the field distilling.vews is unknown; expected one of methods"),
        ({"methods": {"emdk": 1}}, "distillation.method is 'emdk'; expected one of 'gkd'"),
        ({"views": 1}, "distillation.gkd.views is 1; expected at least 2"),
        ({"start": "cold"}, "the field distil_from is 'cold'; expected 'student' or 'scratch'"),
    ],
)
def test_wrong_former_fields_are_named(former, distilling, words):
    path = former(distilling)
    with pytest.raises(InputError) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


def test_former_and_new_fields_together_are_refused(make_recipe):
    with pytest.raises(InputError, match="distilling is given beside distillation"):
        make_recipe(distilling={"views": 2})


def test_former_options_of_the_alignment_are_left_out():
    former = {"consistency": "reconstruction", "aligned": 1.0, "predicted": 1, "prior": "image"}
    content, changes = migrate_recipe({"name": "a", "alignment": former})
    assert content == {"name": "a", "alignment": {"prior": "image"}} and changes == []


@pytest.mark.parametrize(
    ("field", "value"), [("consistency", "views"), ("aligned", 2), ("predicted", 0.5)]
)
def test_another_value_of_a_former_option_is_refused(field, value):
    with pytest.raises(InputError, match=rf"^old.yaml: the former field alignment.{field} is "):
        migrate_recipe({"alignment": {field: value}}, "old.yaml")


def test_the_former_default_of_enet_is_left_out():
    student = {"name": "enet", "options": {"unpooling": "indices"}}
    assert migrate_recipe({"student": student})[0] == {"student": {"name": "enet", "options": {}}}
    bilinear = {"student": {"name": "enet", "options": {"unpooling": "bilinear"}}}
    assert migrate_recipe(bilinear)[0] == bilinear


@pytest.mark.parametrize("start_from, count", [("mine.safetensors", 1), (None, 0)])
def test_the_former_start_from_is_the_students(tiny_content, tmp_path, start_from, count):
    file, notes = tmp_path / "former.yaml", []
    file.write_text(yaml.safe_dump(tiny_content | {"start_from": start_from}))
    student = Recipe.load(file, notes=notes).student
    assert student.start_from == (start_from and str(tmp_path / start_from))
    sentence = f"{file}: start_from of a former version is read as student.start_from"
    assert notes == [sentence] * count
    assert migrate_recipe({"start_from": "a"})[0] == {
        "student": {"name": "enet", "start_from": "a"}
    }


def test_the_former_start_from_beside_the_new_one_is_refused():
    with pytest.raises(InputError, match=r"given beside student\.start_from; expected"):
        migrate_recipe({"start_from": "a", "student": {"name": "enet", "start_from": "b"}})
