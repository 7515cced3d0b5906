"""The command that segments: images, stacks and volumes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from src_training.cli import console
from src_training.cli.console import Device, Flips, Model
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.inference.predictor import Predictor
    from src_training.inference.volumes.files import Stream, VolumeOptions

Classes = list[str] | None


@Parameter(name="*", group="Volumes")
@dataclass(frozen=True)
class Volumes:
    """How volumes are segmented.

    Attributes
    ----------
    axis
        The axis that planes follow: z is from foot to head.
    orthogonal
        Average the planes along all three axes: three times the work.
    keep_largest
        Class of which only the largest body is kept.
    fill_holes
        Class whose holes become part of it.
    workers
        Segment in so many processes.
    scheduler
        Address of a running dask cluster that segments.
    """

    axis: Literal["z", "y", "x"] = "z"
    orthogonal: bool = False
    keep_largest: Classes = None
    fill_holes: Classes = None
    workers: int | None = None
    scheduler: str | None = None


def segment(
    inputs: Annotated[list[Path], Parameter(help="Images, volumes, or folders of either.")],
    *,
    model: Model,
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder for the labels.")],
    probabilities: Annotated[
        bool, Parameter(help="Write float32 probabilities of images too.")
    ] = False,
    flips: Flips = False,
    threshold: Annotated[float | None, Parameter(help="Instead of the model's own.")] = None,
    angle: Annotated[
        float | None, Parameter(help="Degrees that the fundus camera's field of view spans.")
    ] = None,
    device: Device = "auto",
    volumes: Volumes = Volumes(),
) -> None:
    """Segment images and volumes; writes one labels file for each, of the same stem.

    Volumes (NIfTI, DICOM folders, TIFF stacks, zarr) may be larger than memory. Interrupted,
    the same command goes on with them. For example:

    ```
    msankd segment photo.png scans/ --model vessels-chasedb1 --angle 45 --out labels
    msankd segment ct.nii.gz --model liver.safetensors --out labels --keep-largest liver
    msankd segment huge.zarr --model liver.safetensors --out labels --workers 4
    ```
    """
    from src_training.inference.image_files import writable_names
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor
    from src_training.inference.volumes.files import VolumeOptions, volumes_among

    found, others = volumes_among(inputs)
    for option, given in (("--probabilities", probabilities), ("--angle", angle is not None)):
        if found and given:
            raise InputError(f"{option}: {found[0]} is a volume; expected images only")
    files = writable_names(others, out_dir) if others else {}
    predictor = Predictor(load_model(model).for_camera(angle), device=device, flips=flips)
    if files:
        _segment_images(predictor, files, out_dir, threshold, probabilities)
    wishes = VolumeOptions(
        "zyx".index(volumes.axis),
        volumes.orthogonal,
        flips,
        threshold,
        volumes.keep_largest or (),
        volumes.fill_holes or (),
    )
    if found:
        with _streaming(predictor, device, volumes) as stream:
            for path in found:
                _segment_volume(predictor, path, out_dir, wishes, stream)


def _segment_images(
    predictor: "Predictor",
    files: dict[Path, str],
    out_dir: Path,
    threshold: float | None,
    probabilities: bool,
) -> None:
    from src_training.cli.progress import counted
    from src_training.inference.image_files import segment_file

    with counted(console.out, "segmenting", len(files)) as advance:
        for file, stem in files.items():
            written, input_warnings = segment_file(
                predictor, file, out_dir / stem, threshold, with_probabilities=probabilities
            )
            for doubt in input_warnings:
                console.err.print(
                    f"{file}: {doubt}", style="yellow", highlight=False, soft_wrap=True
                )
            advance(str(written))


@contextmanager
def _streaming(predictor: "Predictor", device: str, volumes: Volumes) -> "Iterator[Stream]":
    """How portions are segmented: here, or on a cluster for as long as the block lasts."""
    from src_training.inference.volumes.cluster import connected, stream_on
    from src_training.inference.volumes.streaming import stream

    if volumes.workers is None and volumes.scheduler is None:
        yield lambda volume, growing: stream(predictor, volume.voxels, growing)
        return
    if volumes.workers is not None and volumes.scheduler is not None:
        raise InputError("--workers starts a cluster and --scheduler names one; expected either")
    path = predictor.model.source
    assert path is not None  # it was loaded
    with connected(volumes.scheduler, volumes.workers) as client:
        yield lambda volume, growing: stream_on(client, path, device, volume.voxels, growing)


def _segment_volume(
    predictor: "Predictor", path: Path, out_dir: Path, wishes: "VolumeOptions", stream: "Stream"
) -> None:
    from src_training.cli.progress import counted
    from src_training.inference.volumes.estimate import estimate_volume
    from src_training.inference.volumes.files import plan_for, segment_volume
    from src_training.io.volumes.registry import label_path, open_volume

    volume = open_volume(path)
    target = label_path(volume, out_dir)
    if target.resolve() == path.resolve():
        raise InputError(
            f"{path} lies in {out_dir}, where its labels would replace it; "
            "expected another folder for the labels"
        )
    plan = plan_for(predictor.model, volume, wishes)
    cost = estimate_volume(predictor, volume.voxels, plan)
    size = " x ".join(map(str, plan.shape))
    console.out.print(
        f"{path}: {size} voxels, about {cost.seconds / 60:.1f} minutes in one process "
        f"and at most {cost.disk / 1e9:.2g} GB of disk",
        highlight=False,
        soft_wrap=True,
    )
    grown = segment_volume(volume, plan, target, stream)
    first = next(grown)
    with counted(console.out, "segmenting", first.total) as advance:
        for _ in range(first.done):
            advance("done before")
        for step in grown:
            assert step.portion is not None
            advance(f"planes {step.portion.start} to {step.portion.stop - 1}")
    console.out.print(f"Written to {target}", highlight=False, soft_wrap=True)
