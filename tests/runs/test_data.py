"""The cases of a run: several sources, each split by patient, some without masks."""

import numpy as np
import pytest

from src_training.config.recipe import Recipe
from src_training.data.phantom.camera import phantom_domain
from src_training.data.split import patient_of
from src_training.errors import InputError
from src_training.io.images import write_image, write_labels
from src_training.runs.data import load_run_data


def phantoms(name, images=4, **more):
    return {"name": name, "phantoms": {"scanner": name[0], "images": images, "size": 64}, **more}


def test_each_source_is_split_by_patient(make_recipe):
    recipe = make_recipe(sources=[phantoms("A", 8), phantoms("B", 4)], tests=[], validation=0.25)
    data = load_run_data(recipe)
    assert [domain.name for domain in data.sources] == ["A", "B"]
    assert [len(domain) for domain in data.sources] == [6, 3]
    assert [len(domain) for domain in data.validation] == [2, 1]
    for training, held_out in zip(data.sources, data.validation, strict=True):
        patients = {patient_of(name) for name in training.names}
        assert patients.isdisjoint(patient_of(name) for name in held_out.names)
    reported = [domain.name for domain in data.reported]
    assert reported == ["A, validation", "B, validation"]


def test_validation_names_cases_of_each_source(make_recipe):
    sources = [phantoms("A"), phantoms("B")]
    names = load_run_data(make_recipe(sources=sources, tests=[])).sources[0].names
    by_source = {"A": [names[0]], "B": 0.5}
    data = load_run_data(make_recipe(sources=sources, tests=[], validation=by_source))
    assert data.validation[0].names == (names[0],) and len(data.validation[1]) == 2
    both = [{**phantoms("A"), "name": "A"}, {**phantoms("A"), "name": "A2"}]
    with pytest.raises(InputError, match="is a case of A and A2; expected a case of one source"):
        load_run_data(make_recipe(sources=both, tests=[], validation=[names[0]]))
    with pytest.raises(InputError, match="'nobody' is a case of no source"):
        load_run_data(make_recipe(sources=sources, tests=[], validation=["nobody"]))


def test_sources_have_their_own_class_values_and_terms(make_recipe, tmp_path):
    for name, value in (("one", 1), ("two", 255)):
        for case in phantom_domain("A", 3, 64):
            write_image(tmp_path / name / "images" / f"{case.name}.png", case.image)
            write_labels(
                tmp_path / name / "masks" / f"{case.name}.png", case.mask * np.uint8(value)
            )
    sources = [
        {"name": "one", "folder": str(tmp_path / "one"), "class_values": {"vessel": 1}},
        {
            "name": "two",
            "folder": str(tmp_path / "two"),
            "class_values": {"vessel": 255},
            "terms": "CC BY 4.0",
        },
    ]
    data = load_run_data(make_recipe(sources=sources, tests=[]))
    assert data.classes == ("background", "vessel")
    assert [domain.terms for domain in data.sources] == ["", "CC BY 4.0"]
    other = sources[1] | {"class_values": {"artery": 255}}
    with pytest.raises(InputError, match=r"two has classes .*artery.* expected those of one"):
        load_run_data(make_recipe(sources=[sources[0], other], tests=[]))


def test_a_share_of_each_source_keeps_its_masks(make_recipe):
    recipe = make_recipe(sources=[phantoms("A", 8)], tests=[], labelled=0.5, validation=0.25)
    data = load_run_data(recipe)
    whole = load_run_data(recipe.model_copy(update={"labelled": 1.0})).sources[0]
    (labelled,), (others,) = data.sources, data.unlabelled
    assert {*labelled.names, *others.names} == {*whole.names}
    assert len(labelled) == len(others) == len(whole) / 2
    assert others.name == "A, without masks"


def test_one_labelled_image_cannot_be_shared_out(make_recipe):
    recipe = make_recipe(sources=[phantoms("A", 1)], tests=[], labelled=0.5)
    with pytest.raises(InputError, match="but one image alone of A"):
        load_run_data(recipe)


def test_a_subset_keeps_what_is_held_out_apart(make_recipe):
    data = load_run_data(make_recipe(sources=[phantoms("A", 8)], validation=0.5))
    few = data.subset(training=2, validation=1, tests=1)
    assert few.sources[0].names == data.sources[0].names[:2]
    assert few.validation[0].names == data.validation[0].names[:1]
    assert len(few.tests[0]) == 1
    single = load_run_data(make_recipe(sources=[phantoms("A", 1)], tests=[]))
    assert single.subset(2, 1, 1).sources[0].names == single.sources[0].names


def test_a_recipe_names_one_source_or_several(tiny_content):
    single = Recipe.validated(tiny_content, "tiny")
    several = tiny_content | {"sources": [tiny_content["source"]]}
    with pytest.raises(InputError, match="both source and sources; expected one of them"):
        Recipe.validated(several, "tiny")
    del several["source"]
    assert Recipe.validated(several, "tiny") == single
    twice = several | {"sources": several["sources"] * 2}
    with pytest.raises(InputError, match="two sources are called A; expected different names"):
        Recipe.validated(twice, "tiny")
    with pytest.raises(InputError, match="validation is given for B; expected an entry for each"):
        Recipe.validated(tiny_content | {"validation": {"B": 0.5}}, "tiny")
