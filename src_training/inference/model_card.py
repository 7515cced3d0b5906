"""The model card: the metadata in a model file that segmenting with the model needs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import src_training
from src_training.alignment.alignment_network import LARGEST, SemanticEncoder
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import Preprocessing, migrate_preprocessing
from src_training.data.preprocessing.base import MAX_SIDE, MOST_CHANNELS
from src_training.data.preprocessing.geometry import Float
from src_training.errors import InputError
from src_training.inference.expected_dice import Quality
from src_training.inference.image_threshold import expected_dice_threshold, quantise
from src_training.io.yaml_json import parse_json, parse_yaml
from src_training.networks import build_network, migrate_options
from src_training.networks.base import SegmentationNetwork

DomainKind = Literal["validation", "source", "adapted", "unseen"]
"""The part of a domain in the training of a model that is scored on it.

``validation``: held-out images of its sources, used to choose its checkpoints. ``source``: the
model was trained on images of that scanner with masks. ``adapted``: on such images without
masks. ``unseen``: on none.
"""

_GridSide = Annotated[int, Field(ge=1, le=MAX_SIDE)]

FORMAT: Final = 2
"""Version of the cards that this package writes; it also reads format 1."""

_RENAMED_SINCE_1 = {
    "own_threshold": "per_image_threshold",
    "own_statistics": "bn_mixing",
    "domains": "sources",
}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class TrainingDomain(BaseModel):
    """A training domain of a model.

    Attributes
    ----------
    name
        Name of the domain.
    images
        Number of training images.
    terms
        Terms of use of the images; empty if not stated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    images: Annotated[int, Field(ge=0, le=2**62)]
    terms: str = ""


class SemanticSpace(BaseModel):
    """Shape of a model's semantic encoder.

    Attributes
    ----------
    grid, latent, hidden
        See `SemanticEncoder`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    grid: tuple[_GridSide, _GridSide]
    latent: Annotated[int, Field(ge=1, le=LARGEST)]
    hidden: Annotated[int, Field(ge=1, le=LARGEST)]


class ModelCard(BaseModel):
    """Metadata of a model.

    Attributes
    ----------
    format
        Version of the card; see `parse_card` for older ones.
    name
        Name of the model in lists.
    architecture, options
        Name of the network in `NETWORKS`, and its keyword options.
    in_channels
        Number of input channels of the network, equal to `preprocessing.in_channels`.
    classes
        Names of the classes; the first is the background.
    preprocessing
        Preprocessing of images.
    augmentation
        Augmentation of training patches; None if unknown.
    patch
        Side of the training patch in pixels of the prepared image.
    threshold
        Foreground threshold in [0, 1] of models with two classes, chosen on the
        validation split.
    per_image_threshold
        Whether each image gets the threshold of its best expected Dice
        (`expected_dice_threshold`) instead of `threshold`.
    bn_mixing
        Share of the image's own batch-norm statistics in prediction, in
        [0, 1]; see `BatchNormAdaptation`.
    spacing
        Median voxel size of the training volumes in mm (slice, row, column);
        None if unknown.
    quality
        Correction and interval of expected Dice; None if unknown.
    semantics
        Shape of the semantic encoder stored with the weights; None without one.
    sources
        Training domains, including unlabelled ones and those of a
        model that training started from.
    metrics
        Scores: domain -> metric -> value.
    domain_kinds
        Domain of `metrics` -> its part in the training; see `DomainKind`.
    method
        One sentence on how the model was trained.
    recipe
        The recipe of the training run as YAML, for human readers.
    package_version
        Version of this package that wrote the card.
    created
        Time of creation, ISO 8601 in UTC.
    licence, description
        Terms of use of the weights, and purpose of the model.

    Examples
    --------
    >>> from src_training.data.preprocessing import FundusPreprocessing
    >>> card = ModelCard(
    ...     name="vessels",
    ...     architecture="enet",
    ...     in_channels=1,
    ...     classes=["background", "vessel"],
    ...     preprocessing=FundusPreprocessing(),
    ...     patch=256,
    ... )
    >>> parse_card(card.model_dump_json(), "vessels.safetensors") == card
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[2] = FORMAT
    name: Annotated[str, Field(min_length=1)]
    architecture: str
    options: dict[str, bool | int | float | str] = {}
    in_channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
    classes: Annotated[list[str], Field(min_length=2, max_length=256)]
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    patch: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    per_image_threshold: bool = False
    bn_mixing: Annotated[float, Field(ge=0, le=1)] = 0.0
    spacing: tuple[float, float, float] | None = None
    quality: Quality | None = None
    semantics: SemanticSpace | None = None
    sources: list[TrainingDomain] = []
    metrics: dict[str, dict[str, float | None]] = {}
    domain_kinds: dict[str, DomainKind] = {}
    method: str = ""
    recipe: str = ""
    package_version: str = Field(default=src_training.__version__)
    created: str = Field(default_factory=_now)
    licence: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _check_channels(self) -> "ModelCard":
        if self.in_channels != self.preprocessing.in_channels:
            raise ValueError(
                f"in_channels is {self.in_channels}; expected the "
                f"{self.preprocessing.in_channels} channels that the preprocessing makes"
            )
        if self.quality is not None and len(self.quality.classes) != len(self.classes) - 1:
            raise ValueError(
                f"quality has {len(self.quality.classes)} classes; expected the "
                f"{len(self.classes) - 1} foreground classes"
            )
        return self

    @property
    def scanner(self) -> str:
        """Word for the source of the training images: ``camera``, ``scanner`` or ``images``."""
        return {"fundus": "camera", "window": "scanner"}.get(self.preprocessing.kind, "images")

    def threshold_for(self, probabilities: Float) -> float:
        """Return the foreground threshold for an image with probabilities (K, H, W)."""
        if self.per_image_threshold and len(self.classes) == 2:
            return expected_dice_threshold(quantise(probabilities[1]))
        return self.threshold

    def build(self) -> SegmentationNetwork:
        """Build the network of this card, with untrained weights.

        Raises
        ------
        InputError
            If the architecture or one of its options is unknown, or a value is
            out of range.
        """
        return build_network(self.architecture, self.in_channels, len(self.classes), **self.options)

    def build_semantics(self, network: SegmentationNetwork) -> SemanticEncoder | None:
        """Build the semantic encoder for a network of this card, with untrained weights."""
        if self.semantics is None:
            return None
        space = self.semantics
        return SemanticEncoder(network.bottleneck_channels, space.grid, space.latent, space.hidden)


