"""What networks make of one image, laid over it: features, what headers rebuild, who decodes whom.

Every map knows where its grid lies in the image: pixel (i, j) of a map has its
centre at ``translate + scale * (i, j)``, in pixels of the image, which is what
a layer of napari takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.preprocessing.geometry import Float, Geometry, Mask, Prepared
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.explore.tiling import Mosaic
from src_training.inference.model_file import SegmentationModel
from src_training.networks.base import SegmentationNetwork

Role = Literal["teacher", "student"]

_LARGEST = 2048 * 2048


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of an image.

    Attributes
    ----------
    maps
        (C, h, w) float32.
    scale
        Height and width of a pixel of the maps, pixels of the image.
    translate
        Row and column of the centre of the first, pixels of the image.
    """

    maps: Float
    scale: tuple[float, float]
    translate: tuple[float, float]

    @property
    def energy(self) -> Float:
        """Activation energy (h, w): the mean of the squares over the channels."""
        return np.asarray(np.square(self.maps).mean(0), np.float32)


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A bottleneck, and what a header makes of its semantic vectors.

    Attributes
    ----------
    bottleneck, rebuilt
        F and H(E(F)), of one grid.
    """

    bottleneck: FeatureMaps
    rebuilt: FeatureMaps

    @property
    def error(self) -> Float:
        """Squared error (h, w), mean over the channels."""
        return np.asarray(np.square(self.rebuilt.maps - self.bottleneck.maps).mean(0), np.float32)

    @property
    def share(self) -> float:
        """The error as a part of the bottleneck's energy, over the whole image; >= 0."""
        return float(self.error.sum() / max(self.bottleneck.energy.sum(), np.finfo("f4").tiny))


@dataclass(frozen=True, eq=False)
class CrossMaps:
    """Probabilities (K, H, W) float32 on the image's own grid.

    Attributes
    ----------
    teacher, student
        p_T and p_S.
    first
        p1: the teacher decodes the student's semantic vector.
    second
        p2: the student decodes the teacher's.
    """

    teacher: Float
    student: Float
    first: Float
    second: Float


def taps_of(model: SegmentationModel) -> tuple[str, ...]:
    """Names of the places in a model's network whose features can be shown."""
    return tuple(model.network.taps)


@torch.inference_mode()
def feature_maps(
    model: SegmentationModel, image: NDArray[np.generic], tap: str, fov: Mask | None = None
) -> FeatureMaps:
    """Features of a whole image at a tap.

    Parameters
    ----------
    model
        Where its network is, the image goes.
    image
        (H, W) or (H, W, C), as `Preprocessing.prepare` takes it.
    tap
        One of `taps_of`.
    fov
        (H, W) bool field of view; found from the image when missing.

    Raises
    ------
    InputError
        If there is no such tap, or the image cannot be used or is larger
        than 2048 x 2048 pixels after preparation.
    """
    network, card = model.network, model.card
    if tap not in network.taps:
        known = ", ".join(network.taps)
        raise InputError(f"{card.name} has no tap {tap!r}; expected one of {known}")
    prepared = card.preprocessing.prepare(image, fov)
    pixels = network.pad(_on_device(torch.from_numpy(_checked(prepared))[None], network))
    with network.tapped(tap) as found:
        network(pixels)
    return _laid(found[tap][0], prepared.geometry, pixels.shape[-2:])


@torch.inference_mode()
def rebuilt(
    networks: TeacherStudentPair, role: Role, image: NDArray[np.generic], fov: Mask | None = None
) -> Rebuilt:
    """A network's bottleneck over an image, and what its own header rebuilds of it.

    The alignment networks take patches of the training size, so the image is
    seen in such patches, side by side; see `Mosaic`.

    Parameters
    ----------
    networks
        Of a run.
    role
        Whose bottleneck: the teacher's with the TAN, or the student's with the SAN.
    image, fov
        As `feature_maps` takes them.

    Raises
    ------
    InputError
        As `feature_maps`.
    """
    network, alignment = {
        "teacher": (networks.teacher, networks.tan),
        "student": (networks.student, networks.san),
    }[role]
    prepared = networks.preprocessing.prepare(image, fov)
    mosaic = Mosaic(_checked(prepared), networks.patch, network.stride)
    true, again = [], []
    for patches in mosaic.batches():
        bottleneck = network.encode(_on_device(patches, network))[1]
        true.append(bottleneck.cpu())
        again.append(alignment(bottleneck).cpu())
    maps = [
        _laid(mosaic.joined(torch.cat(each)), prepared.geometry, mosaic.size)
        for each in (true, again)
    ]
    return Rebuilt(*maps)


