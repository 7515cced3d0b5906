"""Provenance of a result in the metadata of its layer, and the layer's other attributes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import src_training
from napari_msankd.theme import label_colormap

if TYPE_CHECKING:
    from napari_msankd.segment.inference import Request


def class_attributes(image: str, classes: Sequence[str]) -> dict[str, Any]:
    """Name, features and style of the Labels layer of an image; `classes` with background."""
    suffix = classes[1] if len(classes) == 2 else "labels"
    return {
        "name": f"{image} {suffix}",
        "features": {"index": list(range(len(classes))), "class": list(classes)},
        "opacity": 0.75,
        "colormap": label_colormap(len(classes)),
    }


def provenance(request: "Request") -> dict[str, Any]:
    """Provenance of a result; ``layer.metadata["msankd"]`` of the Labels layer.

    Returns
    -------
    dict
        JSON values:

        ``model``, ``model_sha256``
            Name on the model card, and SHA-256 of the model file.
        ``version``
            Version of this plugin.
        ``device``
            Device of the network, such as ``CPU (2 threads)``.
        ``input``, ``input_id``
            Name and ``unique_id`` of the image layer. The id is valid for one napari session.
        ``flips``
            Whether the probabilities are the mean over four flips.
        ``angle_degrees``
            Field of view of the fundus camera; None if unknown or irrelevant.
        ``axis``
            Slicing axis of a volume; 0 for other images.
        ``slices``
            Complete slices, counted from 0 in the image: numbers along `axis`; lists of
            numbers if there are several axes of slices; empty for a single image.
        ``threshold``
            Foreground threshold on the probability; None if each slice has its own, or the
            model has more than two classes.
        ``thresholds``
            Threshold of each of `slices`; empty with more than two classes.
        ``expected_dice``, ``expected_dice_of_classes``, ``expected_dice_of_slices``
            Expected Dice of the model's labels, see `ExpectedDice`, once the run has ended: in
            total, of each foreground class, and of each of `slices`.
        ``reference``
            Scores against the reference layer, if one was chosen: its name, ``dice``,
            ``sensitivity``, ``hd95`` with its ``unit``, and ``dice_of_slices``.
        ``started``
            Start time, ISO 8601, UTC.
        ``seconds``
            Duration of the run, without pauses.
        ``complete``
            Whether all requested slices are segmented.
    """
    return {
        "model": request.model.stem,
        "model_sha256": "",
        "version": src_training.__version__,
        "device": request.device,
        "input": request.planes.name,
        "input_id": str(request.planes.layer_id),
        "flips": request.flips,
        "angle_degrees": request.angle,
        "axis": request.planes.axis,
        "slices": [],
        "threshold": None,
        "thresholds": [],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "complete": False,
    }
