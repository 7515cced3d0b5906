import copy
import os
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src_training.config.recipe import Recipe, preset_recipes
from src_training.errors import InputError

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
steps = st.integers(0, 10**6)
positive = st.floats(1e-9, 1e9)


def gkd(**options):
    return [{"method": "gkd", **options}]


STORED = st.integers(-(2**31), 2**32 - 1)
PHANTOM = {"name": "B", "phantoms": {"scanner": "B", "images": 2, "size": 64}}


@pytest.fixture
def written(tmp_path, tiny_content):
    """Write the tiny recipe with changes: dotted field -> value, None to remove it."""

    def write(**changes):
        content = copy.deepcopy(tiny_content)
        for field, value in changes.items():
            *parents, last = field.split("__")
            place = content
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[last]
            else:
                place[last] = value
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def refused(path, overrides=None):
    with pytest.raises(InputError) as caught:
        Recipe.load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_recipe_comes_back_from_its_file(written, tmp_path):
    recipe = Recipe.load(written())
    recipe.save(tmp_path / "again.yaml")
    assert Recipe.load(tmp_path / "again.yaml") == recipe


def test_the_angle_of_the_training_camera_is_given_once(written):
    fundus = {"kind": "fundus", "diameter": 64}
    assert Recipe.load(written(preprocessing=fundus)).preprocessing.angle is None
    known = Recipe.load(written(preprocessing=fundus, source__angle=30))
    assert known.preprocessing.angle == 30
    assert Recipe.load(written(preprocessing=None, source__angle=30)).preprocessing.angle == 30
    assert Recipe.validated(yaml.safe_load(known.to_yaml()), "again") == known
    twice = refused(written(preprocessing=fundus | {"angle": 45}, source__angle=30))
    assert "angle is 45, but that of the first source is 30; expected the same" in twice
    half = refused(written(preprocessing=fundus | {"angle": 45}))
    assert "angle is 45, but that of the first source is not given; expected the same" in half


@pytest.mark.parametrize("text", ["\x85", "\u2028", "é 漢", "a\n\nb ", "1:30"])
def test_text_of_any_kind_comes_back_from_yaml(make_recipe, text):
    recipe = make_recipe(description=text)
    assert Recipe.validated(yaml.safe_load(recipe.to_yaml()), "again") == recipe


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    description=words,
    terms=words,
    length=steps,
    rate=positive,
    weight=st.floats(0, 1e6),
    validation=st.one_of(st.lists(words, max_size=3), st.floats(0.001, 0.999)),
    values=st.dictionaries(words, st.one_of(STORED, st.lists(STORED)), max_size=3),
    options=st.dictionaries(words, st.one_of(st.booleans(), st.integers(), words), max_size=2),
)
def test_any_recipe_comes_back_from_its_yaml(
    tiny_content, description, terms, length, rate, weight, validation, values, options
):
    content = tiny_content | {
        "description": description,
        "validation": validation,
        "student": {"name": "enet", "options": options},
    }
    content["source"] = content["source"] | {"terms": terms, "class_values": values}
    content["stages"] = content["stages"] | {"tan": {"steps": length, "rate": rate}}
    content["distillation"] = [{"method": "gkd", "cross": weight or 1.0}]
    recipe = Recipe.validated(content, "tiny")
    assert Recipe.validated(yaml.safe_load(recipe.to_yaml()), "again") == recipe


