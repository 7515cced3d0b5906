"""Commands about domains: ``inspect``, ``evaluate`` and ``fsd``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from src_training.cli import console
from src_training.cli.console import (
    Angles,
    Channel,
    Device,
    Flips,
    Json,
    Model,
    ResampleMasks,
    write_json,
)
from src_training.cli.score_tables import agreement_table, images_used, score_table, volume_table
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.data.domain import Domain
    from src_training.data.summary import Masks
    from src_training.explore.fsd import FSD
    from src_training.inference.model_file import SegmentationModel


ClassValues = Annotated[
    list[str] | None,
    Parameter(name="--class", help="Values of a class in the masks, e.g. liver=1,2."),
]


def inspect(
    folder: Annotated[Path, Parameter(help="Folder with images/, and perhaps masks/.")],
    *,
    class_values: ClassValues = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    json_file: Json = None,
) -> None:
    """Check every image and mask of a folder; exit code 1 if there is a problem.

    For example:

    ```
    msankd inspect data/ours
    ```
    """
    from src_training.data.summary import CaseSummary, Problem
    from src_training.data.validation import inspect_folder
    from src_training.io.volumes.grid import format_size

    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; expected one with images/")
    table, screen = Table("case", "size", "classes, pixels"), console.screen(json_file)
    cases, problems, notes = list[dict[str, object]](), list[Problem](), list[str]()
    values = _class_values(class_values)
    for finding in inspect_folder(
        folder, None, class_values=values, channel=channel, resample=resample_masks
    ):
        if isinstance(finding, CaseSummary):
            counts = (finding.counts or {}).items()
            classes = ", ".join(f"{name} {count:,}" for name, count in counts) or "no mask"
            size = (finding.slices, *finding.size) if finding.slices else finding.size
            table.add_row(finding.name, format_size(size), classes)
            cases.append({"name": finding.name, "shape": size, "classes": finding.counts})
        elif isinstance(finding, Problem):
            problems.append(finding)
        else:
            notes.append(finding.sentence)
    console.print_table(table, screen)
    screen.print(f"{table.row_count:,} in all", *notes, sep="\n", soft_wrap=True)
    sentences = [problem.sentence for problem in problems]
    console.write_json(json_file, {"cases": cases, "notes": notes, "problems": sentences})
    for sentence in sentences:
        console.err.print(sentence, style="red", highlight=False, soft_wrap=True)
    if problems:
        raise SystemExit(1)


def evaluate(
    *,
    model: Model,
    domain: Annotated[
        list[Path], Parameter(help="Folder with images/ and masks/, of images or volumes.")
    ],
    class_values: ClassValues = None,
    angle: Angles = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    json_file: Json = None,
    flips: Flips = False,
    device: Device = "auto",
) -> None:
    """Score a model on labelled folders: per image and pooled, inside the field of view.

    Every slice of a volume is an image, and each volume is scored as a whole, in mm.
    The interval of mean Dice is a bootstrap over patients, as the names of images tell them.
    Beside it stands the Dice that would have been expected without masks, for each image
    (in the JSON) and on average, and of several domains FSD from the first, where the model has
    semantic vectors.

    For example:

    ```
    msankd evaluate --model vessels --domain data/drive --angle 45 --json scores.json
    msankd evaluate --model liver.safetensors --domain data/ircad --class liver=1,2
    ```
    """
    from src_training.cli.progress import counted
    from src_training.evaluation.evaluate import evaluate as score_domain
    from src_training.inference.model_file import load_model
    from src_training.inference.predictor import Predictor

    loaded = load_model(model)
    predictor = Predictor(loaded, device=device, flips=flips)
    domains = [
        _for_model(each, loaded.card.classes)
        for each in domains_in(
            domain,
            angle,
            masks="required",
            class_values=class_values,
            channel=channel,
            resample_masks=resample_masks,
        )
    ]
    results, screen = [], console.screen(json_file)
    with counted(screen, "scoring", sum(len(each) for each in domains)) as advance:
        for each in domains:
            results.append(
                score_domain(predictor, each, lambda _d, _n, n: advance(n), others_go_on=True)
            )
    scored = [each.subset([*result.images]) for each, result in zip(domains, results, strict=True)]
    for each in domains:
        for note in each.mask_notes:
            screen.print(f"{each.name}: {note}", markup=False, highlight=False)
    distances = {} if loaded.semantics is None else _distances(loaded, scored)
    console.print_table(score_table(loaded.card, results, distances), screen)
    if any(result.agreement for result in results):
        console.print_table(agreement_table(results), screen)
    if loaded.card.quality is None:
        screen.print(
            "The model file does not tell how expected Dice is corrected, so no interval is known; "
            "msankd tune --expected-dice adds it.",
            highlight=False,
        )
    if any(result.volumes for result in results):
        console.print_table(volume_table(results), screen)
    for result in results:
        for volume, how in result.resampled_masks.items():
            note = f"{result.domain}: the mask of {volume} is {how}."
            console.err.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    first = results[0].domain
    fsd = {name: {"from": first, **found.to_dict()} for name, found in distances.items()}
    write_json(
        json_file,
        {each.domain: each.to_dict() | {"fsd": fsd.get(each.domain)} for each in results},
    )
    for result in results:
        for volume, why in result.left_out_volumes.items():
            console.refuse(f"{result.domain}: volume {volume} is not in the table, as {why}")
    _end_if_left_out(domains, {result.domain: result.left_out for result in results})


def fsd(
    *,
    model: Model,
    domain: Annotated[list[Path], Parameter(help="Folder with images/; masks are not needed.")],
    angle: Angles = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    json_file: Json = None,
    device: Device = "auto",
) -> None:
    """Measure the Fréchet semantic distance between domains: how far is a new scanner.

    For example:

    ```
    msankd fsd --model vessels --domain data/chasedb1 --domain data/ours
    ```
    """
    from itertools import combinations

    from src_training.data.prepared import readable_cases
    from src_training.device import find_device
    from src_training.explore.embeddings import image_vectors
    from src_training.explore.fsd import frechet_distance
    from src_training.explore.fsd_matrix import distance_warnings
    from src_training.inference.model_file import load_model

    if len(domain) < 2:
        raise InputError(f"--domain was given {len(domain)} time; expected at least two domains")
    loaded = load_model(model, find_device(device))
    domains = domains_in(domain, angle, channel=channel, resample_masks=resample_masks)
    preprocessing, vectors = loaded.card.preprocessing, {}
    unreadable: dict[str, dict[str, str]] = {each.name: {} for each in domains}
    for each in domains:
        cases = readable_cases(each, preprocessing, unreadable[each.name])
        vectors[each.name] = image_vectors(loaded, each, cases)
    titles = {
        each.name: f"{each.name} ({images_used(len(each) - len(left_out), len(left_out))})"
        if (left_out := unreadable[each.name])
        else each.name
        for each in domains
    }
    table = Table(title=f"Fréchet semantic distance by {loaded.card.name}")
    for column in ("from", "to", "FSD", "95 % interval", "N from", "N to", "covariance"):
        table.add_column(column)
    distances = {
        (a, b): frechet_distance(vectors[a], vectors[b]) for a, b in combinations(vectors, 2)
    }
    for (a, b), distance in distances.items():
        interval = f"{distance.low:.4g} to {distance.high:.4g}"
        counts = (str(distance.n_a), str(distance.n_b))
        cells = (f"{distance.value:.4g}", interval, *counts, distance.covariance)
        table.add_row(titles[a], titles[b], *cells)
    console.print_table(table, console.screen(json_file))
    for sentence in distance_warnings(vectors, distances.values()):
        console.err.print(sentence, style="yellow", highlight=False, soft_wrap=True)
    write_json(
        json_file,
        [
            {"a": a, "b": b, **d.to_dict(), "left_out": {n: unreadable[n] for n in (a, b)}}
            for (a, b), d in distances.items()
        ],
    )
    _end_if_left_out(domains, unreadable)


def _end_if_left_out(domains: list["Domain"], left_out: dict[str, dict[str, str]]) -> None:
    """Print the images that no figure is over, and exit with 1; do nothing if there are none.

    Parameters
    ----------
    domains
        All domains.
    left_out
        Domain -> image -> cause.
    """
    for domain in domains:
        causes = left_out.get(domain.name, {})
        for cause in causes.values():
            console.refuse(cause)
        if causes:
            used = images_used(len(domain) - len(causes), len(causes))
            console.refuse(f"{domain.name}: every figure is over {used} images")
    if any(left_out.values()):
        raise SystemExit(1)


def _distances(model: "SegmentationModel", domains: list["Domain"]) -> dict[str, "FSD"]:
    """Domain -> FSD from the first domain, for domains with at least two vectors."""
    from src_training.explore.embeddings import image_vectors
    from src_training.explore.fsd import frechet_distance

    if len(domains) < 2:
        return {}
    with console.out.status("measuring distances"):
        vectors = {each.name: image_vectors(model, each) for each in domains}
        first, *others = vectors
        return {
            name: frechet_distance(vectors[first], vectors[name])
            for name in others
            if min(len(vectors[first]), len(vectors[name])) > 1
        }


def domains_in(
    folders: list[Path],
    angles: list[float] | None = None,
    *,
    masks: "Masks" = "optional",
    class_values: list[str] | None = None,
    channel: str | None = None,
    resample_masks: bool = False,
) -> list["Domain"]:
    """Load the domains of folders, with the angles of their cameras and values of classes if given.

    Raises
    ------
    InputError
        If the numbers of angles and folders differ, or a folder is given twice
        or cannot be read.
    """
    from src_training.data.domain import Domain

    if angles and len(angles) != len(folders):
        raise InputError(
            f"--angle and --domain were given {len(angles)} and {len(folders)} times; "
            "expected an angle for each domain"
        )
    named, values = named_folders(folders).items(), _class_values(class_values)
    cameras: list[float | None] = [*angles] if angles else [None] * len(folders)
    return [
        replace(
            Domain.from_folder(
                folder,
                name=name,
                class_values=values,
                masks=masks,
                channel=channel,
                resample_masks=resample_masks,
            ),
            angle=angle,
        )
        for (name, folder), angle in zip(named, cameras, strict=True)
    ]


def named_folders(folders: list[Path]) -> dict[str, Path]:
    """Return name -> folder, or path -> folder for equal names; InputError for repeated folders."""
    names = [folder.resolve().name for folder in folders]
    named: dict[str, Path] = {}
    for name, folder in zip(names, folders, strict=True):
        unique = name if names.count(name) == 1 else str(folder)
        if unique in named:
            raise InputError(f"--domain {folder} was given twice; expected different folders")
        named[unique] = folder
    return named


def _for_model(domain: "Domain", classes: list[str]) -> "Domain":
    """Rename the classes of a domain to the model's; InputError if their numbers differ."""
    if len(domain.classes) != len(classes):
        raise InputError(
            f"{domain.describe()}; "
            f"expected the model's {len(classes)} classes, {', '.join(classes)}"
        )
    return replace(domain, classes=tuple(classes))


def _class_values(texts: list[str] | None) -> dict[str, int | list[int]] | None:
    """Parse texts such as ``liver=1,2`` to class name -> stored values; None if there are none."""
    return dict(_class_value(text) for text in texts or ()) or None


def _class_value(text: str) -> tuple[str, int | list[int]]:
    name, _, values = text.partition("=")
    try:
        return name, [int(value) for value in values.split(",")]
    except ValueError:
        raise InputError(
            f"--class {text}: the values are no whole numbers; expected NAME=VALUE,..."
        ) from None
