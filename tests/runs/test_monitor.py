"""Previews, distances and memory of a run, none of which changes the training."""

import shutil

import numpy as np
import pytest
import torch

from src_training.data.domain import Domain, write_domain
from src_training.data.phantom.camera import phantom_domain
from src_training.inference.predictor import labels_from
from src_training.networks import build_network
from src_training.runs import monitor
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Measured, Noted, Previewed
from src_training.runs.monitor import DistanceCallback, MemoryCallback, PreviewCallback
from src_training.training.builders import Networks
from src_training.training.stages.autoencoder import VectorStage
from src_training.training.stages.distillation import build_distillation
from src_training.training.stages.supervised import SupervisedStage
from tests.run_stages import run_stages


def photograph(size=64, seed=5):
    return phantom_domain("A", 1, size, seed)[0].image


def put(folder, image):
    folder.preview_input.parent.mkdir(parents=True, exist_ok=True)
    np.save(folder.preview_input, image)


def kinds(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def folder(tmp_path):
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def events():
    return []


@pytest.fixture
def preview(make_recipe, folder, events):
    """A preview callback without a run; emitted events are recorded in `events`."""
    classes = ("background", "foreground")
    return PreviewCallback(make_recipe(), folder, classes, torch.device("cpu"), events.append)


@pytest.fixture
def stage():
    torch.manual_seed(0)
    return SupervisedStage(
        "teacher", build_network("fanet", 1, 2, width=2), supervision="ce"
    ).eval()


def train(make_recipe, folder, **stages):
    plan = {name: {"steps": 0, "batch": 2} for name in make_recipe().stages}
    plan |= {name: {"steps": s, "batch": 2, "validate_every": 1} for name, s in stages.items()}
    events = []
    return run_stages(make_recipe(stages=plan), folder, events.append), events


def test_previews_change_nothing_that_is_trained(make_recipe, folder, monkeypatch):
    monkeypatch.setattr(monitor, "_PREVIEW_SECONDS", float("inf"))
    steps = {"teacher": 1, "student": 1, "distil": 2}
    alone, unseen = train(make_recipe, RunDirectory(folder.path / "unseen"), **steps)
    put(folder, photograph())
    shown, events = train(make_recipe, folder, **steps)
    assert [(e.stage, e.step) for e in kinds(events, Previewed)] == [
        ("teacher", 1),
        ("student", 1),
        ("baseline", 1),
        ("baseline", 2),
        ("distil", 1),
        ("distil", 2),
    ]
    assert {e.file for e in kinds(events, Previewed)} == {"preview/labels.npy"}
    labels = np.load(folder.preview_labels, allow_pickle=False)
    assert labels.dtype == np.uint8 and labels.shape == (64, 64) and labels.max() <= 1
    assert not kinds(unseen, Previewed)
    for network in ("teacher", "distilled"):
        former = getattr(alone, network).state_dict()
        for name, tensor in getattr(shown, network).state_dict().items():
            assert torch.equal(tensor, former[name])
    measured = kinds(events, Measured)
    assert [(e.stage, e.step) for e in measured] == [("distil", 0), ("distil", 1), ("distil", 2)]
    assert all(e.fsd.keys() == {"B"} and e.fsd["B"] >= 0 for e in measured)
    assert measured == [
        e.model_copy(update={"time": m.time})
        for e, m in zip(kinds(unseen, Measured), measured, strict=True)
    ]


def test_a_preview_is_what_the_network_would_segment(preview, events, stage, folder, make_recipe):
    put(folder, image := photograph(80))
    preview.on_evaluation(stage, 3)
    (event,) = events
    assert (event.stage, event.step) == ("teacher", 3)
    prepared = make_recipe().preprocessing.prepare(image)
    with torch.no_grad():
        logits = stage.network(torch.from_numpy(prepared.pixels)[None])
    maps = prepared.geometry.to_original(logits.softmax(1)[0].numpy(), outside=0)
    found = np.load(folder.preview_labels)
    assert found.shape == (80, 80)
    assert (found == labels_from(maps, 0.5))[prepared.fov.shape[0] // 2].mean() > 0.95


def test_no_preview_without_an_image_or_before_the_first_step(preview, events, stage, folder):
    preview.on_evaluation(stage, 2)
    put(folder, photograph())
    preview.on_evaluation(stage, 0)
    assert events == []


def test_a_later_or_changed_image_is_the_one_previewed(preview, events, stage, folder):
    for size in (64, 96):
        put(folder, photograph(size))
        preview.on_evaluation(stage, 2)
        assert np.load(folder.preview_labels).shape == (size, size)


def pickled(file):
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)


BROKEN = {
    "no array": lambda file: file.write_bytes(b"GIF89a"),
    "an empty file": lambda file: file.write_bytes(b""),
    "half an array": lambda file: (
        np.save(file, photograph()),
        file.write_bytes(file.read_bytes()[:500]),
    ),
    "a pickle": pickled,
    "four axes": lambda file: np.save(file, np.zeros((2, 2, 2, 2))),
    "no numbers": lambda file: np.save(file, np.full((32, 32), np.nan)),
    "a folder": lambda file: file.mkdir(),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_is_said_once_and_stops_nothing(preview, events, stage, folder, fault):
    folder.preview_input.parent.mkdir(parents=True)
    BROKEN[fault](folder.preview_input)
    preview.on_evaluation(stage, 1)
    preview.on_evaluation(stage, 2)
    (event,) = events
    assert isinstance(event, Noted) and "\n" not in event.sentence
    assert event.sentence.startswith("The preview's image cannot be segmented: ")
    shutil.rmtree(folder.preview_input.parent)
    put(folder, photograph())
    preview.on_evaluation(stage, 3)
    assert isinstance(events[-1], Previewed)


def test_previews_take_no_more_than_their_share_of_the_time(
    preview, events, stage, folder, monkeypatch
):
    monkeypatch.setattr(monitor, "_PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr(monitor, "_PREVIEW_SHARE", 1e-6)
    put(folder, photograph())
    for step in (1, 2, 3):
        preview.on_evaluation(stage, step)
    assert [event.step for event in events] == [1]


def test_a_stage_that_does_not_segment_is_not_previewed(preview, events, folder):
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder

    put(folder, photograph())
    preview.on_evaluation(VectorStage(SemanticAutoencoder(1, 32, 2, 8, 4)), 1)
    assert events == []


def test_a_missing_target_is_noted_and_others_are_measured(make_recipe, folder, tmp_path):
    targets = []
    for name in ("here", "gone"):
        write_domain(phantom_domain("B", 2, 64, 1), tmp_path / name)
        folder_of = {"folder": str(tmp_path / name), "class_values": {"vessel": 1}}
        targets.append({"name": name, **folder_of})
    events = []
    steps = {name: {"steps": 0} for name in make_recipe().stages}
    recipe = make_recipe(tests=targets, stages=steps)
    gone = tmp_path / "gone"
    run_stages(recipe, folder, events.append, before_run=lambda: shutil.rmtree(gone))
    (noted,) = kinds(events, Noted)
    assert "FSD leaves out gone: " in noted.sentence and "\n" not in noted.sentence
    assert [event.fsd.keys() for event in kinds(events, Measured)] == [{"here"}] * 2


@pytest.fixture
def measure(make_recipe, events):
    """Measure FSD from images to domains with an untrained student, and return the events."""

    def run(images, domains, patch=32):
        recipe = make_recipe(patch=patch)
        stage = build_distillation(Networks.build(recipe, 2)).eval()
        prepared = [recipe.preprocessing.prepare(image) for image in images]
        callback = DistanceCallback(recipe, prepared, domains, torch.device("cpu"), events.append)
        with torch.no_grad():
            callback.on_evaluation(stage, 0)
        return events

    return run


def test_distances_use_patches_of_all_source_images(measure):
    images = [case.image for case in phantom_domain("A", 12, 64, 0)]
    first, last = (
        next(iter(measure(chosen, [phantom_domain("B", 2, 64, 1)]))).fsd
        for chosen in (images, images[:1])
    )
    assert first.keys() == last.keys() == {"phantom_B"}
    both = [event.fsd["phantom_B"] for event in measure(images, [phantom_domain("B", 2, 64, 1)])]
    assert len(set(both)) == 2 and both[0] == both[2]


def test_a_domain_of_one_patch_is_not_measured(measure):
    small = Domain.from_arrays("small", [np.full((40, 40), 9, np.uint8)])
    images = [photograph(seed=seed) for seed in (0, 5)]
    assert measure(images, [small], patch=64) == []


def test_memory_is_told_now_and_then(monkeypatch, events):
    now = iter([10.0, 11.9, 12.0])
    monkeypatch.setattr(monitor.time, "monotonic", lambda: next(now))
    callback = MemoryCallback(torch.device("cpu"), events.append)
    for step in (1, 2, 3):
        callback.on_step_end("teacher", step, 0.0, {})
    assert len(events) == 2
    assert events[0].host > 10**7 and events[0].device == 0
