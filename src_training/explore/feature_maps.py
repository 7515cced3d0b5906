"""Maps of one image: features at a tap, reconstructed bottlenecks, DICD's cross predictions.

Each map has the transform of a napari layer: pixel (i, j) has its centre at
``translate + scale * (i, j)`` in pixels of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from src_training.data.preprocessing.geometry import Float, Geometry, Mask, PreparedImage
from src_training.errors import InputError
from src_training.explore.teacher_student import TeacherStudentPair
from src_training.inference.model_file import SegmentationModel
from src_training.networks.base import SegmentationNetwork

Role = Literal["teacher", "student"]

_MOST_PIXELS = 2048 * 2048
_BATCH = 4


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
        Row and column of the centre of the first pixel, pixels of the image.
    """

    maps: Float
    scale: tuple[float, float]
    translate: tuple[float, float]

    @property
    def energy(self) -> Float:
        """Activation energy (h, w): the mean over the channels of the squared features."""
        return np.asarray(np.square(self.maps).mean(0), np.float32)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A bottleneck F, and its reconstruction H(E(F)) from its semantic vectors.

    Attributes
    ----------
    bottleneck, reconstructed
        F and H(E(F)), on the same grid.
    """

    bottleneck: FeatureMaps
    reconstructed: FeatureMaps

    @property
    def error(self) -> Float:
        """Squared error (h, w), mean over the channels."""
        difference = self.reconstructed.maps - self.bottleneck.maps
        return np.asarray(np.square(difference).mean(0), np.float32)

    @property
    def relative_error(self) -> float:
        """Squared error relative to the bottleneck's energy, over the whole image; >= 0."""
        return float(self.error.sum() / max(self.bottleneck.energy.sum(), np.finfo("f4").tiny))


@dataclass(frozen=True, eq=False)
class CrossPredictions:
    """Probabilities (K, H, W) float32 on the grid of the image.

    Attributes
    ----------
    teacher, student
        Predictions p_T and p_S of teacher and student.
    p1
        Teacher's decoding of the student's semantic vector.
    p2
        Student's decoding of the teacher's semantic vector.
    """

    teacher: Float
    student: Float
    p1: Float
    p2: Float


@torch.inference_mode()
def feature_maps(model: SegmentationModel, image: NDArray[np.generic], tap: str) -> FeatureMaps:
    """Features of a whole image at a tap.

    Parameters
    ----------
    model
        Model; computation is on the device of its network.
    image
        (H, W) or (H, W, C); see `BasePreprocessing.prepare`.
    tap
        Name of a tap of the network.

    Raises
    ------
    InputError
        If there is no such tap, or the image cannot be prepared or has more
        than 2048 x 2048 pixels after preprocessing.
    """
    network, card = model.network, model.card
    if tap not in network.taps:
        taps = ", ".join(network.taps)
        raise InputError(f"{card.name} has no tap {tap!r}; expected one of {taps}")
    prepared = _checked(card.preprocessing.prepare(image))
    pixels = torch.from_numpy(prepared.pixels)[None].to(_device(network))
    # Pad to a multiple of the map's stride, which pooling may make larger than the network's.
    stride = network.stride * network.pooled_taps.get(tap, 1)
    padding = (0, -pixels.shape[-1] % stride, 0, -pixels.shape[-2] % stride)
    padded = F.pad(pixels, padding, mode="replicate")
    with network.collect_taps(tap) as features:
        network(padded)
    return _on_image(features[tap][0], prepared.geometry, padded.shape[-2:])


@torch.inference_mode()
def reconstruct_bottleneck(
    networks: TeacherStudentPair, role: Role, image: NDArray[np.generic]
) -> Reconstruction:
    """Bottleneck of a network over an image, and its reconstruction by the alignment network.

    Alignment networks require patches of the training size, so the image is
    tiled by such patches; maps are averaged where patches overlap.

    Parameters
    ----------
    networks
        Networks of a run.
    role
        ``teacher`` with its TAN, or ``student`` with its SAN.
    image
        See `feature_maps`.

    Raises
    ------
    InputError
        See `feature_maps`.
    """
    network, alignment = {
        "teacher": (networks.teacher, networks.tan),
        "student": (networks.student, networks.san),
    }[role]

    def encode(patches: Tensor) -> tuple[Tensor, Tensor]:
        bottleneck = network.encode(patches)[1]
        return bottleneck, alignment(bottleneck)

    prepared = _checked(networks.preprocessing.prepare(image))
    maps, size = _by_patches(networks, prepared.pixels, encode, network.stride)
    return Reconstruction(*(_on_image(batch[0], prepared.geometry, size) for batch in maps))


