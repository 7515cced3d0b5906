"""One file that segments: weights and a card that says what they are."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from src_training import networks
from src_training.alignment.alignment_network import SemanticEncoder
from src_training.data.preprocessing import Float, Preprocessing
from src_training.errors import InputError
from src_training.inference.image_threshold import quantise, threshold_of
from src_training.io.atomic import write_bytes
from src_training.networks.base import SegmentationNetwork

FORMAT = 1
"""Version of the card that this package writes, and the only one it reads."""

_HEADER = "msankd"
_SEMANTICS = "semantics."
_SHIPPED = Path(__file__).parent / "weights"


def _package_version() -> str:
    try:
        return version("napari-msankd")
    except PackageNotFoundError:
        return "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class TrainingDomain(BaseModel):
    """A domain a model was trained on.

    Attributes
    ----------
    name
        Name of the domain.
    images
        How many of its images were used.
    terms
        The terms its images came under.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    images: Annotated[int, Field(ge=0)]
    terms: str = ""


class SemanticSpace(BaseModel):
    """Shape of a model's semantic encoder.

    Attributes
    ----------
    grid, latent, hidden
        As in `SemanticEncoder`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: tuple[int, int]
    latent: Annotated[int, Field(ge=1)]
    hidden: Annotated[int, Field(ge=1)]


class ModelCard(BaseModel):
    """What a model is, all that segmenting needs beside the weights.

    Attributes
    ----------
    format
        Version of this card.
    name
        Name a person chooses the model by.
    architecture, options
        Network by its name in `NETWORKS`, and its keyword options.
    in_channels
        Channels the network reads; those that `preprocessing` makes.
    classes
        Names of the classes; the first is the background.
    preprocessing
        From a raw image to the network's input.
    patch
        Side of the training patch, pixels of the prepared grid.
    threshold
        Probability from which a pixel is foreground, chosen on the source's
        validation split; for two classes.
    own_threshold
        Whether each image has a threshold of its own (`threshold_of`) once its
        probabilities are there, because that was as good on the validation
        split.
    own_statistics
        How far batch norms lean to the statistics of the image at hand
        (`adapt_batch_norm`), from 0 to 1, chosen on the validation split.
    spacing
        Median spacing of the training volumes in mm, from slice to slice, row
        to row and column to column; None where it is not known.
    semantics
        Of the semantic encoder that comes with the weights, if one does.
    domains
        What it was trained on.
    metrics
        Scores: domain -> metric -> value.
    method, recipe
        How it was trained, in words, and the whole recipe as YAML.
    package_version, created
        Version of this package that wrote it, and when (ISO 8601, UTC).
    licence, description
        Terms of the weights, and what they are for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: Annotated[str, Field(min_length=1)]
    architecture: str
    options: dict[str, bool | int | float | str] = {}
    in_channels: Annotated[int, Field(ge=1)]
    classes: Annotated[list[str], Field(min_length=2, max_length=256)]
    preprocessing: Preprocessing
    patch: Annotated[int, Field(ge=1)]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    own_threshold: bool = False
    own_statistics: Annotated[float, Field(ge=0, le=1)] = 0.0
    spacing: tuple[float, float, float] | None = None
    semantics: SemanticSpace | None = None
    domains: list[TrainingDomain] = []
    metrics: dict[str, dict[str, float | None]] = {}
    method: str = ""
    recipe: str = ""
    package_version: str = Field(default_factory=_package_version)
    created: str = Field(default_factory=_now)
    licence: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _channels_agree(self) -> "ModelCard":
        if self.in_channels != self.preprocessing.in_channels:
            raise ValueError(
                f"in_channels is {self.in_channels}, but the preprocessing makes "
                f"{self.preprocessing.in_channels} channels"
            )
        return self

    def threshold_for(self, probabilities: Float) -> float:
        """Probability from which a pixel of an image is foreground; from its maps (K, H, W)."""
        if self.own_threshold and len(self.classes) == 2:
            return threshold_of(quantise(probabilities[1]))
        return self.threshold

    def build(self) -> SegmentationNetwork:
        """The network of this card, with fresh weights.

        Raises
        ------
        InputError
            If the architecture or one of its options is unknown, or a value is
            out of range.
        """
        return networks.build_network(
            self.architecture, self.in_channels, len(self.classes), **self.options
        )

    def build_semantics(self, network: SegmentationNetwork) -> SemanticEncoder | None:
        """The semantic encoder of this card for its network, with fresh weights."""
        if self.semantics is None:
            return None
        space = self.semantics
        return SemanticEncoder(network.bottleneck_channels, space.grid, space.latent, space.hidden)


