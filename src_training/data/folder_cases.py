"""The cases of a folder with ``images/``, ``masks/`` and perhaps ``fov/``."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from src_training.data.case import (
    CaseFiles,
    Masks,
    by_stem,
    is_excluded,
    select_by_mask,
    stored_mask,
)
from src_training.data.classes import BINARY, ClassValues, StoredMask
from src_training.data.volume_slices import VolumeSlice, no_images, slices_in
from src_training.errors import InputError
from src_training.io.images import image_files, image_size
from src_training.io.volumes.registry import list_folder

_PARTS = ("images", "masks", "fov")


def cases_in_folder(
    path: Path, masks: Masks, exclude: Collection[str], *, resample: bool = False
) -> tuple[Mapping[str, CaseFiles | VolumeSlice], list[StoredMask], tuple[str, ...], set[str]]:
    """Return the cases of a folder, their masks, what is odd, and what of `exclude` is no file.

    The classes of the cases are still unknown; further as `Domain.from_folder`.
    """
    content = {part: list_folder(path / part, domain=True) for part in _PARTS}
    files = [file for part in content.values() for kind in part for file in kind]
    unmatched = {each for each in exclude if not any(is_excluded(file, [each]) for file in files)}
    volumes, pictures = (
        [file for file in kind if not is_excluded(file, exclude)] for kind in content["images"]
    )
    if volumes and pictures:
        raise InputError(
            f"{path}/images has {volumes[0].name} and {pictures[0].name}; "
            "expected either volumes or images"
        )
    if volumes:
        return *slices_in(path, volumes, masks, exclude, resample=resample), (), unmatched
    images, labels, fovs = (_files(path / part, exclude) for part in _PARTS)
    if not images:
        raise InputError(no_images(path))
    if masks == "required":
        _require_masks(path, images, labels)
    strays = _strays(images, labels)
    images, labels = select_by_mask(path, images, labels, masks)
    sizes = {stem: image_size(file) for stem, file in images.items()}
    stored = {stem: stored_mask(labels[stem], sizes[stem]) for stem in images if stem in labels}
    unknown = ClassValues(BINARY)
    cases = {
        stem: CaseFiles(
            stem,
            file,
            labels.get(stem),
            fovs.get(stem),
            sizes[stem],
            stored[stem].values.values if stem in stored else None,
            unknown,
        )
        for stem, file in images.items()
    }
    return cases, list(stored.values()), strays, unmatched


def _files(folder: Path, exclude: Collection[str]) -> dict[str, Path]:
    """Return image files by stem, in order; empty if there is no such folder."""
    present = image_files(folder) if folder.is_dir() else ()
    files, doubles = by_stem(file for file in present if not is_excluded(file, exclude))
    for sentence in doubles.values():
        raise InputError(sentence)
    return files


def _require_masks(path: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
    missing = [file.name for stem, file in images.items() if stem not in masks]
    if missing:
        raise InputError(
            f"{path} has no mask for {format_names(missing)}; "
            "expected a file of the same stem in masks/ for every image"
        )


def _strays(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[str, ...]:
    alone = [file.name for stem, file in masks.items() if stem not in images]
    return (f"masks without an image: {format_names(alone)}",) if alone else ()


def format_names(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
