"""Commands about semantic vectors: ``features``, ``report`` and ``align``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from src_training.cli import console
from src_training.cli.console import Angles, Channel, Device, Json, ResampleMasks
from src_training.cli.domains import ClassValues, domains_in
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
    from src_training.data.domain import Domain
    from src_training.evaluation.quality.images import ImageQuality
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.inference.model_file import SegmentationModel

Folders = Annotated[list[Path], Parameter(help="Folder with images/; masks are not needed.")]
Views = Annotated[int, Parameter(help="Augmented views of each patch.")]
Seed = Annotated[int, Parameter(help="Seed of everything random.")]


def features(
    *,
    model: console.Model,
    domain: Folders,
    out_file: Annotated[Path, Parameter(name="--out", help="CSV file to write.")],
    angle: Angles = None,
    class_values: ClassValues = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    views: Views = 0,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Write the semantic vectors of every patch of folders, with Dice and areas if masked.

    The columns top and left are the corner of a patch, pixels of the prepared image.

    For example:

    ```
    msankd features --model vessels --domain data/ours --out vectors.csv
    ```
    """
    from src_training.device import find_device
    from src_training.inference.model_file import load_model

    loaded = load_model(model, find_device(device))
    table = _extract(
        loaded,
        domains_in(
            domain,
            angle,
            class_values=class_values,
            channel=channel,
            resample_masks=resample_masks,
        ),
        views,
        seed,
    )
    table.save_csv(out_file)
    console.written(out_file, f"{len(table)} vectors")


