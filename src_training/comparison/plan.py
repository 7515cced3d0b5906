"""Several distillations under one teacher, one student, one count of steps: the runs of it."""

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
from src_training.config.yaml_io import first_words
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Event
from src_training.runs.finalise import FROM_MASKS
from src_training.runs.run import check_directory, distil
from src_training.training.builders import check_networks

Variants = Mapping[str, Mapping[str, object]]
"""Name -> dotted field of a recipe -> value."""

_VARIANTS = Path(__file__).parents[1] / "config" / "ablations"

ALONE, TEACHER = "student alone", "teacher"
"""Rows that every comparison has."""

SHARED = tuple(name for name, spec in STAGES.items() if spec.shared != "never")
"""Stages that are the same whatever distils: trained once for each seed."""

_UNALIGNED = tuple(name for name, spec in STAGES.items() if spec.shared == "always")
"""Those of them that know nothing of the alignment."""

_MAY_DIFFER = {"name", "description", "distillation", "distil_from", "alignment", "seed"}


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes
    ----------
    label
        Of its row in the table.
    recipe, folder
        What to do, and where.
    shared
        The run of the same seed whose stages it takes over, which may be of
        an earlier comparison; None for the first one.
    taken
        Names of those stages.
    left_out
        Name of the source that it is tested on instead of trained on; see
        `leave_one_out`.
    """

    label: str
    recipe: Recipe
    folder: RunDirectory
    shared: RunDirectory | None
    taken: tuple[str, ...] = SHARED
    left_out: str = ""

    @property
    def name(self) -> str:
        """What a person tells it by."""
        without = f", without {self.left_out}" if self.left_out else ""
        return f"{self.label}, seed {self.recipe.seed}{without}"

    @property
    def not_begun(self) -> str:
        """Why it cannot begin where the run failed whose stages it takes over."""
        assert self.shared is not None
        return f"not begun: it takes over what {self.shared.path.name} learns first, which failed"

    @property
    def done(self) -> bool:
        """Whether its models and report are there, by this very recipe.

        Raises
        ------
        InputError
            If they are, and the recipe beside them cannot be read.
        """
        return self.folder.model.exists() and Recipe.load(self.folder.recipe) == self.recipe

    def run(
        self, device: str, listener: Callable[[Event], None], stopping: Callable[[], bool]
    ) -> None:
        """Run what is left of it; parameters and errors as `src_training.runs.run.distil`."""
        resume, path = self.prepare(), self.folder.path
        distil(
            self.recipe, path, resume=resume, device=device, listener=listener, stopping=stopping
        )

    def prepare(self) -> bool:
        """Take over what is shared before it distils; whether there is a run to resume then."""
        if self.shared is not None and self._may_take_over():
            self._take_over(self.shared)
            self.recipe.save(self.folder.recipe)
        return self.folder.recipe.exists()

    def _may_take_over(self) -> bool:
        """Not another recipe's run, nor one under way, nor one that distils by what it learned."""
        folder = self.folder
        if not folder.recipe.exists():
            return True
        own = folder.begun("distil") or Recipe.load(folder.recipe) != self.recipe
        return not own and not folder.in_use

    def _take_over(self, other: RunDirectory) -> None:
        """Take stages and scores of a finished run: files are only replaced, so links will do."""
        for name in self.taken:
            shutil.rmtree(self.folder.stage(name), ignore_errors=True)
            shutil.copytree(other.stage(name), self.folder.stage(name), copy_function=_linked)
        if other.start.exists():
            _put(other.start, self.folder.start)
        if self.taken == SHARED:
            self._take_over_scores(other)

    def _take_over_scores(self, other: RunDirectory) -> None:
        own = self.folder
        for role in FROM_MASKS:
            _put(other.role_model(role), own.role_model(role))
            _put(other.outcome(role), own.outcome(role))


