"""The domains that a recipe names."""

import re
from dataclasses import replace
from pathlib import Path

from src_training.config.domains import DomainRecipe
from src_training.config.recipe import Recipe
from src_training.data.domain import Domain
from src_training.data.phantom.camera import phantom_domain
from src_training.data.split import split, split_note
from src_training.errors import InputError


def load_domain(recipe: DomainRecipe, *, masks_required: bool) -> Domain:
    """The domain a recipe names.

    Raises
    ------
    InputError
        If it cannot be read, or no case matches `only`.
    """
    if recipe.phantoms is not None:
        made = recipe.phantoms
        drawn = phantom_domain(made.scanner, made.images, made.size, made.seed)
        domain = replace(drawn, name=recipe.name)
    else:
        domain = Domain.from_folder(
            Path(recipe.folder or ""),
            name=recipe.name,
            class_values=recipe.class_values,
            masks="required" if masks_required else "optional",
        )
    domain = replace(domain, angle=recipe.angle)
    if recipe.only is None:
        return domain
    chosen = [name for name in domain.names if re.fullmatch(recipe.only, name)]
    if not chosen:
        raise InputError(
            f"domain {recipe.name}: no case matches only={recipe.only!r}; "
            f"found {domain.names[0]!r} and {len(domain) - 1} more"
        )
    return domain.subset(chosen)


def source_split(recipe: Recipe) -> tuple[Domain, Domain]:
    """Training and validation cases of the source; `source_notes` says what to think of them.

    Raises
    ------
    InputError
        If the source cannot be read, a validation case is not in it, or
        nothing is left to train on.
    """
    source = load_domain(recipe.source, masks_required=True)
    if isinstance(recipe.validation, float):
        return split(source, recipe.validation, recipe.seed)
    held_out = source.subset(recipe.validation)
    training = [name for name in source.names if name not in recipe.validation]
    if not training:
        raise InputError(
            f"validation names all {len(source)} cases of {source.name}; expected some to train on"
        )
    return source.subset(training), held_out


def source_notes(recipe: Recipe, training: Domain, held_out: Domain) -> tuple[str, ...]:
    """What is to be known of what a run learns from, one sentence each.

    That the validation scores flatter (`split_note`), and how many slices lack
    the neighbours that the recipe asks for.
    """
    notes = [split_note(training, held_out)]
    count = recipe.preprocessing.neighbours
    if bare := training.missing_context(count):
        notes.append(
            f"{training.name}: {len(bare)} of {len(training)} slices lack some of their "
            f"{count - 1} neighbours, and the nearest slice is repeated in their place"
        )
    return tuple(note for note in notes if note)


def split_labelled(recipe: Recipe, training: Domain) -> tuple[Domain, Domain | None]:
    """Training cases of the source that keep their masks, and the others, if there are any.

    Raises
    ------
    InputError
        If `Recipe.labelled` leaves no case, or no foreground, on one side.
    """
    if recipe.labelled == 1:
        return training, None
    others, kept = split(training, recipe.labelled, recipe.seed)
    if others is kept:
        raise InputError(
            f"labelled is {recipe.labelled:g}, but one image alone of {training.name} has "
            "foreground to learn from; expected two or more"
        )
    return kept, replace(others, name=f"{others.name}, without masks")
