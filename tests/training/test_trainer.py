import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

from src_training.config.stages import StageSchedule
from src_training.data.sampling import Batch
from src_training.errors import InputError
from src_training.networks import build_network
from src_training.runs.events import (
    EventLog,
    StageFinished,
    StageStarted,
    StepDone,
    Validated,
    read_events,
)
from src_training.runs.monitor import EventCallback
from src_training.seeds import step_seed
from src_training.training.callbacks import Callback
from src_training.training.checkpoint import read_progress
from src_training.training.interruption import Interrupted, interruptible
from src_training.training.schedule import learning_rate
from src_training.training.stages.base import Stage
from src_training.training.stages.supervised import SupervisedStage
from src_training.training.trainer import fit


class Noise:
    """Samples patches that depend only on the random seed of the step."""

    def sample(self, count, views, device):
        return Batch(torch.randn(count, 3), torch.zeros(count))


NOISE = Noise()


def never():
    return False


class Line(Stage):
    """Learns y = 2x, is scored by a script, and remembers its weights at each score."""

    def __init__(self, scores=(), poison=None, normalised=False):
        torch.manual_seed(0)
        between = nn.BatchNorm1d(4) if normalised else nn.Identity()
        trained = nn.Sequential(nn.Linear(3, 4), between, nn.Dropout(0.3), nn.Linear(4, 3))
        super().__init__("line", trained)
        self.scores = iter(scores)
        self.poison = poison
        self.steps = 0
        self.seen = []

    def forward(self, batch):
        self.steps += 1
        loss = (self.trained(batch.image) - 2 * batch.image).square().mean()
        return {"fit": loss * float("nan") if self.steps == self.poison else loss}

    def score(self, _validation):
        assert not self.trained.training
        self.trained(torch.ones(2, 3))
        self.seen.append(weights(self))
        return next(self.scores, 0.0)


def weights(stage):
    return {name: tensor.clone() for name, tensor in stage.trained.state_dict().items()}


def same(a, b):
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.fixture
def train(tmp_path):
    """Train a stage in a temporary folder; events are recorded in `train.events`."""
    fabric = Fabric(accelerator="cpu", devices=1)

    def run(
        stage,
        steps=6,
        every=2,
        stopping=never,
        folder="line",
        emit=None,
        patches=NOISE,
        callbacks=(),
        **more,
    ):
        plan = StageSchedule(steps=steps, batch=2, rate=0.02, validate_every=every)
        run.events = []
        run.folder = tmp_path / folder
        return fit(
            stage,
            plan,
            patches,
            None,
            run.folder,
            fabric=fabric,
            seed=1,
            weight_decay=0.0,
            callbacks=[EventCallback(emit or run.events.append), *callbacks],
            stopping=stopping,
        )

    return run


def after(count):
    """A `stopping` that returns true from its count-th call on."""
    asked = itertools.count(1)
    return lambda: next(asked) >= count


def test_the_loss_falls(train):
    train(Line(), steps=300, every=300)
    totals = [event.total for event in train.events if isinstance(event, StepDone)]
    assert sum(totals[-20:]) < 0.5 * sum(totals[:20])


def test_a_network_learns_one_patch_by_heart(train):
    torch.manual_seed(0)
    image = torch.rand(2, 1, 32, 32)
    mask = (image[:, 0] > 0.5).long()

    class OnePatch:
        def sample(self, *_):
            return Batch(image, mask)

    stage = SupervisedStage("teacher", build_network("fanet", 1, 2, width=2), supervision="dice_ce")
    stage.score = lambda _: 0.0
    train(stage, steps=25, every=25, patches=OnePatch())
    totals = [event.total for event in train.events if isinstance(event, StepDone)]
    assert totals[-1] < 0.6 * totals[0]


def test_the_best_weights_are_the_ones_left(train):
    stage = Line(scores=[1, 3, 2])
    done = train(stage)
    assert done.score == 3 and done.finished and done.step == 6
    assert not stage.trained.training
    assert same(weights(stage), stage.seen[1])
    assert not same(stage.seen[1], stage.seen[2])


def test_a_score_that_is_no_number_is_the_worst_of_all(train, tmp_path):
    stage = Line(scores=[float("nan"), 1, float("nan")])
    assert train(stage).score == 1
    assert same(weights(stage), stage.seen[1])
    log = EventLog(tmp_path / "events.jsonl")
    for event in train.events:
        log.write(event)
    log.close()
    assert read_events(tmp_path / "events.jsonl") == train.events


def test_the_first_of_two_equal_scores_is_kept(train):
    stage = Line(scores=[1, 1, 1])
    train(stage)
    assert same(weights(stage), stage.seen[0])


