"""MkDocs hook: the reference of the command line and of recipes, made from the code."""

import re
from typing import Any, get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from napari_msankd.widgets.model_form.fields import field_docs, summary
from src_training.alignment.consistency import AlignmentOptions
from src_training.cli import app
from src_training.config.domains import DomainRecipe, Phantoms
from src_training.config.networks import (
    EnsembleTeacher,
    ExternalTeacher,
    NetworkRecipe,
    TeacherRecipe,
)
from src_training.config.recipe import Recipe
from src_training.config.stages import STAGES, StageSchedule
from src_training.data.augmentation import Augmentation
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.distillation import METHODS

Model = type[BaseModel]

INTRODUCTION = (
    "A recipe is a YAML file; a field that is missing has its default. `msankd recipe` and Train & "
    "distil write whole ones, and `--set` of a command changes a field by its dotted name, as in "
    "`--set stages.distil.steps=300`. Unknown fields are refused."
)

SECTIONS: dict[str, list[tuple[str, Model]]] = {
    "Domains, in `sources`, `tests` and `unlabelled`": [
        ("A folder", DomainRecipe),
        ("`phantoms`: synthetic photographs in place of a folder", Phantoms),
    ],
    "`preprocessing`": [
        ("`kind: fundus`", FundusPreprocessing),
        ("`kind: intensity`", IntensityPreprocessing),
        ("`kind: window`", WindowPreprocessing),
    ],
    "`augmentation`": [("", Augmentation)],
    "`teacher`": [
        ("A network, or a model to start from", TeacherRecipe),
        ("Several models", EnsembleTeacher),
        ("`kind: onnx`, a model from elsewhere", ExternalTeacher),
    ],
    "`student`": [("", NetworkRecipe)],
    "`alignment`": [("", AlignmentOptions)],
    "`stages`, each by its name": [("", StageSchedule)],
    "`distillation`, each method": [(f"`{name}`", spec.options) for name, spec in METHODS.items()],
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages."""
    for name, content in (("command_line", command_line()), ("recipe", recipe())):
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def command_line() -> str:
    """The page of `msankd`: its commands, their parameters and defaults."""
    made = app.generate_docs(output_format="markdown")
    pages = made.partition("\n## msankd ")[2]
    intro = (
        "# The command line\n\n`msankd COMMAND --help` says the same. "
        "[Exit codes](../exit-codes.md) have a page of their own; commands stand in their order "
        "of use in [the tutorials](../tutorials/segment.md).\n\n## msankd "
    )
    return intro + pages


def recipe() -> str:
    """The page of the fields of a recipe."""
    stages = ", ".join(f"`{name}`" for name, spec in STAGES.items() if spec.in_recipe)
    lines = [
        "# Fields of a recipe",
        "",
        INTRODUCTION,
        "",
        *table(Recipe),
    ]
    for title, models in SECTIONS.items():
        lines += ["", f"## {title}"]
        if "stages" in title:
            lines += ["", f"Stages: {stages}."]
        for name, model in models:
            lines += [
                "",
                *([f"### {name}", "", first_sentence(model), ""] if name else []),
                *table(model),
            ]
    return "\n".join(lines) + "\n"


def first_sentence(model: Model) -> str:
    """What a model says of itself."""
    return as_code(summary(model))


def table(model: Model) -> list[str]:
    """A row for each field: its name, what it takes, its default and its meaning."""
    docs = field_docs(model)
    rows = ["| field | takes | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in ("kind", "method"):
            continue
        default = (
            "required"
            if field.is_required()
            else f"`{shown(field.get_default(call_default_factory=True))}`"
        )
        meaning = as_code(" ".join(docs.get(name, "").split()))
        rows.append(
            f"| `{name}` | {takes(field.annotation)} | {default} | {meaning} |".replace(
                "| `None` |", "| none |"
            )
        )
    return rows


def shown(value: Any) -> str:
    """A default as YAML would have it, in one line; a part with fields of its own is `…`."""
    if isinstance(value, BaseModel) or value is PydanticUndefined:
        return "…"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def takes(annotation: Any) -> str:
    """A type in words."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "fields below"
    if annotation is type(None):
        return "none"
    inner = get_args(annotation)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if annotation in names:
        return names[annotation]
    text = str(annotation)
    if text.startswith("typing.Literal"):
        return ", ".join(f"`{each}`" for each in inner)
    if text.startswith(("list", "tuple")):
        parts = dict.fromkeys(takes(each) for each in inner if each is not Ellipsis)
        return "list of " + ", ".join(parts)
    if text.startswith("dict"):
        return "fields"
    if text.startswith("typing.Annotated"):
        return takes(inner[0])
    if inner:
        return " or ".join(dict.fromkeys(takes(each) for each in inner))
    return "text"


def as_code(text: str) -> str:
    """Marks of reStructuredText as those of Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", text).replace("|", r"\|")
