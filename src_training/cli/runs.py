"""Commands about runs: ``recipe``, ``distil``, ``estimate`` and ``runs``."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from src_training.cli import console
from src_training.cli.console import (
    PRESETS,
    Channel,
    Device,
    Json,
    ResampleMasks,
    Settings,
    check_degrees,
    load_recipe,
)
from src_training.errors import InputError
from src_training.formatting import format_bytes

if TYPE_CHECKING:
    from src_training.cli.progress import RunDisplay
    from src_training.runs.directory import RunDirectory
    from src_training.runs.estimate import EstimateProgress


def recipe(
    source: Annotated[
        list[Path], Parameter(help="Folders with images/ and masks/ to train on, one or several.")
    ],
    *,
    out_file: Annotated[Path, Parameter(name="--out", help="YAML file to write.")],
    target: Annotated[
        list[Path] | None,
        Parameter(help="Folder of another scanner's images, to report on; with masks or without."),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        Parameter(help="Folder whose images join the distillation without masks."),
    ] = None,
    student: Annotated[
        str | None,
        Parameter(
            help="wnet, little_unet, enet, mobile_unet …; or a model file, a shipped model or a "
            "run directory to fine-tune; by default wnet, for CT little_unet."
        ),
    ] = None,
    teacher: Annotated[
        str,
        Parameter(
            help="fanet, raunet …; or a model file, a shipped model or a run directory to "
            "fine-tune; or a model from elsewhere, an ONNX file or a bioimage.io folder; or none: "
            "the student is trained alone."
        ),
    ] = "fanet",
    freeze_teacher: Annotated[
        bool, Parameter(negative=(), help="Use the teacher's model as it is.")
    ] = False,
    teacher_output: Annotated[
        str | None,
        Parameter(
            help="What a teacher from elsewhere returns, where its file does not say it: logits, "
            "probabilities or sigmoid."
        ),
    ] = None,
    time: Annotated[
        Literal["quick", "standard", "full"], Parameter(help="How long it trains.")
    ] = "standard",
    angle: Annotated[
        list[float] | None,
        Parameter(
            validator=check_degrees,
            help="Degrees of the fundus cameras of all folders, in the order above.",
        ),
    ] = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
) -> None:
    """Write the recipe that Train & distil in napari would run on these folders.

    For example:

    ```
    msankd recipe data/ours --target data/theirs --out ours.yaml
    msankd recipe data/ours --target data/theirs --angle 30 --angle 45 --out ours.yaml
    msankd recipe data/one data/two --target data/three --out both.yaml
    msankd recipe data/ours --teacher runs/wide --freeze-teacher --student enet --out small.yaml
    ```
    """
    from src_training.config.domains import DomainRecipe
    from src_training.config.presets import preprocessing_for, recipe_for
    from src_training.runs.data import load_domain

    if out_file.exists():
        raise InputError(f"{out_file} is there already; expected the name of a new file")
    folders = [*source, *(target or []), *(unlabelled or [])]
    angles: list[float | None] = [*angle] if angle else [None] * len(folders)
    if len(angles) != len(folders):
        raise InputError(f"--angle was given {len(angles)} times; expected {len(folders)} or none")
    domains = [
        DomainRecipe(
            name=where.resolve().name,
            folder=str(where.resolve()),
            angle=degrees,
            channel=channel,
            resample_masks=resample_masks,
        )
        for where, degrees in zip(folders, angles, strict=True)
    ]
    count = len(source) + len(target or [])
    sources, targets = domains[: len(source)], domains[len(source) : count]
    how = preprocessing_for(load_domain(sources[0], masks_required=True)[0].image)
    made = recipe_for(
        out_file.stem,
        sources,
        targets,
        None if student is None else _network(student),
        time,
        teacher=_teacher(teacher, freeze_teacher, teacher_output),
        unlabelled=domains[count:],
        preprocessing=how,
    )
    made.save(out_file)
    console.written(out_file, f"images are prepared as {how.kind}")


def _teacher(choice: str, frozen: bool, output: str | None) -> dict[str, object] | None:
    """Recipe fields of a teacher: as of `_network`, or of an external model; None for none."""
    from src_training.inference.external.model import DESCRIPTIONS

    if choice == "none":
        if frozen or output:
            raise InputError("--teacher is none; expected no --freeze-teacher or --teacher-output")
        return None

    path = Path(choice)
    if path.suffix == ".onnx" or any((path / name).is_file() for name in DESCRIPTIONS):
        external: dict[str, object] = {"kind": "onnx", "file": str(path.resolve())}
        return external | ({"output": output} if output else {})
    return _network(choice) | ({"train": False} if frozen else {})


def _network(choice: str) -> dict[str, object]:
    """Recipe fields of a network: its name, or the absolute path of a model to start from."""
    from src_training.inference.shipped import shipped_models
    from src_training.networks import NETWORKS

    if choice in NETWORKS:
        return {"name": choice}
    return {"start_from": choice if choice in shipped_models() else str(Path(choice).resolve())}


def distil(
    recipe: Annotated[
        str | None, Parameter(completer=PRESETS, help="YAML file, or a preset's name.")
    ] = None,
    *,
    out_dir: Annotated[Path | None, Parameter(name="--out", help="Run directory to make.")] = None,
    resume: Annotated[Path | None, Parameter(help="Run directory to continue.")] = None,
    control: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Then train the student without a teacher for as many seconds, in DIR-equal-time.",
        ),
    ] = False,
    settings: Settings = None,
    device: Device = "auto",
    devices: Annotated[int, Parameter(help="GPUs to train on at once; processes, on the CPU.")] = 1,
    changed_images: Annotated[
        bool,
        Parameter(negative=(), help="Resume although images changed since the run began."),
    ] = False,
) -> None:
    """Train teacher, semantic autoencoder, student and distilled student by a recipe.

    A recipe whose distillation is empty trains the student alone.

    For example:

    ```
    msankd distil phantom --out runs/first
    msankd distil chasedb1 --out runs/chase --set seed=1
    msankd distil --resume runs/chase
    msankd distil --resume runs/chase --control
    torchrun --nproc-per-node 2 -m src_training distil chasedb1 --out runs/chase
    ```
    """
    from src_training.cli.progress import RunDisplay
    from src_training.config.run_models import better_student, run_verdict
    from src_training.runs.directory import RunDirectory
    from src_training.runs.process import stop_request
    from src_training.runs.run import distil as run
    from src_training.training.distributed.launch import (
        follow_rank_zero,
        is_rank_zero,
        parent_ended,
        process_count,
        stop_when,
    )
    from src_training.training.interruption import Interrupted

    if (recipe is None) == (resume is None):
        raise InputError(
            "distil takes either a recipe or --resume DIR; expected one of them, the recipe a YAML "
            f"file or one of {', '.join(PRESETS.names())}"
        )
    if resume is not None and settings:
        raise InputError("--set changes a recipe; expected none with --resume")
    if changed_images and resume is None:
        raise InputError("--changed-images is for a run that began; expected it with --resume")
    devices = process_count(devices)
    if devices > 1 and not is_rank_zero():
        # Only rank 0 prints.
        console.out.quiet = console.err.quiet = True
    if resume is not None:
        if not RunDirectory(resume).recipe.exists():
            raise InputError(f"{resume}: there is no run in it; expected recipe.yaml of one")
        loaded, folder = load_recipe(RunDirectory(resume).recipe), resume
    else:
        loaded = load_recipe(str(recipe), settings)
        folder = out_dir or Path("runs") / loaded.name
    console.require_folder(folder)
    if control and not loaded.distils:
        raise InputError(f"{loaded.name} has no distillation, so it has no control; expected one")
    if devices > 1 and not is_rank_zero():
        follow_rank_zero()
        with suppress(Interrupted):
            run(loaded, folder, device=device, devices=devices)
        return
    ended, requested = parent_ended(), stop_request(RunDirectory(Path(folder)))
    with (
        RunDisplay(console.out) as display,
        stop_on_signal(lambda: display.stepping) as stopping,
        stop_when(lambda: ended() or requested()),
        _stop_says_how_to_resume(display, RunDirectory(folder)),
    ):
        run(
            loaded,
            folder,
            resume=resume is not None,
            device=device,
            devices=devices,
            listener=display.show,
            stopping=stopping,
            changed_images=changed_images,
        )
    if control:
        _train_control(RunDirectory(folder), device)
    console.print_markdown((folder / "report" / "report.md").read_text(encoding="utf-8"))
    verdict = run_verdict(Path(folder))
    for sentence in (*verdict.by_kind, verdict.control) if verdict else ():
        console.out.print(sentence, highlight=False, soft_wrap=True)
    what = "The student" if verdict is None else f"The better student ({verdict.better})"
    console.out.print(f"{what} is {better_student(folder)}", highlight=False, soft_wrap=True)


def _train_control(directory: "RunDirectory", device: str) -> None:
    """Train or resume the control at equal time of a finished run."""
    from src_training.cli.progress import RunDisplay
    from src_training.comparison.controls import equal_time_run

    planned = equal_time_run(directory)
    if planned.done:
        return
    console.out.print(f"Control at equal time: {planned.directory.path}", soft_wrap=True)
    with (
        RunDisplay(console.out) as display,
        stop_on_signal(lambda: display.stepping) as stopping,
        _stop_says_how_to_resume(display, directory, " --control"),
    ):
        planned.run(device, display.show, stopping)


@contextmanager
def _stop_says_how_to_resume(
    display: "RunDisplay", directory: "RunDirectory", options: str = ""
) -> Iterator[None]:
    """On a stop by the user, print the command that resumes the run, and exit with code 130."""
    from src_training.training.interruption import Interrupted

    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        display.close()
        if directory.recipe.exists():
            console.err.print(
                f"Stopped; go on with: msankd distil --resume {directory.path}{options}",
                highlight=False,
                soft_wrap=True,
            )
        raise SystemExit(130) from None


def estimate(
    recipe: Annotated[str, Parameter(completer=PRESETS, help="YAML file, or a preset's name.")],
    *,
    json_file: Json = None,
    progress: Annotated[
        bool, Parameter(negative=(), help="Print a line of JSON whenever more is known.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Time a few real steps of every stage, and estimate the cost of a run on this machine.

    For example:

    ```
    msankd estimate phantom
    msankd estimate chasedb1 --json -
    ```
    """
    from src_training.cli.progress import EstimateDisplay
    from src_training.runs.estimate import estimate as estimate_run

    loaded, screen = load_recipe(recipe), console.screen(json_file)
    with EstimateDisplay(screen) as display:
        show = _print_progress if progress else display.show
        result = estimate_run(loaded, device, progress=show)
    table = Table("part", "minutes", title=f"{recipe} on {result.device}")
    parts = {"preparing": result.preparing, **result.stage_seconds, "scoring": result.scoring}
    for part, seconds in (parts | {"all": result.seconds}).items():
        table.add_row(part, f"{seconds / 60:.1f}")
    console.print_table(table, screen)
    screen.print(f"About {format_bytes(result.memory)} of memory.", highlight=False)
    for note in result.notes:
        screen.print(f"{note}.", highlight=False, soft_wrap=True)
    console.write_json(json_file, result.to_dict())


