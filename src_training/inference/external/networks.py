"""Networks that are known by their outputs alone: external ONNX graphs, and ensembles."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src_training.errors import InputError
from src_training.extras import require
from src_training.inference.external.model import ExternalModel
from src_training.inference.sliding_window import round_up
from src_training.networks.base import SegmentationNetwork, Skips

_MIN_PROBABILITY = 1e-30
"""Lower bound of probabilities before their logarithm is taken."""

_LUMA = (0.299, 0.587, 0.114)


class OutputNetwork(SegmentationNetwork):
    """A network without taps: its bottleneck is its logits, which `decode` returns unchanged.

    Parameters
    ----------
    in_channels, classes
        See `SegmentationNetwork`.
    """

    stride: ClassVar[int] = 32
    taps: ClassVar[dict[str, str]] = {}

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.bottleneck_channels = classes
        # An empty parameter, which tells the device of the network.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    @property
    def weight_count(self) -> int:
        """Number of weights; 0 if unknown."""
        return sum(parameter.numel() for parameter in self.parameters())

    def predict(self, x: Tensor) -> Tensor:
        """Predict logits (B, classes, H, W) of images (B, in_channels, H, W)."""
        raise InputError("the teacher's file is not open; expected a run that is under way")

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """Return no skips, and the logits."""
        return Skips((), (x.shape[-2], x.shape[-1])), self.predict(x)

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """Return the logits unchanged."""
        return bottleneck


class EnsembleNetwork(OutputNetwork):
    """An ensemble of networks, which predicts the mean of their probabilities.

    Logits are not averaged, because their scale differs between networks, so that the most
    confident network would dominate.

    Parameters
    ----------
    members
        At least one network; all have the same channels and classes.
    """

    def __init__(self, members: Sequence[SegmentationNetwork]) -> None:
        super().__init__(members[0].in_channels, members[0].classes)
        self.members = nn.ModuleList(members)

    def predict(self, x: Tensor) -> Tensor:
        """Predict the logarithms of the mean probabilities, which serve as logits."""
        return _mean_of([partial(each, x) for each in self.members])


class OnnxNetwork(OutputNetwork):
    """An external ONNX graph, run by onnxruntime.

    Parameters
    ----------
    model
        Description of the graph's inputs and outputs.
    content
        The graph as bytes.
    in_channels
        Channels of a prepared image.
    classes
        Names of the classes of the masks, background first.

    Raises
    ------
    InputError
        If onnxruntime is not installed, or the graph is not usable.
    """

    def __init__(
        self, model: ExternalModel, content: bytes, in_channels: int, classes: Sequence[str]
    ) -> None:
        super().__init__(in_channels, len(classes))
        self.model, self.sha256 = model, hashlib.sha256(content).hexdigest()
        self._name, self._names = Path(model.file).name, tuple(classes)
        self._session = _open(content, self._name)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = " and ".join(str(each.shape) for each in inputs)
            raise InputError(
                f"{self._name}: its input is {shapes}; expected one image (batch, channels, "
                "height, width)"
            )
        self._input = inputs[0]
        channels = self._input.shape[1]
        if isinstance(channels, int) and channels != model.preprocessing.channels:
            raise InputError(
                f"{self._name}: preprocessing.channels is {model.preprocessing.channels}; "
                f"expected {channels}, as many as the input of the file has"
            )

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return self: the network never changes, and a session cannot be copied."""
        return self

    def predict(self, x: Tensor) -> Tensor:
        """Predict logits of the masks' classes for prepared images, at their size."""
        outputs = self.raw(x)
        if outputs.shape[-2:] != x.shape[-2:]:
            size = (x.shape[-2], x.shape[-1])
            outputs = F.interpolate(outputs, size, mode="bilinear", antialias=True)
        return self._logits(outputs).to(x.device)

    def raw(self, x: Tensor) -> Tensor:
        """Return the graph's own outputs for prepared images."""
        return self._run(self._normalise(x.detach().float().cpu()))

    def _normalise(self, x: Tensor) -> Tensor:
        """Convert prepared images to the graph's input, without padding or tiling."""
        how = self.model.preprocessing
        if x.shape[1] == 3 and how.channels == 1:
            x = (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        if x.shape[1] == 1:
            x = x.expand(-1, how.channels, -1, -1)
        if x.shape[1] != how.channels:
            raise InputError(
                f"{self._name} takes {how.channels} channels, and prepared images have "
                f"{x.shape[1]}; expected 1 or {x.shape[1]}"
            )
        if how.scale != 1:
            size = [max(1, round(side * how.scale)) for side in x.shape[-2:]]
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        low, high = how.values
        x = x * (high - low) + low
        if how.normalise == "fixed":
            return (x - x.new_tensor(how.mean)[:, None, None]) / x.new_tensor(how.std)[
                :, None, None
            ]
        if how.normalise == "image":
            axes = (1, 2, 3)
            return (x - x.mean(axes, keepdim=True)) / (x.std(axes, keepdim=True) + 1e-6)
        if how.normalise == "percentiles":
            ends = np.percentile(x.numpy(), how.percentiles, axis=(1, 2, 3), keepdims=True)
            first, last = (torch.from_numpy(end).float() for end in ends)
            return (x - first) / (last - first + 1e-6)
        return x

    def _run(self, x: Tensor) -> Tensor:
        """Outputs (B, K, h, w) of the graph for inputs of any size, padded or tiled as needed."""
        height, width = x.shape[-2:]
        how = self.model.preprocessing
        multiple = how.side or how.multiple
        down, right = round_up(height, multiple) - height, round_up(width, multiple) - width
        x = F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x
        if how.side is None:
            return self._outputs(x)[..., :height, :width]
        count, side = len(x), how.side
        rows, columns = x.shape[-2] // side, x.shape[-1] // side
        tiles = x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
        outputs = self._outputs(tiles.flatten(0, 2).contiguous())
        grid = outputs.reshape(count, rows, columns, -1, side, side).permute(0, 3, 1, 4, 2, 5)
        return grid.flatten(4, 5).flatten(2, 3)[..., :height, :width]

    def _outputs(self, x: Tensor) -> Tensor:
        """Run the graph on a batch, and resize its outputs to the size of its inputs."""
        dtype = np.float16 if self._input.type == "tensor(float16)" else np.float32
        images = np.ascontiguousarray(x.numpy().astype(dtype))
        batch_size = self._input.shape[0]
        step = batch_size if isinstance(batch_size, int) else len(images)
        if len(images) % step:
            step = 1
        parts = []
        try:
            for start in range(0, len(images), step):
                batch = images[start : start + step]
                parts.append(self._session.run(None, {self._input.name: batch})[0])
        except Exception as error:
            sentence = str(error).partition("\n")[0]
            raise InputError(
                f"{self._name} refuses an input of {images.shape} ({sentence[:200]}); expected "
                "one that it takes (teacher.preprocessing: channels, multiple, side)"
            ) from None
        outputs = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        if outputs.ndim == 3:
            outputs = outputs[:, None]
        if outputs.ndim != 4 or len(outputs) != len(x):
            raise InputError(
                f"{self._name} returns {tuple(outputs.shape)} for {tuple(x.shape)}; expected "
                "(batch, classes, height, width)"
            )
        if outputs.shape[-2:] != x.shape[-2:]:
            outputs = F.interpolate(outputs, x.shape[-2:], mode="bilinear")
        return outputs

    def _logits(self, outputs: Tensor) -> Tensor:
        """Logits of the masks' classes from the graph's outputs (B, K, H, W)."""
        channels = self._channels(outputs.shape[1])
        mapped = [channel for channel in channels if channel is not None]
        if self.model.output == "logits" and len(mapped) == len(channels) == outputs.shape[1]:
            return outputs[:, mapped]
        p = outputs
        if self.model.output == "logits":
            p = outputs.softmax(1)
        elif self.model.output == "sigmoid":
            p = outputs.sigmoid()
        foreground = p[:, [channel for channel in channels[1:] if channel is not None]]
        if channels[0] is None:
            background = (1 - foreground.sum(1, keepdim=True)).clamp(min=0)
        else:
            # Channels of classes that the masks do not have count as background.
            others = [channel for channel in range(p.shape[1]) if channel not in channels[1:]]
            background = p[:, others].sum(1, keepdim=True)
        return torch.cat([background, foreground], 1).clamp(min=_MIN_PROBABILITY).log()

    def _channels(self, count: int) -> list[int | None]:
        """The graph's channel of each class of the masks; None for a background without one."""
        ours = [_normalise_name(name) for name in self._names]
        theirs = [_normalise_name(name) for name in self.model.classes]
        if not theirs:
            if count == len(ours):
                return list(range(count))
            if count == len(ours) - 1:
                return [None, *range(count)]
            raise InputError(
                f"{self._name} returns {count} channels, and the masks have {len(ours)} classes; "
                f"expected the class of each channel, teacher.classes: [{', '.join(ours)}, …]"
            )
        if len(theirs) != count:
            raise InputError(
                f"teacher.classes names {len(theirs)} channels, and {self._name} returns {count}; "
                "expected as many"
            )
        if missing := [name for name in ours[1:] if name not in theirs]:
            raise InputError(
                f"teacher.classes is {', '.join(self.model.classes)}; expected {missing[0]} among "
                "them, a class of the masks"
            )
        first = theirs.index(ours[0]) if ours[0] in theirs else None
        return [first, *(theirs.index(name) for name in ours[1:])]


def _normalise_name(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def read_graph(path: Path) -> bytes:
    """Read an ONNX graph, including weights from external data files.

    Raises
    ------
    InputError
        If it cannot be read, or is too large for one file.
    """
    try:
        content = path.read_bytes()
        if not any(path.parent.glob(f"{path.stem}*.data")):
            return content
        import onnx

        merged: bytes = onnx.load(str(path)).SerializeToString()
        return merged
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected an ONNX file") from None
    except (OSError, ImportError, ValueError) as error:
        sentence = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read ({sentence}); expected an ONNX file") from None
    except Exception as error:  # protobuf's own errors have no common base
        raise InputError(
            f"{path}: its weights lie beside it and cannot be joined with it "
            f"({type(error).__name__}); expected one file of at most 2 GB"
        ) from None


def turned_mean(predict: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Average probabilities over the eight flips and rotations of square images; as logits."""

    def predict_turned(quarters: int, mirrored: bool) -> Tensor:
        image = torch.rot90(x.flip(-1) if mirrored else x, quarters, (-2, -1))
        logits = torch.rot90(predict(image.contiguous()), -quarters, (-2, -1))
        return logits.flip(-1) if mirrored else logits

    views = [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)]
    return _mean_of([partial(predict_turned, *view) for view in views])


def _mean_of(members: Sequence[Callable[[], Tensor]]) -> Tensor:
    """Logarithm of the mean probability over functions that return logits."""
    total = members[0]().float().softmax(1)
    for member in members[1:]:
        total = total + member().float().softmax(1)
    return (total / len(members)).clamp(min=_MIN_PROBABILITY).log()


def _open(content: bytes, name: str) -> Any:
    """An onnxruntime session of a graph, on the GPU if onnxruntime supports it."""
    require("export", "a teacher from elsewhere", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [provider for provider in preferred if provider in available]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        sentence = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: onnxruntime cannot open it ({sentence[:200]}); expected an ONNX file"
        ) from None
