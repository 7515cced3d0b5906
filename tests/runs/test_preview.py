"""A run that is watched shows previews and FSD, and learns what it would have learnt anyway."""

import shutil

import numpy as np
import pytest
import torch

from src_training.data.domain import Domain, write_domain
from src_training.data.phantom.camera import phantom_domain
from src_training.inference.predictor import labels_from
from src_training.networks import build_network
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Measured, Noted, Previewed
from src_training.runs.pipeline import Pipeline
from src_training.training import callbacks as watching
from src_training.training import memory_meter as memory
from src_training.training.callbacks import TrainingMonitor, patches_of
from src_training.training.memory_meter import MemoryMeter
from src_training.training.stages.base import MaskVectors, Supervised

SEGMENTING = ("teacher", "student", "alone", "distil")


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
def watch(make_recipe, folder):
    """A watch of no run; what it says is kept in `watch.said`."""
    watch = TrainingMonitor(
        make_recipe(),
        folder,
        ("background", "foreground"),
        torch.rand(4, 1, 32, 32),
        [],
        torch.device("cpu"),
        (said := []).append,
    )
    watch.said = said
    return watch


@pytest.fixture
def stage():
    torch.manual_seed(0)
    return Supervised("teacher", build_network("fanet", 1, 2, width=2), supervision="ce").eval()


def train(make_recipe, folder, **stages):
    plan = {name: {"steps": 0, "batch": 2} for name in make_recipe().stages.model_dump()}
    plan |= {name: {"steps": s, "batch": 2, "validate_every": 1} for name, s in stages.items()}
    events = []
    pipeline = Pipeline(make_recipe(stages=plan), folder, "cpu", lambda: False)
    return pipeline.train(events.append), events


def test_every_validation_is_previewed_and_nothing_that_is_learnt_changes(
    make_recipe, folder, monkeypatch
):
    monkeypatch.setattr(watching, "_FREE", float("inf"))
    steps = {"teacher": 1, "student": 1, "distil": 2}
    alone, unseen = train(make_recipe, RunDirectory(folder.path / "unseen"), **steps)
    put(folder, photograph())
    shown, events = train(make_recipe, folder, **steps)
    assert [(e.stage, e.step) for e in kinds(events, Previewed)] == [
        ("teacher", 1),
        ("student", 1),
        ("alone", 1),
        ("alone", 2),
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


def test_a_preview_is_what_the_network_would_segment(watch, stage, folder):
    put(folder, image := photograph(80))
    watch(stage, 3)
    (event,) = watch.said
    assert (event.stage, event.step) == ("teacher", 3)
    prepared = watch._recipe.preprocessing.prepare(image)
    with torch.no_grad():
        logits = stage.network(torch.from_numpy(prepared.pixels)[None])
    maps = prepared.geometry.to_original(logits.softmax(1)[0].numpy(), outside=0)
    found = np.load(folder.preview_labels)
    assert found.shape == (80, 80)
    assert (found == labels_from(maps, 0.5))[prepared.fov.shape[0] // 2].mean() > 0.95


def test_without_an_image_and_before_the_first_step_there_is_no_preview(watch, stage, folder):
    watch(stage, 2)
    put(folder, photograph())
    watch(stage, 0)
    assert watch.said == []


def test_an_image_that_is_put_there_later_or_changed_is_the_one_shown(watch, stage, folder):
    for size in (64, 96):
        put(folder, photograph(size))
        watch(stage, 2)
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
def test_a_broken_image_is_said_once_and_stops_nothing(watch, stage, folder, fault):
    folder.preview_input.parent.mkdir(parents=True)
    BROKEN[fault](folder.preview_input)
    watch(stage, 1)
    watch(stage, 2)
    (event,) = watch.said
    assert isinstance(event, Noted) and "\n" not in event.sentence
    assert event.sentence.startswith("The preview's image cannot be segmented: ")
    shutil.rmtree(folder.preview_input.parent)
    put(folder, photograph())
    watch(stage, 3)
    assert isinstance(watch.said[-1], Previewed)


def test_previews_take_no_more_than_their_share_of_the_time(watch, stage, folder, monkeypatch):
    monkeypatch.setattr(watching, "_FREE", 0.0)
    monkeypatch.setattr(watching, "_SHARE", 1e-6)
    put(folder, photograph())
    for step in (1, 2, 3):
        watch(stage, step)
    assert [event.step for event in watch.said] == [1]


def test_a_stage_that_does_not_segment_is_not_previewed(watch, folder, make_recipe):
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder

    put(folder, photograph())
    watch(MaskVectors(SemanticAutoencoder(1, 32, 2, 8, 4)), 1)
    assert watch.said == []


def test_a_target_that_is_gone_is_said_and_the_others_are_measured(make_recipe, folder, tmp_path):
    targets = []
    for name in ("here", "gone"):
        write_domain(phantom_domain("B", 2, 64, 1), tmp_path / name)
        folder_of = {"folder": str(tmp_path / name), "class_values": {"vessel": 1}}
        targets.append({"name": name, **folder_of})
    events = []
    steps = {name: {"steps": 0} for name in make_recipe().stages.model_dump()}
    recipe = make_recipe(tests=targets, stages=steps)
    pipeline = Pipeline(recipe, folder, "cpu", lambda: False)
    shutil.rmtree(tmp_path / "gone")
    pipeline.train(events.append)
    (noted,) = kinds(events, Noted)
    assert "FSD leaves out gone: " in noted.sentence and "\n" not in noted.sentence
    assert [event.fsd.keys() for event in kinds(events, Measured)] == [{"here"}] * 2


def test_patches_are_spread_over_the_images(make_recipe):
    prepare = make_recipe().preprocessing.prepare
    images = [prepare(case.image) for case in phantom_domain("A", 12, 64, 0)]
    found = patches_of(images, 32)
    assert found.shape == (watching.PATCHES, 1, 32, 32)
    last = {tuple(patch.flatten().tolist()) for patch in patches_of(images[-1:], 32)}
    assert last & {tuple(patch.flatten().tolist()) for patch in found}


def test_a_domain_of_one_patch_is_not_measured(make_recipe, folder, watch):
    small = Domain.from_arrays("small", [np.full((40, 40), 9, np.uint8)])
    assert (
        TrainingMonitor(
            make_recipe(patch=64),
            folder,
            ("background", "foreground"),
            torch.rand(4, 1, 64, 64),
            [small],
            torch.device("cpu"),
            watch.said.append,
        )._read_targets("distil", 0)
        == {}
    )


def test_memory_is_read_now_and_then(monkeypatch):
    now = iter([10.0, 11.9, 12.0])
    monkeypatch.setattr(memory.time, "monotonic", lambda: next(now))
    meter = MemoryMeter(torch.device("cpu"))
    first, second, third = (meter.read() for _ in range(3))
    assert first.host > 10**7 and first.device == 0
    assert second is None and third is not None
