"""The command line: `msankd`."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.data.domain import Domain
    from src_training.progress import RunDisplay

app = App(
    name="msankd",
    help="Distil small segmentation networks that still work on another scanner, and use them.",
    default_parameter=Parameter(negative_iterable=()),
)
out = Console()
err = Console(stderr=True)

Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]


@app.command
def distil(
    recipe: Annotated[str | None, Parameter(help="YAML file, or a preset's name.")] = None,
    *,
    out_dir: Annotated[Path | None, Parameter(name="--out", help="Run directory to make.")] = None,
    resume: Annotated[Path | None, Parameter(help="Run directory to continue.")] = None,
    settings: Annotated[
        list[str] | None, Parameter(name="--set", help="key=value, e.g. stages.teacher.steps=100.")
    ] = None,
    device: Device = "auto",
    devices: Annotated[int, Parameter(help="GPUs to train on at once; processes, on the CPU.")] = 1,
) -> None:
    """Train teacher, semantic autoencoder, student and distilled student by a recipe.

    For example:

    ```
    msankd distil phantom --out runs/first
    msankd distil chasedb1 --out runs/chase --set seed=1
    msankd distil --resume runs/chase
    ```
    """
    from src_training.progress import RunDisplay
    from src_training.recipe import Recipe
    from src_training.training.interruption import Interrupted
    from src_training.training.ranks import follow_first, is_first
    from src_training.training.run import RunFolder
    from src_training.training.run import distil as run

    if (recipe is None) == (resume is None):
        raise InputError("distil takes either a recipe or --resume DIR; expected one of them")
    if resume is not None and settings:
        raise InputError("--set changes a recipe; expected none with --resume")
    if resume is not None:
        plan, folder = Recipe.load(RunFolder(resume).recipe), resume
    else:
        plan = Recipe.load(str(recipe), dict(_pair(setting) for setting in settings or ()))
        folder = out_dir or Path("runs") / plan.name
    if devices > 1 and not is_first():
        # What is to be said, the first process says.
        out.quiet = err.quiet = True
        follow_first()
        with suppress(Interrupted):
            run(plan, folder, device=device, devices=devices)
        return
    with RunDisplay(out) as display, _stop_on_signal(display) as stopping:
        try:
            model = run(
                plan,
                folder,
                resume=resume is not None,
                device=device,
                devices=devices,
                listener=display.show,
                stopping=stopping,
            )
        except (Interrupted, KeyboardInterrupt):
            display.close()
            if RunFolder(folder).recipe.exists():
                err.print(f"Stopped; go on with: msankd distil --resume {folder}", highlight=False)
            raise SystemExit(130) from None
    out.print(Markdown((folder / "report" / "report.md").read_text(encoding="utf-8")))
    out.print(f"The distilled student is {model}", highlight=False, soft_wrap=True)


@app.command
def segment(
    inputs: Annotated[list[Path], Parameter(help="Images, or folders of images.")],
    *,
    model: Annotated[str, Parameter(help="Name of a shipped model, or a model file.")],
    out_dir: Annotated[Path, Parameter(name="--out", help="Folder for the labels.")],
    probabilities: Annotated[bool, Parameter(help="Write float32 probabilities too.")] = False,
    flips: Annotated[bool, Parameter(help="Average over four flips: slower, smoother.")] = False,
    threshold: Annotated[float | None, Parameter(help="Instead of the model's own.")] = None,
    device: Device = "auto",
) -> None:
    """Segment images; writes one labels file for each, of the same stem.

    For example:

    ```
    msankd segment photo.png scans/ --model vessels-chasedb1 --out labels
    ```
    """
    from src_training.inference.files import segment_file, writable_names
    from src_training.inference.model import load_model
    from src_training.inference.predictor import Predictor
    from src_training.progress import counted

    files = writable_names(inputs, out_dir)
    predictor = Predictor(load_model(model), device=device, flips=flips)
    with counted(out, "segmenting", len(files)) as advance:
        for file, stem in files.items():
            written, doubts = segment_file(
                predictor, file, out_dir / stem, threshold, with_probabilities=probabilities
            )
            for doubt in doubts:
                err.print(f"{file}: {doubt}", style="yellow", highlight=False, soft_wrap=True)
            advance(str(written))


@app.command
def evaluate(
    *,
    model: Annotated[str, Parameter(help="Name of a shipped model, or a model file.")],
    domain: Annotated[list[Path], Parameter(help="Folder with images/ and masks/.")],
    json_file: Annotated[Path | None, Parameter(name="--json", help="Write every score.")] = None,
    device: Device = "auto",
) -> None:
    """Score a model on labelled folders: per image and pooled, inside the field of view.

    For example:

    ```
    msankd evaluate --model vessels-chasedb1 --domain data/drive --json scores.json
    ```
    """
    from src_training.data.domain import Domain
    from src_training.evaluation.evaluate import evaluate as score_domain
    from src_training.inference.model import load_model
    from src_training.inference.predictor import Predictor
    from src_training.progress import counted

    loaded = load_model(model)
    predictor = Predictor(loaded, device=device)
    domains = [
        _for_model(Domain.from_folder(folder, name=name), loaded.card.classes)
        for name, folder in _named(domain).items()
    ]
    results = []
    with counted(out, "scoring", sum(len(each) for each in domains)) as advance:
        for each in domains:
            results.append(score_domain(predictor, each, lambda _d, _n, name: advance(name)))
    table = Table(title=f"{loaded.card.name}, threshold {loaded.card.threshold:g}")
    table.add_column("inside the field of view")
    for result in results:
        table.add_column(f"{result.domain} ({len(result.images)})", justify="right")
    for name, said in (
        ("dice", "Dice"),
        ("hd95", "HD95, pixels"),
        ("surface_dice", "surface Dice"),
    ):
        table.add_row(f"mean {said}", *(f"{result.mean[name]:.3f}" for result in results))
    intervals = [_interval(result.interval["dice"]) for result in results]
    table.add_row("95 % of mean Dice", *intervals)
    for name in results[0].pooled:
        table.add_row(f"pooled {name}", *(f"{result.pooled[name]:.3f}" for result in results))
    out.print(table)
    _write_json(json_file, {result.domain: result.to_dict() for result in results})


@app.command
def fsd(
    *,
    model: Annotated[str, Parameter(help="Name of a shipped model, or a model file.")],
    domain: Annotated[list[Path], Parameter(help="Folder with images/; masks are not needed.")],
    json_file: Annotated[Path | None, Parameter(name="--json", help="Write the matrix.")] = None,
    device: Device = "auto",
) -> None:
    """Measure the Fréchet semantic distance between domains: how far is a new scanner.

    For example:

    ```
    msankd fsd --model vessels-chasedb1 --domain data/chasedb1 --domain data/ours
    ```
    """
    from itertools import combinations

    from src_training.data.domain import Domain
    from src_training.device import find_device
    from src_training.evaluation.features import image_vectors
    from src_training.evaluation.fsd import frechet_distance
    from src_training.inference.model import load_model

    if len(domain) < 2:
        raise InputError(f"--domain was given {len(domain)} time; expected at least two domains")
    loaded = load_model(model, find_device(device))
    vectors = {
        name: image_vectors(loaded, Domain.from_folder(folder, name=name, masks="optional")).values
        for name, folder in _named(domain).items()
    }
    table = Table(title=f"Fréchet semantic distance by {loaded.card.name}")
    for column in ("from", "to", "FSD", "95 % interval", "N from", "N to", "covariance"):
        table.add_column(column)
    found = []
    for a, b in combinations(vectors, 2):
        distance = frechet_distance(vectors[a], vectors[b])
        found.append({"a": a, "b": b, **distance.to_dict()})
        interval = f"{distance.low:.4g} to {distance.high:.4g}"
        counts = (str(distance.n_a), str(distance.n_b))
        table.add_row(a, b, f"{distance.value:.4g}", interval, *counts, distance.covariance)
    out.print(table)
    _write_json(json_file, found)


@app.command
def models() -> None:
    """List the models that come with the package."""
    from src_training.inference.model import read_card, shipped_models

    table = Table("name", "segments", "network", "trained on", "terms")
    for name, path in shipped_models().items():
        card = read_card(path)
        trained = ", ".join(f"{d.name} ({d.images} images)" for d in card.domains)
        table.add_row(name, ", ".join(card.classes[1:]), card.architecture, trained, card.licence)
    out.print(table)


@app.command
def runs(
    root: Annotated[Path, Parameter(help="Folder of run directories.")] = Path("runs"),
) -> None:
    """List the runs below a folder: how each stands, and why it stopped if it did."""
    from src_training.training.run import find_runs

    table = Table("run", "state", "stage", "step", "last words")
    for run in find_runs(root):
        table.add_row(
            run.path.name, run.state, run.stage, f"{run.step} of {run.steps}", run.last_words
        )
    out.print(table)


def _pair(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: there is no '='; expected key=value")
    return key, value


def _named(folders: list[Path]) -> dict[str, Path]:
    """Folders by name; by path where two have one name."""
    own = [folder.resolve().name for folder in folders]
    named: dict[str, Path] = {}
    for name, folder in zip(own, folders, strict=True):
        told = name if own.count(name) == 1 else str(folder)
        if told in named:
            raise InputError(f"--domain {folder} was given twice; expected different folders")
        named[told] = folder
    return named


def _for_model(domain: "Domain", classes: list[str]) -> "Domain":
    """The domain under the model's class names, where it has as many classes."""
    if len(domain.classes) != len(classes):
        raise InputError(
            f"{domain.found()}; expected the model's {len(classes)} classes, {', '.join(classes)}"
        )
    return replace(domain, classes=tuple(classes))


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _write_json(path: Path | None, content: object) -> None:
    from src_training.atomic import write_text

    if path is not None:
        write_text(path, json.dumps(content, indent=1, allow_nan=False))


@contextmanager
def _stop_on_signal(display: "RunDisplay") -> Iterator[Callable[[], bool]]:
    """Turn the first interrupt into a wish to stop, which keeps the steps done.

    A second one is immediate, and so is any where there is no step to keep.
    """
    wished = False

    def wish(_number: int, _frame: FrameType | None) -> None:
        nonlocal wished
        wished = True
        for number, handler in former.items():
            signal.signal(number, handler)
        if not display.stepping:
            raise KeyboardInterrupt

    former = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wished
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the command line; exit code 2 for input that cannot be used, 130 for a stop."""
    try:
        app(sys.argv[1:])
    except InputError as error:
        err.print(str(error), style="red", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"{where}{error.strerror or error}", style="red", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None
