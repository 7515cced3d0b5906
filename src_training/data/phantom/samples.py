"""Sample folders of synthetic images, to try the package without own data."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from src_training.data.domain import Domain, write_domain
from src_training.data.phantom.abdomen import CTPhantom, ct_phantom
from src_training.data.phantom.camera import ScannerName, fundus_phantom
from src_training.errors import InputError
from src_training.io.atomic import write_folder_atomic


class _Photographs(NamedTuple):
    """Photographs by one camera, with or without masks."""

    contents: str
    scanner: ScannerName
    seeds: range
    labelled: bool


_PHOTOGRAPHS = {
    "ours": _Photographs(
        "three fundus photographs with masks of their vessels, camera of 45 degrees",
        "A",
        range(1, 4),
        True,
    ),
    "theirs": _Photographs(
        "six photographs of another camera, 30 degrees, without masks", "B", range(11, 17), False
    ),
    "theirs-labelled": _Photographs(
        "two more photographs of that camera, with masks", "B", range(21, 23), True
    ),
}
_CT = "a CT of an abdomen and the mask of its liver, OME-Zarr"


def write_samples(
    folder: Path, size: int = 512, coarseness: float = 1.0
) -> Iterator[tuple[Path, str]]:
    """Write sample folders: fundus photographs by two cameras and a CT.

    Parameters
    ----------
    folder
        Parent folder; created if missing.
    size
        Height and width of the photographs, pixels.
    coarseness
        Coarseness of the CT; see `ct_phantom`.

    Yields
    ------
    tuple of Path and str
        Each folder after it is written, and a description of its contents.

    Raises
    ------
    InputError
        If one of the folders already exists.
    OSError
        If a file cannot be written.
    """
    for name in (*_PHOTOGRAPHS, "ct"):
        if (folder / name).exists():
            raise InputError(f"{folder / name} is there already; expected a free path")
    for name, group in _PHOTOGRAPHS.items():
        cases = [fundus_phantom(seed, size, group.scanner) for seed in group.seeds]
        names = [f"eye-{seed:02d}" for seed in group.seeds]
        masks = [case.mask for case in cases] if group.labelled else None
        images = [case.image for case in cases]
        write_domain(Domain.from_arrays(name, images, masks, names=names), folder / name)
        yield folder / name, group.contents
    _write_ct(ct_phantom(1, coarseness), folder / "ct")
    yield folder / "ct", _CT


def _write_ct(phantom: CTPhantom, folder: Path) -> None:
    """Write the voxels and the liver mask of a CT as OME-Zarr 0.5, with spacing."""
    import zarr

    from src_training.io.volumes.registry import open_volume, write_labels_like

    image = folder / "images" / "patient-1.zarr"
    scale = {"type": "scale", "scale": list(phantom.spacing)}
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    scales = {
        "name": "patient-1",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }

    def write(temporary: Path) -> None:
        group = zarr.create_group(temporary, zarr_format=3)
        group.attrs.update({"ome": {"version": "0.5", "multiscales": [scales]}})
        chunks = (1, *phantom.voxels.shape[1:])
        group.create_array("0", data=phantom.voxels, chunks=chunks, dimension_names=tuple("zyx"))

    write_folder_atomic(image, write)
    write_labels_like(open_volume(image), phantom.liver, folder / "masks" / image.name)
