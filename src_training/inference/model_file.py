"""Reading and writing model files: weights and a card in one ``.safetensors`` file."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from src_training.alignment.alignment_network import SemanticEncoder
from src_training.errors import InputError
from src_training.inference.model_card import ModelCard, parse_card
from src_training.inference.shipped import shipped_models
from src_training.io.atomic import write_bytes
from src_training.networks.base import SegmentationNetwork
from src_training.networks.weights import read_weights, shapes_alone

_CARD_KEY = "msankd"
_SEMANTICS_PREFIX = "semantics."


@dataclass
class SegmentationModel:
    """A network ready to segment, with its card.

    Attributes
    ----------
    card
        Model card.
    network
        Network in eval mode, with float32 weights.
    sha256
        SHA-256 of the file that the model was loaded from or saved to; None
        before it is saved.
    source
        Path of that file.
    semantics
        Semantic encoder of bottlenecks of `network`, if the model has one.
    """

    card: ModelCard
    network: SegmentationNetwork
    sha256: str | None = None
    source: Path | None = None
    semantics: SemanticEncoder | None = None

    def for_camera(self, angle: float | None) -> "SegmentationModel":
        """Return the model with preprocessing for another fundus camera.

        Parameters
        ----------
        angle
            Angle of the camera's field of view in degrees; None if unknown.

        Raises
        ------
        InputError
            See `Preprocessing.for_camera`.
        """
        preprocessing = self.card.preprocessing.for_camera(angle)
        return replace(self, card=self.card.model_copy(update={"preprocessing": preprocessing}))

    def save(self, path: Path) -> None:
        """Write the model to a ``.safetensors`` file, which becomes its `source`."""
        self.sha256 = save_model(self.card, self.network, path, self.semantics)
        self.source = path


def save_model(
    card: ModelCard,
    network: SegmentationNetwork,
    path: Path,
    semantics: SemanticEncoder | None = None,
) -> str:
    """Write weights and card to one ``.safetensors`` file, atomically.

    Parameters
    ----------
    card
        Card, written as JSON into the header.
    network
        Network, whose parameters and buffers are written with their dtype.
    path
        File to create or replace.
    semantics
        Semantic encoder, whose shape is `card.semantics`.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    # Safetensors refuses tensors that share memory, such as tied weights.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in _state(network, semantics).items()
    }
    content = save(state, {_CARD_KEY: card.model_dump_json()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def copy_with_card(model: Path, card: ModelCard, path: Path) -> None:
    """Write a copy of a model file with another card and identical tensors.

    Raises
    ------
    OSError
        If a file cannot be read or written; an existing file is then unchanged.
    """
    write_bytes(path, save(load_file(model), {_CARD_KEY: card.model_dump_json()}))


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> SegmentationModel:
    """Load a model, without unpickling anything.

    Parameters
    ----------
    name_or_path
        Name of a shipped model, or path of a ``.safetensors`` file.
    device
        Device of the weights, which are converted to float32.

    Raises
    ------
    InputError
        If there is no such model, or if the file is truncated, not written
        by this package, of an unknown format, or its weights do not match the
        architecture of its card; see `read_weights`.
    """
    path = _find(name_or_path)
    card = read_card(path)
    # No memory is allocated before the shapes in the file have been checked against the card.
    with shapes_alone():
        network = _build(card, path)
        semantics = card.build_semantics(network)
    weights = read_weights(path, _state(network, semantics))
    encoder = {n: t for n, t in weights.items() if n.startswith(_SEMANTICS_PREFIX)}
    network.load_state_dict({n: t for n, t in weights.items() if n not in encoder}, assign=True)
    if semantics is not None:
        state = {n.removeprefix(_SEMANTICS_PREFIX): tensor for n, tensor in encoder.items()}
        semantics.load_state_dict(state, assign=True)
    for module in (network, semantics):
        if module is not None:
            module.to(device).eval()
    return SegmentationModel(card, network, _sha256(path), path, semantics)


def read_card(path: Path) -> ModelCard:
    """Read the card of a model file from its header, without the weights.

    Raises
    ------
    InputError
        If the file is missing, truncated, not written by this package, or of
        an unknown format.
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
    if _CARD_KEY not in metadata:
        raise InputError(
            f"{path}: the file holds weights but no card; expected a model written by msankd"
        )
    return parse_card(metadata[_CARD_KEY], path)


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


def _build(card: ModelCard, path: Path) -> SegmentationNetwork:
    try:
        return card.build()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _state(network: SegmentationNetwork, semantics: SemanticEncoder | None) -> dict[str, Tensor]:
    """State dict of the file: that of the network, and that of the encoder with a prefix."""
    extra = {} if semantics is None else semantics.state_dict()
    return network.state_dict() | {_SEMANTICS_PREFIX + name: t for name, t in extra.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
