"""Snapshots of a stage's weights are the same with and without an interruption."""

import itertools

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn

from src_training.config.stages import StageSchedule
from src_training.data.sampling import Batch
from src_training.training.checkpoint import snapshot_files
from src_training.training.interruption import Interrupted
from src_training.training.stages.base import Stage
from src_training.training.trainer import fit

PLAN = StageSchedule(steps=5, batch=2, rate=0.02, validate_every=2)


class Noise:
    def sample(self, count, views, device):
        return Batch(torch.randn(count, 3), torch.zeros(count))


class Line(Stage):
    """Learns y = 2x."""

    def __init__(self, keeps=True):
        torch.manual_seed(0)
        super().__init__("line", nn.Linear(3, 3))
        self.saves_snapshots = keeps

    def forward(self, batch):
        return {"fit": (self.trained(batch.image) - 2 * batch.image).square().mean()}

    def score(self, _validation):
        return 0.0


@pytest.fixture
def train(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)

    def run(name, stage, stopping=lambda: False):
        more = {"fabric": fabric, "seed": 1, "weight_decay": 0.0}
        try:
            fit(stage, PLAN, Noise(), None, tmp_path / name, stopping=stopping, **more)
        except Interrupted:
            return False, tmp_path / name
        return True, tmp_path / name

    return run


def content(folder):
    return {step: load_file(path) for step, path in snapshot_files(folder).items()}


def test_snapshots_are_of_the_start_and_every_validation(train):
    start = Line().trained.weight.detach().clone()
    _, folder = train("whole", stage := Line())
    found = content(folder)
    assert list(found) == [0, 2, 4, 5]
    assert torch.equal(found[0]["weights/weight"], start)
    assert not torch.equal(found[2]["weights/weight"], found[5]["weights/weight"])
    assert not any(name.startswith("optimiser") for name in found[5])
    # The first of equal scores is the best.
    assert torch.equal(found[2]["weights/weight"], stage.trained.weight)


def test_a_stage_that_does_not_keep_leaves_nothing(train):
    _, folder = train("plain", Line(keeps=False))
    assert not (folder / "kept").exists()


def test_an_interrupted_course_keeps_what_a_whole_one_does(train):
    _, whole = train("whole", Line())
    done = False
    for _ in range(40):
        asked = itertools.count(1)
        done, folder = train("parts", Line(), lambda asked=asked: next(asked) >= 5)
        if done:
            break
    assert done
    expected, found = content(whole), content(folder)
    assert list(found) == list(expected)
    for step, tensors in expected.items():
        assert all(torch.equal(found[step][name], tensor) for name, tensor in tensors.items())
