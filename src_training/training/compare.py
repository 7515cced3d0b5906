"""Several distillations under one teacher, one student, one count of steps: the runs of it."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from src_training.errors import InputError
from src_training.events import Event
from src_training.recipe import Recipe
from src_training.training.folder import STAGES, RunFolder
from src_training.training.run import distil

SHARED = STAGES[:-1]
"""Stages that are the same whatever distils: trained once for each seed."""

_MAY_DIFFER = {"name", "description", "distilling", "seed"}


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
        The run of the same seed whose stages it takes over; None for the
        first one.
    """

    label: str
    recipe: Recipe
    folder: RunFolder
    shared: RunFolder | None

    @property
    def done(self) -> bool:
        """Whether its models and report are there."""
        return self.folder.model.exists() and Recipe.load(self.folder.recipe) == self.recipe

    def run(
        self, device: str, listener: Callable[[Event], None], stopping: Callable[[], bool]
    ) -> None:
        """Run what is left of it; see `src_training.training.run.distil`."""
        if self.shared is not None and not self.folder.recipe.exists():
            self._take_over(self.shared)
            self.recipe.save(self.folder.recipe)
        resume = self.folder.recipe.exists()
        path = self.folder.path
        distil(
            self.recipe, path, resume=resume, device=device, listener=listener, stopping=stopping
        )

    def _take_over(self, other: RunFolder) -> None:
        """Take finished stages of another run: files are only ever replaced, so links will do."""
        for name in SHARED:
            shutil.rmtree(self.folder.stage(name), ignore_errors=True)
            shutil.copytree(other.stage(name), self.folder.stage(name), copy_function=_linked)


def planned_runs(
    recipes: Sequence[Recipe], methods: Sequence[str], seeds: Sequence[int], out: Path
) -> list[PlannedRun]:
    """The runs of a comparison, seed by seed.

    Parameters
    ----------
    recipes
        Alike in all but what they distil by.
    methods
        Where there are any, each recipe is run with each of them alone,
        instead of with its own.
    seeds
        Each contestant is run with each; those of the recipes where empty.
    out
        Folder of the runs.

    Raises
    ------
    InputError
        If the recipes differ in more, two have one name, or a method is unknown.
    """
    chosen = _contestants(recipes, methods)
    _refuse_others(chosen)
    plan: list[PlannedRun] = []
    for seed in seeds or [recipes[0].seed]:
        first: RunFolder | None = None
        for label, recipe in chosen.items():
            folder = RunFolder(out / f"seed-{seed}" / label)
            plan.append(PlannedRun(label, recipe.model_copy(update={"seed": seed}), folder, first))
            first = first or folder
    return plan


def _contestants(recipes: Sequence[Recipe], methods: Sequence[str]) -> dict[str, Recipe]:
    """Recipes by the label of their row."""
    chosen: dict[str, Recipe] = {}
    for recipe in recipes:
        own = {recipe.name: recipe}
        if methods:
            own = {f"{recipe.name}-{method}": _with_method(recipe, method) for method in methods}
        for name, contestant in own.items():
            label = name.removeprefix(f"{recipe.name}-") if len(recipes) == 1 else name
            if label in chosen:
                raise InputError(
                    f"two recipes are called {label}; expected a name of its own for each"
                )
            chosen[label] = contestant
    return chosen


def _with_method(recipe: Recipe, method: str) -> Recipe:
    content = recipe.model_dump(mode="json")
    content["name"] = f"{recipe.name}-{method}"
    content["distilling"]["methods"] = {method: 1.0}
    return Recipe.validated(content, f"--method {method}")


def _refuse_others(recipes: Mapping[str, Recipe]) -> None:
    """Teacher, student, steps and data are to be the same."""
    (first, expected), *others = recipes.items()
    for label, recipe in others:
        for field in Recipe.model_fields.keys() - _MAY_DIFFER:
            ours, theirs = getattr(recipe, field), getattr(expected, field)
            if field == "stages":
                ours, theirs = (
                    stages.model_copy(update={"paraphraser": expected.stages.paraphraser})
                    for stages in (ours, theirs)
                )
            if ours != theirs:
                raise InputError(
                    f"{label} and {first} differ in {field}; "
                    "expected recipes that differ in distilling alone"
                )


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
