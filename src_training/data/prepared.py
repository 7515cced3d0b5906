"""Cases of a domain on the grid of the network's input, for training and evaluation."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.preprocessing import Preprocessing
from src_training.data.preprocessing.geometry import Mask, PreparedImage
from src_training.errors import InputError, memory_of


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case and the network's input prepared from it.

    Attributes
    ----------
    original
        Case on the original grid.
    original_fov
        (H, W) bool field of view on the original grid, of the case or detected in
        a fundus photograph; None if it is the whole image.
    image
        Network input and mask, on the prepared grid.
    seconds
        Duration of detecting the field of view and of preparing.
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
    """Prepare the cases of a domain lazily.

    Parameters
    ----------
    domain, preprocessing
        Domain, and preprocessing, which is adapted to the domain's camera.
    masks
        ``required`` or ``ignored``: the cases are for training, with or without
        masks, and must have a field of view to draw patches from.
        ``optional``: there are no requirements.

    Raises
    ------
    InputError
        If an image cannot be prepared, a required mask is missing, or the field
        of view of a case for training is empty. See also
        `BasePreprocessing.for_camera`.

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
        start = time.perf_counter()
        try:
            with memory_of("it", "a smaller image"):
                fov = adapted.find_fov(case.image) if case.fov is None else case.fov
                image = adapted.prepare(case.image, fov)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        seconds = time.perf_counter() - start
        if masks != "optional" and not image.fov.any():
            raise InputError(f"{name}: the field of view is empty; expected pixels in it")
        if case.mask is not None and masks != "ignored":
            mask = image.geometry.to_prepared(case.mask).astype(np.uint8)
            image = replace(image, mask=mask)
        yield PreparedCase(case, fov, image, seconds)


def readable_cases(
    domain: Domain, preprocessing: Preprocessing, unreadable: dict[str, str]
) -> Iterator[PreparedCase]:
    """Prepare the cases of a domain that can be, as `prepare_cases` does.

    Parameters
    ----------
    domain, preprocessing
        What to prepare, and how.
    unreadable
        Takes the name of each other case, and why it cannot be read or prepared.

    Raises
    ------
    InputError
        If that is so of every case.
    """
    for name in domain.names:
        try:
            with memory_of(f"{domain.name}/{name}", "a smaller image"):
                [case] = prepare_cases(domain.subset([name]), preprocessing)
        except InputError as error:
            unreadable[name] = str(error)
            continue
        yield case
    if unreadable and len(unreadable) == len(domain):
        why = next(iter(unreadable.values()))
        raise InputError(f"{domain.name}: none of {len(domain)} images can be read; {why}")