def planned_runs(
    recipes: Sequence[Recipe],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    variants: Variants | None = None,
) -> list[PlannedRun]:
    """The runs of a comparison, seed by seed.

    What they share is taken from runs that are finished in `out` where there
    are any, of whichever method, and otherwise from the first of the seed.
    Contestants that differ in name and description alone are one run with a
    row for each.

    Parameters
    ----------
    recipes
        Alike in all but how they align and what they distil by.
    methods
        Where there are any, each recipe is run with each of them alone,
        instead of with its own.
    seeds
        Each contestant is run with each; that of the first recipe where empty.
    out
        Folder of the runs.
    variants
        Name -> dotted fields and their values, of recipes to run instead, beside `methods`.

    Raises
    ------
    InputError
        If the recipes differ in more, two have one name, a method or field is
        unknown, or one teaches nothing, or cannot teach this student.
    """
    alone = {
        method: {"distillation": method, f"distillation.{method}.weight": 1.0} for method in methods
    }
    if both := alone.keys() & (variants or {}).keys():
        raise InputError(f"{both.pop()} is a method and a variant; expected another name for one")
    chosen = _contestants(recipes, alone | dict(variants or {}))
    _refuse_others(chosen)
    for label, recipe in chosen.items():
        # Before the first of them has run for hours; it does not hang on the number of classes.
        try:
            check_networks(recipe, classes=2)
        except InputError as error:
            raise InputError(f"{label}: {error}") from None
    plan: list[PlannedRun] = []
    first = {label: _first_alike(recipe, chosen) for label, recipe in chosen.items()}
    for seed in seeds or [recipes[0].seed]:
        by_alignment = finished_alike(out / f"seed-{seed}", next(iter(chosen.values())))
        runs: dict[str, PlannedRun] = {}
        for label, recipe in chosen.items():
            if first[label] != label:
                runs[label] = replace(runs[first[label]], label=label)
                continue
            folder = RunDirectory(out / f"seed-{seed}" / label)
            of_others = [(aligned, known) for aligned, known in by_alignment if known != folder]
            alike = [known for aligned, known in of_others if aligned == recipe.alignment]
            others = [known for _, known in of_others]
            shared = next(iter(alike or others), None)
            planned = recipe.model_copy(update={"seed": seed})
            taken = SHARED if alike else _UNALIGNED
            runs[label] = PlannedRun(label, planned, folder, shared, taken)
            if not alike:
                by_alignment.append((recipe.alignment, folder))
        plan += runs.values()
    return plan


def leave_one_out(
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
        As for `planned_runs`; the recipes have the same sources, at least two.
        Their own tests are left out.
    out
        Folder of the comparison; the runs without a source lie in ``without-NAME``.

    Raises
    ------
    InputError
        As `planned_runs`, or if a recipe has a single source.
    """
    plan: list[PlannedRun] = []
    for source in recipes[0].sources:
        others = [_without_source(recipe, source.name) for recipe in recipes]
        runs = planned_runs(others, methods, seeds, out / f"without-{source.name}", variants)
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


def refuse_other_runs(plan: Sequence[PlannedRun]) -> None:
    """Raise InputError if a directory holds a run of another recipe: before hours of the others."""
    for run in plan:
        check_directory(run.folder, run.recipe, resume=run.folder.recipe.exists())


def finished_alike(runs: Path, expected: Recipe) -> list[tuple[AlignmentOptions, RunDirectory]]:
    """Finished runs of one seed whose stages a recipe shares, each with how it aligns."""
    found = []
    for path in sorted(runs.glob("*/")):
        folder = RunDirectory(path)
        if not folder.model.exists():
            continue
        recipe = Recipe.load(folder.recipe)
        if _difference(recipe, expected) is None:
            found.append((recipe.alignment, folder))
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
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: the file is not YAML ({first_words(error)})") from None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) and isinstance(fields, dict)
        for name, fields in content.items()
    ):
        raise InputError(f"{file}: expected names, each with fields and their values")
    return content


def _contestants(recipes: Sequence[Recipe], variants: Variants) -> dict[str, Recipe]:
    """Recipes by the label of their row."""
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
        for name, contestant in own.items():
            label = name.removeprefix(f"{recipe.name}-") if len(recipes) == 1 else name
            if label == TEACHER:
                raise InputError(f"a recipe is called {label}; expected a name of its own")
            if label in chosen:
                raise InputError(
                    f"two recipes are called {label}; expected a name of its own for each"
                )
            chosen[label] = contestant
    return chosen


def _refuse_others(recipes: Mapping[str, Recipe]) -> None:
    """Teacher, student, steps and data are to be the same."""
    (first, expected), *others = recipes.items()
    for label, recipe in others:
        if field := _difference(recipe, expected):
            raise InputError(
                f"{label} and {first} differ in {field}; "
                "expected recipes that differ in distillation and alignment alone"
            )


def _first_alike(recipe: Recipe, chosen: Mapping[str, Recipe]) -> str:
    """Label of the first that asks for the same; its own, where nobody did before."""
    said = {"name": recipe.name, "description": recipe.description}
    return next(label for label, other in chosen.items() if other.model_copy(update=said) == recipe)


def _difference(recipe: Recipe, expected: Recipe) -> str | None:
    """A field in which recipes differ that contestants are to have alike."""
    paraphraser = {"paraphraser": expected.stages["paraphraser"]}
    alike = {"stages": recipe.stages | paraphraser}
    for field in Recipe.model_fields.keys() - _MAY_DIFFER:
        if alike.get(field, getattr(recipe, field)) != getattr(expected, field):
            return field
    return None


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    _linked(source, target)


def _linked(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
