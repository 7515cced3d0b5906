"""What a run will cost on this machine, from a few real steps of every stage."""

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
"""From here on a processor takes as long for each patch; of fewer, each would take up to twice
as long. A GPU is tried at the whole batch."""

_GUESS_BATCH = 2
"""Patches of a step on noise: it has to be fast rather than exact."""

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


@dataclass(frozen=True)
class EstimateProgress:
    """How far an estimate has come.

    Attributes
    ----------
    done, total
        Parts that are measured, and all of them.
    part
        Title of the part that is being measured.
    roughly
        Seconds that the run will take, as far as is known: stages that are not measured
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
    progress
        Called when a part begins, and whenever `roughly` is better known.

    Raises
    ------
    InputError
        If the recipe cannot be followed.
    Interrupted
        If `stopping` said so.
    """
    began = time.perf_counter()
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
    """Of one stage of the trial: seconds of each step, of the validation, of all after it."""

    steps: list[float] = field(default_factory=list)
    validation: float = 0.0
    rest: float = 0.0
    peak: int = 0

    @property
    def settled(self) -> bool:
        """Whether a step was timed after the first, which fills caches."""
        return len(self.steps) > 1

    @property
    def step(self) -> float:
        """Seconds of a step once it has settled."""
        return min(self.steps[1:] or self.steps, default=0.0)


class _Watch:
    """Measures the times between the events of a run, as they arrive.

    Parameters
    ----------
    memory
        Of the device.
    on_change
        Called with the watch when a stage begins, is timed, or is finished.
    count
        How many stages there are.

    Attributes
    ----------
    stages
        Stage -> its times.
    preparing
        Seconds before the first stage.
    memory_before
        Bytes in use before the first stage.
    last
        When the last event arrived.
    finished
        How many stages are finished.
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
        """Title of the stage under way, or of what comes after the last."""
        return "Scoring" if self.finished == self._count else STAGES[list(self.stages)[-1]].title

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        if not isinstance(event, StageStarted | StepDone | Validated | StageFinished):
            return
        now = time.perf_counter()
        took, self.last = now - self.last, now
        if not self.stages:
            self.preparing = took
            # The peak of the preparation is over.
            self._memory.take()
            self.memory_before = self._memory.take()
        times = self.stages.setdefault(event.stage, _Times())
        match event:
            case StepDone():
                times.steps.append(took)
            case Validated():
                times.validation = took
            case StageFinished():
                times.rest, times.peak = took, self._memory.take()
                self.finished += 1
        self._on_change(self)


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
"""Steps of teacher and student that a step of a stage costs, roughly: a forward pass is a third."""


def _guess_stage_seconds(recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    """Seconds of the steps of each stage, from a step of each network on noise."""
    teacher, student = 0.0, _patch_seconds(recipe, recipe.student, fabric)
    # What a model from elsewhere takes is not known before it is measured.
    if isinstance(recipe.teacher, NetworkRecipe):
        teacher = _patch_seconds(recipe, recipe.teacher, fabric)
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
    """Seconds of a training step of a network for each patch, its second step of two."""
    network = fabric.to_device(build_segmentation_network(recipe, chosen, classes=2))
    shape = (_GUESS_BATCH, recipe.preprocessing.in_channels, recipe.patch, recipe.patch)
    noise = torch.randn(shape, device=fabric.device)
    for _ in range(2):
        began = time.perf_counter()
        with fabric.autocast():
            loss = network(noise).float().square().mean()
        loss.backward()
        float(next(network.parameters()).grad.sum())  # a GPU has finished by then
    return (time.perf_counter() - began) / _GUESS_BATCH


def _stage_seconds(recipe: Recipe, trial: Recipe, stage: str, times: _Times, cases: int) -> float:
    """Seconds of a stage: its steps, and its validations on so many cases."""
    spec = STAGES[stage]
    schedule, tried = spec.schedule_of(recipe), spec.schedule_of(trial)
    validations = max(1, math.ceil(schedule.steps / schedule.validate_every))
    scored = cases if spec.scored_by == "dice" else min(cases, VALIDATION_PATCHES)
    validation = times.validation * scored / _VALIDATION_IMAGES + times.rest
    return schedule.steps * times.step * schedule.batch / tried.batch + validations * validation


def _peak(
    recipe: Recipe, trial: Recipe, watch: _Watch, data: RunData, left_out: int, device: str
) -> int:
    """Peak bytes: those of the stages grow with the batch; so many more images are held."""
    before, peaks = watch.memory_before, []
    for stage, times in watch.stages.items():
        whole, tried = (STAGES[stage].schedule_of(each).batch for each in (recipe, trial))
        peaks.append(before + max(0, times.peak - before) * whole / tried)
    if device == "cuda":
        return int(max(peaks))
    preparing = recipe.preprocessing
    pixels = (
        preparing.diameter**2
        if preparing.kind == "fundus"
        else math.prod(preparing.grid_of(data.sources[0][0].size))
    )
    return int(max(peaks)) + left_out * pixels * (4 * preparing.in_channels + _HELD)


def _images(domains: Iterable[Domain]) -> int:
    return sum(len(domain) for domain in domains)
