"""What a run will cost on this machine, from a few real steps of every stage."""

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from src_training.config.domains import DomainRecipe
from src_training.config.recipe import Recipe, Stages
from src_training.data.domain import Domain
from src_training.device import find_device
from src_training.runs.data import load_domain, source_notes, source_split, split_labelled
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, StageFinished, StageStarted, StepDone, Validated
from src_training.runs.pipeline import VALIDATION_PATCHES, Pipeline

_STEPS = 3
_TRAINING_IMAGES, _VALIDATION_IMAGES, _TEST_IMAGES = 2, 1, 2

_CPU_BATCH = 16
"""From here on a processor takes as long for each patch; of fewer, each would take up to twice
as long. A GPU is tried at the whole batch."""

_WHOLE_IMAGES = {"teacher", "student", "alone", "distil"}
"""Stages that are validated on whole images, the others on patches."""

_HELD = 10
"""Bytes beside the channels that a training image's pixel takes: mask, field of view, places."""


@dataclass(frozen=True)
class Estimate:
    """What a run will cost.

    Attributes
    ----------
    device
        Where it was tried, as torch names it.
    memory
        Peak bytes: of the GPU with CUDA, else of the process.
    preparing
        Seconds until the first stage.
    stage_seconds
        Stage -> seconds, validations included.
    scoring
        Seconds after the last stage, for the report.
    notes
        What is to be known of the source, sentences; see `source_notes`.
    """

    device: str
    memory: int
    preparing: float
    stage_seconds: dict[str, float]
    scoring: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.preparing + sum(self.stage_seconds.values()) + self.scoring

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; `seconds` too."""
        return {"seconds": self.seconds} | asdict(self) | {"notes": list(self.notes)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Estimate":
        """From what `to_dict` made."""
        fields = {name: value for name, value in content.items() if name != "seconds"}
        return cls(**fields | {"notes": tuple(fields.get("notes", ()))})


def estimate(
    recipe: Recipe, device: str = "auto", stopping: Callable[[], bool] = lambda: False
) -> Estimate:
    """Try a recipe on a few of its images, and reckon what all of it will cost.

    The first step of a stage settles caches and is left out. On a CPU a large
    batch is cut to 16 patches, and time and memory are scaled.

    Parameters
    ----------
    recipe
        What is to be run.
    device
        See `find_device`.
    stopping
        As for `distil`.

    Raises
    ------
    InputError
        If the recipe cannot be followed.
    Interrupted
        If `stopping` said so.
    """
    began = time.perf_counter()
    training, held_out = source_split(recipe)
    labelled, others = split_labelled(recipe, training)
    tests, unlabelled = (
        [load_domain(each, masks_required=False) for each in domains]
        for domains in (recipe.tests, recipe.unlabelled)
    )
    loading = time.perf_counter() - began
    found = find_device(device)
    trial = _cut(recipe, labelled, held_out, tests, unlabelled, on_cpu=found.type == "cpu")
    if others is not None:
        trial = _with_others(trial, recipe, others)
    with TemporaryDirectory() as folder, _Memory(found) as memory:
        began = time.perf_counter()
        pipeline = Pipeline(trial, RunDirectory(Path(folder)), device, stopping)
        preparing = max(0.0, time.perf_counter() - began - loading)
        watch = _Watch(memory)
        pipeline.run(watch.take)
        scoring = time.perf_counter() - watch.last
    drawn = _images((training, *unlabelled))
    taken = _images((pipeline.training, *(domain for _, domain in pipeline.unlabelled)))
    tried = (pipeline.training, pipeline.held_out, *pipeline.tests)
    whole = (labelled, held_out, *tests)
    return Estimate(
        device=str(found),
        memory=_peak(
            recipe, trial, watch, training, max(0, drawn - taken), on_gpu=found.type == "cuda"
        ),
        preparing=loading + preparing * (drawn + len(held_out)) / (taken + len(pipeline.held_out)),
        stage_seconds={
            stage: _stage_seconds(recipe, trial, stage, times, len(held_out))
            for stage, times in watch.stages.items()
        },
        scoring=scoring * _images(whole) / _images(tried),
        notes=source_notes(recipe, training, held_out),
    )


@dataclass
class _Times:
    """Of one stage of the trial: seconds of each step, of the validation, of all after it."""

    steps: list[float] = field(default_factory=list)
    validation: float = 0.0
    rest: float = 0.0
    peak: int = 0

    @property
    def step(self) -> float:
        """Seconds of a step once it has settled."""
        return min(self.steps[1:] or self.steps, default=0.0)


class _Watch:
    """Tells times from the arrival of a run's events."""

    def __init__(self, memory: "_Memory") -> None:
        self.stages: dict[str, _Times] = {}
        self.last = time.perf_counter()
        self._memory = memory
        # The peak of the preparation is behind.
        memory.take()
        self.start = memory.take()

    def take(self, event: Event) -> None:
        if not isinstance(event, StageStarted | StepDone | Validated | StageFinished):
            return
        times = self.stages.setdefault(event.stage, _Times())
        now = time.perf_counter()
        took, self.last = now - self.last, now
        match event:
            case StepDone():
                times.steps.append(took)
            case Validated():
                times.validation = took
            case StageFinished():
                times.rest, times.peak = took, self._memory.take()


