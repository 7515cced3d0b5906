"""Teachers that are used by their outputs alone: an ONNX model, or an ensemble of models."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from src_training.config.networks import EnsembleTeacher, ExternalTeacher, find_model
from src_training.config.recipe import Recipe
from src_training.data.preprocessing.geometry import PreparedImage
from src_training.errors import InputError
from src_training.evaluation.verdict import USELESS_DICE
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

_ROUNDING = 0.01
"""Tolerance for probabilities outside [0, 1], and for sums of probabilities other than 1."""


@dataclass(frozen=True, eq=False)
class OutputTeacher:
    """A teacher that is used by its outputs alone, and is not trained.

    Attributes
    ----------
    network
        Network that predicts.
    title
        Description for use in a sentence: file names with their SHA-256.
    files
        File name in the run's folder -> content.
    cards
        Model cards of the members of an ensemble.
    """

    network: OutputNetwork
    title: str
    files: dict[str, bytes]
    cards: tuple[ModelCard, ...] = ()

    def save(self, folder: Path, notes: list[str]) -> None:
        """Copy the files into a run's folder, and write their title and `notes` beside them."""
        for name, content in self.files.items():
            if not (folder / name).exists():
                write_bytes(folder / name, content)
        description = {"title": self.title, "notes": notes}
        write_text(folder / DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False))

    def check(self, image: PreparedImage, name: str) -> list[str]:
        """Segment a labelled image, and return notes on the teacher and its Dice.

        Raises
        ------
        InputError
            If the network refuses the image, or its outputs are not as the recipe declares.
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
        if score < USELESS_DICE:
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
"""Name of the file in a run's folder that describes its teacher."""


def open_teacher(recipe: Recipe, classes: tuple[str, ...], folder: Path) -> OutputTeacher | None:
    """Open the recipe's teacher if the run uses it by its outputs alone; None otherwise.

    Parameters
    ----------
    recipe
        Recipe of the run.
    classes
        Names of the classes, background included.
    folder
        Folder of the run's copies, which are read if they exist.

    Raises
    ------
    InputError
        If a file cannot be read, or has another number of channels or classes.
    """
    teacher, channels = recipe.used_teacher, recipe.preprocessing.in_channels
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
    """Read the title and the notes that `OutputTeacher.save` wrote."""
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
    """Raise InputError unless the outputs are finite and of the kind that the recipe declares."""
    values, output = network.raw(pixels), network.model.output
    low, high = float(values.min()), float(values.max())
    name = Path(network.model.file).name
    if not torch.isfinite(values).all():
        raise InputError(f"{name} returns values that are not finite; expected finite ones")
    inside = low >= -_ROUNDING and high <= 1 + _ROUNDING
    if output == "probabilities" and not inside:
        raise InputError(
            f"teacher.output is probabilities, and {name} returns values from {low:.3g} to "
            f"{high:.3g}; expected values from 0 to 1, or output: logits or sigmoid"
        )
    sums = values.sum(1)
    if output == "logits" and inside and float((sums - 1).abs().max()) <= _ROUNDING:
        raise InputError(
            f"teacher.output is logits, and what {name} returns sums to 1 over its channels; "
            "expected output: probabilities"
        )
