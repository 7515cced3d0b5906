"""Volumes as scanners and other programs write them."""

import nibabel
import numpy as np
import tifffile
import zarr
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)
NAMES = ("d", "a", "e", "c", "b")
SHAPE = (3, 4, 5)


def affine_of(codes, spacing=(0.5, 0.75, 2.0), shape=SHAPE):
    """The affine of a file whose axes run as `codes` say, by nibabel's own algebra."""
    ras = np.eye(4)
    ras[:3, 3] = 7, -11, 13
    towards = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return ras @ inv_ornt_aff(towards, shape) @ np.diag([*spacing, 1])


def save(path, voxels, affine=None, code=1, slope=None):
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, code)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def save_slice(file, pixels, position, series, **changes):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.Modality = series, "CT"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing, data.SliceThickness = [0.75, 0.5], 2
    data.ImageOrientationPatient, data.ImagePositionPatient = list(AXIAL), list(position)
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(file, enforce_file_format=True)


def save_frames(file, stored, positions, **changes):
    """An enhanced CT: one file, its geometry in functional groups."""
    save_slice(file, stored[0], positions[0], generate_uid())
    data = dcmread(file)
    for name in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient"):
        delattr(data, name)
    for name in ("ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2
    plane.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for position in positions:
        group, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = list(position)
        rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1000
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [rescale]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = len(positions)
    data.PixelData = stored.tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    data.save_as(file)


class Series:
    """Five slices, 2 mm apart, their files named out of order."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.uid = generate_uid()
        self.stored = np.random.default_rng(0).integers(0, 3000, (5, 4, 6), np.uint16)
        for k in range(5):
            self.save(k)

    def save(self, k, position=None, pixels=None, **changes):
        place = (-10, -20, 30 + 2 * k) if position is None else position
        pixels = self.stored[k] if pixels is None else pixels
        save_slice(self.folder / NAMES[k], pixels, place, changes.pop("uid", self.uid), **changes)


def save_ome(path, voxels, zarr_format=3, axes="zyx", unit="micrometer", levels=2):
    group = zarr.create_group(path, zarr_format=zarr_format)
    kinds = {"c": {"type": "channel"}, "t": {"type": "time"}}
    space = {"type": "space", **({"unit": unit} if unit else {})}
    described = {
        "axes": [{"name": name, **kinds.get(name, space)} for name in axes],
        "datasets": [],
        "coordinateTransformations": [
            {"type": "scale", "scale": [1.0] * (len(axes) - 3) + [10, 10, 10]}
        ],
    }
    for level in range(levels):
        step = 2**level
        data = voxels[..., ::step, ::step]
        chunks = (1,) * (data.ndim - 2) + data.shape[-2:]
        group.create_array(f"s{level}", data=data, chunks=chunks)
        scale = [1.0] * (len(axes) - 3) + [200, 75 * step, 50 * step]
        described["datasets"].append(
            {"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    omero = {"channels": [{"label": "arterial"}, {"label": "venous"}]}
    attributes = {"multiscales": [described], "omero": omero}
    if zarr_format == 3:
        attributes = {"ome": {"version": "0.5", **attributes}}
    else:
        described["version"] = "0.4"
    group.attrs.update(attributes)
    return path


def save_volume(name, folder, stem, voxels, spacing):
    """Write canonical (Z, Y, X) at a spacing (z, y, x) in mm in the format of a name."""
    folder.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](folder, stem, voxels, spacing)


def _nifti(folder, stem, voxels, spacing):
    affine = np.diag([*spacing[::-1], 1.0])
    # The canonical first voxel lies at 0, as in the other formats.
    affine[:2, 3] = -affine[0, 0] * (voxels.shape[2] - 1), -affine[1, 1] * (voxels.shape[1] - 1)
    return save(folder / f"{stem}.nii.gz", voxels.transpose(2, 1, 0)[::-1, ::-1], affine)


def _tiff(folder, stem, voxels, spacing):
    path = folder / f"{stem}.ome.tif"
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", spacing, strict=True)} | {
        f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"
    }
    tifffile.imwrite(path, voxels, ome=True, metadata={"axes": "ZYX"} | sizes, compression="lzw")
    return path


def _dicom(folder, stem, voxels, spacing):
    path = folder / stem
    path.mkdir()
    series = generate_uid()
    for k, plane in enumerate(voxels):
        pixels, place = (plane + 1024.0).astype(np.uint16), (0, 0, spacing[0] * k)
        save_slice(path / f"{k}.dcm", pixels, place, series, PixelSpacing=list(spacing[1:]))
    return path


def _omezarr(folder, stem, voxels, spacing):
    path = folder / f"{stem}.zarr"
    group = zarr.create_group(path)
    group.create_array("0", data=voxels, chunks=(1, *voxels.shape[1:]))
    scale = {"type": "scale", "scale": list(spacing)}
    multiscale = {
        "axes": [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


WRITERS = {"nifti": _nifti, "tiff": _tiff, "dicom": _dicom, "omezarr": _omezarr}