def test_the_yaml_names_every_field_with_its_default(make_recipe):
    content = yaml.safe_load(make_recipe().to_yaml())
    assert content.keys() == Recipe.model_fields.keys()
    assert content["distil_from"] == "student"
    assert content["distillation"][0]["edge_loss"] == "mse"
    assert content["alignment"]["prior"] == "mask"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": 1}, "the field colour is unknown"),
        ({"stages__tan__speed": 1}, "the field stages.tan.speed is unknown"),
        ({"stages__alone": {"steps": 1}}, "stage 'alone' is unknown; expected one of teacher"),
        ({"stages__tan__steps": "many"}, "the field stages.tan.steps is 'many'"),
        ({"stages__tan__steps": -1}, "the field stages.tan.steps is -1"),
        ({"stages__tan__rate": 0}, "the field stages.tan.rate is 0"),
        ({"stages__tan__rate": float("nan")}, "the field stages.tan.rate is nan"),
        ({"patch": 33}, "the field patch is 33"),
        ({"name": "a/b"}, "the field name is 'a/b'"),
        ({"student__name": "unet"}, "'unet' is unknown; expected one of"),
        ({"distil_from": "teacher"}, "the field distil_from is 'teacher'"),
        ({"source": None}, "the field sources is missing"),
        ({"stages__san": None}, "stage 'san' is missing; expected an entry with its steps"),
        ({"source__folder": "images"}, "expected either `folder` or `phantoms`"),
        ({"source__phantoms": None}, "expected either `folder` or `phantoms`"),
        ({"source__only": "("}, "`only` is not a regular expression"),
        (
            {"tests": [PHANTOM, copy.deepcopy(PHANTOM)]},
            "two tests are called B; expected different names",
        ),
        ({"validation": 1.5}, "the field validation is 1.5; expected less than 1"),
        ({"seed": -1}, "the field seed is -1"),
    ],
)
def test_a_wrong_field_is_named_in_one_sentence(written, changes, said):
    path = written(**changes)
    message = refused(path)
    assert message.startswith(f"{path}: ") and said in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"naem": "a"}, "the field naem is unknown; did you mean name?"),
        ({"stages__tan__stpes": 1}, "stages.tan.stpes is unknown; did you mean steps?"),
        (
            {"preprocessing__diametre": 64},
            "preprocessing.diametre is unknown; did you mean diameter?",
        ),
        ({"teacher__optoins": {}}, "teacher.optoins is unknown; did you mean options?"),
        ({"student__trian": True}, "student.trian is unknown; expected one of name, options"),
        (
            {"source__phantoms__imges": 3},
            "sources.0.phantoms.imges is unknown; did you mean images?",
        ),
        (
            {"tests": [{"name": "B", "foldr": "b"}]},
            "tests.0.foldr is unknown; did you mean folder?",
        ),
        (
            {"distillation": [{"method": "gkd"}, {"method": "emkd", "wieght": 1}]},
            "distillation.emkd.wieght is unknown; did you mean weight?",
        ),
    ],
)
def test_a_mistyped_field_is_suggested_wherever_it_is(written, changes, said):
    assert said in refused(written(**changes))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the recipe is a NoneType"),
        (b"- a\n- b", "the recipe is a list"),
        (b"a: [", "the file is not YAML"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "the file is not YAML"),
        (b"name: caf\xe9", "the file is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "the file is not YAML"),
        (b"1: 2", "the field 1 is unknown"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, said):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    message = refused(path)
    assert message.startswith(f"{path}: ") and said in message


def test_a_missing_recipe_is_named_with_the_presets(tmp_path):
    message = refused(tmp_path / "none.yaml")
    assert "none.yaml" in message and "phantom" in message


def test_settings_change_fields_before_the_recipe_is_checked(written):
    changed = {"stages.tan.steps": "7", "name": "other", "validation": "[a, b]", "seed": "3"}
    recipe = Recipe.load(written(), changed)
    assert (recipe.stages["tan"].steps, recipe.name, recipe.seed) == (7, "other", 3)
    assert recipe.validation == ["a", "b"]
    assert recipe.stages["tan"].batch == 2


def test_settings_may_make_a_group_that_the_file_leaves_out(written):
    path = written(distillation=None)
    (gkd,) = Recipe.load(path, {"distillation.gkd.views": "3"}).distillation
    assert gkd.views == 3


def test_settings_reach_a_method_by_its_name(written):
    path = written(distillation=[{"method": "gkd", "views": 2}, {"method": "fsp"}])
    gkd, fsp = Recipe.load(path, {"distillation.gkd.intra": "0.5"}).distillation
    assert (gkd.intra, gkd.views, fsp.flow) == (0.5, 2, 1.0)
    added = Recipe.load(path, {"distillation.emkd.weight": "0.3"}).distillation[-1]
    assert (added.method, added.weight) == ("emkd", 0.3)
    (alone,) = Recipe.load(path, {"distillation": "gkd"}).distillation
    assert (alone.method, alone.views) == ("gkd", 2)
    (other,) = Recipe.load(path, {"distillation": "skd"}).distillation
    assert other.method == "skd"
    (whole,) = Recipe.load(path, {"distillation": "[{method: coco, weight: 2}]"}).distillation
    assert (whole.method, whole.weight) == ("coco", 2)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name.first", "a", "name has no fields"),
        ("tests.9.name", "a", "'9' is no entry of a list of "),
        ("seed", "[", "the value is not YAML"),
        ("seeed", "1", "the field seeed is unknown"),
    ],
)
def test_a_wrong_setting_is_named(written, field, value, said):
    assert said in refused(written(), {field: value})


