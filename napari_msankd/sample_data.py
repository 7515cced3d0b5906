"""Samples that need no download: one synthetic eye, three cameras."""

from typing import Any, Literal

LayerData = tuple[Any, dict[str, Any], str]

_EYE = 7
_SIZE = 768


def fundus_a() -> list[LayerData]:
    """The eye as scanner A sees it, and its vessels."""
    return _fundus("A")


def fundus_b() -> list[LayerData]:
    """The eye as scanner B sees it, and its vessels."""
    return _fundus("B")


def fundus_c() -> list[LayerData]:
    """The eye as scanner C sees it, and its vessels."""
    return _fundus("C")


def _fundus(scanner: Literal["A", "B", "C"]) -> list[LayerData]:
    from src_training.data.phantom.camera import fundus_phantom

    case = fundus_phantom(_EYE, _SIZE, scanner)
    name = f"fundus {scanner}"
    return [
        (case.image, {"name": name, "rgb": True}, "image"),
        (case.mask, {"name": f"{name} true vessels", "visible": False}, "labels"),
    ]
