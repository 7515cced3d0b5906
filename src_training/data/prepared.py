"""Cases of a domain on the grid that networks see: for training, scores and embeddings alike."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.preprocessing import Preprocessing
from src_training.data.preprocessing.geometry import Mask, PreparedImage
from src_training.errors import InputError


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case and the network's input made of it.

    Attributes
    ----------
    original
        The case as it was read, on the original grid.
    original_fov
        (H, W) bool field of view on the original grid, detected in a fundus
        photograph that has none; None: every pixel counts.
    image
        The network's input and the mask, on the prepared grid.
    seconds
        Time that detecting the field of view and preparing took.
    """

    original: Case
    original_fov: Mask | None
    image: PreparedImage
    seconds: float


def prepare_cases(
    domain: Domain,
    preprocessing: Preprocessing,
    masks: Literal["optional", "required", "ignored"] = "optional",
) -> Iterator[PreparedCase]:
    """Prepare the cases of a domain, each when it is asked for.

    Parameters
    ----------
    domain, preprocessing
        What to prepare, and how; the preprocessing is adapted to the domain's camera.
    masks
        ``required`` or ``ignored``: the cases are for training, with masks or
        without, and must have a field of view to draw patches from.
        ``optional``: cases are taken as they are.

    Raises
    ------
    InputError
        If an image cannot be prepared, or a case for training has no mask
        where one is required or an empty field of view; names the case. See
        also `BasePreprocessing.for_camera`.

    Examples
    --------
    >>> from src_training.data.preprocessing import IntensityPreprocessing
    >>> domain = Domain.from_arrays("ct", [np.eye(8)], [np.eye(8, dtype=int)])
    >>> [case] = prepare_cases(domain, IntensityPreprocessing(side=32))
    >>> case.image.pixels.shape, case.image.mask.shape, case.original.image.shape
    ((1, 32, 32), (32, 32), (8, 8))
    """
    adapted = preprocessing.for_camera(domain.angle)
    for case in domain.with_neighbours(adapted.neighbours):
        name = f"{domain.name}/{case.name}"
        if masks == "required" and case.mask is None:
            raise InputError(f"{name} has no mask; expected one for every training image")
        began = time.perf_counter()
        try:
            fov = adapted.find_fov(case.image) if case.fov is None else case.fov
            image = adapted.prepare(case.image, fov)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        seconds = time.perf_counter() - began
        if masks != "optional" and not image.fov.any():
            raise InputError(f"{name}: the field of view is empty; expected pixels in it")
        if case.mask is not None and masks != "ignored":
            mask = image.geometry.to_prepared(case.mask).astype(np.uint8)
            image = replace(image, mask=mask)
        yield PreparedCase(case, fov, image, seconds)
