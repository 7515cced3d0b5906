"""What a person set under Preferences > Plugins."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari.settings import get_plugin_settings
from platformdirs import user_cache_path, user_data_path

CACHE = user_cache_path("napari-msankd", appauthor=False)
RUNS = user_data_path("napari-msankd", appauthor=False) / "runs"

OnClose = Literal["ask", "leave", "stop"]


@dataclass(frozen=True)
class Preferences:
    """Preferences of all widgets.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    memory_limit
        Results larger than this, bytes, are kept on the disk.
    cache
        Folder for those.
    runs
        Folder of the runs.
    on_close
        What becomes of a run when napari closes.
    """

    device: str = "auto"
    memory_limit: int = 1024 * 10**6
    cache: Path = CACHE
    runs: Path = RUNS
    on_close: OnClose = "ask"


def preferences() -> Preferences:
    """The preferences as they are now; defaults where the plugin is not registered."""
    try:
        chosen = get_plugin_settings("napari-msankd")
    except KeyError:
        return Preferences()
    return Preferences(
        device=chosen.segment.device,
        memory_limit=chosen.segment.memory_limit * 10**6,
        runs=Path(chosen.distil.runs).expanduser() if chosen.distil.runs else RUNS,
        on_close=chosen.distil.on_close,
    )


def remember_on_close(choice: OnClose) -> None:
    """Keep the answer to what becomes of a run when napari closes."""
    get_plugin_settings("napari-msankd").distil.on_close = choice