@torch.inference_mode()
def cross_predictions(networks: TeacherStudentPair, image: NDArray[np.generic]) -> CrossPredictions:
    """Predictions of teacher and student, and of each from the other's semantic vector.

    These are the predictions of DICD (GKD, arXiv 2207.12995) in evaluation mode:
    p1 = Dec_T(skips_T, H_T(E_S(F_S))), p2 = Dec_S(skips_S, H_S(E_T(F_T))). In
    training, the student decodes p2 with the batch norm statistics of the batch.
    With running statistics, as here and in segmentation, the other network's
    bottleneck fits less well. Parameters, patches and errors are those of
    `reconstruct_bottleneck`. Outside the field of view the background has
    probability 1.
    """

    def predict(patches: Tensor) -> Tensor:
        return _cross_probabilities(networks, patches).flatten(1, 2)

    prepared = _checked(networks.preprocessing.prepare(image))
    stitched, _ = _by_patches(networks, prepared.pixels, predict)
    height, width = prepared.geometry.prepared
    inside, predictions = _field_of_view(prepared), []
    for prepared_maps in stitched[0].unflatten(0, (4, -1))[..., :height, :width].numpy():
        probabilities = prepared.geometry.to_original(prepared_maps)
        probabilities[0, ~inside], probabilities[1:, ~inside] = 1, 0
        predictions.append(probabilities)
    return CrossPredictions(*predictions)


def _by_patches(
    networks: TeacherStudentPair, pixels: Float, predict: Callable[[Tensor], Any], stride: int = 1
) -> tuple[Any, tuple[int, int]]:
    """Apply networks to patches that tile an image, and stitch the outputs.

    The image (C, h, w) is zero-padded at the bottom and right to at least one
    patch and to multiples of `stride`. The last patch of a row or column overlaps
    its neighbour; outputs are averaged there. Outputs may be smaller than the
    patches.

    Returns
    -------
    Tensor or tuple of Tensor
        Stitched outputs (1, C', H', W'), on the CPU.
    tuple of int
        Height and width of the padded image.
    """
    from monai.inferers.utils import sliding_window_inference

    side = networks.patch
    height, width = (max(side, -(-length // stride) * stride) for length in pixels.shape[-2:])
    missing = (0, width - pixels.shape[-1], 0, height - pixels.shape[-2])
    padded = F.pad(torch.from_numpy(pixels)[None], missing)
    device = _device(networks.teacher)
    stitched = sliding_window_inference(
        padded, (side, side), _BATCH, predict, overlap=0, sw_device=device
    )
    return stitched, (height, width)


def _cross_probabilities(networks: TeacherStudentPair, patches: Tensor) -> Tensor:
    """p_T, p_S, p1 and p2 (B, 4, K, p, p) of patches (B, C, p, p)."""
    teacher, student = networks.teacher, networks.student
    teacher_skips, teacher_bottleneck = teacher.encode(patches)
    student_skips, student_bottleneck = student.encode(patches)
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
    return torch.stack([output.float().softmax(1) for output in logits], 1)


def _checked(prepared: PreparedImage) -> PreparedImage:
    height, width = prepared.geometry.prepared
    if height * width > _MOST_PIXELS:
        raise InputError(
            f"the prepared image is {height} x {width} pixels; "
            "expected at most 2048 x 2048 to show its features"
        )
    return prepared


def _device(network: SegmentationNetwork) -> torch.device:
    return next(network.parameters()).device


def _on_image(maps: Tensor, geometry: Geometry, covered: Sequence[int]) -> FeatureMaps:
    """Compute the transform of maps (C, h, w) that cover `covered` prepared pixels."""
    (top, left, bottom, right), (height, width) = geometry.box, geometry.prepared
    # Size of a map pixel in prepared pixels, times the size of a prepared pixel in image pixels.
    scale = (
        covered[0] / maps.shape[-2] * (bottom - top) / height,
        covered[1] / maps.shape[-1] * (right - left) / width,
    )
    # Pixel centres are at integers, so the box begins half a pixel before its first centre.
    translate = (top + (scale[0] - 1) / 2, left + (scale[1] - 1) / 2)
    return FeatureMaps(maps.float().cpu().numpy(), scale, translate)


def _field_of_view(prepared: PreparedImage) -> Mask:
    """The field of view (H, W) on the grid of the image."""
    cover = prepared.geometry.to_original(prepared.fov[None].astype(np.float32))[0]
    return np.asarray(cover > 0.5, np.bool_)
