"""Images as networks see them, prepared once for however many models look at them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.preprocessing import Preprocessing
from src_training.data.preprocessing.field_of_view import find_field_of_view
from src_training.data.preprocessing.geometry import Mask, Prepared
from src_training.errors import InputError


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A case, and what a network sees of it.

    Attributes
    ----------
    case
        As it was read.
    fov
        (H, W) field of view on the original pixels, found in the image of a
        fundus where the case has none; None: every pixel counts.
    prepared
        The network's input.
    seconds
        What finding the field of view and preparing took.
    """

    case: Case
    fov: Mask | None
    prepared: Prepared
    seconds: float


def prepared_images(domain: Domain, preprocessing: Preprocessing) -> Iterator[PreparedImage]:
    """Prepare the images of a domain, one when it is asked for.

    Raises
    ------
    InputError
        If an image cannot be prepared, names it; see also `Preprocessing.for_camera`.
    """
    how = preprocessing.for_camera(domain.angle)
    for case in domain.with_neighbours(how.neighbours):
        began = time.perf_counter()
        try:
            fov = _field_of_view(case, how)
            prepared = how.prepare(case.image, fov)
        except InputError as error:
            raise InputError(f"{domain.name}/{case.name}: {error}") from None
        yield PreparedImage(case, fov, prepared, time.perf_counter() - began)


def _field_of_view(case: Case, preprocessing: Preprocessing) -> Mask | None:
    if case.fov is not None or preprocessing.kind != "fundus":
        return case.fov
    return find_field_of_view(case.image[..., :3] if case.image.ndim == 3 else case.image)
