"""Estimating time and memory of a run on this machine, from a few real steps of every stage."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric

from src_training.config.networks import NetworkRecipe
from src_training.config.recipe import Recipe
from src_training.config.stages import STAGES, stages_of
from src_training.data.domain import Domain
from src_training.runs.data import RunData, load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event, StageFinished, StageStarted, StepDone, Validated
from src_training.runs.pipeline import VALIDATION_PATCHES, Pipeline
from src_training.runs.run import execute
from src_training.training.builders import build_segmentation_network
from src_training.training.distributed.launch import make_fabric

_STEPS = 3
_TRAINING_IMAGES, _VALIDATION_IMAGES, _TEST_IMAGES = 2, 1, 2

_CPU_BATCH = 16
"""Maximum batch size of the trial on a CPU. From this size on, the time per patch is constant; for
smaller batches it is up to twice as long. On a GPU the trial uses the whole batch."""

_GUESS_BATCH = 2
"""Batch size of the first guess on noise, which has to be fast rather than exact."""

_BYTES_PER_PIXEL = 10
"""Memory per pixel of a training image beside its channels: mask, field of view, corners."""


@dataclass(frozen=True)
class Estimate:
    """Estimated time and memory of a run.

    Attributes
    ----------
    device
        Device of the trial, as torch names it.
    memory
        Peak memory in bytes: of the GPU with CUDA, else of the process.
    preparing
        Seconds before the first stage.
    stage_seconds
        Stage -> seconds, including validations.
    scoring
        Seconds after the last stage, for the report.
    notes
        Notes on the domains for the user; see `RunData.notes`.
    """

    device: str
    memory: int
    preparing: float
    stage_seconds: dict[str, float]
    scoring: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.preparing + sum(self.stage_seconds.values()) + self.scoring

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON, including `seconds`."""
        return {"seconds": self.seconds} | asdict(self) | {"notes": list(self.notes)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Estimate":
        """Create an estimate from the output of `to_dict`."""
        fields = {name: value for name, value in content.items() if name != "seconds"}
        return cls(**fields | {"notes": tuple(fields.get("notes", ()))})


@dataclass(frozen=True)
class EstimateProgress:
    """Progress of an estimate.

    Attributes
    ----------
    done, total
        Number of parts that are measured, and of all parts.
    part
        Title of the part that is being measured.
    roughly
        Preliminary estimate of the run's seconds. Stages that are not measured
        yet are guessed from one step of teacher and student on noise.
    """

    done: int
    total: int
    part: str
    roughly: float


def estimate(
    recipe: Recipe,
    device: str = "auto",
    stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[EstimateProgress], None] = lambda _progress: None,
) -> Estimate:
    """Run a few steps of a recipe on a few of its images, and extrapolate time and memory.

    The first step of a stage is a warm-up and is not timed. On a CPU a large
    batch is cut to 16 patches, and time and memory are scaled.

    Parameters
    ----------
    recipe
        Recipe of the run.
    device
        See `find_device`.
    stopping
        See `distil`.
    progress
        Called when a part begins, and when `roughly` is updated.

    Raises
    ------
    InputError
        If the recipe is invalid.
    Interrupted
        If `stopping` returned true.
    """
    parts = len(stages_of(recipe)) + 2
    fabric = make_fabric(device, 1)
    guessed = _guess_stage_seconds(recipe, fabric)
    progress(EstimateProgress(0, parts, "Reading images", sum(guessed.values())))
    began = time.perf_counter()
    data = load_run_data(recipe)
    loading = time.perf_counter() - began
    few = data.subset(_TRAINING_IMAGES, _VALIDATION_IMAGES, _TEST_IMAGES)
    trial = _shortened(recipe, on_cpu=fabric.device.type == "cpu")
    held_out = _images(data.validation)
    trained, tried = (_images((*each.sources, *each.unlabelled)) for each in (data, few))
    # The ratio of all prepared images to those prepared in the trial.
    prepared = (trained + held_out) / (tried + _images(few.validation))

    def seconds_of(stages: Mapping[str, _Times]) -> dict[str, float]:
        return {
            stage: _stage_seconds(recipe, trial, stage, times, held_out)
            for stage, times in stages.items()
        }

    def on_change(watch: _Watch) -> None:
        known = {stage: times for stage, times in watch.stages.items() if times.settled}
        stages = guessed | seconds_of(known)
        roughly = loading + watch.preparing * prepared + sum(stages.values())
        progress(EstimateProgress(watch.finished + 1, parts, watch.part, roughly))

    with TemporaryDirectory() as folder, _Memory(fabric.device) as memory:
        watch = _Watch(memory, on_change, parts - 2)
        execute(Pipeline(trial, few, RunDirectory(Path(folder))), fabric, watch.on_event, stopping)
        scoring = time.perf_counter() - watch.last
    scored = _images((*data.sources, *data.reported)) / _images((*few.sources, *few.reported))
    return Estimate(
        device=str(fabric.device),
        memory=_peak(recipe, trial, watch, data, trained - tried, fabric.device.type),
        preparing=loading + watch.preparing * prepared,
        stage_seconds=seconds_of(watch.stages),
        scoring=scoring * scored,
        notes=data.notes(recipe.preprocessing.neighbours),
    )


