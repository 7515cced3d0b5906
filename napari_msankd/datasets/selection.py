"""Datasets: a folder, or open layers, as domains in memory or on the disk for a run."""

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
"""Purpose of images: to train on, to test on, or to train on without masks."""

Role = Literal["source", "targets", "unlabelled"]
"""Purpose of a dataset in a run; also the name of the folder for its layers."""

ROLES: dict[Masks, Role] = {"required": "source", "optional": "targets", "unused": "unlabelled"}

Unmasked = Literal["error", "exclude", "unlabelled"]
"""Treatment of images without a mask if masks are required."""

_ANY_LABEL = ("background", *(f"label {value}" for value in range(1, HIGHEST + 1)))


@dataclass(frozen=True)
class FolderDataset:
    """A folder with ``images/`` and optional ``masks/`` and ``fov/``, or of a public data set.

    Attributes
    ----------
    path
        The folder.
    name
        Name of the domain; by default that of the folder.
    angle
        Field of view of the fundus camera, degrees; None if unknown.
    exclude
        Names of cases and files to leave out; see `DomainRecipe.exclude`.
    unmasked
        In a folder to train on, whether images without a mask are an error, are left
        out, or are used through `unlabelled_recipe`.
    resample_masks
        Whether to resample masks to the grid of their image.
    class_values
        Stored values of each class; None to detect them in the masks.
    channel
        Channel of each case, if the folder has several.
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
        """The recipe of the domain; copies no files. Call it in a worker.

        Parameters
        ----------
        run_folder
            Folder of the run; not used, because only layers are written there.
        classes
            `class_values` of the source, for a target: several classes have
            the same values in all domains. None to detect them in the masks.
        """
        masks = None if self.unmasked == "error" else "present"
        values = self.class_values or (classes if is_multiclass(classes) else None)
        return self._recipe(self.name, values, masks)

    def unlabelled_recipe(self, run_folder: Path) -> "DomainRecipe | None":
        """The recipe of the images without a mask, if they are used. Call it in a worker.

        Parameters
        ----------
        run_folder
            As in `recipe`.
        """
        if self.unmasked != "unlabelled":
            return None
        return self._recipe(f"{self.name}, without masks", None, "absent")

    def domain(self, classes: Sequence[str] = ()) -> "Domain":
        """The images as a lazy domain, with any masks. Call it in a worker.

        Parameters
        ----------
        classes
            Names, background first. With more than two, masks hold the indices; else the
            values are detected.

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
        Name of the domain.
    pairs
        Pixels of the layers, made in the main thread.
    role
        Purpose of the layers in a run.
    angle
        Field of view of the fundus camera, degrees; None if unknown.
    unmasked
        For layers to train on, whether images without labels are an error, are left out,
        or are used through `unlabelled_recipe`, like slices without labels.
    """

    name: str
    pairs: tuple[LayerPair, ...]
    role: Role = "source"
    angle: float | None = None
    unmasked: Unmasked = "error"

    def recipe(self, run_folder: Path, classes: Mapping[str, Any] | None = None) -> "DomainRecipe":
        """Write the layers to the run's folder, and make the recipe. Call it in a worker.

        Parameters
        ----------
        run_folder
            Folder of the run; images are written to ``source/NAME/`` or ``targets/NAME/``.
        classes
            `class_values` of the source, for a target with masks; None to
            detect them in the labels.

        Raises
        ------
        InputError
            If the folder already has images, labels are empty but required,
            or a label belongs to no class.
        OSError
            If a file cannot be written.
        """
        folder = Path(run_folder).resolve() / self.role / file_name(self.name)
        values = dict(classes) if classes else self.classes()
        for _ in self.write(folder, values):
            pass
        if values and not is_multiclass(values):
            # The files hold 0 and 1, for any painted label.
            values = {next(name for name in values if name != "background"): 1}
        return _recipe(self.name, folder, values, self.angle)

    def unlabelled_recipe(self, run_folder: Path) -> "DomainRecipe | None":
        """Write the images without labels, if they are used. Call it in a worker.

        Parameters
        ----------
        run_folder
            Folder of the run; images are written to a separate folder in ``unlabelled/``.

        Raises
        ------
        InputError, OSError
            As in `recipe`.
        """
        if self.unmasked != "unlabelled":
            return None
        name = f"{self.name}, without masks"
        folder = Path(run_folder).resolve() / "unlabelled" / file_name(name)
        if not list(self._write(folder, cases_of(self.pairs, "absent"), None)):
            return None
        return _recipe(name, folder, None, self.angle)

    def domain(self, classes: Sequence[str] = ()) -> "Domain":
        """The layers as a domain in memory, equal to the written one. Call it in a worker.

        Parameters
        ----------
        classes
            Names, background first. With more than two, labels are the indices; else all
            nonzero labels are foreground.

        Raises
        ------
        InputError
            If all labels are empty, or a label belongs to no class.
        """
        from src_training.data.domain import BINARY, Domain

        cases = list(cases_of(self.pairs, self._masks))
        values = _indices(classes)
        domain = Domain.from_arrays(
            self.name,
            [stored_pixels(case) for case in cases],
            [stored_labels(case, values) for case in cases],
            classes=tuple(classes) if values else BINARY,
            names=[case.name for case in cases],
        )
        return replace(domain, angle=self.angle)

    def classes(self) -> Classes | None:
        """Classes of the labels, read plane by plane; None if all labels are empty."""
        counts = Counter[int]()
        for case in cases_of(self.pairs):
            if case.labels is not None:
                counts += count_labels(case.labels)
        return classes_of(counts)

    def write(self, folder: Path, classes: Mapping[str, Any] | None) -> Iterator[str]:
        """Write case by case; yields the name of each written case.

        Raises
        ------
        InputError, OSError
            As in `recipe`.
        """
        yield from self._write(folder, self._cases(), classes)

    @property
    def _masks(self) -> Literal["present"] | None:
        return None if self.unmasked == "error" else "present"

    def _cases(self) -> Iterator[LayerCase]:
        """Cases to use with their masks.

        Raises
        ------
        InputError
            If labels are empty but required.
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
    """Text about the folder or the layers that two datasets share; empty if there are none."""
    if isinstance(one, FolderDataset) and isinstance(other, FolderDataset):
        path = one.path.resolve()
        return f"Folder {path}" if path == other.path.resolve() else ""
    if isinstance(one, LayerDataset) and isinstance(other, LayerDataset):
        layer_ids = {pair.image.layer_id for pair in one.pairs}
        shared = [pair.image.name for pair in other.pairs if pair.image.layer_id in layer_ids]
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        return f"Layer {', '.join(map(repr, shared[:3]))}{more}" if shared else ""
    return ""


def _indices(classes: Sequence[str]) -> dict[str, int | list[int]] | None:
    """Index of each foreground class; None if there is only one."""
    return {name: index for index, name in enumerate(classes) if index} if classes[2:] else None


def unpainted_error(pair: LayerPair) -> InputError:
    """The error about an image without a mask or with empty labels."""
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

    values = dict(classes) if classes else None
    return DomainRecipe(
        name=name, folder=str(folder), class_values=values, angle=angle, **selection
    )
