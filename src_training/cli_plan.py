"""Commands for before a run: what it will cost, and what is in a domain."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table


def estimate_command(
    recipe: Annotated[str, Parameter(help="YAML file, or a preset's name.")],
    *,
    json_file: Annotated[
        Path | None, Parameter(name="--json", help="Write the estimate; - for the terminal.")
    ] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Time a few real steps of every stage, and reckon what a run will cost here.

    For example:

    ```
    msankd estimate phantom
    msankd estimate chasedb1 --json -
    ```
    """
    from src_training.atomic import write_text
    from src_training.recipe import Recipe
    from src_training.training.estimate import estimate

    found = estimate(Recipe.load(recipe), device)
    content = found.to_dict()
    if json_file == Path("-"):
        print(json.dumps(content, allow_nan=False))
        return
    table = Table("part", "minutes", title=f"{recipe} on {found.device}")
    parts = {"preparing": found.preparing, **found.stage_seconds, "scoring": found.scoring}
    for part, seconds in (parts | {"all": found.seconds}).items():
        table.add_row(part, f"{seconds / 60:.1f}")
    out = Console()
    out.print(table)
    out.print(f"About {found.memory / 1e9:.1f} GB of memory.", highlight=False)
    for note in found.notes:
        out.print(f"{note}.", highlight=False, soft_wrap=True)
    if json_file is not None:
        write_text(json_file, json.dumps(content, indent=1, allow_nan=False))


def inspect_command(
    folder: Annotated[Path, Parameter(help="Folder with images/, and perhaps masks/.")],
) -> None:
    """Look at every image and mask of a folder; exit code 1 if something is wrong.

    For example:

    ```
    msankd inspect data/ours
    ```
    """
    from src_training.data.inspect import CaseLook, Masks, inspect_folder

    masks: Masks = "required" if (folder / "masks").is_dir() else "optional"
    table, problems = Table("case", "pixels", "classes, pixels"), []
    for found in inspect_folder(folder, masks=masks):
        if isinstance(found, CaseLook):
            counts = (found.counts or {}).items()
            said = ", ".join(f"{name} {count:,}" for name, count in counts) or "no mask"
            table.add_row(found.name, f"{found.size[1]} x {found.size[0]}", said)
        else:
            problems.append(found)
    Console().print(table)
    err = Console(stderr=True)
    for problem in problems:
        err.print(problem.sentence, style="red", highlight=False, soft_wrap=True)
    if problems:
        raise SystemExit(1)