@dataclass
class _Times:
    """Seconds of one stage of the trial: of its steps, its validation, and what follows it."""

    steps: list[float] = field(default_factory=list)
    validation: float = 0.0
    rest: float = 0.0
    peak: int = 0

    @property
    def settled(self) -> bool:
        """Whether a step after the first, the warm-up, was timed."""
        return len(self.steps) > 1

    @property
    def step(self) -> float:
        """Seconds of a step after the warm-up."""
        return min(self.steps[1:] or self.steps, default=0.0)


class _Watch:
    """Measures the times between the events of a run.

    Parameters
    ----------
    memory
        Memory meter of the device.
    on_change
        Called with this object when a stage begins, is timed, or is finished.
    count
        Number of stages.

    Attributes
    ----------
    stages
        Stage -> its times.
    preparing
        Seconds before the first stage.
    memory_before
        Memory use in bytes before the first stage.
    last
        Time of the last event.
    finished
        Number of finished stages.
    """

    def __init__(
        self, memory: "_Memory", on_change: Callable[["_Watch"], None], count: int
    ) -> None:
        self.stages: dict[str, _Times] = {}
        self.last = time.perf_counter()
        self.preparing = 0.0
        self.memory_before = 0
        self.finished = 0
        self._memory, self._on_change, self._count = memory, on_change, count

    @property
    def part(self) -> str:
        """Title of the current stage, or of the phase after the last."""
        return "Scoring" if self.finished == self._count else STAGES[list(self.stages)[-1]].title

    def on_event(self, event: Event) -> None:
        """Add the time since the last event to the event's stage."""
        if not isinstance(event, StageStarted | StepDone | Validated | StageFinished):
            return
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        if not self.stages:
            self.preparing = elapsed
            # Discard the peak of the preparation, then read the current use.
            self._memory.take()
            self.memory_before = self._memory.take()
        times = self.stages.setdefault(event.stage, _Times())
        match event:
            case StepDone():
                times.steps.append(elapsed)
            case Validated():
                times.validation = elapsed
            case StageFinished():
                times.rest, times.peak = elapsed, self._memory.take()
                self.finished += 1
        self._on_change(self)


class _Memory:
    """Meter of peak memory: by CUDA's own statistics, or by sampling the process in a thread."""

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
        """Return the peak in bytes since the last call."""
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


def _shortened(recipe: Recipe, *, on_cpu: bool) -> Recipe:
    """The recipe with a few steps of small batches."""
    stages = {
        name: schedule.model_copy(
            update={
                "steps": min(_STEPS, schedule.steps),
                "batch": min(_CPU_BATCH, schedule.batch) if on_cpu else schedule.batch,
                "validate_every": _STEPS,
            }
        )
        for name, schedule in recipe.stages.items()
    }
    return recipe.model_copy(update={"stages": stages})


