"""What is in a domain before it is used: every case as a picture, every problem by its file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_training.data.case import by_stem, require_size
from src_training.data.classes import ClassValues
from src_training.data.summary import (
    Array,
    Masks,
    Problem,
    Seen,
    Values,
    look_of,
    merged,
    require_foreground,
)
from src_training.data.volume_slices import no_images
from src_training.data.volume_validation import inspect_volumes
from src_training.errors import InputError
from src_training.io.images import image_files, read_image, read_mask
from src_training.io.volumes.registry import list_folder


@dataclass(frozen=True)
class _Unread:
    name: str
    image_file: str
    image: Callable[[], Array]
    mask_file: str = ""
    mask: Callable[[], Array] | None = None
    fov_file: str = ""
    fov: Callable[[], Array] | None = None


def inspect_folder(
    folder: Path,
    class_values: Values | None = None,
    thumbnail: int = 96,
    masks: Masks = "required",
) -> Iterator[Seen]:
    """Look at every case of a folder with ``images/``, ``masks/`` and perhaps ``fov/``.

    Of volumes each is a case; its thumbnail is that of the slice with
    most foreground. What `Domain.from_folder` refuses is a problem here, and
    no problem hides another.

    Parameters
    ----------
    folder
        The folder.
    class_values
        As for `Domain.from_folder`; without them the masks are read twice.
    thumbnail
        Longer side of the thumbnails, pixels.
    masks
        Whether an image without mask is a problem.

    Yields
    ------
    CaseLook, Problem or Note
        Case by case, in the order of their names. A case whose mask cannot
        be used is seen without it.

    Raises
    ------
    InputError
        If `class_values` make no sense.
    """
    folder = Path(folder)
    volumes, pictures = list_folder(folder / "images", domain=True)
    if volumes:
        seen = inspect_volumes(folder, volumes, pictures, class_values, thumbnail, masks)
        yield from require_foreground(seen, folder.name)
        return
    parts: dict[str, dict[str, Path]] = {}
    for part in ("images", "masks", "fov"):
        inside = folder / part
        parts[part], doubles = by_stem(image_files(inside) if inside.is_dir() else ())
        for file, sentence in doubles.items():
            yield Problem(f"{part}/{file.name}", sentence)
    if not parts["images"]:
        yield Problem(folder.name, no_images(folder))
    for stem, file in parts["masks"].items():
        if stem not in parts["images"]:
            yield Problem(f"masks/{file.name}", f"{file} has no image of the same stem in images/")
    unread = [_on_disk(stem, parts) for stem in parts["images"]]
    seen = _looks(unread, class_values, thumbnail, masks)
    yield from require_foreground(seen, folder.name)


def inspect_arrays(
    name: str,
    images: Sequence[Array],
    masks: Sequence[Array | None] | None = None,
    names: Sequence[str] | None = None,
    class_values: Values | None = None,
    thumbnail: int = 96,
    required: Masks = "required",
) -> Iterator[Seen]:
    """Look at arrays, such as opened layers; see `inspect_folder`.

    Parameters
    ----------
    name
        Of the domain.
    images
        Each (H, W) or (H, W, C); taken one at a time, so they may be lazy.
    masks
        Each (H, W) of stored values, or None.
    names
        Of the cases; numbered when missing.
    class_values, thumbnail, required
        As `class_values`, `thumbnail` and `masks` of `inspect_folder`.

    Raises
    ------
    InputError
        If `class_values` make no sense.
    """
    called = names or [f"{index:03d}" for index in range(len(images))]
    labels = masks or [None] * len(images)
    unread = [
        _Unread(
            case,
            case,
            partial(np.asarray, image),
            f"mask of {case}",
            None if mask is None else partial(np.asarray, mask),
        )
        for case, image, mask in zip(called, images, labels, strict=True)
    ]
    seen = _looks(unread, class_values, thumbnail, required)
    yield from require_foreground(seen, name)


def _on_disk(stem: str, parts: Mapping[str, Mapping[str, Path]]) -> _Unread:
    image, mask, fov = parts["images"][stem], parts["masks"].get(stem), parts["fov"].get(stem)
    return _Unread(
        stem,
        f"images/{image.name}",
        partial(read_image, image),
        f"masks/{mask.name}" if mask else "",
        partial(read_mask, mask) if mask else None,
        f"fov/{fov.name}" if fov else "",
        partial(read_mask, fov) if fov else None,
    )


def _looks(
    cases: list[_Unread],
    class_values: Values | None,
    thumbnail: int,
    masks: Masks,
) -> Iterator[Seen]:
    if class_values is None:
        values = _stored_values(cases)
        classes = ClassValues.infer(values)
        yield from merged(classes, values)
    else:
        classes = ClassValues.from_mapping(class_values)
    for case in cases:
        try:
            image = _single(case.image(), case.image_file)
        except InputError as error:
            yield Problem(case.image_file, str(error))
            continue
        size = (image.shape[0], image.shape[1])
        indices, problems = _indices(case, size, classes, masks)
        yield from problems
        yield look_of(case.name, image, indices, classes.names, thumbnail)


def _stored_values(cases: Iterable[_Unread]) -> set[int]:
    """Every value of the masks that can be read; the others are told when their turn comes."""
    found: set[int] = set()
    for case in cases:
        try:
            found.update(np.unique(case.mask()).tolist() if case.mask else ())
        except InputError:
            continue
    return found


def _single(image: Array, file: str) -> Array:
    """The image, if preparing takes it."""
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (1, 3, 4)):
        return image
    raise InputError(
        f"{file} has shape {image.shape}; expected a single image, "
        "(H, W) or (H, W, C) with C = 1, 3 or 4"
    )


def _indices(
    case: _Unread, size: tuple[int, int], classes: ClassValues, masks: Masks
) -> tuple[NDArray[np.uint8] | None, list[Problem]]:
    """Class indices (H, W) of the mask, None if it cannot be used, and why."""
    problems, indices = [], None
    try:
        if case.fov and not _labels(case.fov(), size, case.fov_file).any():
            raise InputError(
                f"{case.fov_file} is an empty field of view; expected at least one pixel"
            )
    except InputError as error:
        problems.append(Problem(case.fov_file, str(error)))
    if case.mask is None:
        if masks == "required":
            missing = f"{case.image_file} has no mask; expected one of the same stem in masks/"
            problems.append(Problem(case.image_file, missing))
        return None, problems
    try:
        labels = _labels(case.mask(), size, case.mask_file)
        classes.check(np.unique(labels).tolist(), Path(case.mask_file))
        indices = classes.indices(labels)
    except InputError as error:
        problems.append(Problem(case.mask_file, str(error)))
    return indices, problems


def _labels(labels: Array, size: tuple[int, int], file: str) -> Array:
    require_size(labels.shape, size, file)
    return labels