@torch.inference_mode()
def cross(
    networks: TeacherStudentPair, image: NDArray[np.generic], fov: Mask | None = None
) -> CrossMaps:
    """Teacher, student, and what each decodes from the other's semantic vector.

    DICD (GKD, arXiv 2207.12995), in evaluation mode and in patches as
    `rebuilt`: p1 = Dec_T(skips_T, H_T(E_S(F_S))), p2 = Dec_S(skips_S, H_S(E_T(F_T))).
    In training the student decodes p2 by the statistics of its batch; by its
    running ones, as here and when it segments, a foreign bottleneck fits worse.
    Parameters and errors as `rebuilt`. Outside the field of view the
    background has probability 1.
    """
    prepared = networks.preprocessing.prepare(image, fov)
    mosaic = Mosaic(_checked(prepared), networks.patch)
    parts = [_cross_probabilities(networks, patches) for patches in mosaic.batches()]
    height, width = prepared.geometry.prepared
    seen = _seen(prepared) if fov is None else fov.astype(bool)
    maps = []
    for each in mosaic.joined(torch.cat(parts))[..., :height, :width].numpy():
        probabilities = prepared.geometry.to_original(each)
        probabilities[0, ~seen], probabilities[1:, ~seen] = 1, 0
        maps.append(probabilities)
    return CrossMaps(*maps)


def _cross_probabilities(networks: TeacherStudentPair, patches: Tensor) -> Tensor:
    """p_T, p_S, p1 and p2, (B, 4, K, p, p) on the CPU, of patches (B, C, p, p)."""
    teacher, student = networks.teacher, networks.student
    images = _on_device(patches, teacher)
    teacher_skips, teacher_bottleneck = teacher.encode(images)
    student_skips, student_bottleneck = student.encode(images)
    logits = (
        teacher.decode(teacher_skips, teacher_bottleneck),
        student.decode(student_skips, student_bottleneck),
        teacher.decode(
            teacher_skips, networks.tan.header(networks.san.encoder(student_bottleneck))
        ),
        student.decode(
            student_skips, networks.san.header(networks.tan.encoder(teacher_bottleneck))
        ),
    )
    return torch.stack([each.float().softmax(1).cpu() for each in logits], 1)


def _checked(prepared: Prepared) -> Float:
    height, width = prepared.geometry.prepared
    if height * width > _LARGEST:
        raise InputError(
            f"the prepared image is {height} x {width} pixels; "
            "expected at most 2048 x 2048 to show its features"
        )
    return prepared.pixels


def _on_device(pixels: Tensor, network: SegmentationNetwork) -> Tensor:
    return pixels.to(next(network.parameters()).device)


def _laid(maps: Tensor, geometry: Geometry, covered: Sequence[int]) -> FeatureMaps:
    """Maps (C, h, w) that cover so many prepared pixels, as they lie on the original."""
    (top, left, bottom, right), (height, width) = geometry.box, geometry.prepared
    # A pixel of the maps in prepared pixels, and that in pixels of the original.
    scale = (
        covered[0] / maps.shape[-2] * (bottom - top) / height,
        covered[1] / maps.shape[-1] * (right - left) / width,
    )
    # Pixel centres lie at whole numbers: the box begins half a pixel before its first.
    translate = (top + (scale[0] - 1) / 2, left + (scale[1] - 1) / 2)
    return FeatureMaps(maps.float().cpu().numpy(), scale, translate)


def _seen(prepared: Prepared) -> Mask:
    """The field of view (H, W) on the original grid."""
    cover = prepared.geometry.to_original(prepared.fov[None].astype(np.float32))[0]
    return np.asarray(cover > 0.5, np.bool_)
