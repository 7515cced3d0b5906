"""Consoles for the output of `msankd`, and options that several commands share."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.markdown import Markdown
from rich.segment import Segment
from rich.table import Table

from src_training.cli.usage import Choices
from src_training.errors import InputError, printable
from src_training.inference.shipped import shipped_models
from src_training.io.atomic import write_text

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe


def plain_console(**options: Any) -> Console:
    """Create a console that prints text literally.

    It does not interpret brackets and colons as markup, and makes control characters visible;
    see `printable`. Paths and names may contain either.
    """
    console = Console(markup=False, emoji=False, **options)
    console.push_render_hook(_Printable())
    return console


class _Printable(RenderHook):
    """Makes control characters visible in all text, except those that rich itself emits."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_PrintableText(each) for each in renderables]


@dataclass(frozen=True)
class _PrintableText:
    renderable: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, lines=True), style)


out = plain_console()
err = plain_console(stderr=True, soft_wrap=True)


def refuse(sentence: str) -> None:
    """Print an error in red to stderr."""
    err.print(sentence, style="red", highlight=False)


STDOUT = Path("-")
Json = Annotated[
    Path | None,
    Parameter(
        name="--json",
        allow_leading_hyphen=True,
        help="Write the result as JSON to this file; - prints it in place of tables.",
    ),
]
Device = Annotated[
    str,
    Parameter(
        completer=Choices(lambda: ("auto", "cpu", "cuda", "mps")), help="auto, cpu, cuda or mps."
    ),
]
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


def check_degrees(_type: object, angle: float | list[float] | None) -> None:
    """Validate an angle, or several; the comparison is false for NaN."""
    angles = angle if isinstance(angle, list) else [] if angle is None else [angle]
    for each in angles:
        if not 0 < each <= 360:
            raise ValueError(f"{each:g} degrees; expected above 0 and at most 360")


Angle = Annotated[
    float | None,
    Parameter(
        validator=check_degrees, help="Degrees that the fundus camera's field of view spans."
    ),
]
Angles = Annotated[
    list[float] | None,
    Parameter(
        name="--angle",
        validator=check_degrees,
        help="Degrees of each domain's fundus camera, in their order.",
    ),
]
Settings = Annotated[
    list[str] | None, Parameter(name="--set", help="key=value, e.g. distillation.gkd.views=2.")
]


def _better_of_run(_type: object, tokens: Sequence[Token]) -> str:
    """Replace the directory of a run by its better student; keep other values."""
    name = tokens[0].value
    if not Path(name).is_dir():
        return name
    from src_training.config.run_models import better_student

    return str(better_student(Path(name)))


Model = Annotated[
    str,
    Parameter(
        converter=_better_of_run,
        completer=Choices(shipped_models, ".safetensors"),
        help="Name of a shipped model, a model file, or a run: then its better student.",
    ),
]


def shipped_yaml(folder: str) -> Choices:
    """Choices of an option that takes a shipped YAML file in ``config``, or any YAML file."""
    shipped = Path(str(files("src_training"))) / "config" / folder
    return Choices(lambda: sorted(file.stem for file in shipped.glob("*.yaml")), ".yaml")


PRESETS = shipped_yaml("presets")


def overrides(settings: list[str] | None) -> dict[str, str]:
    """Parse ``key=value`` settings to field -> text of the value; InputError without ``=``."""
    for setting in settings or ():
        if "=" not in setting:
            raise InputError(f"--set {setting}: there is no '='; expected key=value")
    return {field: value for field, _, value in (each.partition("=") for each in settings or ())}


def load_recipe(path: str | Path, settings: list[str] | None = None) -> "Recipe":
    """Load a recipe, and print notes on its migration from former versions."""
    from src_training.config.recipe import Recipe

    notes: list[str] = []
    recipe = Recipe.load(path, overrides(settings), notes)
    for note in notes:
        err.print(f"{note}.", highlight=False, markup=False, soft_wrap=True)
    return recipe


def runs_roots(named: Sequence[Path] | None) -> tuple[Path, ...]:
    """Return the folders of runs: the given ones, or ``./runs`` (if it exists) and the default."""
    from src_training.runs.library import runs_folder

    if named:
        return tuple(named)
    here = Path("runs")
    return tuple(dict.fromkeys([*([here] if here.is_dir() else []), runs_folder()]))


def looked_in(folders: Sequence[Path]) -> str:
    """Return a sentence on the searched folders and which of them do not exist."""
    places = [f"{each}" if each.is_dir() else f"{each} (does not exist)" for each in folders]
    return f"Looked in {', '.join(places)}."


def refuse_written(path: Path) -> None:
    """Raise InputError if a model file exists already, so that none is overwritten."""
    if path.exists():
        raise InputError(f"{path} exists already; expected a new file")
    require_folder(path.parent)


def require_folder(folder: Path) -> None:
    """Raise InputError if a folder to write to, or one that it lies in, is a file."""
    found = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if found.exists() and not found.is_dir():
        raise InputError(f"{found} is a file; expected a folder")


def screen(json_file: Path | None) -> Console:
    """Return the console for tables and notes, which is quiet if JSON is printed to stdout.

    Raises
    ------
    InputError
        If the JSON cannot be written because its folder is a file.
    """
    if json_file is not None and json_file != STDOUT:
        require_folder(json_file.parent)
    return plain_console(quiet=True) if json_file == STDOUT else out


def print_table(table: Table, screen: Console | None = None) -> None:
    """Print a table without truncating cells.

    A file or a pipe gets the full width of the table. A terminal that is narrower
    than the table gets a line for each cell, with the title of its column.
    """
    screen = screen or out
    width = screen.measure(table, options=screen.options.update(max_width=10_000)).maximum
    if not screen.is_terminal:
        screen = plain_console(width=width, quiet=screen.quiet)
    if width <= screen.width:
        screen.print(table)
        return
    titles = [str(column.header) for column in table.columns]
    longest = max(map(len, titles))
    if table.title:
        screen.print(f"{table.title}\n")
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for title, cell in zip(titles, map(str, row), strict=True):
            if cell:
                cell = cell.replace("\n", f"\n{'':{longest}}  ")
                screen.print(f"{title:{longest}}  {cell}", highlight=False, soft_wrap=True)
        screen.print()


def print_markdown(text: str) -> None:
    """Print rendered Markdown without truncating the cells of its tables.

    A file or a pipe gets the full width of the widest table. A terminal that is
    narrower gets the Markdown as it is.
    """
    widths = (len(line) for line in text.splitlines() if line.startswith("|"))
    # Rendered, a column is at most as wide as in Markdown.
    width = max(widths, default=0)
    if not out.is_terminal:
        plain_console(width=max(width, out.width)).print(Markdown(text))
    elif width <= out.width:
        out.print(Markdown(text))
    else:
        out.print(text, highlight=False, soft_wrap=True)


def written(path: object, remark: str = "", screen: Console | None = None) -> None:
    """Print that a command has written a file or folder."""
    text = f"Written to {path}" + (f": {remark}" if remark else "")
    (screen or out).print(text, highlight=False, soft_wrap=True)


def write_json(path: Path | None, content: object) -> None:
    """Write a result as JSON to a file, or to stdout; see `Json`."""
    if path == STDOUT:
        print(json.dumps(content, allow_nan=False, default=_plain))
    elif path is not None:
        write_text(path, json.dumps(content, indent=1, allow_nan=False, default=_plain))
        written(path)


def _plain(value: object) -> str:
    """Convert a path to text for JSON; TypeError for other objects."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value)} is not JSON")
