"""Registry of the stages of a run: order, titles, schedules and builders.

It does not import torch, so that a window that watches a run opens quickly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe


class StageSchedule(BaseModel):
    """Schedule of a stage: number of steps, batch size and learning rate.

    Attributes
    ----------
    steps
        Optimisation steps; with 0 the stage's network keeps its initial weights.
    batch
        Patches in each step.
    rate
        Peak learning rate of Adam, with warm-up and cosine decay.
    validate_every
        Steps between validations and checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=0, le=10**8)]
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    rate: Annotated[float, Field(gt=0, title="Learning rate")] = 1e-3
    validate_every: Annotated[int, Field(ge=1, le=10**8)] = 50


_METADATA = ("name", "description", "licence", "tests")
"""Fields of a recipe that no stage's weights depend on."""

_DOMAIN_METADATA = ("folder", "terms", "scanner")
"""Fields of a domain that no stage's weights depend on."""

_MAY_DIFFER: dict[str, tuple[str, ...]] = {
    "always": ("distillation", "distil_from", "alignment"),
    "alignment": ("distillation", "distil_from"),
    "never": (),
}
"""Fields of recipes that may differ between runs that share a stage; see `StageSpec.shared`."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of a run.

    Attributes
    ----------
    name
        Name in the recipe's ``stages``, in the run's directory and in its events.
    title
        Short label for a window or a table.
    description
        One sentence on what the stage trains.
    builder
        Function that builds the stage, as ``module:function`` of ``training/stages``;
        see `build_stage`.
    scored_by
        Score that chooses the checkpoint: mean ``dice`` over the validation images,
        or minus the total ``loss`` on fixed validation patches.
    shared
        Runs of a comparison that share the stage's result: ``always`` all, those with
        the same ``alignment``, or ``never`` any.
    needed
        Whether a run of a recipe has the stage; None if every such run has it.
    schedule
        Schedule for a recipe; None for the stage's entry in the recipe's ``stages``.
    semi_supervised
        Whether half of each batch has no masks if the run has images without masks.
    distils
        Whether it is part of the distillation, or of the comparison with it; omitted in a run
        that trains the student alone.
    inside_teacher
        Whether it trains weights or reads features of the teacher; such stages are
        omitted for teachers of which only the outputs are available.
    in_recipe
        Whether the recipe's ``stages`` has an entry for it.
    default
        Default of that entry; None if it is required.
    seed_key
        Key of the stage's random numbers; the stage's name if empty.
    former_names
        Names in directories and events of runs by former versions.
    """

    name: str
    title: str
    description: str
    builder: str
    scored_by: Literal["dice", "loss"]
    shared: Literal["always", "alignment", "never"]
    needed: Callable[["Recipe"], bool] | None = None
    schedule: Callable[["Recipe"], StageSchedule] | None = None
    semi_supervised: bool = False
    distils: bool = False
    inside_teacher: bool = False
    in_recipe: bool = True
    default: StageSchedule | None = None
    seed_key: str = ""
    former_names: tuple[str, ...] = ()

    def schedule_of(self, recipe: "Recipe") -> StageSchedule:
        """Schedule of the stage in a run of this recipe."""
        return recipe.stages[self.name] if self.schedule is None else self.schedule(recipe)

    def settings_of(self, recipe: "Recipe") -> dict[str, Any]:
        """Fields of a recipe that the stage's weights depend on, as JSON values.

        They exclude schedules of other stages, metadata, and the location of the images.
        """
        content = recipe.portable().model_dump(mode="json")
        for domain in (*content["sources"], *content["unlabelled"]):
            for field in _DOMAIN_METADATA:
                del domain[field]
        content["stages"] = {self.name: self.schedule_of(recipe).model_dump(mode="json")}
        excluded = _METADATA + _MAY_DIFFER[self.shared]
        return {field: value for field, value in content.items() if field not in excluded}


def _needs_paraphraser(recipe: "Recipe") -> bool:
    from src_training.distillation import active_parts

    return any(
        part.has_paraphraser for options in recipe.distillation for part in active_parts(options)
    )


def _no_steps_if_frozen(recipe: "Recipe") -> StageSchedule:
    """No steps for a teacher that is not trained; it is only validated and saved with the run."""
    schedule = recipe.stages["teacher"]
    return schedule if recipe.teacher.train else schedule.model_copy(update={"steps": 0})


