"""Networks of which the outputs alone are known: ONNX graphs from elsewhere, and ensembles."""

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

_LEAST = 1e-30
"""Least probability of which a logarithm is taken."""

_LUMA = (0.299, 0.587, 0.114)


class OutputNetwork(SegmentationNetwork):
    """A network without taps: its bottleneck is its logits, which `decode` hands on.

    Parameters
    ----------
    in_channels, classes
        As of `SegmentationNetwork`.
    """

    stride: ClassVar[int] = 32
    taps: ClassVar[dict[str, str]] = {}

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.bottleneck_channels = classes
        # Empty: says which device the network is on, as the weights of others do.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    @property
    def weight_count(self) -> int:
        """Number of its weights; 0 where that is not known."""
        return sum(parameter.numel() for parameter in self.parameters())

    def predict(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of an image (B, in_channels, H, W)."""
        raise InputError("the teacher's file is not open; expected a run that is under way")

    def encode(self, x: Tensor) -> tuple[Skips, Tensor]:
        """No skips, and the logits."""
        return Skips((), (x.shape[-2], x.shape[-1])), self.predict(x)

    def decode(self, skips: Skips, bottleneck: Tensor) -> Tensor:
        """The logits as they are."""
        return bottleneck


class EnsembleNetwork(OutputNetwork):
    """Several networks that predict together: the mean of their probabilities.

    Not that of their logits: each network has a scale of its own there, and the most
    confident one, right or wrong, would decide alone.

    Parameters
    ----------
    members
        At least one, of the same channels and classes.
    """

    def __init__(self, members: Sequence[SegmentationNetwork]) -> None:
        super().__init__(members[0].in_channels, members[0].classes)
        self.members = nn.ModuleList(members)

    def predict(self, x: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, which are logits."""
        return _mean_of([partial(each, x) for each in self.members])


class OnnxNetwork(OutputNetwork):
    """An ONNX graph from elsewhere, run by onnxruntime.

    Parameters
    ----------
    model
        What the graph takes and returns.
    content
        The graph.
    in_channels
        Channels of a prepared image.
    classes
        Names of the classes of the masks, background first.

    Raises
    ------
    InputError
        If onnxruntime is not installed, or the graph is none that can be used.
    """

    def __init__(
        self, model: ExternalModel, content: bytes, in_channels: int, classes: Sequence[str]
    ) -> None:
        super().__init__(in_channels, len(classes))
        self.model, self.sha256 = model, hashlib.sha256(content).hexdigest()
        self._name, self._names = Path(model.file).name, tuple(classes)
        self._session = _open(content, self._name)
        taken = self._session.get_inputs()
        if len(taken) != 1 or len(taken[0].shape) != 4:
            shapes = " and ".join(str(each.shape) for each in taken)
            raise InputError(
                f"{self._name}: its input is {shapes}; expected one image (batch, channels, "
                "height, width)"
            )
        self._input = taken[0]
        if isinstance(found := self._input.shape[1], int) and found != model.preprocessing.channels:
            raise InputError(
                f"{self._name}: preprocessing.channels is {model.preprocessing.channels}; "
                f"expected {found}, as many as the input of the file has"
            )

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """The same: it is never changed, and a session cannot be copied."""
        return self

    def predict(self, x: Tensor) -> Tensor:
        """Logits of prepared images, whatever the graph takes and returns."""
        prepared = self._prepared(x.detach().float().cpu())
        found = self._run(prepared)
        if found.shape[-2:] != x.shape[-2:]:
            size = (x.shape[-2], x.shape[-1])
            found = F.interpolate(found, size, mode="bilinear", antialias=True)
        return self._logits(found).to(x.device)

    def raw(self, x: Tensor) -> Tensor:
        """What the graph itself returns for prepared images."""
        return self._run(self._prepared(x.detach().float().cpu()))

    def _prepared(self, x: Tensor) -> Tensor:
        """The graph's input but for its size."""
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
            every = (1, 2, 3)
            return (x - x.mean(every, keepdim=True)) / (x.std(every, keepdim=True) + 1e-6)
        if how.normalise == "percentiles":
            ends = np.percentile(x.numpy(), how.percentiles, axis=(1, 2, 3), keepdims=True)
            first, last = (torch.from_numpy(each).float() for each in ends)
            return (x - first) / (last - first + 1e-6)
        return x

    def _run(self, x: Tensor) -> Tensor:
        """Outputs (B, K, h, w) of the graph, of inputs of any size."""
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
        found = self._outputs(tiles.flatten(0, 2).contiguous())
        grid = found.reshape(count, rows, columns, -1, side, side).permute(0, 3, 1, 4, 2, 5)
        whole = grid.flatten(4, 5).flatten(2, 3)
        return whole[..., :height, :width]

    def _outputs(self, x: Tensor) -> Tensor:
        """One pass of the graph, resized to its input's size."""
        kind = np.float16 if self._input.type == "tensor(float16)" else np.float32
        images = np.ascontiguousarray(x.numpy().astype(kind))
        fixed = self._input.shape[0]
        step = fixed if isinstance(fixed, int) else len(images)
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
        found = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        if found.ndim == 3:
            found = found[:, None]
        if found.ndim != 4 or len(found) != len(x):
            raise InputError(
                f"{self._name} returns {tuple(found.shape)} for {tuple(x.shape)}; expected "
                "(batch, classes, height, width)"
            )
        if found.shape[-2:] != x.shape[-2:]:
            found = F.interpolate(found, x.shape[-2:], mode="bilinear")
        return found

    def _logits(self, found: Tensor) -> Tensor:
        """Logits of our classes from the graph's outputs (B, K, H, W)."""
        channels = self._channels(found.shape[1])
        every = [each for each in channels if each is not None]
        if self.model.output == "logits" and len(every) == len(channels) == found.shape[1]:
            return found[:, every]
        p = found
        if self.model.output == "logits":
            p = found.softmax(1)
        elif self.model.output == "sigmoid":
            p = found.sigmoid()
        foreground = p[:, [each for each in channels[1:] if each is not None]]
        if channels[0] is None:
            background = (1 - foreground.sum(1, keepdim=True)).clamp(min=0)
        else:
            others = [each for each in range(p.shape[1]) if each not in channels[1:]]
            background = p[:, others].sum(1, keepdim=True)
        return torch.cat([background, foreground], 1).clamp(min=_LEAST).log()

    def _channels(self, count: int) -> list[int | None]:
        """The graph's channel of each of our classes; None for a background without one."""
        ours = [_plain(name) for name in self._names]
        theirs = [_plain(name) for name in self.model.classes]
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


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def read_graph(path: Path) -> bytes:
    """An ONNX graph as one file, weights that lie beside it included.

    Raises
    ------
    InputError
        If it cannot be read, or is larger than one file can be.
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
    """Logits of square images, of the mean probabilities over their eight flips and turns."""

    def turned(quarters: int, mirrored: bool) -> Tensor:
        image = torch.rot90(x.flip(-1) if mirrored else x, quarters, (-2, -1))
        back = torch.rot90(predict(image.contiguous()), -quarters, (-2, -1))
        return back.flip(-1) if mirrored else back

    views = [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)]
    return _mean_of([partial(turned, *view) for view in views])


def _mean_of(members: Sequence[Callable[[], Tensor]]) -> Tensor:
    """Logarithm of the mean probability of several logits."""
    total = members[0]().float().softmax(1)
    for each in members[1:]:
        total = total + each().float().softmax(1)
    return (total / len(members)).clamp(min=_LEAST).log()


def _open(content: bytes, name: str) -> Any:
    """A session of a graph, on the GPU where onnxruntime has one."""
    require("export", "a teacher from elsewhere", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [each for each in wanted if each in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        sentence = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: onnxruntime cannot open it ({sentence[:200]}); expected an ONNX file"
        ) from None
