"""A network as an ONNX graph for images of any size, checked against PyTorch."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from src_training.errors import InputError
from src_training.export.pooling import with_sizeable_means
from src_training.export.preprocessing_spec import preparation, way_back
from src_training.export.rounding_sensitivity import Unsettledness
from src_training.extras import require
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.io.atomic import write_bytes
from src_training.networks.base import SegmentationNetwork

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Version of the ONNX operators: the oldest that torch translates to."""

TOLERANCE = 1e-4
"""Largest difference from PyTorch that a graph may have, in probability."""

# Batch, height and width that are multiples of every stride, and sides that are of none.
_FITTING = ((2, 64, 96), (1, 96, 128))
_ODD = (75, 101)
_DRAWS = 16


@dataclass(frozen=True)
class OnnxCheck:
    """How close onnxruntime comes to PyTorch.

    Attributes
    ----------
    largest_difference
        In probability, over all pixels of all samples.
    shapes
        (B, C, H, W) of each sample. The last is no multiple of the stride;
        there the graph is held against itself on the padded image, for
        repeated edges are ties (see `settled`).
    """

    largest_difference: float
    shapes: tuple[tuple[int, ...], ...]


def export_onnx(model: SegmentationModel, path: Path) -> OnnxCheck:
    """Write a model as an ONNX file, once onnxruntime gives what PyTorch gives.

    The graph takes ``image`` (batch, C, height, width) float32, prepared as
    its metadata ``preparation`` says, of any batch, height and width, and
    returns ``probabilities`` (batch, K, height, width) float32. The metadata
    ``msankd`` is the model's card as JSON.

    Parameters
    ----------
    model
        Stays as it is, on its device.
    path
        File to make or to replace.

    Returns
    -------
    OnnxCheck
        What the check found, on samples of three sizes.

    Raises
    ------
    InputError
        If a package of the extra ``export`` is missing, the outputs differ by
        more than `TOLERANCE`, or rounding alone moves the network's so far
        that nothing can be told; nothing is written then.
    """
    content, check = checked_graph(model)
    write_bytes(path, content)
    return check


def checked_graph(model: SegmentationModel) -> tuple[bytes, OnnxCheck]:
    """The content of the ONNX file, and what its check found; see `export_onnx`."""
    require("export", "the export", "onnx", "onnxscript", "onnxruntime")
    network = on_cpu(model.network)
    graph = _translate(network, model.card)
    content: bytes = graph.SerializeToString()
    return content, _check(content, network, model.card)


def on_cpu(network: SegmentationNetwork) -> SegmentationNetwork:
    """A copy in eval mode, float32, in torch's usual memory layout."""
    copied = copy.deepcopy(network).cpu().float().eval()
    contiguous: SegmentationNetwork = copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return contiguous


class _AnySize(nn.Module):
    """Image (B, C, H, W) to probabilities (B, K, H, W), without a branch on the size.

    Repeats the edge as `SegmentationNetwork.pad` does, which then finds
    nothing to do.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        fitting = image.index_select(2, self._places(height)).index_select(3, self._places(width))
        logits: Tensor = self.network(fitting)
        return logits[..., :height, :width].softmax(1)

    def _places(self, size: int) -> Tensor:
        fitting = (size + self.stride - 1) // self.stride * self.stride
        return torch.arange(fitting).clamp(max=size - 1)


def _translate(network: SegmentationNetwork, card: ModelCard) -> "onnx.ModelProto":
    sample = torch.rand(2, card.in_channels, 2 * network.stride + 1, 3 * network.stride)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _AnySize(with_sizeable_means(network), network.stride).eval(),
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},),
            custom_translation_table={torch.ops.aten.max_unpool2d.default: _unpooling()},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = program.model_proto
    _strip(graph)
    _describe(graph, card)
    return graph


def _unpooling() -> Callable[..., Any]:
    """Undo 2×2 max-pooling in operators that every runtime has.

    Each pixel asks whether the index of its window names it. Equal to
    scattering by the indices, which few runtimes do, and to PyTorch bit for bit.
    """
    from onnx import TensorProto
    from onnxscript import opset18 as op

    nearest = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }

    def unpool(pooled: Any, indices: Any, _size: Any) -> Any:
        twice = op.Constant(value_floats=[1.0, 1.0, 2.0, 2.0])
        values = op.Resize(pooled, None, twice, **nearest)
        # onnxruntime resizes int32, but no int64.
        narrow = op.Cast(indices, to=TensorProto.INT32)
        wanted = op.Cast(op.Resize(narrow, None, twice, **nearest), to=TensorProto.INT64)
        plane = op.Shape(values, start=2, end=4)
        area = op.ReduceProd(plane, keepdims=0)
        first, step = op.Constant(value_int=0), op.Constant(value_int=1)
        place = op.Reshape(op.Range(first, area, step), plane)
        return op.Where(op.Equal(wanted, place), values, op.Constant(value_float=0.0))

    return unpool


def _strip(model: "onnx.ModelProto") -> None:
    """Drop the traces of the export: they name files of the machine it was made on."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for axis, name in ((2, "height"), (3, "width")):
        graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name


def _describe(graph: "onnx.ModelProto", card: ModelCard) -> None:
    from onnx.helper import set_model_props

    graph.doc_string = card.description
    graph.graph.name = card.name
    described = {
        "msankd": card.model_dump_json(),
        "preparation": preparation(card.preprocessing),
        "way_back": way_back(card),
    }
    set_model_props(graph, described)


def _check(content: bytes, network: SegmentationNetwork, card: ModelCard) -> OnnxCheck:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    unsettledness = Unsettledness(network)
    shapes, differences = [], []
    for batch, height, width in _FITTING:
        image = _settled((batch, card.in_channels, height, width), unsettledness, card.name)
        with torch.no_grad():
            expected = network(image).softmax(1)
        shapes.append(tuple(image.shape))
        differences.append(float((run(image) - expected).abs().max()))
    height, width = _ODD
    odd = image[..., :height, :width].contiguous()
    padded = run(network.pad(odd))[..., :height, :width]
    shapes.append(tuple(odd.shape))
    differences.append(float((run(odd) - padded).abs().max()))
    largest = float(np.max(differences))
    # A NaN is no agreement either.
    if not largest <= TOLERANCE:
        raise InputError(
            f"{card.name}: onnxruntime differs from PyTorch by {largest:.2g} in "
            f"probability; expected at most {TOLERANCE:g}, so nothing was written"
        )
    return OnnxCheck(largest, tuple(shapes))


def _settled(shape: tuple[int, ...], unsettledness: Unsettledness, name: str) -> Tensor:
    """An image of noise in [0, 1] on which the network does not hang on rounding."""
    for seed in range(_DRAWS):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        if unsettledness(image) <= TOLERANCE / 2:
            return image
    raise InputError(
        f"{name}: rounding alone moves its probabilities by more than {TOLERANCE / 2:g} on "
        f"{_DRAWS} images of noise; expected a network that is trained, with finite weights"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Let torch's exporter keep to itself what it says of its own parts."""
    exporter = logging.getLogger("torch.onnx")
    former = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(former)
