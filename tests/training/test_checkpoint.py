import errno
import json
import pickle
from dataclasses import asdict

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from src_training.errors import InputError
from src_training.training.checkpoint import (
    Progress,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)


def learner(steps=0, size=3):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(size, 2), nn.BatchNorm1d(2))
    adam = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        module(torch.rand(4, size)).square().sum().backward()
        adam.step()
    return module, adam


def refused(path, load=False):
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, *learner()) if load else read_progress(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_weights_optimiser_and_progress_come_back(tmp_path):
    path = tmp_path / "last.safetensors"
    module, adam = learner(steps=3)
    save_checkpoint(path, module, adam, Progress(3, 0.5, 1.25, True))
    other, other_adam = learner()
    assert load_checkpoint(path, other, other_adam) == Progress(3, 0.5, 1.25, True)
    for name, tensor in module.state_dict().items():
        found = other.state_dict()[name]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)
    expected, found = adam.state_dict()["state"], other_adam.state_dict()["state"]
    assert expected.keys() == found.keys()
    for index, slots in expected.items():
        assert all(torch.equal(found[index][slot], value) for slot, value in slots.items())


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="not known here")
def test_a_checkpoint_that_was_loaded_is_not_mapped(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(steps=1), Progress(1))
    other = learner()
    load_checkpoint(path, *other)
    assert str(path) not in {each.path for each in psutil.Process().memory_maps()}
    assert other[1].state_dict()["state"]


def test_a_first_checkpoint_keeps_that_there_is_no_score_yet(tmp_path):
    save_checkpoint(tmp_path / "last.safetensors", *learner(), Progress())
    assert read_progress(tmp_path / "last.safetensors") == Progress()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_named(tmp_path, kept):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(1), Progress(1))
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot be read" in refused(path)


def test_foreign_files_are_named_and_never_unpickled(tmp_path):
    pickled = tmp_path / "pickle.safetensors"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    for path in (pickled, foreign, tmp_path / "missing.safetensors"):
        assert "cannot be read" in refused(path)


def test_weights_of_another_network_are_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(size=5), Progress(1))
    assert "weights/0.weight is (2, 5); expected (2, 3)" in refused(path, load=True)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("weights/0.bias", float("nan"), "values that are NaN"),
        ("optimiser/1/exp_avg", float("inf"), "values that are NaN"),
        ("optimiser/1/exp_avg_sq", -1.0, "variance of -1"),
        ("weights/1.running_var", -1.0, "variance of -1"),
    ],
)
def test_checkpoints_that_are_no_numbers_are_refused(tmp_path, name, value, found):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(1), Progress(1))
    tensors, header = load_file(path), {"msankd-checkpoint": json.dumps(asdict(Progress(1)))}
    tensors[name][0] = value
    save_file(tensors, path, header)
    sentence = refused(path, load=True)
    assert name in sentence and found in sentence


def test_optimiser_slots_of_no_parameter_are_refused(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(1), Progress(1))
    tensors, header = load_file(path), {"msankd-checkpoint": json.dumps(asdict(Progress(1)))}
    save_file(tensors | {"optimiser/99/exp_avg": torch.zeros(1)}, path, header)
    assert "optimiser/99/exp_avg is of no parameter" in refused(path, load=True)


def test_a_full_disk_names_the_file_and_leaves_the_former(tmp_path, largest_file):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, *learner(1), Progress(1))
    with largest_file(200), pytest.raises(OSError) as caught:
        save_checkpoint(path, *learner(2), Progress(2))
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert read_progress(path) == Progress(1)
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]
