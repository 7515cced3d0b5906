"""The command ``msankd segment``: images, stacks and volumes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from src_training.cli import console
from src_training.cli.console import Angle, Device, Flips, Model
from src_training.errors import InputError, memory_of, naming
from src_training.formatting import format_bytes, format_duration

if TYPE_CHECKING:
    from src_training.inference.image_files import Inputs
    from src_training.inference.predictor import Predictor
    from src_training.inference.volumes.job import VolumeOptions
    from src_training.inference.volumes.segment import SlabSegmenter
    from src_training.io.volumes.base import Volume

Classes = list[str] | None


@Parameter(name="*", group="Volumes")
@dataclass(frozen=True)
class Volumes:
    """Options of segmenting volumes.

    Attributes
    ----------
    axis
        The axis along which slices are taken; z is from foot to head.
    orthogonal
        Average the slices along all three axes, at three times the cost.
    keep_largest
        Class of which only the largest connected component stays.
    fill_holes
        Class whose holes are filled.
    changed_source
        Go on although a volume changed since its labels were begun.
    workers
        Number of processes to segment in.
    scheduler
        Address of a running dask cluster to segment on.
    """

    axis: Literal["z", "y", "x"] = "z"
    orthogonal: bool = False
    keep_largest: Classes = None
    fill_holes: Classes = None
    changed_source: Annotated[bool, Parameter(negative=())] = False
    workers: int | None = None
    scheduler: str | None = None


def segment(
    inputs: Annotated[list[Path], Parameter(help="Images, volumes, or folders of either.")],
    *,
    model: Model,
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder for the labels.")],
    probabilities: Annotated[
        bool, Parameter(help="Also write float32 probabilities of images.")
    ] = False,
    flips: Flips = False,
    threshold: Annotated[float | None, Parameter(help="Instead of the model's own.")] = None,
    angle: Angle = None,
    device: Device = "auto",
    volumes: Volumes = Volumes(),
) -> None:
    """Segment images and volumes; writes one labels file for each, of the same stem.

    Beside them it writes expected_dice.csv: the Dice that the labels of each file are expected to
    have, with its interval, from the probabilities alone. A stack or volume has a table of its
    slices, too.

    Volumes (NIfTI, DICOM folders, TIFF stacks, zarr) may be larger than memory. If it is
    interrupted, the same command resumes it. For example:

    ```
    msankd segment photo.png scans/ --model vessels --angle 45 --out labels
    msankd segment ct.nii.gz --model liver.safetensors --out labels --keep-largest liver
    msankd segment huge.zarr --model liver.safetensors --out labels --workers 4
    ```
    """
    console.require_folder(out_dir)
    _prepare_workers(volumes)
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor
    from src_training.inference.volumes.job import VolumeOptions

    images_only = {"--probabilities": probabilities, "--angle": angle is not None}
    files, opened, targets, _, faults = find_inputs(inputs, out_dir, images_only)
    _refuse_volume_options(files, volumes)
    loaded = load_model(model).for_camera(angle)
    check_threshold(threshold, loaded.card.classes)
    predictor = Predictor(loaded, device=device, flips=flips)
    refused = len(faults)
    if files:
        refused += _segment_images(predictor, files, out_dir, threshold, probabilities)
    options = VolumeOptions(
        axis="zyx".index(volumes.axis),
        orthogonal=volumes.orthogonal,
        flips=flips,
        threshold=threshold,
        largest=volumes.keep_largest or (),
        filled=volumes.fill_holes or (),
    )
    if opened:
        with _slab_segmenter(predictor, device, volumes) as segment_slabs:
            for volume in opened:
                with _print_failure() as failed, memory_of(volume.path, "fewer --workers"):
                    target, changed = targets[volume.path], volumes.changed_source
                    _segment_volume(predictor, volume, target, options, segment_slabs, changed)
                refused += len(failed)
    if refused:
        raise SystemExit(1 if refused < len(files) + len(opened) + len(faults) else 2)


@contextmanager
def _print_failure() -> Iterator[list[InputError]]:
    """Print an InputError of the block, and append it to the yielded list instead of raising it."""
    refused = list[InputError]()
    try:
        yield refused
    except InputError as error:
        console.refuse(str(error))
        refused.append(error)


def check_threshold(threshold: float | None, classes: Sequence[str]) -> None:
    """Raise InputError if a threshold is no probability, or the model does not use one."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold is {threshold:g}; expected a probability from 0 to 1")
    if threshold is not None and len(classes) > 2:
        raise InputError(
            f"--threshold is {threshold:g}, but the model tells {', '.join(classes)} apart by the "
            "most probable; expected no threshold"
        )


def _refuse_volume_options(images: Mapping[Path, Path], volumes: Volumes) -> None:
    """Raise InputError if an option for labels of volumes is given for images."""
    given = {
        "--axis": volumes.axis != "z",
        "--orthogonal": volumes.orthogonal,
        "--keep-largest": volumes.keep_largest,
        "--fill-holes": volumes.fill_holes,
    }
    for option, value in given.items():
        if images and value:
            raise InputError(f"{option}: {next(iter(images))} is an image; expected volumes only")


