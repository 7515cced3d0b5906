"""The runs of a comparison: several distillations of one student by one teacher."""

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
from src_training.runs.finalise import FROM_MASKS
from src_training.runs.run import check_directory, distil
from src_training.training.builders import check_networks

Variants = Mapping[str, Mapping[str, object]]
"""Name -> dotted field of a recipe -> value."""

_VARIANTS = Path(__file__).parents[1] / "config" / "ablations"

BASELINE, TEACHER = "student alone", "teacher"
"""Labels of the rows that every comparison has."""

SHARED_STAGES = tuple(name for name, spec in STAGES.items() if spec.shared != "never")
"""Stages that do not depend on the distillation: trained once for each seed."""

_STAGES_WITHOUT_ALIGNMENT = tuple(name for name, spec in STAGES.items() if spec.shared == "always")
"""Those of them that do not depend on the alignment either."""

_MAY_DIFFER = {"name", "description", "distillation", "distil_from", "alignment", "seed"}


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes
    ----------
    label
        Label of its row in the table.
    recipe, directory
        What to do, and where.
    shares_with
        The run of the same seed whose stages are copied, which may be of an
        earlier comparison; None for the first one.
    shared_stages
        Names of those stages.
    left_out
        Name of the source that it is tested on instead of trained on; see
        `leave_one_out`.
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
        """Why it cannot begin if the run fails whose stages it needs."""
        assert self.shares_with is not None
        return (
            f"not begun: it takes over what {self.shares_with.path.name} learns first, which failed"
        )

    @property
    def done(self) -> bool:
        """Whether the directory holds models and report of this very recipe.

        Raises
        ------
        InputError
            If it does, and the recipe beside them cannot be read.
        """
        return self.directory.model.exists() and Recipe.load(self.directory.recipe) == self.recipe

    def run(
        self, device: str, listener: Callable[[Event], None], stopping: Callable[[], bool]
    ) -> None:
        """Run what is not done of it; parameters and errors as `src_training.runs.run.distil`."""
        resume, path = self.prepare(), self.directory.path
        distil(
            self.recipe, path, resume=resume, device=device, listener=listener, stopping=stopping
        )

    def prepare(self) -> bool:
        """Copy the shared stages, unless it distils already; whether there is a run to resume."""
        if self.shares_with is not None and self._may_copy():
            self.copy_stages(self.shares_with)
            self.recipe.save(self.directory.recipe)
        return self.directory.recipe.exists()

    def _may_copy(self) -> bool:
        """Not into a run of another recipe, one under way, or one that distils already."""
        directory = self.directory
        if not directory.recipe.exists():
            return True
        own = directory.begun("distil") or Recipe.load(directory.recipe) != self.recipe
        return not own and not directory.in_use

    def copy_stages(self, other: RunDirectory) -> None:
        """Link stages and scores of a finished run: files are replaced, never changed."""
        for name in self.shared_stages:
            if not other.stage(name).exists():  # one that its teacher goes without
                continue
            shutil.rmtree(self.directory.stage(name), ignore_errors=True)
            shutil.copytree(
                other.stage(name), self.directory.stage(name), copy_function=_link_or_copy
            )
        for file in other.start.glob("*"):
            _place(file, self.directory.start / file.name)
        if other.cases.exists():
            _place(other.cases, self.directory.cases)
        if self.shared_stages == SHARED_STAGES:
            self._copy_scores(other)

    def _copy_scores(self, other: RunDirectory) -> None:
        own = self.directory
        for role in FROM_MASKS:
            if other.role_model(role).exists():
                _place(other.role_model(role), own.role_model(role))
            _place(other.outcome(role), own.outcome(role))


def plan_runs(
    recipes: Sequence[Recipe],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    variants: Variants | None = None,
) -> list[PlannedRun]:
    """Plan the runs of a comparison, seed by seed.

    Shared stages are those of finished runs in `out` where there are any, of
    whichever method, and otherwise of the first run of the seed. Recipes that
    differ in name and description alone are one run with a row for each.

    Parameters
    ----------
    recipes
        They may differ in distillation and alignment alone.
    methods
        If any, each recipe is run with each of them alone instead of with its own.
    seeds
        Each recipe is run with each; if empty, with the seed of the first recipe.
    out
        Folder of the runs.
    variants
        Name -> dotted fields and their values, of recipes to run instead, beside `methods`.

    Raises
    ------
    InputError
        If the recipes differ in more, two have one name, a method or field is
        unknown, all weights of one are 0, or one cannot teach this student.
    """
    by_method = {
        method: {"distillation": method, f"distillation.{method}.weight": 1.0} for method in methods
    }
    if both := by_method.keys() & (variants or {}).keys():
        raise InputError(f"{both.pop()} is a method and a variant; expected another name for one")
    chosen = _recipes_by_label(recipes, by_method | dict(variants or {}))
    _check_comparable(chosen)
    for label, recipe in chosen.items():
        # Before any run has taken hours; the number of classes makes no difference.
        try:
            check_networks(recipe, classes=2)
        except InputError as error:
            raise InputError(f"{label}: {error}") from None
    plan: list[PlannedRun] = []
    for seed in seeds or [recipes[0].seed]:
        plan += _plan_seed(chosen, seed, out / f"seed-{seed}")
    return plan


