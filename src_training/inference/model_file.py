"""Model files: weights and a card in one ``.safetensors`` file, and the models that ship."""

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
        What the network is and how images are prepared for it.
    network
        In eval mode, weights in float32.
    sha256
        SHA-256 of the file that the model was loaded from or saved to; None
        before it is saved.
    source
        That file.
    semantics
        Encodes a bottleneck of `network` as a semantic vector; None if the
        file holds no semantic encoder.
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
            Degrees that the camera's field of view spans; None if not known.

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
        Written as JSON into the header.
    network
        Its parameters and buffers are written with their dtype.
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
    # Cloned one by one: tied weights share memory, which safetensors refuses.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in _state(network, semantics).items()
    }
    content = save(state, {_CARD_KEY: card.model_dump_json()})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def copy_with_card(model: Path, card: ModelCard, path: Path) -> None:
    """Write a model file with another card; its tensors stay byte for byte.

    Raises
    ------
    OSError
        If a file cannot be read or written; a former file stays whole.
    """
    write_bytes(path, save(load_file(model), {_CARD_KEY: card.model_dump_json()}))


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
        by this package, of an unknown format, or its weights do not fit the
        architecture that it names; see `read_weights`.
    """
    path = _find(name_or_path)
    card = read_card(path)
    # Without memory until the shapes in the file are known to be those of the card.
    with shapes_alone():
        network = _build(card, path)
        semantics = card.build_semantics(network)
    weights = read_weights(path, _state(network, semantics))
    encoder = {n: t for n, t in weights.items() if n.startswith(_SEMANTICS_PREFIX)}
    network.load_state_dict({n: t for n, t in weights.items() if n not in encoder}, assign=True)
    if semantics is not None:
        own = {n.removeprefix(_SEMANTICS_PREFIX): tensor for n, tensor in encoder.items()}
        semantics.load_state_dict(own, assign=True)
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
    """Tensors of the file by name: the network's, and the encoder's under a prefix."""
    extra = {} if semantics is None else semantics.state_dict()
    return network.state_dict() | {_SEMANTICS_PREFIX + name: each for name, each in extra.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
