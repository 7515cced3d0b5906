"""The command that compares distillations."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.markdown import Markdown

from src_training.cli import console
from src_training.cli.console import Device
from src_training.cli.runs import stop_on_signal


def compare(
    recipe: Annotated[list[str], Parameter(help="YAML files, or names of presets.")],
    *,
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder of the comparison.")],
    method: Annotated[
        list[str] | None, Parameter(help="Distil by this instead of the recipe's own.")
    ] = None,
    variants: Annotated[
        str | None,
        Parameter(help="YAML of names, each with fields to change; gkd ships its ablation."),
    ] = None,
    seed: Annotated[list[int] | None, Parameter(help="Instead of the recipe's own.")] = None,
    device: Device = "auto",
) -> None:
    """Distil by several methods under one teacher, student, data and count of steps.

    Recipes may differ in `distilling` and `alignment` alone. What they share is trained once
    for each seed. The same command again goes on where it was interrupted;
    runs are done one after the other. For example:

    ```
    msankd compare phantom --method gkd --method emkd --out comparisons/first
    msankd compare chasedb1 --variants gkd --out comparisons/ablation
    msankd compare ours.yaml ablated.yaml --seed 0 --seed 1 --seed 2 --out comparisons/ours
    ```
    """
    from src_training.progress import RunDisplay
    from src_training.recipe import Recipe
    from src_training.training.compare import load_variants, planned_runs
    from src_training.training.comparison import compared
    from src_training.training.comparison_report import as_markdown, write_comparison
    from src_training.training.interruption import Interrupted

    recipes = [Recipe.load(each) for each in recipe]
    changed = load_variants(variants) if variants else {}
    plan = planned_runs(recipes, method or [], seed or [], out_dir, changed)
    for number, each in enumerate(plan, 1):
        if each.done:
            continue
        said = f"{number} of {len(plan)}: {each.label}, seed {each.recipe.seed}"
        console.out.print(said, highlight=False)
        with RunDisplay(console.out) as display, stop_on_signal(display) as stopping:
            try:
                each.run(device, display.show, stopping)
            except (Interrupted, KeyboardInterrupt):
                display.close()
                console.err.print("Stopped; the same command goes on.", highlight=False)
                raise SystemExit(130) from None
    comparison = compared(plan)
    write_comparison(comparison, recipes[0].name, out_dir)
    console.out.print(Markdown(as_markdown(comparison, recipes[0].name)))
    console.out.print(f"Written to {out_dir}/comparison.*", highlight=False, soft_wrap=True)
