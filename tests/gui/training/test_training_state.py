"""State of the Prepare page: whether a run can start, and its texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import FolderDataset, LayerDataset
from napari_msankd.training.run_request import (
    NO_TEACHER,
    NetworkChoice,
    make_recipe,
    with_datasets_of,
)
from napari_msankd.training.state import (
    TrainingState,
    cost_text,
    measurable,
    message,
    name_note,
    obstacle,
    overlap,
    run_name,
)
from src_training.errors import InputError

OURS, THEIRS = FolderDataset(Path("/data/ours")), FolderDataset(Path("/data/theirs"))
SOME_MASKS = replace(OURS, unmasked="unlabelled")
ESTIMATE = {"seconds": 60.0, "memory": 10**9, "device": "cpu"}


@pytest.fixture
def state():
    return TrainingState(sources=(OURS,))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("student", "student"),
        ("my first run", "my-first-run"),
        ("Läufe 2026/11", "Läufe-2026-11"),
        ("a/../b", "a-..-b"),
        ("..", ""),
        ("  ", ""),
        ("x" * 200, "x" * 80),
    ],
)
def test_any_name_becomes_a_file_name(text, name, make_recipe):
    assert run_name(text) == name
    if name:
        assert make_recipe(name=name).name == name


def test_a_name_that_is_changed_is_shown(state):
    assert name_note("my first run") == "Name of folder and model: my-first-run"
    assert name_note("student") == name_note("") == ""
    state.name = "my first run"
    assert state.request().name == "my-first-run"


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"sources": None}, "Sources are not ready"),
        ({"sources": ()}, "Sources are not ready"),
        ({"targets": None}, "A target is not ready"),
        ({"unlabelled": None}, "Images without masks are not ready"),
        ({"targets": (OURS,)}, "Folder /data/ours is in Sources and in Targets; expected"),
        ({"sources": (OURS, OURS)}, "Folder /data/ours is twice in Sources"),
        (
            {"unlabelled": (THEIRS,), "targets": (THEIRS,)},
            "Folder /data/theirs is in Targets and in Images without masks",
        ),
        ({"name": "/"}, "The run has no name"),
        ({"teacher": NetworkChoice("fanet", None, train=False)}, "frozen teacher has no model"),
        (
            {"teacher": NO_TEACHER, "unlabelled": (THEIRS,)},
            "Images without masks need a teacher",
        ),
        (
            {"teacher": NO_TEACHER, "sources": (SOME_MASKS,)},
            "Images without masks need a teacher",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(state, choice, sentence):
    assert obstacle(state) == "" and state.request().sources == (OURS,)
    state.choose(**choice)
    assert sentence in obstacle(state) and "\n" not in obstacle(state)
    with pytest.raises(InputError, match="expected"):
        state.request()


def test_layers_that_are_trained_on_are_no_targets(state):
    from napari.layers import Image

    first, second = ((LayerPair.of(Image(np.zeros((8, 8)), name="eye")),) for _ in range(2))
    state.choose(sources=(LayerDataset("a", first),), targets=(LayerDataset("b", first),))
    assert message(state).startswith("✕ Layer 'eye' is in Sources and in Targets")
    # A layer with the same name is a different image.
    state.choose(targets=(LayerDataset("b", second),))
    assert message(state) == overlap(state) == ""


def test_another_choice_discards_the_recipe_and_its_cost(state, make_recipe):
    state.edit(make_recipe(3))
    state.estimate = ESTIMATE
    assert message(state) == "Advanced settings were changed."
    state.choose(time=state.time, sources=state.sources)
    assert state.edited is not None and state.estimate is ESTIMATE
    state.choose(time="full")
    assert state.edited is None and state.estimate is None
    assert message(state) == "Advanced settings were reset because the selection changed."
    state.edit(make_recipe(2))
    assert message(state) == "Advanced settings were changed."


def test_cost_is_measured_once_and_never_beside_a_run(state):
    assert measurable(state)
    for field, value in (
        ("progress", {"done": 0}),
        ("estimate", ESTIMATE),
        ("estimate_error", "no."),
        ("training", ("mine",)),
        ("starting", True),
        ("editing", True),
        ("sources", None),
    ):
        former = getattr(state, field)
        setattr(state, field, value)
        assert not measurable(state), field
        setattr(state, field, former)
    assert measurable(state)


def test_the_cost_is_said_as_far_as_it_is_known(state):
    assert cost_text(state) == ""
    state.progress = {"done": 0, "total": 9, "part": "Reading images", "roughly": 0.0}
    assert cost_text(state) == "Estimating time and memory: Reading images…"
    state.progress = {"done": 1, "total": 9, "part": "Teacher", "roughly": 4000.0}
    assert cost_text(state) == "Roughly 1 h 7 min; measuring: Teacher…"
    state.progress, state.estimate = None, ESTIMATE | {"notes": ["One image."]}
    assert cost_text(state) == "About 1 min and 1.0 GB of memory on cpu\nOne image."
    state.clear_estimate()
    state.estimate_error = "no such file"
    assert cost_text(state).startswith("⚠ Time and memory could not be estimated: no such file")
    state.clear_estimate()
    state.training = ("mine",)
    assert cost_text(state) == "Time is not estimated while “mine” is training."


def test_a_view_hears_of_every_change(state):
    heard = []
    state.events.connect(lambda info: heard.append(info.signal.name))
    state.choose(time="full")
    state.training = ("mine",)
    assert "time" in heard and heard[-1] == "training"


def test_a_request_becomes_a_recipe_of_all_its_choices(make_domain, model_file, tmp_path):
    one, two, three, four = (
        FolderDataset(make_domain(name, seed)) for seed, name in enumerate("abcd")
    )
    frozen = NetworkChoice("fanet", model_file, train=False)
    state = TrainingState((one, two), (three,), (four,), frozen, name="my run", kind="minmax")
    (recipe,) = make_recipe(state.request(), tmp_path / "run")
    assert [each.name for each in recipe.sources] == ["a", "b"]
    assert [each.name for each in (*recipe.tests, *recipe.unlabelled)] == ["c", "d"]
    assert recipe.name == "my-run" and recipe.student.name == "wnet"
    assert (recipe.teacher.start_from, recipe.teacher.train) == (str(model_file), False)
    assert recipe.teacher.name == "fanet" and recipe.preprocessing.percentiles == (0, 100)
    edited = recipe.changed({"patch": 64, "sources.0.folder": "/gone"}, "test")
    again = with_datasets_of(edited, recipe)
    assert again.patch == 64 and again.sources == recipe.sources
