"""The domains of a run, and digests that detect changes of their files."""

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter

from src_training.config.domains import DomainRecipe
from src_training.config.recipe import Recipe
from src_training.data.domain import Domain
from src_training.data.phantom.camera import phantom_domain
from src_training.data.split import split, split_note
from src_training.errors import InputError

Digests = dict[str, dict[str, dict[str, tuple[int, str]]]]
"""Domain -> case -> ``image``, ``mask`` or ``fov`` -> size in bytes and SHA-256 of the file."""

_digests = TypeAdapter(Digests)


@dataclass(frozen=True)
class RunData:
    """All domains of a run.

    Attributes
    ----------
    sources
        Labelled training cases, one domain for each source of the recipe.
    validation
        Validation cases of each source, in the same order, for choosing checkpoints,
        calibration and thresholds.
    tests
        Domains to report on.
    unlabelled
        Domains that the stage ``distil`` uses without masks.
    """

    sources: tuple[Domain, ...]
    validation: tuple[Domain, ...]
    tests: tuple[Domain, ...] = ()
    unlabelled: tuple[Domain, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the sources, background first."""
        return self.sources[0].classes

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Median spacing of the sources' volumes in mm (slice, row, column); None if unknown."""
        spacings = [each for domain in self.sources if (each := domain.spacing) is not None]
        if not spacings:
            return None
        z, y, x = np.median(spacings, axis=0).tolist()
        return z, y, x

    @property
    def reported(self) -> tuple[Domain, ...]:
        """Domains to report on: the validation cases of each source, then the tests."""
        held_out = [replace(each, name=f"{each.name}, validation") for each in self.validation]
        return (*held_out, *self.tests)

    def notes(self, slices: int) -> tuple[str, ...]:
        """Return notes on the domains for the user, one sentence each.

        They tell how masks without plain labels are read, whether validation scores are biased
        (see `split_note`), how many slices lack neighbours, and which masks were resampled.

        Parameters
        ----------
        slices
            Number of neighbouring slices that make an image; see `Preprocessing`.
        """
        pairs = zip(self.sources, self.validation, strict=True)
        notes = [
            f"{domain.name}: {note}"
            for domain in (*self.sources, *self.tests)
            for note in (*domain.mask_notes, *domain.file_notes)
        ]
        notes += [split_note(training, held_out) for training, held_out in pairs]
        for training in self.sources:
            if lacking := training.missing_context(slices):
                notes.append(
                    f"{training.name}: {len(lacking)} of {len(training)} slices lack some of their "
                    f"{slices - 1} neighbours, and the nearest slice is repeated in their place"
                )
        for domain in (*self.sources, *self.validation, *self.tests):
            notes += [
                f"{domain.name}: the mask of {volume} is {how}"
                for volume, how in domain.resampled_masks.items()
            ]
        return tuple(dict.fromkeys(note for note in notes if note))

    def subset(self, training: int, validation: int, tests: int) -> Self:
        """Return the first cases of each domain, with the given numbers of cases.

        A source whose only image serves for training and validation keeps that image for both.
        """

        def first(domains: Iterable[Domain], count: int) -> tuple[Domain, ...]:
            return tuple(domain.subset(domain.names[:count]) for domain in domains)

        sources, held_out = list(first(self.sources, training)), []
        for index, (source, chosen) in enumerate(zip(self.sources, self.validation, strict=True)):
            if set(source.names) & set(chosen.names):
                empty = source.background_only()
                names = [name for name in source.names if name not in empty][:1]
                sources[index] = source.subset(names)
                held_out.append(source.subset(names))
            else:
                held_out += first([chosen], validation)
        return replace(
            self,
            sources=tuple(sources),
            validation=tuple(held_out),
            tests=first(self.tests, tests),
            unlabelled=first(self.unlabelled, training),
        )


def load_run_data(recipe: Recipe) -> RunData:
    """Read the domains of a recipe, and split its sources.

    Raises
    ------
    InputError
        If a domain cannot be read, a validation case is in no source, no training case
        remains, or two domains differ in their classes.
    """
    sources = [load_domain(source, masks_required=True) for source in recipe.sources]
    pairs = [_split(source, recipe, sources) for source in sources]
    labelled = [_split_labelled(training, recipe) for training, _ in pairs]
    without_masks = [unlabelled for _, unlabelled in labelled if unlabelled is not None]
    data = RunData(
        sources=tuple(training for training, _ in labelled),
        validation=tuple(held_out for _, held_out in pairs),
        tests=tuple(load_domain(test, masks_required=False) for test in recipe.tests),
        unlabelled=(
            *without_masks,
            *(load_domain(each, masks_required=False) for each in recipe.unlabelled),
        ),
    )
    for domain in (*data.sources[1:], *(test for test in data.tests if test.labelled)):
        if domain.classes != data.classes:
            raise InputError(
                f"domain {domain.name} has classes {list(domain.classes)}; expected those of "
                f"{data.sources[0].name}, {list(data.classes)}"
            )
    return data


def load_domain(recipe: DomainRecipe, *, masks_required: bool) -> Domain:
    """Load the domain of an entry of a recipe.

    Raises
    ------
    InputError
        If it cannot be read, no case matches `only`, or a case of `exclude` does not exist.
    """
    if recipe.phantoms is not None:
        options = recipe.phantoms
        phantoms = phantom_domain(options.scanner, options.images, options.size, options.seed)
        domain = replace(phantoms, name=recipe.name).without(recipe.exclude)
    else:
        domain = Domain.from_folder(
            Path(recipe.folder or ""),
            name=recipe.name,
            class_values=recipe.class_values,
            masks=recipe.masks or ("required" if masks_required else "optional"),
            exclude=recipe.exclude,
            channel=recipe.channel,
            resample_masks=recipe.resample_masks,
        )
    domain = replace(domain, angle=recipe.angle, terms=recipe.terms)
    if recipe.only is None:
        return domain
    chosen = [name for name in domain.names if re.fullmatch(recipe.only, name)]
    if not chosen:
        raise InputError(
            f"domain {recipe.name}: no case matches only={recipe.only!r}; "
            f"found {domain.names[0]!r} and {len(domain) - 1} more"
        )
    return domain.subset(chosen)


def _split(source: Domain, recipe: Recipe, sources: list[Domain]) -> tuple[Domain, Domain]:
    """Split a source into training and validation cases."""
    validation = recipe.validation
    if isinstance(validation, dict):
        validation = validation[source.name]
    elif isinstance(validation, list):
        validation = _names_in(source, validation, sources)
    if isinstance(validation, float):
        return split(source, validation, recipe.seed)
    held_out = source.subset(validation)
    training = [name for name in source.names if name not in validation]
    if not training:
        raise InputError(
            f"validation names all {len(source)} cases of {source.name}; expected some to train on"
        )
    return source.subset(training), held_out


def _names_in(source: Domain, names: list[str], sources: list[Domain]) -> list[str]:
    """Return the validation names that are cases of this source."""
    for name in names:
        holders = [each.name for each in sources if name in each.names]
        if len(sources) > 1 and len(holders) != 1:
            found = " and ".join(holders) or "no source"
            raise InputError(
                f"validation: {name!r} is a case of {found}; expected a case of one source, "
                "or names by source, such as {" + sources[0].name + ": [...]}"
            )
    if len(sources) == 1:
        return names
    return [name for name in names if name in source.names]


def _split_labelled(training: Domain, recipe: Recipe) -> tuple[Domain, Domain | None]:
    """Split training cases into those that keep their masks and those that do not, if any."""
    if recipe.labelled == 1:
        return training, None
    unlabelled, labelled = split(training, recipe.labelled, recipe.seed)
    if unlabelled is labelled:
        raise InputError(
            f"labelled is {recipe.labelled:g}, but one image alone of {training.name} has "
            "foreground to learn from; expected two or more"
        )
    return labelled, replace(unlabelled, name=f"{unlabelled.name}, without masks")


def digests_of(data: RunData) -> Digests:
    """Compute the size and SHA-256 of every file of a run; each file is read once."""
    domains = _files_of(data)
    listed = [files for cases in domains.values() for files in cases.values()]
    known = {file: _digest(file) for file in {each for files in listed for each in files.values()}}
    return {
        name: {
            case: {what: known[file] for what, file in files.items()}
            for case, files in cases.items()
        }
        for name, cases in domains.items()
    }


def changed_cases(file: Path, data: RunData, now: Digests) -> list[str]:
    """Return a phrase for each file of a run that differs from the saved digests.

    Domains that are missing on one side are not compared: they differ because the recipe does.

    Parameters
    ----------
    file
        `RunDirectory.cases`; runs of former versions have none, and nothing differs then.
    data, now
        Domains of the run, and their `digests_of`.

    Raises
    ------
    InputError
        If the file of digests is damaged.
    """
    try:
        was = _digests.validate_json(file.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError:
        raise InputError(
            f"{file} is damaged; removing it resumes the run with the images as they are now"
        ) from None
    changes, paths = list[str](), _files_of(data)
    for domain in (name for name in was if name in now):
        before, after = was[domain], now[domain]
        changes += [f"{case} of {domain} went away" for case in before if case not in after]
        changes += [f"{case} of {domain} was added" for case in after if case not in before]
        for case in (name for name in before if name in after):
            for kind in {**before[case], **after[case]}:
                if before[case].get(kind) == after[case].get(kind):
                    continue
                path = paths[domain][case].get(kind)
                how = "was taken away" if path is None or not path.exists() else "changed"
                changes.append(f"{path or f'the {kind} of {case}'} {how}")
    return list(dict.fromkeys(changes))


def _files_of(data: RunData) -> dict[str, dict[str, dict[str, Path]]]:
    """Domain -> case -> ``image``, ``mask`` or ``fov`` -> file."""
    parts = {
        "training": data.sources,
        "validation": data.validation,
        "test": data.tests,
        "unlabelled": data.unlabelled,
    }
    return {
        f"{part} {domain.name}": domain.files
        for part, domains in parts.items()
        for domain in domains
    }


def _digest(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, or of all files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest, size = hashlib.sha256(), 0
    for file in files:
        with suppress(OSError), file.open("rb") as content:
            if file != path:
                digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
            digest.update(hashlib.file_digest(content, "sha256").digest())
            size += content.tell()
    return size, digest.hexdigest()
