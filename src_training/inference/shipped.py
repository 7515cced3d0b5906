"""The models that come with the package; nothing here loads torch."""

from importlib.resources import files
from pathlib import Path

_FIRST = "vessels"
"""The model of the fundus samples."""


def shipped_models() -> dict[str, Path]:
    """The models that come with the package, that of the fundus samples first: name -> file."""
    folder = Path(str(files("src_training"))) / "inference" / "weights"
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: (path.stem != _FIRST, path))
    return {path.stem: path for path in paths}