def report(
    *,
    out_file: Annotated[Path, Parameter(name="--out", help="HTML file to write.")],
    model: Annotated[
        str | None, Parameter(help="Name of a shipped model, or a model file.")
    ] = None,
    run: Annotated[
        Path | None, Parameter(help="Run directory: teacher, student alone and distilled.")
    ] = None,
    domain: Annotated[
        list[Path] | None, Parameter(help="Folder with images/; the domains of the run if missing.")
    ] = None,
    angle: Angles = None,
    class_values: ClassValues = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    method: Annotated[
        Literal["pca", "tsne", "umap"], Parameter(help="Projection of the vectors.")
    ] = "pca",
    seed: Seed = 0,
    json_file: Json = None,
    csv_file: Annotated[
        Path | None, Parameter(name="--csv", help="Write a line for each image.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Write an HTML page on whether a model will work: a verdict for each domain, and why.

    Expected Dice of every image, distances of semantic vectors (FSD) from the first domain,
    which images to annotate first, and what would help. No masks are needed. Of a run the
    verdict is on its last model, the distilled student if there is one.

    For example:

    ```
    msankd report --run runs/chase --out chase.html
    msankd report --model vessels --domain data/chasedb1 --domain data/ours --out us.html
    ```
    """
    from src_training.explore.suitability import judge_suitability
    from src_training.io.atomic import write_text
    from src_training.io.tables import csv_table
    from src_training.reports.domains import domains_page

    if (model is None) == (run is None):
        raise InputError("report takes either --model or --run; expected one of them")
    if angle and not domain:
        raise InputError("--angle goes with --domain; expected both, the run knows its cameras")
    if run is None and not domain:
        raise InputError("report of a model takes --domain FOLDER; expected at least one")
    domains = (
        domains_in(
            domain,
            angle,
            class_values=class_values,
            channel=channel,
            resample_masks=resample_masks,
        )
        if domain
        else _domains_of(Path(str(run)))
    )
    tables = {}
    for name, loaded, autoencoder in _models(model, run, device):
        tables[name], judged = _extract(loaded, domains, 0, seed, autoencoder), loaded
    qualities = _qualities(judged, domains, device)
    title = f"{model or Path(str(run)).resolve().name} on {', '.join(d.name for d in domains)}"
    with console.out.status("measuring distances"):
        suitability = judge_suitability(
            judged.card, domains, qualities, [*tables.values()][-1], seed=seed
        )
        page = domains_page(title, tables, method=method, seed=seed, suitability=suitability)
    write_text(out_file, page)
    screen = console.screen(json_file)
    for each in suitability.domains:
        sentences = suitability.sentences(each)
        screen.print(*sentences, sep="\n  ", highlight=False, soft_wrap=True)
    console.written(out_file, screen=screen)
    console.write_json(json_file, suitability.to_dict())
    if csv_file is not None:
        head, *rows = suitability.rows()
        write_text(csv_file, csv_table([str(title) for title in head], rows))
        console.written(csv_file, screen=screen)


def align(
    model: console.Model,
    *,
    domain: Annotated[Path, Parameter(help="Folder with images/ and masks/.")],
    out_file: Annotated[Path, Parameter(name="--out", help="Model file to write.")],
    angle: Angles = None,
    channel: Channel = None,
    resample_masks: ResampleMasks = False,
    steps: Annotated[int, Parameter(help="Steps of each of the three stages.")] = 150,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Give a model the semantic encoder that it lacks: P-SAE and SAN, the network is not changed.

    For example:

    ```
    msankd align bare.safetensors --domain data/ours --out aligned.safetensors
    ```
    """
    from src_training.cli.progress import counted
    from src_training.device import find_device
    from src_training.inference.model_file import load_model
    from src_training.training.semantic_encoder import STAGES, fit_semantic_encoder
    from src_training.training.train_step import StepResult

    console.refuse_written(out_file)
    loaded = load_model(model, find_device(device))
    [labelled] = domains_in([domain], angle, channel=channel, resample_masks=resample_masks)
    with counted(console.out, "fitting", STAGES * steps) as advance:
        for result in fit_semantic_encoder(loaded, labelled, steps=steps, seed=seed):
            if isinstance(result, StepResult):
                advance(f"{result.stage}, loss {result.total:.3f}")
            else:
                result.save(out_file)
    console.written(out_file)


def _domains_of(run: Path) -> list["Domain"]:
    """Load the training images of a run's sources, and its test domains."""
    from src_training.config.recipe import Recipe
    from src_training.runs.data import load_run_data
    from src_training.runs.directory import RunDirectory

    data = load_run_data(Recipe.load(RunDirectory(run).recipe))
    training = [replace(each, name=f"{each.name}, training") for each in data.sources]
    return [*training, *data.tests]


def _models(
    model: str | None, run: Path | None, device: str
) -> Iterator[tuple[str, "SegmentationModel", "SemanticAutoencoder | None"]]:
    """Iterate over names and models, each with the autoencoder of its run."""
    from src_training.device import find_device
    from src_training.inference.model_file import load_model
    from src_training.runs.directory import ROLES, RunDirectory
    from src_training.runs.load import load_networks

    torch_device = find_device(device)
    if run is None:
        loaded = load_model(str(model), torch_device)
        yield loaded.card.name, loaded, None
        return
    folder = RunDirectory(run)
    if not folder.model.exists():
        raise InputError(f"{run} has no models yet; expected a run that is finished")
    autoencoder = load_networks(run).autoencoder.to(torch_device)
    for role in (role for role in ROLES if folder.role_model(role).exists()):
        yield role, load_model(folder.role_model(role), torch_device), autoencoder


def _extract(
    model: "SegmentationModel",
    domains: list["Domain"],
    views: int,
    seed: int,
    autoencoder: "SemanticAutoencoder | None" = None,
) -> "EmbeddingTable":
    from src_training.cli.progress import counted
    from src_training.explore.extraction import ExtractionProgress, extract

    names = [name for domain in domains for name in domain.names]
    progress = ExtractionProgress(0, len(names))
    with counted(console.out, f"encoding by {model.card.name}", len(names)) as advance:
        for progress in extract(model, domains, views=views, seed=seed, autoencoder=autoencoder):
            advance(names[progress.done - 1])
    assert progress.table is not None
    return progress.table


def _qualities(
    model: "SegmentationModel", domains: list["Domain"], device: str
) -> dict[str, list["ImageQuality"]]:
    """Domain -> quality of each image."""
    from src_training.cli.progress import counted
    from src_training.evaluation.quality.images import image_quality
    from src_training.inference.predictor import Predictor

    predictor = Predictor(model, device=device)
    qualities: dict[str, list[ImageQuality]] = {}
    total = sum(len(domain) for domain in domains)
    with counted(console.out, f"segmenting by {model.card.name}", total) as advance:
        for domain in domains:
            qualities[domain.name] = []
            for each in image_quality(predictor, domain):
                qualities[domain.name].append(each)
                advance(each.case)
    return qualities