def test_a_stage_says_what_it_does(train):
    train(Line(scores=[1, 3, 2]))
    said = train.events
    assert [type(event) for event in said] == [
        StageStarted,
        *[StepDone, StepDone, Validated] * 3,
        StageFinished,
    ]
    assert [event.best for event in said if isinstance(event, Validated)] == [True, True, False]
    assert [event.step for event in said if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert said[-1].score == 3


def test_the_last_step_is_validated_wherever_it_falls(train):
    train(Line(), steps=5, every=2)
    assert [event.step for event in train.events if isinstance(event, Validated)] == [2, 4, 5]


def test_no_steps_leave_the_weights_as_they_start(train):
    stage = Line(scores=[7])
    former = weights(stage)
    assert train(stage, steps=0).score == 7
    assert same(weights(stage), former)


@pytest.mark.parametrize("asked", [1, 2, 4, 7, 10, 12, 14, 18, 23, 25, 28, 31, 45, 60])
def test_an_interrupted_stage_ends_with_the_same_weights(train, asked):
    whole, broken, resumed = (Line(scores=[1, 2, 3], normalised=True) for _ in range(3))
    train(whole, folder="whole")
    with pytest.raises(Interrupted):
        train(broken, stopping=after(asked))
    last = train.folder / "last.safetensors"
    done = sum(isinstance(event, StepDone) for event in train.events)
    assert (read_progress(last).step if last.exists() else 0) == done
    for _ in broken.seen:
        next(resumed.scores)
    finished = train(resumed)
    assert train.events[0].step == done
    assert [e.step for e in train.events if isinstance(e, StepDone)] == [*range(done + 1, 7)]
    assert finished.score == 3 and same(weights(resumed), weights(whole))
    assert len(broken.seen) + len(resumed.seen) == len(whole.seen)


def test_a_stop_is_noticed_at_every_layer_and_gradient(train):
    stage, asked = Line(normalised=True), []

    def wish():
        asked.append(stage.steps)
        return False

    train(stage, steps=1, every=1, stopping=wish)
    passes, layers, parameters = 2, 4, 6
    assert len(asked) == 1 + passes * (1 + layers) + parameters


@pytest.mark.parametrize(("slow", "least"), [(True, 9), (False, 1)])
def test_where_steps_are_fast_a_wish_is_heard_once_a_pass(slow, least):
    stage, asked = Line(), []
    with interruptible(stage, lambda: asked.append(1) or False, slow=slow):
        stage(Batch(torch.randn(2, 3), torch.zeros(2)))["fit"].backward()
    assert len(asked) >= least and (slow or len(asked) == 1)


def test_no_hook_outlives_its_stage(train):
    stage = Line()
    train(stage)
    assert not any(layer._forward_pre_hooks for layer in stage.modules())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in stage.parameters())


def test_callbacks_see_the_stage_in_evaluation_mode(train):
    stage, steps = Line(), []

    class Evaluations(Callback):
        def on_evaluation(self, seen, step):
            assert seen is stage and not stage.trained.training and not torch.is_grad_enabled()
            steps.append(step)

    train(stage, steps=5, callbacks=[Evaluations()])
    assert steps == [0, 2, 4, 5]
    assert stage.steps == 5


def test_a_process_that_dies_between_two_files_loses_nothing(train):
    whole, resumed = Line(scores=[1, 2, 3]), Line(scores=[2, 3])
    train(whole, folder="whole")

    def die(event):
        if isinstance(event, Validated) and event.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Line(scores=[1, 2, 3]), emit=die)
    assert read_progress(train.folder / "last.safetensors").step == 2
    assert read_progress(train.folder / "best.safetensors").step == 4
    train(resumed)
    assert same(weights(resumed), weights(whole))


def test_a_finished_stage_is_not_done_again(train):
    first, second = Line(), Line()
    done = train(first)
    assert train(second) == done
    assert train.events == [] and second.steps == 0
    assert not second.trained.training
    assert same(weights(second), weights(first))


def test_a_loss_that_is_not_finite_leaves_the_checkpoint(train):
    with pytest.raises(InputError) as caught:
        train(Line(poison=4))
    message = str(caught.value)
    assert message.startswith("stages.line.rate: the loss is nan at step 4") and "\n" not in message
    assert read_progress(train.folder / "last.safetensors").step == 2


@given(st.integers(1, 3000), st.floats(1e-6, 1))
def test_the_rate_warms_up_to_its_peak_and_falls_towards_zero(steps, peak):
    rates = [learning_rate(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak) and min(rates) > 0
    assert top <= 0.05 * steps + 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.05 * peak or steps < 10


def test_every_step_of_every_stage_has_its_own_seed():
    seeds = [step_seed(s, n, i) for s in (0, 1) for n in ("tan", "san") for i in (0, 1, "start")]
    assert len(set(seeds)) == len(seeds)
    assert step_seed(0, "tan", 5) == step_seed(0, "tan", 5)
    assert all(0 <= seed < 2**63 for seed in seeds)
