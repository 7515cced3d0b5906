"""Synthetic sample data: an eye as seen by three cameras, and an abdominal CT."""

from collections.abc import Iterator
from typing import Any, Literal

from napari_msankd.torch_import import gc_paused

LayerData = tuple[Any, dict[str, Any], str]

_EYE, _SIZE, _SMALL = 7, 768, 512
_PATIENT = 7
_SOFT_TISSUE = (-160, 240)
"""Hounsfield units from black to white."""


def fundus_a() -> list[LayerData]:
    """The eye from scanner A, and its vessel mask."""
    return _fundus("A")


def fundus_b() -> list[LayerData]:
    """The eye from scanner B, and its vessel mask."""
    return _fundus("B")


def fundus_c() -> list[LayerData]:
    """The eye from scanner C, and its vessel mask."""
    return _fundus("C")


def abdomen_ct() -> list[LayerData]:
    """A synthetic CT of an abdomen, spacing in mm, and the mask of its liver."""
    from src_training.data.phantom.abdomen import ct_phantom

    phantom = ct_phantom(_PATIENT)
    place = {
        "scale": phantom.spacing,
        "units": ("millimeter",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    image = {"name": "abdomen CT", "contrast_limits": _SOFT_TISSUE, **place}
    liver = {"name": "abdomen CT true liver", "visible": False, **place}
    return [(phantom.voxels, image, "image"), (phantom.liver, liver, "labels")]


def labelled_eyes() -> Iterator[tuple[Any, Any, str]]:
    """Yield three eyes from scanner A: image, vessel mask, name. Slow; run it in a worker."""
    with gc_paused():
        from src_training.data.phantom.camera import fundus_phantom

    for eye in range(3):
        case = fundus_phantom(eye, _SMALL, "A")
        yield case.image, case.mask, f"eye {eye + 1}"


def _fundus(scanner: Literal["A", "B", "C"]) -> list[LayerData]:
    from src_training.data.phantom.camera import fundus_phantom

    case = fundus_phantom(_EYE, _SIZE, scanner)
    name = f"fundus {scanner}"
    return [
        (case.image, {"name": name, "rgb": True}, "image"),
        (case.mask, {"name": f"{name} true vessels", "visible": False}, "labels"),
    ]
