"""Messages of the Segment widget about compatibility, device and storage."""

from pathlib import Path
from typing import TYPE_CHECKING

from src_training.formatting import format_bytes

if TYPE_CHECKING:
    from napari_msankd.segment.inference import Compatibility, Request


def compatibility_text(compatibility: "Compatibility", request: "Request") -> str:
    """Description of the model, its compatibility with the image, and the slices to segment."""
    model, planes = compatibility.model, request.planes
    lines = [model.description] if model.description else []
    lines += [f"⚠ {warning}" for warning in compatibility.warnings]
    if planes.volume and len(planes.shape) == 3 and planes.shape[0] in (3, 4):
        lines.append(
            f"⚠ This layer is a stack of {planes.shape[0]} slices. If they are color channels, "
            "right-click the layer and choose Split Stack, then Merge to RGB."
        )
    if not compatibility.warnings:
        lines.append("✓ Image is compatible with this model.")
    if model.angle is not None and request.angle is None and not planes.volume:
        lines.append(
            "Camera angle unknown: images are scaled by their field of view's diameter. "
            f"The model was trained at {model.angle:g}°."
        )
    count, chosen = len(planes.indices), len(request.indices)
    disk = " The result goes to a zarr on disk." if request.on_disk else ""
    if chosen == 1 < count:
        (index,) = request.indices
        sizes = zip(index, planes.slicing.stack, strict=True)
        steps = ", ".join(f"{n} of 0–{size - 1}" for n, size in sizes)
        lines.append(f"Only the current slice ({steps}) will be segmented.")
    elif count > 1:
        part = f"All {count}" if chosen == count else f"{chosen} of {count}"
        lines.append(f"{part} slices will be segmented, one by one.{disk}")
    return "\n".join(lines)


def device_text(compatibility: "Compatibility", free: int) -> str:
    """Device, and estimated and free memory; `free` in bytes."""
    line = f"Runs on {compatibility.model.device}"
    memory = f"Estimated memory {format_bytes(compatibility.memory)} ({format_bytes(free)} free)"
    if compatibility.memory <= free:
        return f"{line} · {memory}"
    return f"⚠ {line} · {memory}: close layers, or segment fewer slices"


def storage_note(folder: Path | None) -> str:
    """Note about a result that is stored on the disk; empty for one in memory."""
    return f" Stored temporarily in {folder}; save the layer to keep it." if folder else ""
