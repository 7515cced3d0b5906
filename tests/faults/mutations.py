"""Mutated files of every kind that the package reads, and the results of reading them."""

import json
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src_training.config.recipe import Recipe
from src_training.data.layouts.dataset_json import read_dataset_json
from src_training.errors import InputError
from src_training.inference.external.model import describe_model
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import load_model, save_model
from src_training.io.images import read_image
from src_training.io.masks import read_mask
from src_training.io.volumes.registry import open_volume
from src_training.networks import build_network
from src_training.runs.library import Library
from src_training.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from tests.faults.harness import mutated

SLOWEST = 30
"""Timeout in seconds, after which reading a file counts as a hang."""


@dataclass(frozen=True)
class Kind:
    """An intact file of a kind, and its reader.

    Attributes
    ----------
    path
        The file, or a folder whose files are mutated one at a time.
    read
        Reader, called with the path of the file or of a mutated copy.
    """

    path: Path
    read: Callable[[Path], object]


def read_volume(path: Path) -> object:
    """Open a volume and read every slice."""
    return open_volume(path).voxels.compute(scheduler="synchronous")


def listed(path: Path) -> object:
    """List a model as the window does."""
    return Library((), path.parent).list_models()


def checkpoint_networks() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network, and an optimiser after a step."""
    network = build_network("little_unet", 1, 2, width=2)
    adam = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 1, 16, 16)).sum().backward()
    adam.step()
    return network, adam


def kinds(folder: Path, recipe: str) -> dict[str, Kind]:
    """Write a file of every kind into a folder.

    Parameters
    ----------
    folder
        Folder to create.
    recipe
        Text of a recipe.
    """
    import nibabel
    import tifffile
    import zarr

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    voxels = np.random.default_rng(1).integers(-1000, 1000, (6, 24, 20), np.int16)
    found = dict[str, Kind]()
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.ppm"):
        Image.fromarray(pixels).save(folder / name)
        found[name] = Kind(folder / name, read_image)
    Image.fromarray(pixels[..., 0]).convert("P").save(folder / "mask.png")
    found["mask.png"] = Kind(folder / "mask.png", read_mask)
    tifffile.imwrite(folder / "a.tif", pixels, compression="zlib")
    found["a.tif"] = Kind(folder / "a.tif", read_image)
    np.save(folder / "a.npy", pixels)
    found["a.npy"] = Kind(folder / "a.npy", read_image)
    tifffile.imwrite(
        folder / "stack.tif",
        voxels,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "mm"},
    )
    found["stack.tif"] = Kind(folder / "stack.tif", read_volume)
    image = nibabel.Nifti1Image(voxels.T, np.diag([1.0, 1, 2, 1]))
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, folder / name)
        found[name] = Kind(folder / name, read_volume)
    zarr.create_array(folder / "a.zarr", data=voxels, chunks=(2, 24, 20))
    found["a.zarr"] = Kind(folder / "a.zarr", read_volume)
    _write_dicom(folder / "series", voxels)
    found["series"] = Kind(folder / "series", read_volume)
    network, adam = checkpoint_networks()
    card = ModelCard(
        name="tiny",
        architecture="little_unet",
        options={"width": 2},
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing={"kind": "intensity"},
        patch=64,
    )
    save_model(card, network, folder / "m.safetensors")
    found["m.safetensors"] = Kind(folder / "m.safetensors", load_model)
    found["listed"] = Kind(folder / "m.safetensors", listed)
    save_checkpoint(folder / "last.safetensors", network, adam, Progress(1))
    read = partial(_load_checkpoint, checkpoint_networks())
    found["last.safetensors"] = Kind(folder / "last.safetensors", read)
    (folder / "r.yaml").write_text(recipe)
    found["r.yaml"] = Kind(folder / "r.yaml", Recipe.load)
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": [1, 2]}})
    )
    found["dataset.json"] = Kind(folder / "dataset.json", read_dataset_json)
    (folder / "rdf.yaml").write_text(_RDF)
    found["rdf.yaml"] = Kind(folder / "rdf.yaml", describe_model)
    return found


_RDF = """
inputs:
- axes: [{type: batch}, {type: channel, channel_names: [red]}, {id: y, size: {min: 8, step: 8}},
    {id: x, size: {min: 8, step: 8}}]
  preprocessing: [{id: zero_mean_unit_variance}]
outputs:
- axes: [{type: batch}, {type: channel, channel_names: [background, liver]}]
  data: {range: [0.0, 1.0]}
weights: {onnx: {source: weights.onnx}}
"""


def _load_checkpoint(networks: tuple[torch.nn.Module, torch.optim.Optimizer], path: Path) -> object:
    return load_checkpoint(path, *networks)


def _write_dicom(folder: Path, voxels: np.ndarray) -> None:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    folder.mkdir()
    for index, plane in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.{index + 1}"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data = pydicom.Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"1.2.{index + 1}"
        data.SeriesInstanceUID = "1.2.3"
        data.ImagePositionPatient = [0, 0, 2 * index]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [1, 1], 2
        data.Rows, data.Columns = plane.shape
        data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        data.PixelData = plane.tobytes()
        data.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def read_mutants(folder: Path, recipe: str, seeds: range, report: Path) -> None:
    """Read a mutant of every kind for each seed, and write a report as JSON.

    Outcomes are ``sentence`` (an InputError), ``success``, ``crash`` (any other exception) and
    ``hang`` (longer than `SLOWEST`). ``now.txt`` beside the report names the current mutant, in
    case it kills the process. Whole files are read first; ``before_mb`` is the memory after them.
    """
    counts, faults, slowest = Counter[str](), list[str](), 0.0

    def hang(_number: int, _frame: object) -> None:
        raise TimeoutError(f"longer than {SLOWEST} s")

    signal.signal(signal.SIGALRM, hang)
    read = kinds(folder / "whole", recipe)
    for kind in read.values():
        kind.read(kind.path)
    before = _resident()
    for name, kind in read.items():
        for seed in seeds:
            report.with_name("now.txt").write_text(f"{name}, seed {seed}")
            mutant = _mutant(kind.path, folder / "mutant", seed)
            signal.alarm(SLOWEST)
            began = time.perf_counter()
            try:
                kind.read(mutant)
                counts["success"] += 1
            except InputError as error:
                counts["sentence"] += 1
                if "\n" in str(error) or len(str(error)) > 1500:
                    faults.append(f"{name}, seed {seed}: {str(error)[:300]}")
            except BaseException as error:
                counts["hang" if isinstance(error, TimeoutError) else "crash"] += 1
                faults.append(f"{name}, seed {seed}: {type(error).__name__}: {error!s:.300}")
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    memory = {"before_mb": before, "peak_mb": peak}
    found = {"tried": sum(counts.values()), **counts, **memory, "slowest_s": slowest}
    report.write_text(json.dumps(found | {"faults": faults}, indent=1))


def _resident() -> float:
    """Memory of this process in MB: Python, torch and the readers, once all were used."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _mutant(path: Path, folder: Path, seed: int) -> Path:
    """A mutated copy of a file, or of a folder with one mutated file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    copy = folder / path.name
    if path.is_dir():
        shutil.copytree(path, copy)
        files = sorted(file for file in copy.rglob("*") if file.is_file())
        chosen = files[seed % len(files)]
    else:
        shutil.copy(path, copy)
        chosen = copy
    chosen.write_bytes(mutated(chosen.read_bytes(), seed))
    return copy
