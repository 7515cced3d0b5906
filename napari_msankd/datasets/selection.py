"""A dataset: a folder, or open layers; read in memory, or written for a run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_msankd.datasets.layer_export import (
    HIGHEST,
    Classes,
    LayerCase,
    cases_of,
    classes_of,
    count_labels,
    file_name,
    is_multiclass,
    stored_labels,
    stored_pixels,
)
from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.torch_import import gc_paused, preload
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.config.domains import DomainRecipe
    from src_training.data.domain import Domain

Masks = Literal["required", "optional", "unused"]
"""What images are for: to learn from, to be tested on, or to learn from without masks."""

Role = Literal["source", "targets", "unlabelled"]
"""What a run needs a dataset for; also the folder its layers are written to."""

ROLES: dict[Masks, Role] = {"required": "source", "optional": "targets", "unused": "unlabelled"}

Unmasked = Literal["error", "exclude", "unlabelled"]
"""What becomes of images without a mask where masks are required."""

_ANY_LABEL = ("background", *(f"label {value}" for value in range(1, HIGHEST + 1)))


@dataclass(frozen=True)
class FolderDataset:
    """A folder with ``images/``, perhaps ``masks/`` and ``fov/``, or of a public data set.

    Attributes
    ----------
    path
        The folder.
    name
        Of the domain; the folder's when missing.
    angle
        Degrees that the fundus camera's field of view spans; None if not known.
    exclude
        Names of cases, and files, that are left out; see `DomainRecipe.exclude`.
    unmasked
        Of a folder to learn from: whether images without a mask are an error, are left
        out, or join by `unlabelled_recipe`.
    resample_masks
        Whether masks on another grid are resampled to that of their image.
    class_values
        Stored values of each class; found in the masks when missing.
    channel
        Which image of each case is read, where the folder has several.
    """

    path: Path
    name: str = ""
    angle: float | None = None
    exclude: tuple[str, ...] = ()
    unmasked: Unmasked = "error"
    resample_masks: bool = False
    class_values: Classes | None = None
    channel: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.resolve().name or "folder")

    def recipe(self, run_folder: Path, classes: Mapping[str, Any] | None = None) -> "DomainRecipe":
        """Where the images are; nothing is copied. Call it in a worker.

        Parameters
        ----------
        run_folder
            Of the run; only layers are written there.
        classes
            `class_values` of the source, for a target: several classes have
            the same values in every domain. Found in the masks when missing.
        """
        masks = None if self.unmasked == "error" else "present"
        given = self.class_values or (classes if is_multiclass(classes) else None)
        return self._recipe(self.name, given, masks)

    def unlabelled_recipe(self, run_folder: Path) -> "DomainRecipe | None":
        """The images that have no mask, if they are to join without one. Call it in a worker.

        Parameters
        ----------
        run_folder
            As for `recipe`.
        """
        if self.unmasked != "unlabelled":
            return None
        return self._recipe(f"{self.name}, without masks", None, "absent")

    def domain(self, classes: Sequence[str] = ()) -> "Domain":
        """The images, read when they are asked for, with the masks there are. In a worker.

        Parameters
        ----------
        classes
            Background first. Of more than two, masks hold the indices; else what they
            hold is found in them.

        Raises
        ------
        InputError
            If the folder cannot be read.
        """
        recipe = self.recipe(Path(), _indices(classes))
        from src_training.runs.data import load_domain

        return load_domain(recipe, masks_required=False)

    def _recipe(
        self, name: str, classes: Mapping[str, Any] | None, masks: str | None
    ) -> "DomainRecipe":
        selection: dict[str, Any] = {"exclude": list(self.exclude), "masks": masks}
        if self.resample_masks:
            selection["resample_masks"] = True
        if self.channel is not None:
            selection["channel"] = self.channel
        return _recipe(name, self.path.resolve(), classes, self.angle, **selection)


@dataclass(frozen=True)
class LayerDataset:
    """Opened image layers and the Labels layers painted on them.

    Attributes
    ----------
    name
        Of the domain.
    pairs
        The layers' pixels, taken in the main thread.
    role
        What the run needs them for.
    angle
        Degrees that the fundus camera's field of view spans; None if not known.
    unmasked
        Of layers to learn from: whether images that nothing is painted on are an error, are
        left out, or join by `unlabelled_recipe`, as do slices that nothing is painted on.
    """

    name: str
    pairs: tuple[LayerPair, ...]
    role: Role = "source"
    angle: float | None = None
    unmasked: Unmasked = "error"

    def recipe(self, run_folder: Path, classes: Mapping[str, Any] | None = None) -> "DomainRecipe":
        """Write the layers into the run's folder and say where. Call it in a worker.

        Parameters
        ----------
        run_folder
            The images go to ``source/NAME/`` or ``targets/NAME/`` in it.
        classes
            `class_values` of the source, for a target that has masks; found
            in the labels when missing.

        Raises
        ------
        InputError
            If the folder holds images already, nothing is painted where
            masks are required, or a label belongs to no class.
        OSError
            If a file cannot be written.
        """
        folder = Path(run_folder).resolve() / self.role / file_name(self.name)
        meant = dict(classes) if classes else self.classes()
        for _ in self.write(folder, meant):
            pass
        if meant and not is_multiclass(meant):
            # Written as 0 and 1, whatever was painted.
            meant = {next(name for name in meant if name != "background"): 1}
        return _recipe(self.name, folder, meant, self.angle)

    def unlabelled_recipe(self, run_folder: Path) -> "DomainRecipe | None":
        """Write what nothing is painted on, if it is to join without a mask. In a worker.

        Parameters
        ----------
        run_folder
            The images go to a folder of their own in ``unlabelled/``.

        Raises
        ------
        InputError, OSError
            As `recipe`.
        """
        if self.unmasked != "unlabelled":
            return None
        name = f"{self.name}, without masks"
        folder = Path(run_folder).resolve() / "unlabelled" / file_name(name)
        if not list(self._write(folder, cases_of(self.pairs, "absent"), None)):
            return None
        return _recipe(name, folder, None, self.angle)

    def domain(self, classes: Sequence[str] = ()) -> "Domain":
        """The layers as if they had been written to a folder, in memory. In a worker.

        Parameters
        ----------
        classes
            Background first. Of more than two, labels are the indices; else all
            paint is foreground.

        Raises
        ------
        InputError
            If nothing is painted, or a label belongs to no class.
        """
        from src_training.data.domain import BINARY, Domain

        cases = list(cases_of(self.pairs, self._masks))
        meant = _indices(classes)
        found = Domain.from_arrays(
            self.name,
            [stored_pixels(case) for case in cases],
            [stored_labels(case, meant) for case in cases],
            classes=tuple(classes) if meant else BINARY,
            names=[case.name for case in cases],
        )
        return replace(found, angle=self.angle)

    def classes(self) -> Classes | None:
        """What is painted, read plane by plane; None if nothing is."""
        counts = Counter[int]()
        for case in cases_of(self.pairs):
            if case.labels is not None:
                counts += count_labels(case.labels)
        return classes_of(counts)

    def write(self, folder: Path, classes: Mapping[str, Any] | None) -> Iterator[str]:
        """Write case by case; yields the name of each once it is on the disk.

        Raises
        ------
        InputError, OSError
            As `recipe`.
        """
        yield from self._write(folder, self._cases(), classes)

    @property
    def _masks(self) -> Literal["present"] | None:
        return None if self.unmasked == "error" else "present"

    def _cases(self) -> Iterator[LayerCase]:
        """What is used with its masks.

        Raises
        ------
        InputError
            If nothing is painted where masks are required.
        """
        for case in cases_of(self.pairs, self._masks):
            if case.labels is None and self.role == "source":
                raise unpainted_error(case.pair)
            yield case

    def _write(
        self, folder: Path, cases: Iterator[LayerCase], classes: Mapping[str, Any] | None
    ) -> Iterator[str]:
        from src_training.data.domain import Domain, write_domain

        if (folder / "images").exists():
            raise InputError(f"{folder} holds images already; expected the folder of a new run")
        for case in cases:
            mask = stored_labels(case, classes)
            domain = Domain.from_arrays(
                self.name, [stored_pixels(case)], [mask], classes=_ANY_LABEL, names=[case.name]
            )
            write_domain(domain, folder)
            yield case.name


Dataset = FolderDataset | LayerDataset


def shared_images(one: Dataset, other: Dataset) -> str:
    """The folder or the layers that two datasets have in common, in words; empty without one."""
    if isinstance(one, FolderDataset) and isinstance(other, FolderDataset):
        path = one.path.resolve()
        return f"Folder {path}" if path == other.path.resolve() else ""
    if isinstance(one, LayerDataset) and isinstance(other, LayerDataset):
        known = {pair.image.layer_id for pair in one.pairs}
        both = [pair.image.name for pair in other.pairs if pair.image.layer_id in known]
        more = f" and {len(both) - 3} more" if len(both) > 3 else ""
        return f"Layer {', '.join(map(repr, both[:3]))}{more}" if both else ""
    return ""


def _indices(classes: Sequence[str]) -> dict[str, int | list[int]] | None:
    """Label of each of several classes but the background; None of one."""
    return {name: index for index, name in enumerate(classes) if index} if classes[2:] else None


def unpainted_error(pair: LayerPair) -> InputError:
    """What is said of an image that should have a mask."""
    image = pair.image.name
    if pair.labels is None:
        return InputError(f"image layer {image!r} has no Labels layer; expected its mask painted")
    return InputError(
        f"Labels layer {pair.labels.name!r} is empty; expected the mask of {image!r} painted"
    )


def _recipe(
    name: str,
    folder: Path,
    classes: Mapping[str, Any] | None,
    angle: float | None,
    **selection: Any,
) -> "DomainRecipe":
    preload()
    with gc_paused():
        from src_training.config.domains import DomainRecipe

    meant = dict(classes) if classes else None
    return DomainRecipe(name=name, folder=str(folder), class_values=meant, angle=angle, **selection)