class _Memory:
    """The peak of the memory in use: the GPU's own count, or samples of the process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._peak = 0
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_Memory":
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()

    def take(self) -> int:
        """Peak bytes since the last call."""
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_reserved(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            return peak
        peak, self._peak = max(self._peak, self._resident()), 0
        return peak

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def _cut(
    recipe: Recipe,
    training: Domain,
    held_out: Domain,
    tests: list[Domain],
    unlabelled: list[Domain],
    *,
    on_cpu: bool,
) -> Recipe:
    """The recipe with a few images, and a few steps of small batches."""
    images = list(training.names[:_TRAINING_IMAGES])
    update: dict[str, Any] = {}
    if set(training.names).isdisjoint(held_out.names):
        update["validation"] = list(held_out.names[:_VALIDATION_IMAGES])
        images += update["validation"]
    else:
        empty = training.background_only()
        images = [name for name in training.names if name not in empty][:1]
    update["source"] = _only(recipe.source, images)
    for group, domains in (("tests", tests), ("unlabelled", unlabelled)):
        update[group] = [
            _only(each, domain.names[:_TEST_IMAGES])
            for each, domain in zip(getattr(recipe, group), domains, strict=True)
        ]
    stages = {
        name: plan.model_copy(
            update={
                "steps": min(_STEPS, plan.steps),
                "batch": min(_CPU_BATCH, plan.batch) if on_cpu else plan.batch,
                "validate_every": _STEPS,
            }
        )
        for name, plan in recipe.stages
    }
    return recipe.model_copy(update=update | {"stages": Stages(**stages)})


def _with_others(trial: Recipe, recipe: Recipe, others: Domain) -> Recipe:
    """Where some cases go without masks, few of either kind, told apart as in the whole run."""
    bare = _only(recipe.source, others.names[:_TRAINING_IMAGES])
    return trial.model_copy(update={"labelled": 1.0, "unlabelled": [bare, *trial.unlabelled]})


def _only(domain: DomainRecipe, names: list[str] | tuple[str, ...]) -> DomainRecipe:
    return domain.model_copy(update={"only": "|".join(re.escape(name) for name in names)})


def _stage_seconds(recipe: Recipe, trial: Recipe, stage: str, times: _Times, cases: int) -> float:
    """Steps, and validations on so many cases."""
    plan, tried = recipe.plan(stage), trial.plan(stage)
    validations = max(1, math.ceil(plan.steps / plan.validate_every))
    grown = cases if stage in _WHOLE_IMAGES else min(cases, VALIDATION_PATCHES)
    validation = times.validation * grown / _VALIDATION_IMAGES + times.rest
    return plan.steps * times.step * plan.batch / tried.batch + validations * validation


def _peak(
    recipe: Recipe,
    trial: Recipe,
    watch: _Watch,
    training: Domain,
    left_out: int,
    *,
    on_gpu: bool,
) -> int:
    """Peak bytes: the stages' grow with the batch, and so many images more are held."""
    peaks = [
        watch.start
        + max(0, times.peak - watch.start) * recipe.plan(stage).batch / trial.plan(stage).batch
        for stage, times in watch.stages.items()
    ]
    if on_gpu:
        return int(max(peaks))
    preparing = recipe.preprocessing
    pixels = (
        preparing.diameter**2
        if preparing.kind == "fundus"
        else math.prod(preparing.grid_of(training[0].size))
    )
    return int(max(peaks)) + left_out * pixels * (4 * preparing.in_channels + _HELD)


def _images(domains: tuple[Domain, ...]) -> int:
    return sum(len(domain) for domain in domains)
