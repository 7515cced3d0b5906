"""Planning the runs of a comparison: several distillations of one student by one teacher."""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from src_training.alignment.consistency import AlignmentOptions
from src_training.config.recipe import Recipe
from src_training.config.stages import STAGES
from src_training.errors import InputError
from src_training.io.names import file_name
from src_training.io.yaml_json import parse_yaml
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event
from src_training.runs.finalise import SHARED_ROLES
from src_training.runs.run import check_directory, distil
from src_training.training.builders import check_networks

Variants = Mapping[str, Mapping[str, object]]
"""Name -> dotted field of a recipe -> value."""

_VARIANTS = Path(__file__).parents[1] / "config" / "ablations"

BASELINE, TEACHER = "student alone", "teacher"
"""Labels of the rows of every comparison."""

SHARED_STAGES = tuple(name for name, spec in STAGES.items() if spec.shared != "never")
"""Stages that do not depend on the distillation, and are trained once for each seed."""

_STAGES_WITHOUT_ALIGNMENT = tuple(name for name, spec in STAGES.items() if spec.shared == "always")
"""Shared stages that do not depend on the alignment either."""

_MAY_DIFFER = {"name", "description", "distillation", "distil_from", "alignment", "seed"}
"""Fields in which the recipes of a comparison may differ."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes
    ----------
    label
        Label of its row in the table.
    recipe, directory
        Recipe and directory of the run.
    shares_with
        Run of the same seed whose stages are copied, possibly from an
        earlier comparison; None for the first run.
    shared_stages
        Names of those stages.
    left_out
        Name of the source that it is tested on instead of trained on; see
        `plan_leave_one_out`.
    """

    label: str
    recipe: Recipe
    directory: RunDirectory
    shares_with: RunDirectory | None
    shared_stages: tuple[str, ...] = SHARED_STAGES
    left_out: str = ""

    @property
    def name(self) -> str:
        """Label and seed."""
        without = f", without {self.left_out}" if self.left_out else ""
        return f"{self.label}, seed {self.recipe.seed}{without}"

    @property
    def waiting_reason(self) -> str:
        """Reason why the run cannot begin, if the run that it shares stages with has failed."""
        assert self.shares_with is not None
        return (
            f"not begun: it takes over what {self.shares_with.path.name} learns first, which failed"
        )

    @property
    def done(self) -> bool:
        """Whether the directory contains the results of this recipe.

        Raises
        ------
        InputError
            If it contains results, and their recipe cannot be read.
        """
        return self.directory.model.exists() and Recipe.load(self.directory.recipe) == self.recipe

    def run(
        self, device: str, listener: Callable[[Event], None], stopping: Callable[[], bool]
    ) -> None:
        """Begin or resume the run; see `src_training.runs.run.distil`."""
        resume, path = self.prepare(), self.directory.path
        distil(
            self.recipe, path, resume=resume, device=device, listener=listener, stopping=stopping
        )

    def prepare(self) -> bool:
        """Copy the shared stages if possible; return whether there is a run to resume."""
        if self.shares_with is not None and self._may_copy():
            self.copy_stages(self.shares_with)
            self.recipe.save(self.directory.recipe)
        return self.directory.recipe.exists()

    def _may_copy(self) -> bool:
        """False for a run of another recipe, one in progress, or one that has begun to distil."""
        directory = self.directory
        if not directory.recipe.exists():
            return True
        if directory.begun("distil") or Recipe.load(directory.recipe) != self.recipe:
            return False
        return not directory.in_use

    def copy_stages(self, other: RunDirectory) -> None:
        """Copy stages and scores of a finished run, by hard links if possible.

        Links are safe, because files of a run are only replaced, never modified in place.
        """
        for name in self.shared_stages:
            if not other.stage(name).exists():  # not every kind of teacher has all stages
                continue
            shutil.rmtree(self.directory.stage(name), ignore_errors=True)
            shutil.copytree(
                other.stage(name), self.directory.stage(name), copy_function=_link_or_copy
            )
        for file in other.start.glob("*"):
            _copy_file(file, self.directory.start / file.name)
        if other.cases.exists():
            _copy_file(other.cases, self.directory.cases)
        if self.shared_stages == SHARED_STAGES:
            self._copy_scores(other)

    def _copy_scores(self, other: RunDirectory) -> None:
        own = self.directory
        for role in SHARED_ROLES:
            if other.role_model(role).exists():
                _copy_file(other.role_model(role), own.role_model(role))
            _copy_file(other.outcome(role), own.outcome(role))


