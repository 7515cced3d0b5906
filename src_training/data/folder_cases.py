"""The cases of a folder of any layout."""

from collections.abc import Mapping, Sequence

from src_training.data.case import CaseFiles, Masks, select_by_mask, stored_mask
from src_training.data.classes import BINARY, ClassValues, StoredMask
from src_training.data.layouts.files import FolderFiles
from src_training.data.layouts.listing import no_images
from src_training.data.volume_slices import VolumeSlice, slices_in
from src_training.errors import InputError
from src_training.io.images import image_size


def cases_in_folder(
    files: FolderFiles, masks: Masks, *, resample: bool = False
) -> tuple[Mapping[str, CaseFiles | VolumeSlice], list[StoredMask]]:
    """Return the cases of a folder, with placeholder classes, and their masks.

    See `Domain.from_folder` for parameters and errors.
    """
    path = files.folder
    if files.mixed:
        volume = next(iter(files.images.values()))
        raise InputError(
            f"{volume.parent} has {volume.name} and {files.mixed[0].name}; "
            "expected either volumes or images"
        )
    for sentence in files.duplicates.values():
        raise InputError(sentence)
    if not files.images:
        raise InputError(no_images(path))
    if masks == "required":
        _require_masks(files)
    if files.volumes:
        return slices_in(files, masks, resample=resample)
    images, labels = select_by_mask(path, files.images, files.masks, masks)
    fovs = files.fovs
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
    return cases, list(stored.values())


def _require_masks(files: FolderFiles) -> None:
    missing = [file.name for stem, file in files.images.items() if stem not in files.masks]
    if missing:
        where = "a volume of its name" if files.volumes else "a file of the same stem"
        raise InputError(
            f"{files.folder} has no mask for {format_names(missing)}; "
            f"expected {where} in masks/ for every image"
        )


def format_names(names: Sequence[str]) -> str:
    """Join the first five names, and count the others."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
