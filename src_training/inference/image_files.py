"""Segmenting image files: finding inputs, naming outputs, and writing labels."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src_training.data.slice_context import neighbouring
from src_training.errors import InputError, memory_of
from src_training.inference.bn_adaptation import Shift
from src_training.inference.expected_dice import Sums, are_foreign, label_sums
from src_training.inference.predictor import Predictor, labels_from
from src_training.inference.volumes.segment import find_volumes
from src_training.io.atomic import write_atomic
from src_training.io.decoders.base import NARROWEST, file_stem, file_suffix
from src_training.io.decoders.tiff import series_notes
from src_training.io.folders import unread
from src_training.io.images import IMAGE_SUFFIXES, image_files, read_image, write_labels
from src_training.io.volumes.base import Volume
from src_training.io.volumes.registry import label_path, open_volume


class SegmentedFile(NamedTuple):
    """Results of segmenting an image file.

    Attributes
    ----------
    labels
        File of the labels, uint8 class indices.
    notes
        Warnings about the image; see `input_warnings`.
    sums
        `label_sums` of each slice, (slices, K - 1, 4); an image is one slice.
    foreign
        Whether each slice is foreign; see `are_foreign`.
    """

    labels: Path
    notes: list[str]
    sums: Sums
    foreign: list[bool]


class Inputs(NamedTuple):
    """Images and volumes to segment, and the files of their labels.

    Attributes
    ----------
    images
        Image -> path of its labels without suffix; see `label_files`.
    volumes, targets
        Opened volumes, and path of each volume -> file of its labels.
    notes
        Sentences on files in the folders that are not segmented.
    faults
        A sentence for each volume that cannot be opened.
    """

    images: dict[Path, Path]
    volumes: list[Volume]
    targets: dict[Path, Path]
    notes: list[str]
    faults: list[str]


def find_inputs(inputs: Sequence[Path], out_dir: Path, images_only: Mapping[str, bool]) -> Inputs:
    """Find images and volumes among files and folders.

    Parameters
    ----------
    inputs
        Images, volumes, or folders of either.
    out_dir
        Folder of the labels.
    images_only
        Option that only images support -> whether it is given.

    Raises
    ------
    InputError
        If such an option is given with a volume, or nothing can be opened; see also
        `label_files`.
    """
    paths, others = find_volumes(inputs)
    images = find_images(others)
    for option, given in images_only.items():
        if paths and given:
            raise InputError(f"{option}: {paths[0]} is a volume; expected images only")
    opened, faults = list[Volume](), list[str]()
    for path in paths:
        try:
            opened.append(open_volume(path))
        except InputError as error:
            faults.append(str(error))
    if faults and not opened and not images:
        raise InputError(faults[0])
    notes = not_segmented(inputs, [*paths, *images])
    files, targets = label_files(images, opened, out_dir)
    return Inputs(files, opened, targets, notes, faults)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """List the image files among files and folders.

    Raises
    ------
    InputError
        If an input is missing or contains no image.
    """
    return [file for path in inputs for file in _images(path)]


def not_segmented(inputs: Sequence[Path], segmented: Sequence[Path]) -> list[str]:
    """Return sentences on files in the input folders that are not segmented.

    Parameters
    ----------
    inputs
        Files and folders.
    segmented
        Images and volumes that were found in them.
    """
    folders = [path for path in inputs if path.is_dir() and path not in segmented]
    known = set(segmented)
    return [
        f"{folder}: {note}" for folder in folders for note in unread(folder, known, "segmented")
    ]


def label_files(
    images: Sequence[Path], volumes: Sequence[Volume], folder: Path
) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Choose the file of the labels of every input, before the first of them is segmented.

    Parameters
    ----------
    images
        Image files.
    volumes
        Opened volumes.
    folder
        Folder of the labels.

    Returns
    -------
    tuple of dict
        Image -> path of its labels without suffix (``.tif`` if the file turns out
        to contain a stack, else ``.png``); path of each volume -> path of its labels.

    Raises
    ------
    InputError
        If two inputs would write the same file (names are compared without case), or labels
        would replace an input.
    """
    writers = dict[str, Path]()
    stems = {image: folder / file_stem(image) for image in images}
    targets = {volume.path: label_path(volume, folder) for volume in volumes}
    written = {image: [f"{stem.name}.png", f"{stem.name}.tif"] for image, stem in stems.items()}
    written |= {path: [target.name] for path, target in targets.items()}
    if len(written) < len(images) + len(volumes):
        paths = [*images, *(volume.path for volume in volumes)]
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise InputError(f"{repeated} is given twice; expected each input once")
    for path, names in written.items():
        if path.parent.resolve() == folder.resolve():
            raise InputError(
                f"{path} lies in {folder}, where its labels would replace it; "
                "expected another folder for the labels"
            )
        for name in names:
            other = writers.setdefault(unicodedata.normalize("NFC", name).casefold(), path)
            if other != path:
                raise InputError(
                    f"{other} and {path} would write the same labels, {folder / name}; "
                    "expected different names"
                )
    return stems, targets


