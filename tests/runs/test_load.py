"""Loading the networks and snapshots of a run from its checkpoints."""

import copy
import itertools
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from src_training.config.stages import StageSchedule
from src_training.errors import InputError
from src_training.explore.view_graphs import view_graphs
from src_training.inference.model_file import load_model
from src_training.runs.load import load_networks, load_pair, load_snapshot, snapshots
from src_training.training.checkpoint import (
    SNAPSHOTS,
    load_checkpoint,
    read_progress,
    snapshot_steps,
)


@pytest.fixture(scope="module")
def networks(finished_run):
    return load_networks(finished_run.path)


def assert_same(module, other):
    expected = other.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_they_are_those_of_the_models_that_the_run_left(networks, finished_run):
    for role, network, encoder in (
        ("teacher", networks.teacher, networks.tan.encoder),
        ("baseline", networks.baseline, networks.baseline_san.encoder),
        ("distilled", networks.distilled, networks.distilled_san.encoder),
    ):
        model = load_model(finished_run.path / "models" / f"{role}.safetensors")
        # Calibration changed the head of the model.
        model.network.head.load_state_dict(network.head.state_dict())
        assert_same(network, model.network)
        assert_same(encoder, model.semantics)


def test_every_reported_student_has_a_san_of_its_own(networks):
    sans = [networks.san, networks.baseline_san, networks.distilled_san]
    for one, other in itertools.combinations(sans, 2):
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)


def test_a_run_without_refitted_sans_has_the_students(finished_run, tmp_path):
    copied = tmp_path / "former"
    shutil.copytree(finished_run.path, copied)
    for name in ("san_baseline", "san_distilled"):
        shutil.rmtree(copied / "stages" / name)
    former = load_networks(copied)
    assert_same(former.distilled_san, former.san)


def test_nothing_of_them_learns_on_and_no_domain_is_read(networks, finished_run, monkeypatch):
    monkeypatch.setattr("src_training.runs.data.load_domain", pytest.fail)
    load_networks(finished_run.path)
    for module in (networks.teacher, networks.tan, networks.autoencoder, networks.baseline):
        assert not module.training
    assert not networks.distilled.training and not networks.san.training
    assert networks.recipe == finished_run.recipe
    assert load_pair(finished_run.path).patch == finished_run.recipe.patch


def test_the_autoencoder_has_both_its_phases(networks, finished_run):
    stage = finished_run.path / "stages" / "vectors"
    fresh = load_networks(finished_run.path).autoencoder.alignment
    load_checkpoint(stage / "best.safetensors", fresh)
    assert_same(networks.autoencoder.alignment, fresh)


def test_the_students_course_is_kept_from_its_start_to_its_end(networks, finished_run):
    assert snapshots(finished_run.path) == [0, 2, 3]
    start = copy.deepcopy(networks.baseline)
    load_checkpoint(finished_run.path / "stages" / "student" / "best.safetensors", start)
    assert_same(load_snapshot(finished_run.path, 0), start)
    best = read_progress(finished_run.path / "stages" / "distil" / "best.safetensors").step
    assert_same(load_snapshot(finished_run.path, best), networks.distilled)
    assert not load_snapshot(finished_run.path, 3).training


def test_no_other_stage_keeps_its_course(finished_run):
    kept = {path.parent.name for path in finished_run.path.glob("stages/*/snapshots")}
    assert kept == {"distil"}


def test_a_snapshot_replaces_the_student_in_graphs(finished_run):
    patch = np.random.default_rng(0).random((1, 32, 32), np.float32)
    pair = load_pair(finished_run.path)
    last = view_graphs(pair, [patch], 2).samples[0]
    first = replace(pair, student=load_snapshot(finished_run.path, 0))
    found = view_graphs(first, [patch], 2).samples[0]
    assert np.array_equal(found.teacher.star, last.teacher.star)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (0, 50, [0]),
        (3, 2, [0, 2, 3]),
        (4, 2, [0, 2, 4]),
        (1, 50, [0, 1]),
        (250, 50, [0, 50, 100, 150, 200, 250]),
    ],
)
def test_every_validation_is_kept_where_they_are_few(steps, every, expected):
    assert snapshot_steps(StageSchedule(steps=steps, validate_every=every)) == expected


@pytest.mark.parametrize("steps", [951, 1000, 1049, 5000, 100_000])
def test_snapshots_of_many_validations_are_evenly_spaced(steps):
    kept = snapshot_steps(StageSchedule(steps=steps, validate_every=50))
    gaps = [b - a for a, b in pairwise(kept)]
    assert len(kept) == SNAPSHOTS and kept[0] == 0 and kept[-1] == steps
    assert all(step % 50 == 0 for step in kept[:-1])
    assert min(gaps) > 0 and max(gaps) - min(gaps[:-1]) <= 50


def test_what_a_run_lacks_is_said_in_one_sentence(finished_run, tmp_path):
    with pytest.raises(InputError, match=r"there is no run; expected recipe\.yaml in it"):
        load_networks(tmp_path)
    with pytest.raises(InputError, match="there is no snapshot of step 1; expected one of 0, 2, 3"):
        load_snapshot(finished_run.path, 1)
    half = tmp_path / "half"
    shutil.copytree(finished_run.path, half)
    shutil.rmtree(half / "stages" / "distil")
    assert snapshots(half) == []
    with pytest.raises(InputError, match="half: stage distil has no checkpoint yet"):
        load_networks(half)
    with pytest.raises(InputError, match="there is no snapshot of step 0; expected one of none"):
        load_snapshot(half, 0)


def test_a_broken_checkpoint_is_named(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run.path, run)
    file = run / "stages" / "tan" / "best.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"tan.best\.safetensors: the checkpoint cannot be read"):
        load_networks(run)


def test_loading_leaves_the_random_numbers_of_others_alone(finished_run):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_networks(finished_run.path)
    load_snapshot(finished_run.path, 0)
    assert torch.equal(torch.rand(2), expected)
