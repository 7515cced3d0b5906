"""Where the commands of `msankd` write, and what their options have in common."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from src_training.errors import InputError, printable
from src_training.io.atomic import write_text

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe


def plain_console(**options: Any) -> Console:
    """Make a console that prints every text as it is, whatever a path or a name holds.

    Brackets and colons are no markup; control characters are shown, see `printable`.
    """
    console = Console(markup=False, emoji=False, **options)
    console.push_render_hook(_Printable())
    return console


class _Printable(RenderHook):
    """Every text that a console prints, without control characters that are not its own."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


@dataclass(frozen=True)
class _Shown:
    renderable: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, lines=True), style)


out = plain_console()
err = plain_console(stderr=True)


def refuse(sentence: str) -> None:
    """Print what cannot be done, and why."""
    err.print(sentence, style="red", highlight=False, soft_wrap=True)


Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]
Channel = Annotated[
    str | None,
    Parameter(help="Which images of each case, where a folder has several: flair, 0001, CT."),
]
ResampleMasks = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Resample masks of volumes that lie on another grid of the same space.",
    ),
]
Flips = Annotated[bool, Parameter(help="Average over four flips: slower, smoother.")]
Angles = Annotated[
    list[float] | None,
    Parameter(name="--angle", help="Degrees of each domain's fundus camera, in their order."),
]
Settings = Annotated[
    list[str] | None, Parameter(name="--set", help="key=value, e.g. distillation.gkd.views=2.")
]
Model = Annotated[str, Parameter(help="Name of a shipped model, or a model file.")]


def overrides(settings: list[str] | None) -> dict[str, str]:
    """Fields of a recipe and the text of their values; InputError where there is no ``=``."""
    for setting in settings or ():
        if "=" not in setting:
            raise InputError(f"--set {setting}: there is no '='; expected key=value")
    return {field: value for field, _, value in (each.partition("=") for each in settings or ())}


def load_recipe(path: str | Path, settings: list[str] | None = None) -> "Recipe":
    """Read a recipe that a person named, and print what of it was read as something else."""
    from src_training.config.recipe import Recipe

    notes: list[str] = []
    recipe = Recipe.load(path, overrides(settings), notes)
    for note in notes:
        err.print(f"{note}.", highlight=False, markup=False, soft_wrap=True)
    return recipe


def runs_roots(named: Sequence[Path] | None) -> tuple[Path, ...]:
    """Folders of runs: those that were named, else ``./runs`` where it is, and the person's own."""
    from src_training.runs.library import runs_folder

    if named:
        return tuple(named)
    here = Path("runs")
    return tuple(dict.fromkeys([*([here] if here.is_dir() else []), runs_folder()]))


def say_where(folders: Sequence[Path]) -> None:
    """Print where a list was looked for, and which of the folders are not there."""
    places = [f"{each}" if each.is_dir() else f"{each} (does not exist)" for each in folders]
    out.print(f"Looked in {', '.join(places)}.", highlight=False, soft_wrap=True)


def refuse_written(path: Path) -> None:
    """InputError where a model file is there already: none is written over."""
    if path.exists():
        raise InputError(f"{path} exists already; expected a new file")


def write_json(path: Path | None, content: object) -> None:
    """Write what was asked for as JSON, if a file was named."""
    if path is not None:
        write_text(path, json.dumps(content, indent=1, allow_nan=False))
