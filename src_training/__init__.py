"""The training engine: train, distil, segment and evaluate, without a graphical interface.

>>> from src_training import Recipe, distil, load_model
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe
    from src_training.data.domain import Domain
    from src_training.errors import InputError
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor
    from src_training.runs.run import distil

__all__ = ["Domain", "InputError", "Predictor", "Recipe", "distil", "load_model"]

__version__ = "0.2.0"
"""The version, which setup.cfg, the command line and model cards read from here."""

_MODULES = {
    "Domain": "src_training.data.domain",
    "InputError": "src_training.errors",
    "Predictor": "src_training.inference.predictor",
    "Recipe": "src_training.config.recipe",
    "distil": "src_training.runs.run",
    "load_model": "src_training.inference.model_file",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use, because importing torch takes seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