def _prepare_workers(volumes: Volumes) -> None:
    """Let the processes of ``--workers`` import torch while this one does."""
    if volumes.workers is None:
        return
    from src_training.inference.volumes.process_pool import prepare_pool

    if volumes.scheduler is not None:
        raise InputError("--workers starts processes and --scheduler names a cluster; expected one")
    if volumes.workers < 1:
        raise InputError(f"--workers is {volumes.workers}; expected at least 1")
    prepare_pool()


def find_inputs(inputs: Sequence[Path], out_dir: Path, images_only: Mapping[str, bool]) -> "Inputs":
    """Find images and volumes with `image_files.find_inputs`; print its notes and faults."""
    from src_training.inference.image_files import find_inputs as find

    result = find(inputs, out_dir, images_only)
    for note in result.notes:
        console.err.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for fault in result.faults:
        console.refuse(fault)
    return result


def _segment_images(
    predictor: "Predictor",
    files: dict[Path, Path],
    folder: Path,
    threshold: float | None,
    probabilities: bool,
) -> int:
    """Segment image files, and return the number of those that failed."""
    from src_training.cli.progress import counted
    from src_training.evaluation.quality.table import TABLE, SegmentedImage, write_table
    from src_training.inference.image_files import segment_file

    card, images, refused = predictor.model.card, list[SegmentedImage](), 0
    try:
        with counted(console.out, "segmenting", len(files)) as advance:
            for file, target in files.items():
                with _print_failure() as failed:
                    result = segment_file(
                        predictor, file, target, threshold, with_probabilities=probabilities
                    )
                if failed:
                    refused += 1
                    advance(f"{file} is not segmented")
                    continue
                labels, notes, sums, foreign = result
                for note in notes:
                    console.err.print(
                        f"{file}: {note}", style="yellow", highlight=False, soft_wrap=True
                    )
                images.append(SegmentedImage.of(file, labels, sums, card.quality, foreign=foreign))
                advance(f"{labels}, {images[-1].sentence(card.scanner)}")
    finally:  # also if the disk is full or the user stops the command
        if images:
            write_table(folder, images, card.classes)
            console.written(folder, f"{len(images):,} of {len(files):,} images, and {TABLE}")
    return refused


@contextmanager
def _slab_segmenter(
    predictor: "Predictor", device: str, volumes: Volumes
) -> "Iterator[SlabSegmenter]":
    """Yield a function that segments slabs in this process, or on a cluster during the block."""
    from src_training.inference.volumes import cluster
    from src_training.inference.volumes.segment import segment_slabs

    path, workers = predictor.model.source, volumes.workers
    assert path is not None  # it was loaded
    if workers is not None:
        yield partial(cluster.segment_slabs_in_processes, workers, path, device)
    elif volumes.scheduler is not None:
        with cluster.cluster_client(volumes.scheduler) as client:
            yield partial(cluster.segment_slabs_on, client, path, device)
    else:
        yield partial(segment_slabs, predictor)


def _segment_volume(
    predictor: "Predictor",
    volume: "Volume",
    target: Path,
    options: "VolumeOptions",
    segment_slabs: "SlabSegmenter",
    changed_source: bool,
) -> None:
    from src_training.cli.progress import counted
    from src_training.evaluation.quality.table import SegmentedImage, write_table
    from src_training.inference.input_checks import volume_warnings
    from src_training.inference.volumes.estimate import estimate_volume
    from src_training.inference.volumes.job import VolumeJob
    from src_training.inference.volumes.segment import is_foreign, segment_volume

    job = VolumeJob.of(predictor.model, volume, options)
    with naming(volume.path):
        cost = estimate_volume(predictor, volume.voxels, job)
        notes = [*volume.notes, *volume_warnings(predictor.model.card, volume)]
    for note in notes:
        console.err.print(f"{volume.path}: {note}", style="yellow", highlight=False, soft_wrap=True)
    size = " x ".join(map(str, job.shape))
    console.out.print(
        f"{volume.path}: {size} voxels, about {format_duration(cost.seconds)} in one process "
        f"and at most {format_bytes(cost.disk)} of disk",
        highlight=False,
        soft_wrap=True,
    )
    progress = segment_volume(volume, job, target, segment_slabs, changed_source=changed_source)
    step = next(progress)
    with counted(console.out, "segmenting", step.total) as advance:
        for _ in range(step.done):
            advance("finished before")
        for step in progress:
            if step.slab is not None:
                advance(f"slices {step.slab.start} to {step.slab.stop - 1}")
    expected = ""
    if step.sums is not None:
        card = predictor.model.card
        voxel = None if volume.spacing is None else math.prod(volume.spacing) / 1000
        foreign = [is_foreign(predictor, volume.voxels, job, step.sums)] * len(step.sums)
        image = SegmentedImage.of(volume.path, target, step.sums, card.quality, voxel, foreign)
        write_table(target.parent, [image], card.classes)
        expected = f"; {image.sentence(card.scanner)}"
    console.written(f"{target}{expected}")
