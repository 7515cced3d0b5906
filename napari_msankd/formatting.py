"""Sizes, durations and prospects in plain words."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_msankd.segment.inference import Compatibility, Request


def size(count: int) -> str:
    """Bytes: ``"12 MB"``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{max(1, round(count / 1000))} kB"


def duration(seconds: float) -> str:
    """A time to wait: ``"8 s"``, ``"2 min 5 s"``, ``"1 h 10 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """A time that passed, short: ``"0:08"``, ``"22:46"``, ``"1:10:05"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def compatibility_text(outlook: "Compatibility", request: "Request") -> str:
    """What the model is, what it thinks of the image, and how a stack is taken."""
    lines = [outlook.about.description] if outlook.about.description else []
    lines += [f"⚠ {doubt}" for doubt in outlook.input_warnings]
    shape = request.planes.shape
    if request.planes.volume and len(shape) == 3 and shape[0] in (3, 4):
        lines.append(
            f"⚠ This layer is a stack of {shape[0]} slices; if they are colours, right-click "
            "the layer and choose Split Stack, then Merge to RGB."
        )
    if not outlook.input_warnings:
        lines.append("✓ This image is what the model expects.")
    count, chosen = len(request.planes.indices), len(request.indices)
    disk = ", into a zarr on the disk" if request.on_disk else ""
    if request.whole and count > 1:
        lines.append(f"A stack: its {count} slices are segmented one by one{disk}.")
    elif chosen > 1:
        lines.append(f"Of {count} slices, {chosen} are segmented one by one{disk}.")
    elif count > 1:
        lines.append(f"Of {count} slices, only the one in sight is segmented.")
    return "\n".join(lines)


def place(outlook: "Compatibility", free: int) -> str:
    """Where it runs, and whether there is memory for it; `free` in bytes."""
    line = f"Runs on {outlook.about.device} · takes about {size(outlook.memory)}"
    if outlook.memory <= free:
        return f"{line}, {size(free)} are free"
    return f"⚠ {line}, but only {size(free)} are free"


def storage_note(folder: Path | None) -> str:
    """Where a large result lies, and for how long; nothing for one in memory."""
    return f" It is in {folder} until napari closes; save it to keep it." if folder else ""
