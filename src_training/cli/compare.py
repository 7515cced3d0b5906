"""The command ``msankd compare``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from src_training.cli import console
from src_training.cli.console import PRESETS, Device, Settings, load_recipe, shipped_yaml
from src_training.cli.runs import stop_on_signal
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.comparison.plan import PlannedRun


def compare(
    recipe: Annotated[
        list[str], Parameter(completer=PRESETS, help="YAML files, or names of presets.")
    ],
    *,
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder of the comparison.")],
    method: Annotated[
        list[str] | None, Parameter(help="Distil by this instead of the recipe's own.")
    ] = None,
    variants: Annotated[
        str | None,
        Parameter(
            completer=shipped_yaml("ablations"),
            help="YAML of names, each with fields to change; gkd ships its ablation.",
        ),
    ] = None,
    seed: Annotated[list[int] | None, Parameter(help="Instead of the recipe's own.")] = None,
    controls: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Train what each gain is compared with, too: the student alone for as many "
            "seconds, the masks in the same views, the teacher on plain patches.",
        ),
    ] = False,
    leave_one_out: Annotated[
        bool, Parameter(negative=(), help="Test on each source in turn, trained on the others.")
    ] = False,
    settings: Settings = None,
    device: Device = "auto",
    devices: Annotated[int, Parameter(help="Runs at once: a GPU each; processes, on the CPU.")] = 1,
) -> None:
    """Distil by several methods under one teacher, student, data and count of steps.

    A gain is written beside what is left of it over its controls, or that those were not trained;
    `--controls` trains them, which takes two to three times as long again.

    Recipes may differ in name, description, `distillation`, `distil_from` and `alignment` alone;
    their seeds give way to `--seed`, or to that of the first. What they share is trained once for
    each seed. A recipe without a distillation is the student alone, for the spread over seeds and
    with `--leave-one-out` over domains. The same command again goes on where it was interrupted. If
    a run fails, the table has the rows whose runs are done. With `--devices` runs that do not wait
    for one another are done at once, a GPU each.

    For example:

    ```
    msankd compare phantom --method gkd --method emkd --out comparisons/first
    msankd compare phantom --method gkd --method emkd --out comparisons/first --controls
    msankd compare chasedb1 --variants gkd --out comparisons/ablation
    msankd compare ours.yaml ablated.yaml --seed 0 --seed 1 --seed 2 --out comparisons/ours
    msankd compare chasedb1 --variants gkd --seed 0 --seed 1 --devices 8 --out comparisons/two
    msankd compare retina.yaml --leave-one-out --out comparisons/domains
    ```
    """
    from src_training.comparison import plan as planning
    from src_training.comparison.controls import plan_controls
    from src_training.comparison.scores import summarise
    from src_training.reports.comparison import as_markdown, write_comparison
    from src_training.runs.data import load_run_data
    from src_training.runs.directory import RunDirectory
    from src_training.training.distributed.launch import device_names

    console.require_folder(out_dir)
    if RunDirectory(out_dir).recipe.exists():
        raise InputError(
            f"{out_dir} holds a run; expected the folder of a comparison, or a new one"
        )
    recipes = [load_recipe(each, settings) for each in recipe]
    changed = planning.load_variants(variants) if variants else {}
    plan_runs = planning.plan_leave_one_out if leave_one_out else planning.plan_runs
    plan = plan_runs(recipes, method or [], seed or [], out_dir, changed)
    if controls and not any(each.recipe.distils for each in plan):
        raise InputError(
            f"{recipes[0].name} has no distillation, so it has no control; expected one"
        )
    names = device_names(device, devices)
    if not all(each.done for each in plan):
        load_run_data(recipes[0])  # the same in all; a fault of one run is found before the others

    def run(planned: "list[PlannedRun]") -> dict[str, str]:
        if len(names) > 1:
            return _run_concurrently(planned, names)
        return _run_in_turn(planned, device)

    with _report_stop():
        failed = run(plan)
        if controls:
            # Planned after the other runs, because their number of steps depends on measured times.
            control_runs = plan_controls([each for each in plan if each.done])
            failed |= run(control_runs)
            plan += control_runs
    for name, why in failed.items():
        console.err.print(f"{name}: {why}", style="red", highlight=False, soft_wrap=True)
    incomplete = dict.fromkeys(run.label for run in plan if not run.done)
    if complete := [run for run in plan if run.label not in incomplete]:
        comparison = summarise(complete)
        if incomplete:
            comparison.notes.append(
                f"Left out, as one of their runs failed: {', '.join(incomplete)}."
            )
        if others := planning.other_labels(plan):
            comparison.notes.append(
                f"Also finished in this folder, and not among what this command compares: "
                f"{', '.join(others)}."
            )
        write_comparison(comparison, recipes[0].name, out_dir)
        console.print_markdown(as_markdown(comparison, recipes[0].name))
        files = ", ".join(sorted(file.name for file in out_dir.glob("comparison.*")))
        console.written(out_dir, files)
    if failed:
        raise SystemExit(1)


def _run_in_turn(plan: "list[PlannedRun]", device: str) -> dict[str, str]:
    """Run one after another; return name -> reason of runs that failed or need a failed one."""
    from src_training.comparison.plan import check_directories

    check_directories(plan)
    failed: dict[str, str] = {}
    unfinished = set()
    for number, each in enumerate(plan, 1):
        if each.done or each.directory in unfinished:
            continue
        console.out.print(f"{number} of {len(plan)}: {each.name}", highlight=False)
        try:
            if each.shares_with in unfinished:
                raise InputError(each.waiting_reason)
            _run_here(each, device)
        except InputError as error:
            failed[each.name] = str(error)
            unfinished.add(each.directory)
    return failed


def _run_here(run: "PlannedRun", device: str) -> None:
    from src_training.cli.progress import RunDisplay

    with RunDisplay(console.out) as display, stop_on_signal(lambda: display.stepping) as stopping:
        run.run(device, display.show, stopping)


def _run_concurrently(plan: "list[PlannedRun]", devices: list[str]) -> dict[str, str]:
    from src_training.cli.progress import RunsDisplay
    from src_training.comparison.scheduler import run_concurrently

    # The other processes may always have steps to save.
    with RunsDisplay(console.out) as display, stop_on_signal(lambda: True) as stopping:
        return run_concurrently(plan, devices, display, stopping)


@contextmanager
def _report_stop() -> Iterator[None]:
    from src_training.training.interruption import Interrupted

    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        console.err.print("Stopped; the same command goes on.", highlight=False)
        raise SystemExit(130) from None
