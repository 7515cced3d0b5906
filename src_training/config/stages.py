"""The stages of a run, said once: their order, their words, and what builds them.

Torch is not needed to read it: whoever watches a run does not wait for torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe


class StageSchedule(BaseModel):
    """How long and how fast one stage trains.

    Attributes
    ----------
    steps
        Optimisation steps; 0 leaves the stage's network as it starts.
    batch
        Patches a step.
    rate
        Peak learning rate of Adam; it warms up and falls along a cosine.
    validate_every
        Steps between validations and checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=0, le=10**8)]
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    rate: Annotated[float, Field(gt=0, title="Learning rate")] = 1e-3
    validate_every: Annotated[int, Field(ge=1, le=10**8)] = 50


_DEPENDS_NOT = ("name", "description", "licence", "tests")
_SAID_OF_DOMAINS = ("folder", "terms", "scanner")
_SHARED_APART: dict[str, tuple[str, ...]] = {
    "always": ("distillation", "distil_from", "alignment"),
    "alignment": ("distillation", "distil_from"),
    "never": (),
}
"""Fields of recipes that may differ between runs which share a stage; see `StageSpec.shared`."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of a run.

    Attributes
    ----------
    name
        In the recipe's ``stages``, in the run's directory and in its events.
    title
        A short label for a window or a table.
    description
        One sentence on what the stage trains.
    builder
        What builds it, as ``module:function`` of ``training/stages``; see `build_stage`.
    scored_by
        What chooses its checkpoint: mean ``dice`` over the validation images, or
        minus the total ``loss`` on fixed validation patches.
    shared
        Which runs of a comparison share what it trains: ``always``, those with
        the same ``alignment``, or ``never``.
    needed
        Whether a run of this recipe has the stage; missing for one that every run has.
    schedule
        How long it trains; by default its own entry of the recipe's ``stages``.
    semi_supervised
        Whether half of each batch has no masks, where a run has such images.
    inside_teacher
        Whether it trains what is inside the teacher: a teacher of which the outputs alone are
        known goes without.
    in_recipe
        Whether the recipe's ``stages`` has an entry for it.
    default
        That entry where a recipe does not give one; None if it has to.
    seed_key
        Random numbers of the stage follow from it; its name if missing.
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
    inside_teacher: bool = False
    in_recipe: bool = True
    default: StageSchedule | None = None
    seed_key: str = ""
    former_names: tuple[str, ...] = ()

    def schedule_of(self, recipe: "Recipe") -> StageSchedule:
        """How long and how fast the stage trains in a run of this recipe."""
        return recipe.stages[self.name] if self.schedule is None else self.schedule(recipe)

    def settings_of(self, recipe: "Recipe") -> dict[str, Any]:
        """What of a recipe the stage's weights depend on, as JSON has it.

        Not the schedules of other stages, what is said of the run, or where its images lie.
        """
        content = recipe.portable().model_dump(mode="json")
        for domain in (*content["sources"], *content["unlabelled"]):
            for field in _SAID_OF_DOMAINS:
                del domain[field]
        content["stages"] = {self.name: self.schedule_of(recipe).model_dump(mode="json")}
        apart = _DEPENDS_NOT + _SHARED_APART[self.shared]
        return {field: value for field, value in content.items() if field not in apart}


def _needs_paraphraser(recipe: "Recipe") -> bool:
    from src_training.distillation import active_parts

    return any(part.has_paraphraser for each in recipe.distillation for part in active_parts(each))


def _none_if_frozen(recipe: "Recipe") -> StageSchedule:
    """No steps for a teacher that is used as it is; it is validated, and saved with the run."""
    own = recipe.stages["teacher"]
    return own if recipe.teacher.train else own.model_copy(update={"steps": 0})


def _as_long_as_distilled(recipe: "Recipe") -> StageSchedule:
    """As many steps as the distilled student, and as many patches with masks a step."""
    own = recipe.stages["distil"]
    if not recipe.semi_supervised:
        return own
    return own.model_copy(update={"batch": own.batch - own.batch // 2})


def _as_long_as_san(recipe: "Recipe") -> StageSchedule:
    """Semantic vectors of two students compare if their alignment networks learned alike."""
    return recipe.stages["san"]


def _distillation(recipe: "Recipe") -> StageSchedule:
    """A student that starts from random weights takes the steps of the stage ``student`` too.

    Without a teacher it may take `longer`, and has the baseline's batch unless it is to be whole.
    """
    own, control = recipe.stages["distil"], recipe.masks_alone
    if control is not None and not control.whole_batch:
        own = _as_long_as_distilled(recipe)
    steps = own.steps
    if recipe.distil_from == "scratch":
        steps += recipe.stages["student"].steps
    return own.model_copy(update={"steps": round(steps * (control.longer if control else 1))})


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
            schedule=_none_if_frozen,
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
            in_recipe=False,
            # Its name until model format 1; another key would draw other patches.
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
            schedule=_distillation,
            semi_supervised=True,
            # That of the baseline: both learn from the same patches.
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
            in_recipe=False,
            seed_key="san",
        ),
    )
}
"""Every stage by name, in the order in which a run takes them."""


REQUIRED_STAGES = tuple(name for name, spec in STAGES.items() if spec.needed is None)
"""Names of the stages that every run has, in their order."""


def stages_of(recipe: "Recipe") -> list[StageSpec]:
    """The stages of a run of this recipe, in their order."""
    return [
        spec
        for spec in STAGES.values()
        if (spec.needed is None or spec.needed(recipe))
        and not (spec.inside_teacher and recipe.teacher.outputs_only)
    ]


def stage_name(name: str) -> str:
    """Today's name of a stage that a former version may have called otherwise.

    >>> stage_name("alone"), stage_name("teacher")
    ('baseline', 'teacher')
    """
    return next((spec.name for spec in STAGES.values() if name in spec.former_names), name)


def first_difference(was: Any, now: Any, field: str = "") -> tuple[str, Any, Any] | None:
    """Return the first field in which two contents of a recipe differ, and its values.

    A field that only one of them has is none: another version may have added it.

    Examples
    --------
    >>> first_difference({"a": {"steps": 3}, "seed": 0}, {"a": {"steps": 2}, "seed": 1})
    ('a.steps', 3, 2)
    """
    if isinstance(was, dict) and isinstance(now, dict):
        pairs = [(f"{field}.{name}", was[name], now[name]) for name in was if name in now]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        names = [_entry_name(each, index) for index, each in enumerate(now)]
        pairs = [(f"{field}.{name}", a, b) for name, a, b in zip(names, was, now, strict=True)]
    else:
        return None if was == now else (field.removeprefix("."), was, now)
    return next((found for name, a, b in pairs if (found := first_difference(a, b, name))), None)


def _entry_name(entry: Any, index: int) -> object:
    """A method or domain of a list by its name."""
    named = entry if isinstance(entry, dict) else {}
    return named.get("method") or named.get("name") or index