def _plan_seed(chosen: Mapping[str, Recipe], seed: int, out: Path) -> list[PlannedRun]:
    """The runs of one seed."""
    first = {label: _first_equal(recipe, chosen) for label, recipe in chosen.items()}
    shareable = find_shareable_runs(out, next(iter(chosen.values())))
    runs: dict[str, PlannedRun] = {}
    for label, recipe in chosen.items():
        if first[label] != label:
            runs[label] = replace(runs[first[label]], label=label)
            continue
        directory = RunDirectory(out / label)
        others = [(alignment, other) for alignment, other in shareable if other != directory]
        aligned_alike = [other for alignment, other in others if alignment == recipe.alignment]
        shares_with = next(iter(aligned_alike or [other for _, other in others]), None)
        stages = SHARED_STAGES if aligned_alike else _STAGES_WITHOUT_ALIGNMENT
        recipe = recipe.model_copy(update={"seed": seed})
        runs[label] = PlannedRun(label, recipe, directory, shares_with, stages)
        if not aligned_alike:
            shareable.append((recipe.alignment, directory))
    return list(runs.values())


def plan_leave_one_out(
    recipes: Sequence[Recipe],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    variants: Variants | None = None,
) -> list[PlannedRun]:
    """The runs of a comparison in which each source in turn is tested on, not trained on.

    Parameters
    ----------
    recipes, methods, seeds, variants
        As for `plan_runs`; the recipes have the same sources, at least two.
        Their own tests are left out.
    out
        Folder of the comparison; the runs without a source lie in ``without-NAME``.

    Raises
    ------
    InputError
        As `plan_runs`, or if a recipe has a single source.
    """
    plan: list[PlannedRun] = []
    for source in recipes[0].sources:
        others = [_without_source(recipe, source.name) for recipe in recipes]
        folder = out / f"without-{file_name(source.name)}"
        runs = plan_runs(others, methods, seeds, folder, variants)
        plan += [replace(run, left_out=source.name) for run in runs]
    return plan


def _without_source(recipe: Recipe, name: str) -> Recipe:
    """The recipe without a source, which becomes its only test."""
    sources = [source for source in recipe.sources if source.name != name]
    left_out = [source for source in recipe.sources if source.name == name]
    if not sources or not left_out:
        found = ", ".join(source.name for source in recipe.sources)
        raise InputError(
            f"{recipe.name}: the sources are {found}; expected two or more, the same in every "
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
    """Raise InputError if a directory holds a run of another recipe."""
    for run in plan:
        check_directory(run.directory, run.recipe, resume=run.directory.recipe.exists())


def find_shareable_runs(
    runs: Path, expected: Recipe
) -> list[tuple[AlignmentOptions, RunDirectory]]:
    """Finished runs of one seed that may share stages with a recipe, and their alignment."""
    found = []
    for path in sorted(runs.glob("*/")):
        directory = RunDirectory(path)
        if not directory.model.exists() or directory.of_former_stages:
            continue
        recipe = Recipe.load(directory.recipe)
        if _differing_field(recipe, expected) is None:
            found.append((recipe.alignment, directory))
    return found


def load_variants(path: str | Path) -> Variants:
    """Variants from YAML: a file, or the name of one that ships.

    Raises
    ------
    InputError
        If there is no such file, or it does not name fields and their values.
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
    """Recipes, or their variants, by the label of their row."""
    chosen: dict[str, Recipe] = {}
    for recipe in recipes:
        own = {recipe.name: recipe}
        if variants:
            own = {
                f"{recipe.name}-{name}": recipe.changed(
                    {**fields, "name": f"{recipe.name}-{name}"}, name
                )
                for name, fields in variants.items()
            }
        for name, changed in own.items():
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
    for label, recipe in others:
        if field := _differing_field(recipe, expected):
            raise InputError(
                f"{label} and {first} differ in {field}; "
                "expected recipes that differ in distillation and alignment alone"
            )


def _first_equal(recipe: Recipe, chosen: Mapping[str, Recipe]) -> str:
    """Label of the first recipe that is equal but for name and description."""
    named = {"name": recipe.name, "description": recipe.description}
    return next(
        label for label, other in chosen.items() if other.model_copy(update=named) == recipe
    )


def _differing_field(recipe: Recipe, expected: Recipe) -> str | None:
    """A field in which compared recipes must not differ, but do."""
    # The paraphraser belongs to the distillation.
    stages = recipe.stages | {"paraphraser": expected.stages["paraphraser"]}
    recipe = recipe.model_copy(update={"stages": stages})
    fields = Recipe.model_fields.keys() - _MAY_DIFFER
    return next((f for f in fields if getattr(recipe, f) != getattr(expected, f)), None)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _link_or_copy(source, target)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
