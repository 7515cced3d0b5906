"""What a person set under Preferences > Plugins."""

from dataclasses import dataclass
from pathlib import Path

from napari.settings import get_plugin_settings
from platformdirs import user_cache_path

CACHE = user_cache_path("napari-msankd", appauthor=False)


@dataclass(frozen=True)
class Preferences:
    """Preferences of the Segment widget.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    memory_limit
        Results larger than this, bytes, are kept on the disk.
    cache
        Folder for those.
    """

    device: str = "auto"
    memory_limit: int = 1024 * 10**6
    cache: Path = CACHE


def preferences() -> Preferences:
    """The preferences as they are now; defaults where the plugin is not registered."""
    try:
        chosen = get_plugin_settings("napari-msankd").segment
    except KeyError:
        return Preferences()
    return Preferences(device=chosen.device, memory_limit=chosen.memory_limit * 10**6)