def _images(path: Path) -> list[Path]:
    if file_suffix(path) in IMAGE_SUFFIXES:
        if not path.exists():
            raise InputError(f"{path}: there is no such file; expected an image")
        return [path]
    if not path.is_dir():
        raise InputError(
            f"{path} is neither a folder nor an image; expected one of "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    images = image_files(path)
    if not images:
        inside = path / "images"
        hint = f", as in {inside}" if inside.is_dir() else ""
        raise InputError(f"{path} holds no image; expected at least one{hint}")
    return images


def segment_file(
    predictor: Predictor,
    file: Path,
    target: Path,
    threshold: float | None = None,
    *,
    with_probabilities: bool = False,
) -> SegmentedFile:
    """Segment one image file.

    Parameters
    ----------
    predictor
        Predictor to segment with.
    file
        Image file, or file of a stack (Z, H, W), which is segmented slice by slice.
    target
        Path to write, without suffix: ``.png`` for an image, ``.tif`` for a stack.
    threshold
        Threshold instead of the model's own.
    with_probabilities
        Whether to write ``*_probabilities.npy`` too: float32 (K, H, W), or (Z, K, H, W).

    Raises
    ------
    InputError
        If the file cannot be read or segmented; the message names it.
    OSError
        If the labels cannot be written.
    """
    image = read_image(file)
    planar = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] < NARROWEST)
    count = predictor.model.card.preprocessing.neighbours
    if planar:
        slices = [image]
    elif count == 1:
        slices = list(image)
    else:
        slices = [neighbouring(image, index, count) for index in range(len(image))]
    find_fov = predictor.model.card.preprocessing.find_fov
    try:
        with memory_of("it", "a smaller image"):
            fovs = [find_fov(each) for each in slices]
            shifts: list[Shift | None] = []
            pairs = zip(slices, fovs, strict=True)
            maps = [predictor.predict(each, fov, shifts=shifts) for each, fov in pairs]
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    find_threshold = predictor.model.card.threshold_for
    labels = [
        labels_from(each, find_threshold(each) if threshold is None else threshold) for each in maps
    ]
    label_file = target.with_name(target.name + (".png" if planar else ".tif"))
    write_labels(label_file, labels[0] if planar else np.stack(labels))
    if with_probabilities:
        probabilities = maps[0] if planar else np.stack(maps)
        path = target.with_name(target.name + "_probabilities.npy")
        write_atomic(path, lambda temporary: np.save(temporary, probabilities))
    sums = np.stack([label_sums(*pair) for pair in zip(maps, labels, strict=True)])
    notes = [*series_notes(file), *predictor.check(slices[0], fovs[0])]
    foreign = are_foreign(predictor.model.card.quality, shifts)
    return SegmentedFile(label_file, notes, sums, foreign)
