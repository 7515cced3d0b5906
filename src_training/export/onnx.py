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
"""Version of the ONNX operators, the oldest that torch supports."""

TOLERANCE = 1e-4
"""Largest accepted difference in probability between a graph and PyTorch."""

# Batch, height and width that are multiples of the stride of every network.
_MULTIPLES = ((2, 64, 96), (1, 96, 128))
# Height and width that are not.
_ODD = (75, 101)
_IMAGES = 3


@dataclass(frozen=True)
class OnnxCheck:
    """Agreement of onnxruntime with PyTorch.

    Attributes
    ----------
    largest_difference
        Difference in probability: the maximum over all pixels of an image, of
        it the median over three noise images, and the maximum over all shapes.
    shapes
        Shapes (B, C, H, W) of the images. The last is not a multiple of the
        stride; for it the graph is compared with itself on the padded image,
        because repeated edges are ties of max-pooling, see `check_graph`.
    """

    largest_difference: float
    shapes: tuple[tuple[int, ...], ...]


def export_onnx(model: SegmentationModel, path: Path) -> OnnxCheck:
    """Write a model as an ONNX file, after checking it against PyTorch.

    The graph maps ``image`` (batch, C, height, width) float32, of any batch,
    height and width, to ``probabilities`` (batch, K, height, width) float32.
    The metadata ``preparation`` describes the preprocessing of the image,
    ``way_back`` the postprocessing to labels; ``msankd`` is the model's card as
    JSON.

    Parameters
    ----------
    model
        Model; not modified or moved to another device.
    path
        File to create or replace.

    Returns
    -------
    OnnxCheck
        Result of the check, on images of three sizes.

    Raises
    ------
    InputError
        If a package of the extra ``export`` is missing, or the outputs differ
        by more than `TOLERANCE`. Then nothing is written.
    """
    content, check = checked_graph(model)
    write_bytes(path, content)
    return check


def checked_graph(model: SegmentationModel) -> tuple[bytes, OnnxCheck]:
    """Content of the ONNX file, and the result of the check; see `export_onnx`."""
    require("export", "the export", "onnx", "onnxscript", "onnxruntime")
    network = on_cpu(model.network)
    graph = _translate(network, model.card)
    content: bytes = graph.SerializeToString()
    return content, check_graph(content, network, model.card)


def on_cpu(network: SegmentationNetwork) -> SegmentationNetwork:
    """Copy a network to the CPU in eval mode, float32 and the contiguous memory format."""
    copied = copy.deepcopy(network).cpu().float().eval()
    contiguous: SegmentationNetwork = copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return contiguous


class ExportableAvgPool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as products with two matrices, for the export.

    For `nn.AdaptiveAvgPool2d`, torch's exporter hard-codes the input size of the
    sample. This module supports any size at run time.

    Parameters
    ----------
    grid
        Number of bins along each side.

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
    """Copy a network with `ExportableAvgPool` in place of `nn.AdaptiveAvgPool2d`."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(module, name, ExportableAvgPool(child.output_size))
    return copied


def _averaging_weights(bins: int, length: int) -> Tensor:
    """Weights (bins, length) of each position in the mean of each bin; bins may overlap."""
    index, position = torch.arange(bins)[:, None], torch.arange(length)
    first, end = index * length // bins, ((index + 1) * length + bins - 1) // bins
    inside = ((position >= first) & (position < end)).float()
    return inside / inside.sum(1, keepdim=True)


class _AnySize(nn.Module):
    """Map an image (B, C, H, W) to probabilities (B, K, H, W) without branches on the size.

    It repeats the edge up to a multiple of the stride, so that
    `SegmentationNetwork.pad`, which has a branch, does not pad.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network, self.stride = network, stride

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = image.index_select(2, self._positions(height)).index_select(
            3, self._positions(width)
        )
        logits: Tensor = self.network(padded)
        return logits[..., :height, :width].softmax(1)

    def _positions(self, size: int) -> Tensor:
        padded = (size + self.stride - 1) // self.stride * self.stride
        return torch.arange(padded).clamp(max=size - 1)


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
    """Max-unpooling by 2×2 with operators that all runtimes support.

    A pixel gets the value of its window if its position is the window's index,
    and 0 otherwise. The result is bitwise equal to PyTorch's, which scatters by
    the indices; few runtimes support that.
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
        # onnxruntime can resize int32, but not int64.
        narrow = op.Cast(indices, to=TensorProto.INT32)
        wanted = op.Cast(op.Resize(narrow, None, twice, **nearest), to=TensorProto.INT64)
        plane = op.Shape(values, start=2, end=4)
        area = op.ReduceProd(plane, keepdims=0)
        first, step = op.Constant(value_int=0), op.Constant(value_int=1)
        position = op.Reshape(op.Range(first, area, step), plane)
        return op.Where(op.Equal(wanted, position), values, op.Constant(value_float=0.0))

    return unpool


def _strip(model: "onnx.ModelProto") -> None:
    """Remove debug information of the exporter, which includes local file names."""
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
    properties = {
        "msankd": card.model_dump_json(),
        "preparation": preprocessing_text(card.preprocessing),
        "way_back": postprocessing_text(card),
    }
    set_model_props(graph, properties)


def check_graph(content: bytes, network: SegmentationNetwork, card: ModelCard) -> OnnxCheck:
    """Compare the graph with PyTorch on noise; raise `InputError` if it differs.

    Rounding errors decide between nearly equal maxima in max-pooling, so that
    the probabilities around them may differ between runtimes. This occurs on
    about 1 % of noise images, hence the median of three.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    generator = torch.Generator().manual_seed(0)
    shapes, differences = [], []
    for batch, height, width in _MULTIPLES:
        shape = (batch, card.in_channels, height, width)
        images = [torch.rand(shape, generator=generator) for _ in range(_IMAGES)]
        with torch.no_grad():
            maxima = [
                float((run(image) - network(image).softmax(1)).abs().max()) for image in images
            ]
        shapes.append(shape)
        differences.append(float(np.median(maxima)))
    height, width = _ODD
    odd = images[0][..., :height, :width].contiguous()
    padded = run(network.pad(odd))[..., :height, :width]
    shapes.append((1, card.in_channels, height, width))
    differences.append(float((run(odd) - padded).abs().max()))
    largest = float(np.max(differences))
    # The negated comparison also rejects NaN.
    if not largest <= TOLERANCE:
        raise InputError(
            f"{card.name}: onnxruntime differs from PyTorch by {largest:.2g} in probability; "
            f"expected at most {TOLERANCE:g} (and finite weights), so nothing was written"
        )
    return OnnxCheck(largest, tuple(shapes))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of torch's exporter about its internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
