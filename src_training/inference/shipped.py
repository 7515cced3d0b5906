"""The models that ship with the package; this module does not import torch."""

from importlib.resources import files
from pathlib import Path

_FIRST = "vessels"
"""The model for the fundus samples."""


def shipped_models() -> dict[str, Path]:
    """Return name -> file of the shipped models, the one for the fundus samples first."""
    folder = Path(str(files("src_training"))) / "inference" / "weights"
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: (path.stem != _FIRST, path))
    return {path.stem: path for path in paths}
