"""Segment the sample image without a window: engine only, no Qt."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_msankd.sample_data import fundus_a
from src_training.errors import InputError
from src_training.inference.shipped import shipped_models

_COLOR = np.array([0, 213, 255], np.float32)
_OPACITY = 0.75


def segment_sample(folder: Path, model: Path | None = None) -> list[Path]:
    """Segment the sample fundus and write the results.

    Parameters
    ----------
    folder
        Output folder, created if missing.
    model
        Model file; the shipped one if None.

    Returns
    -------
    list of Path
        PNG files of the image, its labels, and the overlay of both.

    Raises
    ------
    InputError
        If no model ships and none is given.
    """
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor, labels_from
    from src_training.io.images import write_labels

    models = [model] if model else list(shipped_models().values())
    if not models:
        raise InputError("No model ships with this build; expected one in src_training/weights")
    loaded = load_model(models[0])
    image = fundus_a()[0][0]
    probabilities = Predictor(loaded).predict(image)
    labels = labels_from(probabilities, loaded.card.threshold_for(probabilities))
    paths = [folder / f"{name}.png" for name in ("fundus", "labels", "overlay")]
    _write_png(paths[0], image)
    write_labels(paths[1], labels)
    _write_png(paths[2], overlay(image, labels))
    return paths


def overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Overlay foreground labels (H, W) in color on an image (H, W, 3)."""
    tinted = (1 - _OPACITY) * image + _OPACITY * _COLOR
    return np.where(labels[..., None] > 0, tinted, image).astype(np.uint8)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    from src_training.io.atomic import write_atomic

    write_atomic(path, lambda temporary: Image.fromarray(pixels).save(temporary))