def _as_long_as_distilled(recipe: "Recipe") -> StageSchedule:
    """As many steps as the distilled student, with as many labelled patches in each step."""
    schedule = recipe.stages["distil"]
    if not recipe.semi_supervised:
        return schedule
    return schedule.model_copy(update={"batch": schedule.batch - schedule.batch // 2})


def _as_long_as_san(recipe: "Recipe") -> StageSchedule:
    """Same schedule for the SANs of all students, so that their vectors are comparable."""
    return recipe.stages["san"]


def _distillation_schedule(recipe: "Recipe") -> StageSchedule:
    """Add the steps of the stage ``student`` for a student that starts from random weights.

    A control without a teacher (`MasksOptions`) may take longer, and has the baseline's batch
    unless `whole_batch` is set.
    """
    schedule, control = recipe.stages["distil"], recipe.masks_alone
    if control is not None and not control.whole_batch:
        schedule = _as_long_as_distilled(recipe)
    steps = schedule.steps
    if recipe.distil_from == "scratch":
        steps += recipe.stages["student"].steps
    return schedule.model_copy(update={"steps": round(steps * (control.longer if control else 1))})


STAGES: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        StageSpec(
            "teacher",
            "Teacher",
            "Trains the teacher from masks alone.",
            "supervised:build_teacher",
            scored_by="dice",
            shared="always",
            schedule=_no_steps_if_frozen,
            distils=True,
            inside_teacher=True,
        ),
        StageSpec(
            "autoencoder",
            "P-SAE",
            "Trains the convolutions of the semantic autoencoder (P-SAE) to reproduce masks.",
            "autoencoder:build_autoencoder",
            scored_by="loss",
            shared="alignment",
        ),
        StageSpec(
            "vectors",
            "P-SAE vectors",
            "Trains the P-SAE's perceptron to carry a mask's bottleneck in one semantic vector.",
            "autoencoder:build_vectors",
            scored_by="loss",
            shared="alignment",
        ),
        StageSpec(
            "tan",
            "TAN",
            "Trains the teacher's alignment network (TAN) to predict semantic vectors.",
            "alignment:build_tan",
            scored_by="loss",
            shared="alignment",
            distils=True,
            inside_teacher=True,
        ),
        StageSpec(
            "student",
            "Student",
            "Trains the student from masks alone.",
            "supervised:build_student",
            scored_by="dice",
            shared="always",
        ),
        StageSpec(
            "baseline",
            "Baseline",
            "Baseline: trains the student for as many steps without distillation, to compare.",
            "supervised:build_baseline",
            scored_by="dice",
            shared="always",
            schedule=_as_long_as_distilled,
            distils=True,
            in_recipe=False,
            # Its name until model format 1; a different key would draw different patches.
            seed_key="alone",
            former_names=("alone",),
        ),
        StageSpec(
            "san",
            "SAN",
            "Trains the student's alignment network (SAN) to predict semantic vectors.",
            "alignment:build_san",
            scored_by="loss",
            shared="alignment",
        ),
        StageSpec(
            "san_baseline",
            "SAN of the baseline",
            "Trains an alignment network of the baseline's own, as the student's was.",
            "alignment:build_san_baseline",
            scored_by="loss",
            shared="alignment",
            schedule=_as_long_as_san,
            distils=True,
            in_recipe=False,
            seed_key="san",
        ),
        StageSpec(
            "paraphraser",
            "Paraphraser",
            "Trains a paraphraser that compresses teacher features to the student's channels.",
            "distillation:build_paraphraser",
            scored_by="loss",
            shared="never",
            needed=_needs_paraphraser,
            default=StageSchedule(steps=150),
        ),
        StageSpec(
            "distil",
            "Distillation",
            "Trains the student from the masks and from the teacher.",
            "distillation:build_distillation",
            scored_by="dice",
            shared="never",
            schedule=_distillation_schedule,
            distils=True,
            semi_supervised=True,
            # Same key as the baseline, so that both draw the same patches.
            seed_key="alone",
        ),
        StageSpec(
            "san_distilled",
            "SAN of the distilled",
            "Trains an alignment network of the distilled student's own, as the student's was.",
            "alignment:build_san_distilled",
            scored_by="loss",
            shared="never",
            schedule=_as_long_as_san,
            distils=True,
            in_recipe=False,
            seed_key="san",
        ),
    )
}
"""All stages by name, in the order in which they run."""


REQUIRED_STAGES = tuple(name for name, spec in STAGES.items() if spec.needed is None)
"""Names of the stages that every run with a distillation has, in order."""


def stages_of(recipe: "Recipe") -> list[StageSpec]:
    """Stages of a run of this recipe, in order."""
    return [
        spec
        for spec in STAGES.values()
        if (spec.needed is None or spec.needed(recipe))
        and (recipe.distils or not spec.distils)
        and not (spec.inside_teacher and recipe.teacher.outputs_only)
    ]


def stage_name(name: str) -> str:
    """Current name of a stage, from a current or former name.

    >>> stage_name("alone"), stage_name("teacher")
    ('baseline', 'teacher')
    """
    return next((spec.name for spec in STAGES.values() if name in spec.former_names), name)


def first_difference(was: Any, now: Any, field: str = "") -> tuple[str, Any, Any] | None:
    """Return the first field in which two contents of a recipe differ, and its values.

    Fields that only one of them has are ignored, because another version may have added them.

    Examples
    --------
    >>> first_difference({"a": {"steps": 3}, "seed": 0}, {"a": {"steps": 2}, "seed": 1})
    ('a.steps', 3, 2)
    """
    if isinstance(was, dict) and isinstance(now, dict):
        pairs = [(f"{field}.{name}", was[name], now[name]) for name in was if name in now]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        names = [_entry_name(entry, index) for index, entry in enumerate(now)]
        pairs = [(f"{field}.{name}", a, b) for name, a, b in zip(names, was, now, strict=True)]
    else:
        return None if was == now else (field.removeprefix("."), was, now)
    return next((diff for name, a, b in pairs if (diff := first_difference(a, b, name))), None)


def _entry_name(entry: Any, index: int) -> object:
    """Name of a method or domain in a list, else its index."""
    named = entry if isinstance(entry, dict) else {}
    return named.get("method") or named.get("name") or index