_SHARES = {
    "teacher": (1.0, 0.0),
    **dict.fromkeys(("autoencoder", "vectors", "tan", "paraphraser"), (1 / 3, 0.0)),
    **dict.fromkeys(("san", "san_baseline", "san_distilled"), (0.0, 1 / 3)),
    "distil": (1 / 3, 1.0),
}
"""Stage -> approximate cost of its steps in training steps of teacher and of student.

A forward pass counts as a third of a training step."""


def _guess_stage_seconds(recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    """Guess the seconds of each stage from a training step of each network on noise."""
    teacher, student = 0.0, _patch_seconds(recipe, recipe.student, fabric)
    # A teacher that is used by its outputs alone is only measured in the trial.
    if isinstance(recipe.used_teacher, NetworkRecipe):
        teacher = _patch_seconds(recipe, recipe.used_teacher, fabric)
    views = max((getattr(method, "views", 0) for method in recipe.distillation), default=0)
    guessed = {}
    for spec in stages_of(recipe):
        schedule = spec.schedule_of(recipe)
        of_teacher, of_student = _SHARES.get(spec.name, (0.0, 1.0))
        images = schedule.batch * (1 + views if spec.name == "distil" else 1)
        patch = of_teacher * teacher + of_student * student
        guessed[spec.name] = schedule.steps * images * patch
    return guessed


def _patch_seconds(recipe: Recipe, chosen: NetworkRecipe, fabric: Fabric) -> float:
    """Seconds per patch of a network's training step, measured on its second step."""
    network = fabric.to_device(build_segmentation_network(recipe, chosen, classes=2))
    shape = (_GUESS_BATCH, recipe.preprocessing.in_channels, recipe.patch, recipe.patch)
    noise = torch.randn(shape, device=fabric.device)
    for _ in range(2):
        began = time.perf_counter()
        with fabric.autocast():
            loss = network(noise).float().square().mean()
        loss.backward()
        float(next(network.parameters()).grad.sum())  # synchronises with the GPU
    return (time.perf_counter() - began) / _GUESS_BATCH


def _stage_seconds(recipe: Recipe, trial: Recipe, stage: str, times: _Times, cases: int) -> float:
    """Extrapolate the seconds of a stage: its steps, and its validations on `cases` images."""
    spec = STAGES[stage]
    schedule, tried = spec.schedule_of(recipe), spec.schedule_of(trial)
    validations = max(1, math.ceil(schedule.steps / schedule.validate_every))
    scored = cases if spec.scored_by == "dice" else min(cases, VALIDATION_PATCHES)
    validation = times.validation * scored / _VALIDATION_IMAGES + times.rest
    return schedule.steps * times.step * schedule.batch / tried.batch + validations * validation


def _peak(
    recipe: Recipe, trial: Recipe, watch: _Watch, data: RunData, left_out: int, device: str
) -> int:
    """Extrapolate peak bytes to the whole batch, and to the images that the trial left out."""
    before, peaks = watch.memory_before, []
    for stage, times in watch.stages.items():
        whole, tried = (STAGES[stage].schedule_of(each).batch for each in (recipe, trial))
        peaks.append(before + max(0, times.peak - before) * whole / tried)
    if device == "cuda":
        return int(max(peaks))
    preprocessing = recipe.preprocessing
    pixels = (
        preprocessing.diameter**2
        if preprocessing.kind == "fundus"
        else math.prod(preprocessing.grid_of(data.sources[0][0].size))
    )
    image_bytes = pixels * (4 * preprocessing.in_channels + _BYTES_PER_PIXEL)
    return int(max(peaks)) + left_out * image_bytes


def _images(domains: Iterable[Domain]) -> int:
    return sum(len(domain) for domain in domains)
