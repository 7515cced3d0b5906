"""The models that come with the package."""

from src_training.runs.library import shipped_models as shipped

__all__ = ["shipped"]