def parse_card(text: str, where: Path | str) -> ModelCard:
    """Parse a card from JSON, and migrate it from format 1 if necessary.

    Parameters
    ----------
    text
        JSON of a card, from the header of a model file.
    where
        Name of the file for error messages.

    Raises
    ------
    InputError
        If the text is no JSON, of an unknown format, or a field is not valid.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(
            f"{where}: the card is not JSON ({error}); expected one written by msankd"
        ) from None
    version = content.get("format") if isinstance(content, dict) else None
    if version not in (1, FORMAT):
        raise InputError(
            f"{where}: the card has format {version!s:.40}; expected format 1 or {FORMAT}"
        )
    try:
        return ModelCard.model_validate(_from_format_1(content) if version == 1 else content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        raise InputError(f"{where}: {field} of the card is not valid: {first['msg']}") from None


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Convert the fields of a format 1 card to format 2."""
    migrated = {_RENAMED_SINCE_1.get(name, name): value for name, value in content.items()}
    if isinstance(preprocessing := content.get("preprocessing"), dict):
        migrated["preprocessing"] = migrate_preprocessing(preprocessing)
    migrated["augmentation"] = _augmentation_in(content.get("recipe"))
    if isinstance(options := content.get("options"), dict):
        migrated["options"] = migrate_options(str(content.get("architecture")), options)
    return migrated | {"format": FORMAT}


def _augmentation_in(recipe: object) -> Augmentation | None:
    """Read the augmentation from the YAML of a recipe, since cards of format 1 lack that field.

    A broken recipe gives None, because segmenting does not need it.
    """
    try:
        content = parse_yaml(recipe) if isinstance(recipe, str) else None
        if isinstance(content, dict) and "augmentation" in content:
            return Augmentation.model_validate(content["augmentation"])
    except (yaml.YAMLError, ValidationError):
        pass
    return None