@dataclass
class SegmentationModel:
    """A network ready to segment, and what is known about it.

    Attributes
    ----------
    card
        What it is.
    network
        In eval mode, weights in float32.
    sha256
        Of the file it came from; None before it is saved.
    source
        That file.
    semantics
        Encodes a bottleneck of `network` as a semantic vector; None where
        the model came without.
    """

    card: ModelCard
    network: SegmentationNetwork
    sha256: str | None = None
    source: Path | None = None
    semantics: SemanticEncoder | None = None

    def for_camera(self, angle: float | None) -> "SegmentationModel":
        """The same network for images of another fundus camera.

        Parameters
        ----------
        angle
            Degrees that its field of view spans; None where that is not known.

        Raises
        ------
        InputError
            See `Preprocessing.for_camera`.
        """
        preprocessing = self.card.preprocessing.for_camera(angle)
        return replace(self, card=self.card.model_copy(update={"preprocessing": preprocessing}))

    def save(self, path: Path) -> None:
        """Write the model to a ``.safetensors`` file, its `source` then; see `save_model`."""
        self.sha256 = save_model(self.card, self.network, path, self.semantics)
        self.source = path


def save_model(
    card: ModelCard,
    network: SegmentationNetwork,
    path: Path,
    semantics: SemanticEncoder | None = None,
) -> str:
    """Write weights and card to one ``.safetensors`` file, whole or not at all.

    Parameters
    ----------
    card
        Written as JSON into the header.
    network
        Its parameters and buffers are written as they are.
    path
        File to make or to replace.
    semantics
        Semantic encoder to write beside the network; `card.semantics` is its shape.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be written; a former file stays whole.
    """
    # Cloned one by one: tied weights share memory, which the format refuses.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in _state(network, semantics).items()
    }
    content = save(state, {_HEADER: card.model_dump_json()})
    write_bytes(path, content)
    return _sha256(path)


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> SegmentationModel:
    """Load a model; nothing is unpickled.

    Parameters
    ----------
    name_or_path
        Name of a shipped model, or path of a ``.safetensors`` file.
    device
        Where the weights go; they are float32 there.

    Raises
    ------
    InputError
        If there is no such model, or if the file is truncated, not written
        by this package, of another format, or its weights do not fit the
        architecture it names.
    """
    path = _find(name_or_path)
    card = read_card(path)
    network = _build(card, path)
    semantics = card.build_semantics(network)
    _fill(network, semantics, _read_weights(path), path)
    for module in (network, semantics):
        if module is not None:
            module.float().to(device).eval()
    return SegmentationModel(card, network, _sha256(path), path, semantics)


def read_card(path: Path) -> ModelCard:
    """The card of a model file; reads the header and no weights.

    Raises
    ------
    InputError
        If the file is missing, truncated, not one of ours, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected a model") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the model cannot be read ({error}); expected a whole .safetensors file"
        ) from None
    if _HEADER not in metadata:
        raise InputError(
            f"{path}: the file holds weights but no card; expected a model written by msankd"
        )
    return _parse(metadata[_HEADER], path)


def shipped_models() -> dict[str, Path]:
    """The models that come with the package: name -> file."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.safetensors"))}


def _find(name_or_path: str | Path) -> Path:
    shipped = shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(shipped) or "none"
    raise InputError(
        f"{name_or_path}: there is no such model; expected a .safetensors file "
        f"or a shipped model ({known})"
    )


def _parse(text: str, path: Path) -> ModelCard:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        raise InputError(f"{path}: the card is not JSON; expected one written by msankd") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: the card has format {found}; expected format {FORMAT}")
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        raise InputError(f"{path}: {field} of the card is not valid: {first['msg']}") from None


def _build(card: ModelCard, path: Path) -> SegmentationNetwork:
    try:
        return card.build()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the weights cannot be read ({error}); expected a whole .safetensors file"
        ) from None
    return weights


def _state(network: SegmentationNetwork, semantics: SemanticEncoder | None) -> dict[str, Tensor]:
    """Names and tensors of the file: the network's own, and the encoder's under a prefix."""
    extra = {} if semantics is None else semantics.state_dict()
    return network.state_dict() | {_SEMANTICS + name: tensor for name, tensor in extra.items()}


def _fill(
    network: SegmentationNetwork,
    semantics: SemanticEncoder | None,
    weights: dict[str, Tensor],
    path: Path,
) -> None:
    expected = _state(network, semantics)
    for name, tensor in expected.items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != tuple(tensor.shape):
            raise InputError(
                f"{path}: {name} is {found}; expected {tuple(tensor.shape)} for this architecture"
            )
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise InputError(f"{path}: {unknown[0]} is no weight of this architecture; expected none")
    extra = {n.removeprefix(_SEMANTICS): t for n, t in weights.items() if n.startswith(_SEMANTICS)}
    network.load_state_dict({n: t for n, t in weights.items() if not n.startswith(_SEMANTICS)})
    if semantics is not None:
        semantics.load_state_dict(extra)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