def test_folders_count_from_the_recipe_and_know_the_environment(written, tmp_path, monkeypatch):
    path = written(source={"name": "A", "folder": "data/a"})
    assert Recipe.load(path).sources[0].folder == str((tmp_path / "data/a").resolve())
    monkeypatch.setenv("MY_IMAGES", str(tmp_path / "elsewhere"))
    path = written(source={"name": "A", "folder": "${MY_IMAGES}/a"})
    assert Recipe.load(path).sources[0].folder == str(tmp_path / "elsewhere" / "a")


def test_a_variable_that_is_not_set_is_named(written, monkeypatch):
    monkeypatch.delenv("MY_IMAGES", raising=False)
    message = refused(written(source={"name": "A", "folder": "${MY_IMAGES}/a"}))
    assert "domain A" in message and "${MY_IMAGES}/a" in message


@pytest.mark.parametrize("preset", sorted(preset_recipes()))
def test_every_preset_loads_by_its_name(preset, monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_DATA", os.fspath(tmp_path))
    recipe = Recipe.load(preset)
    assert recipe.name == preset
    assert recipe.sources[0].terms and recipe.licence and recipe.description


def test_the_liver_preset_holds_whole_patients_out(monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_DATA", os.fspath(tmp_path))
    recipe = Recipe.load("liver")
    source, test = recipe.sources[0], recipe.tests[0]
    assert source.folder == test.folder and source.only and test.only
    learned, held_out = (
        {n for n in range(10001, 10124) if re.fullmatch(only, f"{n}_95")}
        for only in (source.only, test.only)
    )
    assert not learned & held_out and len(learned | held_out) == 123
    assert 0.19 < len(held_out) / 123 < 0.21
    assert (recipe.preprocessing.window, recipe.preprocessing.kind) == ((0, 255), "window")


def test_the_phantom_preset_needs_no_data(monkeypatch):
    monkeypatch.delenv("MSANKD_DATA", raising=False)
    recipe = Recipe.load("phantom")
    assert all(domain.phantoms for domain in (*recipe.sources, *recipe.tests))


def test_no_preset_tests_on_what_it_trains_on(monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_DATA", os.fspath(tmp_path))
    for preset in preset_recipes():
        recipe = Recipe.load(preset)
        learned = recipe.sources[0].model_dump(exclude={"name", "terms", "class_values"})
        for domain in recipe.tests:
            assert domain.model_dump(exclude={"name", "terms", "class_values"}) != learned


def test_the_student_alone_is_a_fair_match(make_recipe):
    recipe = make_recipe(steps=5)
    assert recipe.schedule("baseline") == recipe.schedule("distil") == recipe.stages["distil"]
    few = make_recipe(labelled=0.5)
    halved = few.stages["distil"].model_copy(update={"batch": 1})
    assert few.schedule("baseline") == halved and few.schedule("distil") == few.stages["distil"]
    fresh = make_recipe(steps=5, distil_from="scratch")
    assert fresh.schedule("distil").steps == 10 and fresh.schedule("baseline").steps == 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distillation": gkd(intra=-1)}, "distillation.gkd.intra is -1; expected at least 0"),
        ({"distillation": gkd(cross="abc")}, "distillation.gkd.cross is 'abc'; expected a number"),
        ({"distillation": gkd(views=2.5)}, "gkd.views is 2.5; expected a whole number"),
        ({"distillation": gkd(edge_loss="l1")}, "expected 'mse' or 'softmax'"),
        ({"patch": 50}, "patch is 50; expected a multiple of 32"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(make_recipe, fields, said):
    with pytest.raises(InputError) as caught:
        make_recipe(**fields)
    assert said in str(caught.value) and "Input should" not in str(caught.value)
    assert "{" not in str(caught.value)


def test_invalid_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "bad.yaml").write_text("name: a\npatch: [")
    with pytest.raises(InputError, match=r"not YAML \(.+ in line 2\)"):
        Recipe.load(tmp_path / "bad.yaml")


def test_a_setting_reaches_into_a_list_by_index(make_recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    make_recipe().save(path)
    recipe = Recipe.load(path, {"sources.0.angle": "30", "tests.0.name": "other"})
    assert (recipe.sources[0].angle, recipe.tests[0].name) == (30, "other")
    message = refused(path, {"sources.1.angle": "30"})
    assert "--set sources.1.angle: '1' is no entry of a list of 1; expected 0" in message