def _print_progress(progress: "EstimateProgress") -> None:
    print(json.dumps(asdict(progress), allow_nan=False), flush=True)


def runs(
    roots: Annotated[
        list[Path] | None,
        Parameter(help="Folders of run directories; by default ./runs and your own."),
    ] = None,
    *,
    json_file: Json = None,
) -> None:
    """List your runs, those of comparisons too: how each stands, why it stopped, what it gave.

    ``MSANKD_RUNS`` names another folder than your own.

    For example:

    ```
    msankd runs
    msankd runs comparisons/first
    ```
    """
    from src_training.config.run_models import run_verdict
    from src_training.runs.library import Library
    from src_training.runs.state import find_runs, read_state

    table, screen = (
        Table("run", "state", "stage", "step", "stop reason, or result"),
        console.screen(json_file),
    )
    folders = console.runs_roots(roots)
    listed = [(run.path.relative_to(root), run) for root in folders for run in find_runs(root)]
    if not roots:
        listed += [(path, read_state(path)) for path in Library.default().opened_runs()]
    content = []
    for name, run in listed:
        text, result = run.stop_reason, dict[str, object]()
        verdict = run_verdict(run.path) if run.state == "finished" else None
        if verdict is not None:
            text, result = verdict.sentence, {"better": verdict.better, "verdict": verdict.sentence}
        elif run.state == "finished" and (dice := _dice_of_student(run.path)):
            scores = "; ".join(f"{score:.3f} on {domain}" for domain, score in dice.items())
            text, result = f"Dice of the student: {scores}", {"dice": dice}
        steps = f"{run.step} of {run.steps}" if run.steps else ""
        table.add_row(str(name), run.state, run.stage, steps, text)
        content.append(asdict(run) | result)
    console.print_table(table, screen)
    screen.print(console.looked_in(folders), highlight=False, soft_wrap=True)
    console.write_json(json_file, {"runs": content, "folders": folders})


def _dice_of_student(run: Path) -> dict[str, float]:
    """Domain -> Dice of the student of a finished run that has no other to compare it with."""
    from src_training.runs.library import run_models

    return next((entry.dice for entry in run_models(run) if entry.role == "student"), {})


@contextmanager
def stop_on_signal(keeping: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop after saving completed steps.

    The yielded function tells whether a stop was requested. A second signal interrupts at
    once, and so does the first one if `keeping` tells that there are no steps to save.
    """
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for number, handler in previous.items():
            signal.signal(number, handler)
        if not keeping():
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
