"""A batch that does not fit into memory is split, with the same gradients."""

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from src_training.config.stages import StageSchedule
from src_training.data.sampling import Batch
from src_training.errors import InputError
from src_training.runs.events import BatchSplit, StepDone
from src_training.runs.monitor import EventCallback
from src_training.training.checkpoint import read_progress
from src_training.training.distributed.process_group import split_batch
from src_training.training.stages.base import Stage
from src_training.training.trainer import fit


class Noise:
    """Samples patches that depend only on the random seed of the step."""

    def sample(self, count, views, device):
        further = torch.randn(count * views, 3) if views else None
        return Batch(torch.randn(count, 3), torch.arange(count), further)


class Narrow(Stage):
    """Learns y = 2x; a pass of more than a number of patches runs out of memory."""

    full: Exception = torch.OutOfMemoryError("CUDA out of memory")

    def __init__(self, room, normalised=False, backward=False):
        torch.manual_seed(0)
        between = nn.BatchNorm1d(4) if normalised else nn.Tanh()
        super().__init__("line", nn.Sequential(nn.Linear(3, 4), between, nn.Linear(4, 3)))
        self.room, self.backward, self.sizes = room, backward, []

    def forward(self, batch):
        self.sizes.append(len(batch.image))
        output = self.trained(batch.image)
        if len(batch.image) > self.room:
            if not self.backward:
                raise self.full
            output.register_hook(self.fail)
        difference = output - 2 * batch.image
        return {"square": difference.square().mean(), "far": difference.abs().mean()}

    def fail(self, _gradient):
        raise self.full

    def score(self, _validation):
        return 0.0


@pytest.fixture
def train(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)

    def run(stage, batch=8, steps=3, folder="line"):
        run.events = []
        run.folder = tmp_path / folder
        plan = StageSchedule(steps=steps, batch=batch, rate=0.02, validate_every=2)
        return fit(
            stage,
            plan,
            Noise(),
            None,
            run.folder,
            fabric=fabric,
            seed=1,
            weight_decay=0.0,
            callbacks=[EventCallback(run.events.append)],
            stopping=lambda: False,
        )

    return run


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("room", "parts"), [(5, [2]), (3, [2, 4]), (1, [2, 4, 7])])
def test_a_split_batch_gives_the_step_of_the_whole(train, room, parts, backward):
    whole, narrow = Narrow(room=7), Narrow(room, backward=backward)
    train(whole, batch=7, folder="whole")
    expected = of_kind(train.events, StepDone)
    train(narrow, batch=7)
    splits = of_kind(train.events, BatchSplit)
    assert [(e.stage, e.step, e.batch, e.parts) for e in splits] == [
        ("line", 1, 7, count) for count in parts
    ]
    for result, step in zip(of_kind(train.events, StepDone), expected, strict=True):
        assert result.step == step.step
        assert result.total == pytest.approx(step.total, rel=1e-5)
        assert result.losses == pytest.approx(step.losses, rel=1e-5)
    for name, tensor in whole.trained.state_dict().items():
        torch.testing.assert_close(narrow.trained.state_dict()[name], tensor)


def test_later_steps_stay_split(train):
    stage = Narrow(room=4)
    train(stage)
    assert stage.sizes == [8, 4, 4, 4, 4, 4, 4]
    assert len(of_kind(train.events, BatchSplit)) == 1


@pytest.mark.parametrize(
    "full",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_memory_of_the_processor_that_is_full_splits_too(train, full):
    stage = Narrow(room=4)
    stage.full = full
    train(stage)
    assert stage.sizes == [8, 4, 4, 4, 4, 4, 4]


def test_statistics_of_a_failed_pass_are_restored(train):
    full, parted = Narrow(room=8, normalised=True), Narrow(room=4, normalised=True)
    train(full, folder="full")
    train(parted)
    counted = full.trained[1].num_batches_tracked
    assert parted.trained[1].num_batches_tracked == 2 * counted


def test_no_room_for_one_patch_is_an_error_with_the_batch(train):
    with pytest.raises(InputError) as caught:
        train(Narrow(room=0), batch=3)
    message = str(caught.value)
    assert message.startswith("stages.line.batch is 3: ") and "\n" not in message
    assert [e.parts for e in of_kind(train.events, BatchSplit)] == [2, 3]


def test_memory_that_fills_later_loses_no_step(train):
    stage = Narrow(room=8)
    forward = stage.forward

    def fill(batch):
        stage.room = 4 if len(stage.sizes) >= 2 else 8
        return forward(batch)

    stage.forward = fill
    train(stage, steps=4)
    assert [e.step for e in of_kind(train.events, StepDone)] == [1, 2, 3, 4]
    assert [e.step for e in of_kind(train.events, BatchSplit)] == [3]
    assert read_progress(train.folder / "last.safetensors").step == 4


def test_parts_have_the_views_and_unaugmented_images():
    views = torch.arange(5)[:, None] * torch.ones(2)
    batch = Batch(torch.arange(5.0), torch.arange(5), views.flatten(), torch.arange(5.0))
    parts = split_batch(batch, 2)
    assert [part.image.tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    assert [part.mask.tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    assert [part.views.tolist() for part in parts] == [[0, 0, 1, 1, 2, 2], [3, 3, 4, 4]]
    assert all(torch.equal(part.unaugmented, part.image) for part in parts)
    assert split_batch(batch, 1) == [batch]


def test_labelled_and_unlabelled_samples_are_split_alike():
    views = torch.arange(5)[:, None] * torch.ones(2)
    batch = Batch(torch.arange(5.0), torch.arange(3), views.flatten(), torch.arange(5.0))
    parts = split_batch(batch, 2)
    assert [part.image.tolist() for part in parts] == [[0, 1, 3], [2, 4]]
    assert [part.mask.tolist() for part in parts] == [[0, 1], [2]]
    assert [part.views.tolist() for part in parts] == [[0, 0, 1, 1, 3, 3], [2, 2, 4, 4]]
    assert all(torch.equal(part.unaugmented, part.image) for part in parts)
