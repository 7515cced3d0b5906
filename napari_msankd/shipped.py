"""The models that come with the package."""

from importlib.resources import files
from pathlib import Path


def shipped() -> list[Path]:
    """Files of the models that ship; found without loading the engine."""
    folder = Path(str(files("src_training"))) / "weights"
    return sorted(folder.glob("*.safetensors"))
