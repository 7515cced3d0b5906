"""The plugin's settings under Preferences > Plugins."""

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from napari.settings import get_plugin_settings
from platformdirs import user_cache_path

from src_training.runs.library import SUFFIX, Library, models_folder, runs_folder

CACHE = user_cache_path("napari-msankd", appauthor=False)

OnClose = Literal["ask", "leave", "stop"]


@dataclass(frozen=True)
class Preferences:
    """Preferences of all widgets.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    memory_limit
        Size in bytes above which results are stored on the disk.
    cache
        Folder of results on the disk.
    runs
        Folder of training runs.
    on_close
        What to do with an active run when napari closes.
    models
        Folder of calibrated models and others that belong to no run.
    """

    device: str = "auto"
    memory_limit: int = 1024 * 10**6
    cache: Path = CACHE
    runs: Path = field(default_factory=runs_folder)
    on_close: OnClose = "ask"
    models: Path = field(default_factory=models_folder)


def preferences() -> Preferences:
    """The current preferences; defaults if the plugin is not registered with napari."""
    try:
        chosen = get_plugin_settings("napari-msankd")
    except KeyError:
        return Preferences()
    return Preferences(
        device=chosen.segment.device,
        memory_limit=chosen.segment.memory_limit * 10**6,
        runs=_folder(chosen.distil.runs) or runs_folder(),
        on_close=chosen.distil.on_close,
        models=_folder(getattr(chosen.distil, "models", "")) or models_folder(),
    )


def library() -> Library:
    """The user's model library, in the folders of the preferences."""
    chosen = preferences()
    return Library((chosen.runs,), chosen.models)


def remember_on_close(choice: OnClose) -> None:
    """Store `Preferences.on_close`."""
    get_plugin_settings("napari-msankd").distil.on_close = choice


def new_model_file(name: str) -> Path:
    """An unused path in the folder of models; the folder is created if missing."""
    folder = preferences().models
    folder.mkdir(parents=True, exist_ok=True)
    stems = (f"{name}-{number}" if number > 1 else name for number in count(1))
    return next(path for stem in stems if not (path := folder / f"{stem}{SUFFIX}").exists())


def _folder(setting: str) -> Path | None:
    return Path(setting).expanduser() if setting else None