def plan_runs(
    recipes: Sequence[Recipe],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    variants: Variants | None = None,
) -> list[PlannedRun]:
    """Plan the runs of a comparison, seed by seed.

    Shared stages are copied from finished runs in `out` of any method, if there are any,
    and otherwise from the first run of the seed. Recipes that
    differ only in name and description are one run with a row for each. A recipe without a
    distillation is compared with none: its student alone is a row of every comparison.

    Parameters
    ----------
    recipes
        Recipes, which may differ only in distillation and alignment.
    methods
        Distillation methods to run each recipe with, instead of its own.
    seeds
        Seeds to run each recipe with; if empty, the seed of the first recipe.
    out
        Folder of the runs.
    variants
        Name -> dotted fields and values; variants of each recipe to run in addition to
        `methods`, instead of the recipe itself.

    Raises
    ------
    InputError
        If the recipes differ in other fields, two have the same name, a method or field is
        unknown, all weights of a method are 0, or a method does not support this student.
    """
    by_method = {
        method: {"distillation": method, f"distillation.{method}.weight": 1.0} for method in methods
    }
    if both := by_method.keys() & (variants or {}).keys():
        raise InputError(f"{both.pop()} is a method and a variant; expected another name for one")
    chosen = _recipes_by_label(recipes, by_method | dict(variants or {}))
    _check_comparable(chosen)
    for label, recipe in chosen.items():
        # Check all recipes before the first run begins; the number of classes does not matter.
        try:
            check_networks(recipe, classes=2)
        except InputError as error:
            raise InputError(f"{label}: {error}") from None
    plan: list[PlannedRun] = []
    for seed in seeds or [recipes[0].seed]:
        plan += _plan_seed(chosen, seed, out / f"seed-{seed}")
    return plan


def _plan_seed(chosen: Mapping[str, Recipe], seed: int, out: Path) -> list[PlannedRun]:
    """Plan the runs of one seed."""
    first = {label: _first_equal(recipe, chosen) for label, recipe in chosen.items()}
    shareable = find_shareable_runs(out, next(iter(chosen.values())))
    runs: dict[str, PlannedRun] = {}
    for label, recipe in chosen.items():
        if first[label] != label:
            runs[label] = replace(runs[first[label]], label=label)
            continue
        directory = RunDirectory(out / label)
        others = [(alignment, other) for alignment, other in shareable if other != directory]
        same_alignment = [other for alignment, other in others if alignment == recipe.alignment]
        shares_with = next(iter(same_alignment or [other for _, other in others]), None)
        stages = SHARED_STAGES if same_alignment else _STAGES_WITHOUT_ALIGNMENT
        recipe = recipe.changed({"seed": seed}, "--seed")
        runs[label] = PlannedRun(label, recipe, directory, shares_with, stages)
        if not same_alignment:
            shareable.append((recipe.alignment, directory))
    return list(runs.values())


def plan_leave_one_out(
    recipes: Sequence[Recipe],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    variants: Variants | None = None,
) -> list[PlannedRun]:
    """Plan a leave-one-out comparison: each source in turn is the test domain.

    Parameters
    ----------
    recipes, methods, seeds, variants
        See `plan_runs`. The recipes have the same sources, at least two;
        their own tests are ignored.
    out
        Folder of the comparison; the runs without a source are in ``without-NAME``.

    Raises
    ------
    InputError
        See `plan_runs`; also if a recipe has a single source.
    """
    plan: list[PlannedRun] = []
    for source in recipes[0].sources:
        others = [_without_source(recipe, source.name) for recipe in recipes]
        folder = out / f"without-{file_name(source.name)}"
        runs = plan_runs(others, methods, seeds, folder, variants)
        plan += [replace(run, left_out=source.name) for run in runs]
    return plan


def _without_source(recipe: Recipe, name: str) -> Recipe:
    """Move a source of a recipe to its tests, which are otherwise removed."""
    sources = [source for source in recipe.sources if source.name != name]
    left_out = [source for source in recipe.sources if source.name == name]
    if not sources or not left_out:
        listed = ", ".join(source.name for source in recipe.sources)
        raise InputError(
            f"{recipe.name}: the sources are {listed}; expected two or more, the same in every "
            "recipe, to leave one out"
        )
    validation = recipe.validation
    if isinstance(validation, dict):
        validation = {source: share for source, share in validation.items() if source != name}
    if isinstance(validation, list):
        raise InputError(
            f"{recipe.name}: validation is a list of cases; expected a share, or cases by the "
            "name of each source, to leave one out"
        )
    content = recipe.model_dump(mode="json", exclude={"sources", "tests", "validation"})
    content["preprocessing"].pop("angle", None)
    return Recipe.validated(
        content
        | {
            "sources": [source.model_dump(mode="json") for source in sources],
            "tests": [source.model_dump(mode="json") for source in left_out],
            "validation": validation,
        },
        f"{recipe.name} without {name}",
    )


