"""Export of a network as an ONNX graph for images of any size, checked against PyTorch."""

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
from src_training.export.preprocessing_spec import postprocessing_text, preprocessing_text
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
_IMAGES = 3


@dataclass(frozen=True)
class OnnxCheck:
    """Agreement of onnxruntime with PyTorch.

    Attributes
    ----------
    largest_difference
        Largest difference in probability: over all pixels of an image, the
        median over three images of noise, and the largest over all shapes.
    shapes
        (B, C, H, W) of the images. The last is no multiple of the stride;
        there the graph is compared with itself on the padded image, as
        repeated edges are ties, see `check_graph`.
    """

    largest_difference: float
    shapes: tuple[tuple[int, ...], ...]


def export_onnx(model: SegmentationModel, path: Path) -> OnnxCheck:
    """Write a model as an ONNX file, after checking it against PyTorch.

    The graph takes ``image`` (batch, C, height, width) float32 of any batch,
    height and width, prepared as its metadata ``preparation`` says, and
    returns ``probabilities`` (batch, K, height, width) float32. The metadata
    ``way_back`` describes the way to labels, and ``msankd`` is the model's
    card as JSON.

    Parameters
    ----------
    model
        Not changed, and stays on its device.
    path
        File to make or to replace.

    Returns
    -------
    OnnxCheck
        Result of the check, on images of three sizes.

    Raises
    ------
    InputError
        If a package of the extra ``export`` is missing, or the outputs differ
        by more than `TOLERANCE`; nothing is written then.
    """
    content, check = checked_graph(model)
    write_bytes(path, content)
    return check


def checked_graph(model: SegmentationModel) -> tuple[bytes, OnnxCheck]:
    """The content of the ONNX file, and the result of its check; see `export_onnx`."""
    require("export", "the export", "onnx", "onnxscript", "onnxruntime")
    network = on_cpu(model.network)
    graph = _translate(network, model.card)
    content: bytes = graph.SerializeToString()
    return content, check_graph(content, network, model.card)


def on_cpu(network: SegmentationNetwork) -> SegmentationNetwork:
    """A copy in eval mode, float32, in torch's usual memory layout."""
    copied = copy.deepcopy(network).cpu().float().eval()
    contiguous: SegmentationNetwork = copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return contiguous


class ExportableAvgPool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as products with two matrices, for an export.

    torch's exporter fixes the size of its sample in `nn.AdaptiveAvgPool2d`;
    here the size is known at run time only.

    Parameters
    ----------
    grid
        Bins along either side.

    Examples
    --------
    >>> image = torch.rand(1, 2, 7, 5)
    >>> expected = nn.AdaptiveAvgPool2d(3)(image)
    >>> torch.allclose(ExportableAvgPool(3)(image), expected, atol=1e-6)
    True
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, grid, grid)."""
        down, across = (_averaging_weights(self.grid, length) for length in x.shape[-2:])
        return down @ x @ across.mT


def with_exportable_pooling(network: nn.Module) -> nn.Module:
    """A copy of a network with `ExportableAvgPool` for every `nn.AdaptiveAvgPool2d`."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(module, name, ExportableAvgPool(child.output_size))
    return copied


def _averaging_weights(bins: int, length: int) -> Tensor:
    """Weights (bins, length) of each position in the mean of each bin; bins may overlap."""
    number, position = torch.arange(bins)[:, None], torch.arange(length)
    first, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
    inside = ((position >= first) & (position < end)).float()
    return inside / inside.sum(1, keepdim=True)


class _AnySize(nn.Module):
    """Image (B, C, H, W) to probabilities (B, K, H, W), without a branch on the size.

    Repeats the edge up to a multiple of the stride, so that
    `SegmentationNetwork.pad` has nothing to add.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        fitting = image.index_select(2, self._positions(height)).index_select(
            3, self._positions(width)
        )
        logits: Tensor = self.network(fitting)
        return logits[..., :height, :width].softmax(1)

    def _positions(self, size: int) -> Tensor:
        fitting = (size + self.stride - 1) // self.stride * self.stride
        return torch.arange(fitting).clamp(max=size - 1)


def _translate(network: SegmentationNetwork, card: ModelCard) -> "onnx.ModelProto":
    sample = torch.rand(2, card.in_channels, 2 * network.stride + 1, 3 * network.stride)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _AnySize(with_exportable_pooling(network), network.stride).eval(),
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
    """Max-unpooling by 2×2 in operators that every runtime has.

    A pixel takes the value of its window if the window's index is its own.
    The result is that of scattering by the indices, which few runtimes
    support, and equals PyTorch's bit for bit.
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
        position = op.Reshape(op.Range(first, area, step), plane)
        return op.Where(op.Equal(wanted, position), values, op.Constant(value_float=0.0))

    return unpool


def _strip(model: "onnx.ModelProto") -> None:
    """Remove the traces of the export, which name files of this machine."""
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
        "preparation": preprocessing_text(card.preprocessing),
        "way_back": postprocessing_text(card),
    }
    set_model_props(graph, described)


def check_graph(content: bytes, network: SegmentationNetwork, card: ModelCard) -> OnnxCheck:
    """Compare the graph with PyTorch on noise; `InputError` if it differs.

    Where max-unpooling finds two nearly equal maxima, the last bit of the
    arithmetic decides between them, in PyTorch as in any runtime, and the
    probabilities around jump. That happens on about one image of noise in a
    hundred, hence the median of three.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    generator = torch.Generator().manual_seed(0)
    shapes, differences = [], []
    for batch, height, width in _FITTING:
        shape = (batch, card.in_channels, height, width)
        images = [torch.rand(shape, generator=generator) for _ in range(_IMAGES)]
        with torch.no_grad():
            apart = [float((run(each) - network(each).softmax(1)).abs().max()) for each in images]
        shapes.append(shape)
        differences.append(float(np.median(apart)))
    height, width = _ODD
    odd = images[0][..., :height, :width].contiguous()
    padded = run(network.pad(odd))[..., :height, :width]
    shapes.append((1, card.in_channels, height, width))
    differences.append(float((run(odd) - padded).abs().max()))
    largest = float(np.max(differences))
    # NaN is no agreement either.
    if not largest <= TOLERANCE:
        raise InputError(
            f"{card.name}: onnxruntime differs from PyTorch by {largest:.2g} in probability; "
            f"expected at most {TOLERANCE:g} (and finite weights), so nothing was written"
        )
    return OnnxCheck(largest, tuple(shapes))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings that torch's exporter gives about its own parts."""
    exporter = logging.getLogger("torch.onnx")
    former = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(former)
