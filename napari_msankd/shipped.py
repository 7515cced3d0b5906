"""The models that come with the package."""

from importlib.resources import files
from pathlib import Path

_OF_THE_SAMPLES = "vessels-chasedb1"


def shipped() -> list[Path]:
    """Files of the models that ship, that of the samples first; the engine is not loaded."""
    folder = Path(str(files("src_training"))) / "inference" / "weights"
    by_name = sorted(folder.glob("*.safetensors"))
    return sorted(by_name, key=lambda file: file.stem != _OF_THE_SAMPLES)
