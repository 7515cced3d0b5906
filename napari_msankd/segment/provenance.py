"""How a result was made, as plain values in the metadata of its layer."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import src_training

if TYPE_CHECKING:
    from napari_msankd.segment.inference import Request


def provenance(request: "Request") -> dict[str, Any]:
    """How a result is made; ``layer.metadata["msankd"]`` of the Labels layer.

    Returns
    -------
    dict
        All of it plain values, for ``json.dump``:

        ``model``, ``model_sha256``
            Name on the model's card, and the SHA-256 of its file.
        ``version``
            Of this plugin.
        ``device``
            Where the network ran, such as ``CPU (2 threads)``.
        ``input``, ``input_id``
            Name and ``unique_id`` of the image layer. The id holds for one session of napari.
        ``flips``
            Whether the mean over four flips was taken.
        ``angle_degrees``
            Field of view of the fundus camera; None if unknown or of no meaning.
        ``axis``
            The axis of a volume that was cut across; 0 of anything else.
        ``slices``
            The complete slices, from 0, in the image: numbers along `axis`; lists of numbers
            where there is more than one axis of slices; empty for a single image.
        ``threshold``
            Probability from which a pixel is foreground; None if each slice has its own, or
            the model has more than two classes.
        ``thresholds``
            Of each complete slice, in the order of `slices`; none with more than two classes.
        ``expected_dice``, ``expected_dice_of_classes``, ``expected_dice_of_slices``
            The Dice that the model's labels are expected to have, see `ExpectedDice`, once the
            run has ended; of each foreground class, and of each of `slices`.
        ``reference``
            Agreement with the reference layer, where one was chosen: its name, ``dice``,
            ``sensitivity``, ``hd95`` with its ``unit``, and ``dice_of_slices``.
        ``started``
            ISO 8601, UTC.
        ``seconds``
            That the run took, without pauses.
        ``complete``
            Whether all slices that were to be segmented are.
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
