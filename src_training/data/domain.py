"""A domain: images of one scanner or site, with their masks and fields of view."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import Case, CaseFiles, Masks, in_memory
from src_training.data.classes import BINARY, ClassValues, read_classes
from src_training.data.folder_cases import cases_in_folder, format_names
from src_training.data.layouts.files import read_folder
from src_training.data.slice_context import adjacent_slice_name
from src_training.data.volume_slices import VolumeSlice
from src_training.errors import InputError
from src_training.io.images import image_suffix, write_image, write_labels
from src_training.io.names import file_name
from src_training.io.volumes.grid import ResampledMask, format_size

AnyCase = Case | CaseFiles | VolumeSlice

__all__ = ["Case", "Domain", "write_domain"]


@dataclass(frozen=True)
class Domain:
    """Images of one scanner or site: a sequence of `Case`, each read on access.

    Attributes
    ----------
    name
        Name in tables and models.
    names
        Names of the cases, in order.
    classes
        Class names; the first is ``background``, index 0 of every mask.
    angle
        Field of view of the fundus camera, degrees; None where it is unknown.
    terms
        Terms under which the images may be used, such as a licence.
    file_notes
        Sentences about files of the folder that are not used, one for each kind.
    mask_notes
        Sentences about the interpretation of masks without plain labels.

    Examples
    --------
    >>> images = [np.zeros((4, 5)), np.ones((4, 5))]
    >>> domain = Domain.from_arrays("lab", images, [np.eye(4, 5, dtype=int)] * 2)
    >>> domain.names, domain[1].size
    (('000', '001'), (4, 5))
    >>> domain.describe()
    'lab: 2 images of 5 × 4 px (w × h); values 0, 1 -> background, foreground'
    """

    name: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    _cases: Mapping[str, AnyCase]
    _mapping: ClassValues
    angle: float | None = None
    terms: str = ""
    mask_notes: tuple[str, ...] = ()
    file_notes: tuple[str, ...] = ()

    @classmethod
    def from_folder(
        cls,
        path: Path,
        *,
        name: str | None = None,
        class_values: Mapping[str, int | list[int]] | None = None,
        masks: Masks = "required",
        exclude: Collection[str] = (),
        channel: str | None = None,
        resample_masks: bool = False,
    ) -> "Domain":
        """Open a folder with ``images/``, ``masks/`` and optionally ``fov/``.

        Files with the same stem belong together. All masks are read once to
        determine the classes; images are read on access. If ``images/`` has
        volumes, of any format in `FORMATS`, each of their slices is a case.

        Parameters
        ----------
        path
            Path of the folder.
        name
            Name of the domain; by default the folder's name.
        class_values
            Stored value, or values, of each class; 0 is background unless there
            is a class named ``background``. By default they are determined from
            the masks; see `read_classes`.
        masks
            Which images are cases, and whether they must have masks; see `Masks`.
        exclude
            Names of cases or volumes, and files such as ``masks/01.png``, to ignore
            without reading them.
        channel
            Image to read of each case if there are several (``flair``, ``0001``).
        resample_masks
            Whether to resample masks of volumes to the grid of their image, by nearest
            neighbour, if they lie on another grid of the same space; see
            `resampled_masks`.

        Raises
        ------
        InputError
            If there are no images, an image lacks its mask, sizes or grids differ, a
            value is not in `class_values`, a mask does not contain labels, every mask
            is background, a file cannot be read, or an entry of `exclude` is unknown.
        """
        path = Path(path)
        files = read_folder(path, exclude, channel)
        case_files, stored = cases_in_folder(files, masks, resample=resample_masks)
        reading = read_classes(stored, files.class_values if class_values is None else class_values)
        for sentence in reading.problems.values():
            raise InputError(sentence)
        mapping = reading.classes
        cases = {stem: replace(case, classes=mapping) for stem, case in case_files.items()}
        title = name or path.resolve().name
        domain = cls(
            title,
            tuple(cases),
            mapping.names,
            cases,
            mapping,
            mask_notes=reading.notes,
            file_notes=files.all_notes,
        )
        return domain.without(files.unmatched)._require_foreground(str(path))

    @classmethod
    def from_arrays(
        cls,
        name: str,
        images: Sequence[NDArray[Any]],
        masks: Sequence[NDArray[Any] | None] | None = None,
        fovs: Sequence[NDArray[Any] | None] | None = None,
        classes: tuple[str, ...] = BINARY,
        names: Sequence[str] | None = None,
    ) -> "Domain":
        """Make a domain from arrays in memory, such as layers of a viewer.

        Parameters
        ----------
        images
            Each (H, W) or (H, W, C).
        masks
            Each (H, W) of class indices below ``len(classes)``, or None.
        fovs
            Each (H, W), non-zero inside the field of view, or None.
        classes
            Class names, ``background`` first.
        names
            Names of the cases; numbered when missing.

        Raises
        ------
        InputError
            If there are no images, counts or sizes differ, a name is not unique,
            a mask has an index beyond `classes`, or every mask is background.
        """
        if not images:
            raise InputError(f"domain {name} has no images; expected at least one")
        labels = _one_per_image(name, "masks", masks, len(images))
        views = _one_per_image(name, "fovs", fovs, len(images))
        stems = tuple(names or (f"{index:03d}" for index in range(len(images))))
        if len(set(stems)) != len(images):
            raise InputError(
                f"domain {name} has {len(images)} images and {len(set(stems))} different names; "
                "expected one name for each image"
            )
        cases = {
            case: in_memory(case, image, mask, fov, len(classes))
            for case, image, mask, fov in zip(stems, images, labels, views, strict=True)
        }
        domain = cls(name, stems, tuple(classes), cases, ClassValues.identity(classes))
        return domain._require_foreground(name)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Case:
        return self._cases[self.names[index]].read()

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))

    def with_neighbours(self, count: int) -> Iterator[Case]:
        """Iterate over the cases, each image with its neighbouring slices as channels.

        Neighbours are found by name (`adjacent_slice_name`), including cases
        that are not in this `subset`. Beyond the first and last slice, that
        slice is repeated.

        Parameters
        ----------
        count
            Number of channels, odd; see `Preprocessing.neighbours`. With 1 the
            cases are unchanged.

        Raises
        ------
        InputError
            If a slice already has channels, or its neighbour has a different size.
        """
        if count == 1:
            yield from self
            return
        for name in self.names:
            case = self._cases[name].read()
            context = self._context(name, count)
            slices = [self._cases[neighbour].read().image for neighbour in context]
            if any(image.shape != case.size for image in slices):
                raise InputError(
                    f"{self.name}/{name} and its neighbours have shapes "
                    f"{sorted({image.shape for image in slices})}; expected grey slices of one size"
                )
            yield replace(case, image=np.stack(slices, axis=-1))

    def missing_context(self, count: int) -> tuple[str, ...]:
        """Names of the cases that lack some of `count` neighbouring slices."""
        return tuple(n for n in self.names if len(set(self._context(n, count))) < count)

    def _context(self, name: str, count: int) -> list[str]:
        """Names of a slice and its neighbours, in order."""
        names = [name]
        for _ in range(count // 2):
            names.insert(0, self._next(names[0], -1))
            names.append(self._next(names[-1], 1))
        return names

    def _next(self, name: str, offset: int) -> str:
        """Name of the slice at an offset, or `name` itself if there is none."""
        neighbour = adjacent_slice_name(name, offset)
        return name if neighbour is None or neighbour not in self._cases else neighbour

    @property
    def labelled(self) -> bool:
        """Whether every case has a mask."""
        return all(case.values is not None for case in self._listed)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Median spacing of the volumes in mm (slice, row, column); None without volumes."""
        spacings = {at.volume: at.spacing for case in self._listed if (at := case.position)}
        if not spacings:
            return None
        z, y, x = np.median(list(spacings.values()), axis=0).tolist()
        return z, y, x

    @property
    def whole_volumes(self) -> tuple[str, ...]:
        """Names of the volumes all of whose slices are cases of the domain."""
        positions = [at for case in self._listed if (at := case.position)]
        slices = Counter(at.volume for at in positions)
        return tuple(dict.fromkeys(p.volume for p in positions if slices[p.volume] == p.depth))

    @property
    def resampled_masks(self) -> dict[str, ResampledMask]:
        """Outcome of resampling by volume, for the masks that were resampled."""
        return {
            case.position.volume: case.resampled
            for case in self._listed
            if isinstance(case, VolumeSlice) and case.resampled is not None
        }

    @property
    def files(self) -> dict[str, dict[str, Path]]:
        """Files of each case by name and role; none for arrays in memory."""
        return {case.name: case.files for case in self._listed}

    @property
    def _listed(self) -> list[AnyCase]:
        return [self._cases[name] for name in self.names]

    def subset(self, names: Sequence[str]) -> "Domain":
        """Select cases by name, in the given order.

        Raises
        ------
        InputError
            If a name is not in the domain or not unique, or there are no names.
        """
        known = set(self.names)
        unknown = [name for name in names if name not in known]
        if unknown or not names or len(set(names)) != len(names):
            what = f"{unknown[0]!r}" if unknown else "no name, or one twice,"
            raise InputError(
                f"{what} was selected from domain {self.name}; "
                f"expected some of {format_names(self.names)}"
            )
        return replace(self, names=tuple(names))

    def without(self, names: Collection[str]) -> "Domain":
        """Exclude cases by name.

        Raises
        ------
        InputError
            If a name is not in the domain, or no case remains.
        """
        if unknown := sorted(set(names) - set(self.names)):
            raise InputError(
                f"domain {self.name}: exclude names {unknown[0]!r}, which is not there; "
                f"expected some of {format_names(self.names)}"
            )
        remaining = [name for name in self.names if name not in names]
        if not remaining:
            raise InputError(
                f"domain {self.name}: exclude names all {len(self)} cases; expected some to be left"
            )
        return replace(self, names=tuple(remaining)) if names else self

    def background_only(self) -> tuple[str, ...]:
        """Names of the cases whose mask has no foreground."""
        return tuple(
            name
            for name, case in zip(self.names, self._listed, strict=True)
            if case.values is not None and not self._mapping.has_foreground(case.values)
        )

    def describe(self) -> str:
        """Describe in one line the number of images, their sizes, classes and notes."""
        cases = self._listed
        sizes = sorted({case.size for case in cases})
        size = " to ".join(format_size(extreme) for extreme in dict.fromkeys((sizes[0], sizes[-1])))
        plural = "image" if len(self) == 1 else "images"
        values = [case.values for case in cases if case.values is not None]
        parts = [f"{len(self)} {plural} of {size}"]
        parts.append(self._mapping.describe(set().union(*values)) if values else "no masks")
        if 0 < len(values) < len(self):
            parts.append(f"{len(self) - len(values)} without mask")
        if empty := self.background_only():
            parts.append(f"all background: {format_names(empty)}")
        return f"{self.name}: " + "; ".join((*parts, *self.file_notes))

    def _require_foreground(self, where: str) -> "Domain":
        masks = [case for case in self._listed if case.values is not None]
        empty = self.background_only()
        if masks and len(empty) == len(masks):
            raise InputError(
                f"every mask of {where} is all background ({format_names(empty)}); "
                "expected foreground in at least one"
            )
        return self


def write_domain(domain: Domain, folder: Path) -> None:
    """Save a domain as ``images/``, ``masks/`` and ``fov/`` with PNG files.

    Images of int16 or float32, such as HU, are saved as TIFF. Masks have class
    indices, fields of view 0 and 255. Names that are not valid file names are
    changed (`file_name`). `Domain.from_folder` reads the folder back.

    Raises
    ------
    InputError
        If `write_image` does not support an image.
    OSError
        If a file cannot be written.
    """
    folder = Path(folder)
    for case in domain:
        stem = file_name(case.name)
        file = f"{stem}.png"
        write_image(folder / "images" / f"{stem}{image_suffix(case.image)}", case.image)
        if case.mask is not None:
            write_labels(folder / "masks" / file, case.mask)
        if case.fov is not None:
            write_labels(folder / "fov" / file, case.fov.astype(np.uint8) * 255)


def _one_per_image(
    name: str, what: str, arrays: Sequence[NDArray[Any] | None] | None, count: int
) -> Sequence[NDArray[Any] | None]:
    if arrays is None:
        return [None] * count
    if len(arrays) != count:
        raise InputError(
            f"domain {name} has {count} images and {len(arrays)} {what}; expected as many"
        )
    return arrays
