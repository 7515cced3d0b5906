"""A model as a bioimage.io folder, accepted by bioimage.io's own validator."""

import gc
import math
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from skimage.color import label2rgb
from torch import Tensor

from src_training.data.phantom.camera import fundus_phantom
from src_training.errors import InputError
from src_training.export.onnx import (
    OPSET,
    TOLERANCE,
    OnnxCheck,
    checked_graph,
    on_cpu,
)
from src_training.export.readme import readme
from src_training.export.rounding_sensitivity import Unsettledness
from src_training.extras import require
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import labels_from
from src_training.io.atomic import write_atomic, write_text

# The oldest of the tried ones: newer readers take it too.
_FORMAT = "0.5.12"
_TOLERATED, _TOLERATED_SHARE = 1e-3, 1e-4
_SIDES = (256, 128, 64)
_PLACES = tuple(product((0.5, 0.25, 0.75), repeat=2))


def export_bioimageio(
    model: SegmentationModel, folder: Path, sample: NDArray[np.generic] | None = None
) -> OnnxCheck:
    """Write a model as a bioimage.io folder, once bioimage.io's own validator accepts it.

    The folder holds ``rdf.yaml``, ``weights.onnx`` (see `export_onnx`),
    ``test_input.npy`` and ``test_output.npy``, ``cover.png``, ``README.md``
    with the exact preparation, and ``LICENSE.md`` where the terms have no
    SPDX name. It appears whole or not at all.

    Parameters
    ----------
    model
        Stays as it is, on its device.
    folder
        New, or empty.
    sample
        Image (H, W) or (H, W, C) as the model segments it, a part of which
        becomes test and cover; None for a synthetic fundus.

    Returns
    -------
    OnnxCheck
        How close the graph is to PyTorch.

    Raises
    ------
    InputError
        If a package of the extra ``export`` is missing, the folder is not
        empty, the sample cannot be used, or a check fails.
    """
    require("export", "the export", "onnx", "onnxscript", "onnxruntime", "bioimageio.spec")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there and not empty; expected a new or an empty folder")
    graph, check = checked_graph(model)
    image, probabilities = _tested(model, sample)
    card = model.card
    with _whole(folder) as half:
        _write(half / "weights.onnx", lambda path: path.write_bytes(graph))
        _write(half / "test_input.npy", lambda path: np.save(path, image))
        _write(half / "test_output.npy", lambda path: np.save(path, probabilities))
        cover = _cover(
            image[0], labels_from(probabilities[0], card.threshold_for(probabilities[0]))
        )
        _write(half / "cover.png", lambda path: Image.fromarray(cover).save(path))
        sizes = [(shape[2], shape[3]) for shape in check.shapes]
        write_text(half / "README.md", readme(card, check.largest_difference, sizes))
        if isinstance(_licence(card), dict):
            write_text(half / "LICENSE.md", card.licence + "\n")
        described = _described(card, model.network.stride)
        write_text(half / "rdf.yaml", yaml.safe_dump(described, sort_keys=False))
        _require_reproduced(half, folder)
        _require_valid(half / "rdf.yaml", folder)
    return check


def _tested(
    model: SegmentationModel, sample: NDArray[np.generic] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Part of the prepared sample (1, C, h, w) that rounding hardly moves, its probabilities."""
    image = fundus_phantom(0, 512).image if sample is None else sample
    prepared = model.card.preprocessing.prepare(image)
    pixels = torch.from_numpy(prepared.pixels)[None]
    network = on_cpu(model.network)
    part = _steadiest(_windows(pixels), Unsettledness(network)).contiguous()
    with torch.no_grad():
        probabilities = network(part).softmax(1)
    return part.numpy(), probabilities.numpy()


def _steadiest(parts: list[Tensor], unsettledness: Unsettledness) -> Tensor:
    """The first part that rounding moves by less than may be; failing that, the least moved."""
    least, steadiest = math.inf, parts[0]
    for part in parts:
        moved = unsettledness(part)
        if moved <= TOLERANCE / 2:
            return part
        if moved < least:
            least, steadiest = moved, part
    return steadiest


def _windows(pixels: Tensor) -> list[Tensor]:
    """Squares of the image, the largest first, of one size the central one first."""
    height, width = pixels.shape[-2:]
    windows = []
    for side in dict.fromkeys(min(side, height, width) for side in _SIDES):
        corners = [(int((height - side) * y), int((width - side) * x)) for y, x in _PLACES]
        for top, left in dict.fromkeys(corners):
            windows.append(pixels[..., top : top + side, left : left + side])
    return windows


def _cover(pixels: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The test image (C, h, w) beside itself with its labels (h, w): (h, 2w, 3)."""
    grey = np.clip(pixels.mean(0), 0, 1)
    plain = np.repeat(grey[..., None], 3, axis=-1)
    painted = label2rgb(labels, grey, alpha=0.5, bg_label=0)
    return np.asarray(np.rint(255 * np.hstack([plain, painted])), np.uint8)


def _described(card: ModelCard, stride: int) -> dict[str, Any]:
    """The content of ``rdf.yaml``."""
    size = {"min": stride, "step": 1}
    sides = [{"type": "space", "id": axis, "size": size} for axis in "yx"]
    same = [
        {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}}
        for axis in "yx"
    ]
    licence = _licence(card)
    # GKD's paper, where the model was trained by it.
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
        "tags": ["segmentation", "2d", card.architecture, *map(_identifier, card.classes[1:])],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [_tensor("image", "test_input.npy", _channels(card), sides)],
        "outputs": [
            _tensor("probabilities", "test_output.npy", list(map(_identifier, card.classes)), same)
        ],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": OPSET}},
        "config": {"msankd": card.model_dump(mode="json")},
    }


