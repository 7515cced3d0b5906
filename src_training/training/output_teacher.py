"""A teacher of which the outputs alone are used: opened, checked on an image, and copied."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from src_training.config.networks import EnsembleTeacher, ExternalTeacher, find_model
from src_training.config.recipe import Recipe
from src_training.data.preprocessing.geometry import PreparedImage
from src_training.errors import InputError
from src_training.inference.external.networks import (
    EnsembleNetwork,
    OnnxNetwork,
    OutputNetwork,
    read_graph,
)
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import load_model
from src_training.io.atomic import write_bytes, write_text
from src_training.io.yaml_json import parse_json
from src_training.training.stages.base import mean_dice

_USELESS_DICE = 0.1
_ROUNDING = 0.01
"""What probabilities may exceed [0, 1] by, and their sum 1."""


@dataclass(frozen=True, eq=False)
class OutputTeacher:
    """A teacher used as it is, by its outputs alone.

    Attributes
    ----------
    network
        What predicts.
    title
        What it is called in a sentence: the files with their SHA-256.
    files
        Name of each copy in the run -> its content.
    cards
        Cards of an ensemble's members.
    """

    network: OutputNetwork
    title: str
    files: dict[str, bytes]
    cards: tuple[ModelCard, ...] = ()

    def save(self, folder: Path, notes: list[str]) -> None:
        """Copy its files into a run's folder, and what is to be known of it."""
        for name, content in self.files.items():
            if not (folder / name).exists():
                write_bytes(folder / name, content)
        described = {"title": self.title, "notes": notes}
        write_text(folder / DESCRIPTION, json.dumps(described, indent=1, ensure_ascii=False))

    def check(self, image: PreparedImage, name: str) -> list[str]:
        """Try it on an image with mask, and say how it does, a sentence each.

        Raises
        ------
        InputError
            If it cannot take the image, or its outputs are not what they should be.
        """
        pixels = torch.from_numpy(image.padded)[None]
        if isinstance(self.network, OnnxNetwork):
            _check_range(self.network, pixels)
        with torch.no_grad():
            score = mean_dice(self.network.eval(), [image])
        size = f"{image.fov.shape[1]} × {image.fov.shape[0]} px"
        notes = [
            f"The teacher is {self.title} as it is; this run does not train it",
            f"On {name} ({size}, prepared) the teacher has a Dice of {score:.3f}",
            "Stages teacher and tan are left out: of this teacher the outputs alone are used",
        ]
        if score < _USELESS_DICE:
            notes[1] += (
                "; channels, values, normalise and scale of teacher.preprocessing, output or "
                "classes may be others than it was trained with"
            )
        if not self.cards:
            notes.append(
                "What images the teacher was trained on is not known: a test domain may be among "
                "them"
            )
        return notes


DESCRIPTION = "teacher.json"
"""Name of the file in a run's folder that says what its teacher is."""


def open_teacher(recipe: Recipe, classes: tuple[str, ...], folder: Path) -> OutputTeacher | None:
    """The recipe's teacher, where its outputs alone are used; None otherwise.

    Parameters
    ----------
    recipe
        Names the teacher.
    classes
        Names of the classes, background included.
    folder
        Where a run has its copies, which are read instead where they are.

    Raises
    ------
    InputError
        If a file cannot be read, or is of other channels or classes.
    """
    teacher, channels = recipe.teacher, recipe.preprocessing.in_channels
    if isinstance(teacher, ExternalTeacher):
        copy = folder / "teacher.onnx"
        content = read_graph(copy if copy.exists() else Path(teacher.file))
        graph = OnnxNetwork(teacher, content, channels, classes)
        title = f"{Path(teacher.file).name} (SHA-256 {graph.sha256})"
        return OutputTeacher(graph, title, {copy.name: content})
    if isinstance(teacher, EnsembleTeacher):
        return _ensemble(teacher, channels, len(classes), folder)
    return None


def read_description(folder: Path) -> tuple[str, list[str]]:
    """What `OutputTeacher.save` wrote: title and notes."""
    content = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return content["title"], content["notes"]


def _ensemble(teacher: EnsembleTeacher, channels: int, classes: int, folder: Path) -> OutputTeacher:
    models, files = [], {}
    for number, start_from in enumerate(teacher.start_from, 1):
        copy = folder / f"teacher-{number}.safetensors"
        path = copy if copy.exists() else find_model(start_from, "teacher")
        model = load_model(path)
        for what, found, expected in (
            ("number of channels", model.card.in_channels, channels),
            ("number of classes", len(model.card.classes), classes),
        ):
            if found != expected:
                raise InputError(
                    f"teacher.start_from has {start_from}, whose {what} is {found}; "
                    f"expected {expected}"
                )
        models.append(model)
        files[copy.name] = path.read_bytes()
    titles = [f"{model.card.name} (SHA-256 {model.sha256})" for model in models]
    return OutputTeacher(
        EnsembleNetwork([model.network for model in models]),
        f"the mean of {' and '.join(titles)}",
        files,
        tuple(model.card for model in models),
    )


def _check_range(network: OnnxNetwork, pixels: torch.Tensor) -> None:
    """Raise InputError unless the outputs are finite, and what the recipe says they are."""
    found, output = network.raw(pixels), network.model.output
    low, high = float(found.min()), float(found.max())
    name = Path(network.model.file).name
    if not torch.isfinite(found).all():
        raise InputError(f"{name} returns values that are not finite; expected finite ones")
    inside = low >= -_ROUNDING and high <= 1 + _ROUNDING
    if output == "probabilities" and not inside:
        raise InputError(
            f"teacher.output is probabilities, and {name} returns values from {low:.3g} to "
            f"{high:.3g}; expected values from 0 to 1, or output: logits or sigmoid"
        )
    sums = found.sum(1)
    if output == "logits" and inside and float((sums - 1).abs().max()) <= _ROUNDING:
        raise InputError(
            f"teacher.output is logits, and what {name} returns sums to 1 over its channels; "
            "expected output: probabilities"
        )