def check_directories(plan: Sequence[PlannedRun]) -> None:
    """Raise InputError if a directory contains a run of another recipe."""
    for run in plan:
        check_directory(run.directory, run.recipe, resume=run.directory.recipe.exists())


def other_labels(plan: Sequence[PlannedRun]) -> list[str]:
    """Names of the finished runs beside those of a plan, in the folders of its seeds."""
    planned = {run.directory.path for run in plan}
    beside = (path for seed in {path.parent for path in planned} for path in seed.glob("*/"))
    done = (path for path in beside if path not in planned and RunDirectory(path).model.exists())
    return sorted({path.name for path in done})


def find_shareable_runs(
    runs: Path, expected: Recipe
) -> list[tuple[AlignmentOptions, RunDirectory]]:
    """Return the finished runs of one seed that can share stages with a recipe.

    Each is returned with the alignment options of its recipe.
    """
    shareable = []
    for path in sorted(runs.glob("*/")):
        directory = RunDirectory(path)
        if not directory.model.exists() or directory.of_former_stages:
            continue
        recipe = Recipe.load(directory.recipe)
        distil = recipe.distils and expected.distils  # the student alone is trained otherwise
        if distil and _differing_field(recipe, expected) is None:
            shareable.append((recipe.alignment, directory))
    return shareable


def load_variants(path: str | Path) -> Variants:
    """Load variants from a YAML file, or from a shipped one by its name.

    Raises
    ------
    InputError
        If there is no such file, or it does not contain fields and their values.
    """
    file, shipped = Path(path), {each.stem: each for each in sorted(_VARIANTS.glob("*.yaml"))}
    if not file.is_file():
        if str(path) not in shipped:
            known = ", ".join(shipped)
            raise InputError(f"{path}: there are no such variants; expected a file or {known}")
        file = shipped[str(path)]
    try:
        content = parse_yaml(file.read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{file}: the file is not YAML ({error})") from None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) and isinstance(fields, dict)
        for name, fields in content.items()
    ):
        raise InputError(f"{file}: expected names, each with fields and their values")
    return content


def _recipes_by_label(recipes: Sequence[Recipe], variants: Variants) -> dict[str, Recipe]:
    """Label of each row -> recipe, or its variant."""
    chosen: dict[str, Recipe] = {}
    for recipe in recipes:
        by_name = {recipe.name: recipe}
        if variants:
            by_name = {
                f"{recipe.name}-{name}": recipe.changed(
                    {**fields, "name": f"{recipe.name}-{name}"}, name
                )
                for name, fields in variants.items()
            }
        for name, changed in by_name.items():
            label = name.removeprefix(f"{recipe.name}-") if len(recipes) == 1 else name
            if label == TEACHER:
                raise InputError(f"a recipe is called {label}; expected a name of its own")
            if label in chosen:
                raise InputError(
                    f"two recipes are called {label}; expected a name of its own for each"
                )
            chosen[label] = changed
    return chosen


def _check_comparable(recipes: Mapping[str, Recipe]) -> None:
    """Raise InputError unless teacher, student, steps and data are the same."""
    (first, expected), *others = recipes.items()
    for label, recipe in recipes.items():
        if others and not recipe.distils:
            raise InputError(
                f"{label}: the recipe has no distillation, and the student alone is a row of every "
                "comparison; expected recipes with one, or this alone"
            )
    for label, recipe in others:
        if field := _differing_field(recipe, expected):
            raise InputError(
                f"{label} and {first} differ in {field}; "
                "expected recipes that differ in distillation and alignment alone"
            )


def _first_equal(recipe: Recipe, chosen: Mapping[str, Recipe]) -> str:
    """Label of the first recipe that is equal except for name and description."""
    ignored = {"name": recipe.name, "description": recipe.description}
    return next(
        label for label, other in chosen.items() if other.model_copy(update=ignored) == recipe
    )


def _differing_field(recipe: Recipe, expected: Recipe) -> str | None:
    """A field that differs although compared recipes must agree in it; None if there is none."""
    # The schedule of the paraphraser is a setting of the distillation, which may differ.
    stages = recipe.stages | {"paraphraser": expected.stages["paraphraser"]}
    recipe = recipe.model_copy(update={"stages": stages})
    fields = Recipe.model_fields.keys() - _MAY_DIFFER
    return next((f for f in fields if getattr(recipe, f) != getattr(expected, f)), None)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _link_or_copy(source, target)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