def _tensor(name: str, test: str, channels: list[str], sides: list[dict[str, Any]]) -> Any:
    return {
        "id": name,
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": channels}, *sides],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": test},
    }


def _channels(card: ModelCard) -> list[str]:
    if (count := card.preprocessing.neighbours) > 1:
        return [f"slice {offset:+d}" for offset in range(-(count // 2), count // 2 + 1)]
    if card.in_channels == 3:
        return ["red", "green", "blue"]
    return ["green" if card.preprocessing.kind == "fundus" else "intensity"]


def _title(name: str) -> str:
    """The model's name in the letters that bioimage.io allows, five at least."""
    allowed = re.sub(r"[^A-Za-z0-9_+\- ()]", "-", name)[:120]
    return allowed if len(allowed) >= 5 else f"model {allowed}"


def _identifier(name: str) -> str:
    """The name of a class as bioimage.io allows it for a channel."""
    letters = re.sub(r"\W", "_", name, flags=re.ASCII)
    return letters if letters.isidentifier() else f"class_{letters}"


def _licence(card: ModelCard) -> str | dict[str, str] | None:
    """Creative Commons terms as SPDX names them, others as a file, None for none."""
    words = re.split(r"[ -]", card.licence.strip().rstrip("."))
    spdx = "-".join(words).upper()
    if re.fullmatch(r"CC0-1\.0|CC-BY(-NC)?(-SA|-ND)?-[1-4]\.0", spdx):
        return spdx
    return {"source": "LICENSE.md"} if card.licence.strip() else None


def _require_valid(rdf: Path, folder: Path) -> None:
    """Let bioimageio.spec read everything that the folder holds."""
    from bioimageio.spec import load_description
    from loguru import logger

    logger.disable("bioimageio")
    try:
        # bioimageio.spec leaves its files to the garbage collector.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            summary = load_description(rdf, perform_io_checks=True).validation_summary
            gc.collect()
    finally:
        logger.enable("bioimageio")
    if summary.status == "failed":
        told = [error.msg for detail in summary.details for error in detail.errors]
        raise InputError(
            f"{folder}: the validator of bioimage.io says {told[0].splitlines()[0]!r}; "
            "expected it to accept the folder, so nothing was written"
        )


def _require_reproduced(half: Path, folder: Path) -> None:
    """Let onnxruntime make the test output from the test input, by the files alone."""
    import onnxruntime

    weights = half / "weights.onnx"
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": np.load(half / "test_input.npy")})[0]
    expected = np.load(half / "test_output.npy")
    # What bioimageio.core allows, and other machines need.
    apart = np.abs(found - expected) > _TOLERATED * (1 + np.abs(expected))
    if apart.mean() > _TOLERATED_SHARE:
        raise InputError(
            f"{folder}: onnxruntime differs from PyTorch on the sample in {apart.mean():.2%} of "
            f"the probabilities; expected at most {_TOLERATED_SHARE:.2%} to differ"
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name only if the block succeeds."""
    half = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    half.mkdir(parents=True)
    try:
        yield half
        if folder.exists():
            folder.rmdir()
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    def discarding(temporary: Path) -> None:
        write(temporary)

    write_atomic(path, discarding)
