"""Export of a model as a bioimage.io folder, checked by the validator of bioimage.io."""

import gc
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from skimage.color import label2rgb

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import IntensityPreprocessing, ScaledPreprocessing
from src_training.data.preprocessing.geometry import Float
from src_training.errors import InputError
from src_training.export.onnx import (
    OPSET,
    OnnxCheck,
    checked_graph,
    on_cpu,
)
from src_training.export.preprocessing_spec import bioimageio_preprocessing, input_description
from src_training.export.readme import readme
from src_training.extras import require
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import labels_from
from src_training.io.atomic import write_atomic, write_bytes, write_folder_atomic, write_text

# The oldest tested version; newer readers accept it, too.
_FORMAT = "0.5.12"
_TEST_SIDE = 256

# Tolerance, and share of probabilities that may exceed it, as in bioimageio.core.
_TOLERANCE, _TOLERATED_SHARE = 1e-3, 1e-4


def export_bioimageio(
    model: SegmentationModel, folder: Path, sample: NDArray[np.generic] | None = None
) -> OnnxCheck:
    """Write a model as a bioimage.io folder if the validator of bioimage.io accepts it.

    The folder has ``rdf.yaml``, ``weights.onnx`` (see `export_onnx`),
    ``test_input.npy`` and ``test_output.npy``, ``cover.png``, ``README.md``
    with the exact preprocessing, and ``LICENSE.md`` if the terms have no SPDX
    name. It is written atomically. ``rdf.yaml`` describes windows and
    percentiles by preprocessing steps of bioimage.io, which other programs
    apply; the caller has to preprocess fundus photographs.

    Parameters
    ----------
    model
        Model; not modified or moved to another device.
    folder
        A new or empty folder.
    sample
        Image (H, W) or (H, W, C) in the format of the model's inputs, whose
        centre is used for the test and the cover; None for a synthetic fundus.

    Returns
    -------
    OnnxCheck
        Agreement of the graph with PyTorch.

    Raises
    ------
    InputError
        If a package of the extra ``export`` is missing, the folder is not
        empty, the sample cannot be prepared, or a check fails.
    """
    require("export", "the export", "onnx", "onnxscript", "onnxruntime", "bioimageio.spec")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty; expected a new or an empty folder")
    graph, check = checked_graph(model)
    test = _test_tensors(model, sample)
    card = model.card

    def write(temporary: Path) -> None:
        temporary.mkdir()
        write_bytes(temporary / "weights.onnx", graph)
        _save_array(temporary / "test_input.npy", test.image)
        _save_array(temporary / "test_output.npy", test.probabilities)
        threshold = card.threshold_for(test.probabilities[0])
        cover = _cover(test.prepared[0], labels_from(test.probabilities[0], threshold))
        write_atomic(temporary / "cover.png", lambda path: Image.fromarray(cover).save(path))
        sizes = [(shape[2], shape[3]) for shape in check.shapes]
        write_text(temporary / "README.md", readme(card, check.largest_difference, sizes))
        if isinstance(spdx_licence(card.licence), dict):
            write_text(temporary / "LICENSE.md", card.licence + "\n")
        description = _description(card, model.network.stride)
        write_text(temporary / "rdf.yaml", yaml.safe_dump(description, sort_keys=False))
        _require_reproduced(temporary / "weights.onnx", test, folder)
        _require_valid(temporary / "rdf.yaml", folder)

    write_folder_atomic(folder, write)
    return check


@dataclass(frozen=True)
class _TestTensors:
    """Test tensors of a model.

    Attributes
    ----------
    image
        Input (1, C, h, w) before the preprocessing steps of ``rdf.yaml``.
    prepared
        Input (1, C, h, w) of the network, in [0, 1].
    probabilities
        Output (1, K, h, w) of PyTorch.
    """

    image: NDArray[np.float32]
    prepared: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def _test_tensors(model: SegmentationModel, sample: NDArray[np.generic] | None) -> _TestTensors:
    preprocessing = model.card.preprocessing
    image = fundus_phantom(0, 512).image if sample is None else sample
    if isinstance(preprocessing, ScaledPreprocessing):
        pixels = _centre(_resize_only(preprocessing, image))
        unresized = preprocessing.model_copy(update={"side": None})
        prepared = unresized.prepare(pixels.transpose(1, 2, 0)).pixels
    else:
        prepared = pixels = _centre(preprocessing.prepare(image).pixels)
    with torch.no_grad():
        probabilities = on_cpu(model.network)(torch.from_numpy(prepared)[None]).softmax(1)
    return _TestTensors(pixels[None], prepared[None], probabilities.numpy())


def _resize_only(preprocessing: ScaledPreprocessing, image: NDArray[np.generic]) -> Float:
    """Resize an image to channels (C, h, w) for the network, without scaling intensities."""
    full_range = IntensityPreprocessing(
        percentiles=(0, 100),
        channels=preprocessing.channels,
        neighbours=preprocessing.neighbours,
        side=preprocessing.side,
    )
    pixels = full_range.prepare(image).pixels
    # `prepare` drops alpha.
    values = image[..., :3] if image.ndim == 3 and image.shape[-1] == 4 else image
    low, high = float(values.min()), float(values.max())
    return np.asarray(pixels * (high - low) + low, np.float32)


def _centre(pixels: Float) -> Float:
    """Crop the central square of an image (C, H, W), with a side of at most 256 pixels."""
    height, width = pixels.shape[1:]
    side = min(_TEST_SIDE, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(pixels[:, top : top + side, left : left + side])


def _cover(pixels: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show an image (C, h, w) in [0, 1] without and with labels (h, w), as (h, 2w, 3) uint8."""
    grey = np.clip(pixels.mean(0), 0, 1)
    plain = np.repeat(grey[..., None], 3, axis=-1)
    painted = label2rgb(labels, grey, alpha=0.5, bg_label=0)
    return np.asarray(np.rint(255 * np.hstack([plain, painted])), np.uint8)


def _description(card: ModelCard, stride: int) -> dict[str, Any]:
    """Content of ``rdf.yaml``."""
    licence = spdx_licence(card.licence)
    # Cite GKD only for models that were trained with it.
    gkd = "2207.12995"
    cited = [{"text": "GKD, the distillation that trained it", "doi": f"10.48550/arXiv.{gkd}"}]
    return {
        "type": "model",
        "format_version": _FORMAT,
        "name": _title(card.name),
        "description": (card.description or f"Segments {', '.join(card.classes[1:])}.")[:1024],
        "documentation": {"source": "README.md"},
        "covers": [{"source": "cover.png"}],
        **({"license": licence} if licence else {}),
        **({"cite": cited} if gkd in card.method else {}),
        "tags": ["segmentation", "2d", card.architecture, *_identifiers(card.classes)[1:]],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [_input(card, stride)],
        "outputs": [_output(card)],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": OPSET}},
        "config": {"msankd": card.model_dump(mode="json")},
    }


def _input(card: ModelCard, stride: int) -> dict[str, Any]:
    steps = bioimageio_preprocessing(card.preprocessing)
    return {
        "id": "image",
        "description": input_description(card.preprocessing),
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": _channels(card)},
            *({"type": "space", "id": axis, "size": {"min": stride, "step": 1}} for axis in "yx"),
        ],
        "data": {"type": "float32", "range": [None, None] if steps else [0.0, 1.0]},
        "preprocessing": steps,
        "test_tensor": {"source": "test_input.npy"},
    }


def _output(card: ModelCard) -> dict[str, Any]:
    return {
        "id": "probabilities",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": _identifiers(card.classes)},
            *(
                {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}}
                for axis in "yx"
            ),
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": "test_output.npy"},
    }


def _channels(card: ModelCard) -> list[str]:
    if (count := card.preprocessing.neighbours) > 1:
        return [f"slice {offset:+d}" for offset in range(-(count // 2), count // 2 + 1)]
    if card.in_channels == 3:
        return ["red", "green", "blue"]
    return ["green" if card.preprocessing.kind == "fundus" else "intensity"]


def _title(name: str) -> str:
    """Name of the model in characters that bioimage.io allows, at least five."""
    allowed = re.sub(r"[^A-Za-z0-9_+\- ()]", "-", name)[:120]
    return allowed if len(allowed) >= 5 else f"model {allowed}"


def _identifiers(classes: Sequence[str]) -> list[str]:
    """Convert class names to unique ASCII identifiers, which bioimage.io requires for channels.

    >>> _identifiers(["background", "left lung", "肝臓", "腎臓", "2"])
    ['background', 'left_lung', 'class_2', 'class_3', 'class_2_']
    """
    names = list[str]()
    for index, class_name in enumerate(classes):
        letters = re.sub(r"\W", "_", class_name, flags=re.ASCII)
        if not letters.strip("_"):
            letters = str(index)
        name = letters if letters.isidentifier() else f"class_{letters}"
        while name in names:
            name += "_"
        names.append(name)
    return names


def spdx_licence(terms: str) -> str | dict[str, str] | None:
    """Licence for ``rdf.yaml``: an SPDX name of Creative Commons, a file with the terms, or None.

    >>> spdx_licence("CC BY 4.0"), spdx_licence("Ask me first."), spdx_licence("")
    ('CC-BY-4.0', {'source': 'LICENSE.md'}, None)
    """
    spdx = "-".join(re.split(r"[ -]", terms.strip().rstrip("."))).upper()
    if re.fullmatch(r"CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-[1-4]\.0", spdx):
        return spdx
    return {"source": "LICENSE.md"} if terms.strip() else None


def _require_valid(rdf: Path, folder: Path) -> None:
    """Validate the folder with bioimageio.spec; raise `InputError` if it fails."""
    from bioimageio.spec import load_description
    from loguru import logger

    logger.disable("bioimageio")
    try:
        # bioimageio.spec does not close files; collect them here, without ResourceWarning.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            summary = load_description(rdf, perform_io_checks=True).validation_summary
            gc.collect()
    finally:
        logger.enable("bioimageio")
    if summary.status == "failed":
        errors = [error.msg for detail in summary.details for error in detail.errors]
        raise InputError(
            f"{folder}: the validator of bioimage.io says {errors[0].splitlines()[0]!r}; "
            "expected it to accept the folder, so nothing was written"
        )


def _require_reproduced(weights: Path, test: _TestTensors, folder: Path) -> None:
    """Run the test with onnxruntime on the exported file; raise `InputError` if it differs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    output = session.run(None, {"image": test.prepared})[0]
    differs = np.abs(output - test.probabilities) > _TOLERANCE * (1 + np.abs(test.probabilities))
    if differs.mean() > _TOLERATED_SHARE:
        raise InputError(
            f"{folder}: onnxruntime differs from PyTorch on the sample in {differs.mean():.2%} of "
            f"the probabilities; expected at most {_TOLERATED_SHARE:.2%} to differ"
        )


def _save_array(path: Path, array: NDArray[np.float32]) -> None:
    write_atomic(path, lambda temporary: np.save(temporary, array))
