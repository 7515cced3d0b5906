"""Extraction of semantic vectors from domains by models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from napari_msankd.datasets.layer_export import case_names
from napari_msankd.datasets.selection import Dataset, LayerDataset
from napari_msankd.explore.state import Sample
from napari_msankd.torch_import import gc_paused, preload
from napari_msankd.widgets.model_combo import display_name
from src_training.errors import InputError
from src_training.runs.directory import ROLES, RunDirectory

if TYPE_CHECKING:
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
    from src_training.data.domain import Domain
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.inference.model_file import SegmentationModel

_SCANNERS: tuple[Literal["A", "B", "C"], ...] = ("A", "B", "C")
_EYES, _SIDE = 4, 512


@dataclass(frozen=True)
class Request:
    """Models, domains and options of an extraction.

    Attributes
    ----------
    run
        Run whose models are explored, or None.
    model
        Model file, in addition to the run or alone, or None.
    datasets
        Chosen folders and layers.
    own_domains
        Whether to include the domains of the run's recipe.
    sample
        Whether to include synthetic fundus images of three cameras.
    views
        Number of augmented views of each patch.
    cache
        Folder of the vector cache.
    """

    run: Path | None
    model: Path | None
    datasets: tuple[Dataset, ...] = ()
    own_domains: bool = False
    sample: bool = False
    views: int = 0
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class Extraction:
    """Models, domains and their semantic vectors.

    Attributes
    ----------
    request
        The request.
    models
        Display name -> model.
    domains
        Name -> domain, in display order.
    tables
        Model -> vectors; for models of a run they include vectors of masks.
    layers
        (domain, case) -> ``unique_id`` of the layer that shows the image: its source, or
        the layer it was opened in later.
    """

    request: Request
    models: dict[str, "SegmentationModel"]
    domains: dict[str, "Domain"]
    tables: dict[str, "EmbeddingTable"] = field(default_factory=dict)
    layers: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MissingEncoder:
    """Result for a model file without a semantic encoder.

    Attributes
    ----------
    request
        The request with the `model`.
    domains
        Domains with masks, to fit an encoder to; may be empty.
    """

    request: Request
    domains: tuple["Domain", ...]


@dataclass(frozen=True)
class Progress:
    """Progress of an extraction or a fit.

    Attributes
    ----------
    done, total
        Number of images of one model, or of steps; both 0 if unknown.
    text
        Status text.
    """

    done: int
    total: int
    text: str


@dataclass(frozen=True, eq=False)
class FirstImage:
    """The first image, to show before the encoding starts.

    Attributes
    ----------
    extraction
        The extraction, still without tables.
    sample
        The patch at the top left.
    image
        (H, W) or (H, W, C).
    """

    extraction: Extraction
    sample: Sample
    image: NDArray[Any]


Step = Progress | MissingEncoder | FirstImage | Extraction


def explore(request: Request) -> Iterator[Step]:
    """Read models and domains, and encode every patch, in a worker.

    The last item is the `Extraction`, or a `MissingEncoder` if the model file has no
    semantic encoder.

    Raises
    ------
    InputError
        If there is no model or domain, or one is invalid.
    """
    yield Progress(0, 0, "Loading PyTorch…")
    preload()
    with gc_paused():
        from src_training.explore.extraction import extract

    models = _models(request)
    yield Progress(0, 0, "Reading images…")
    domains: list[Domain] = []
    for step in _domains(request):
        if isinstance(step, Progress):
            yield step
        else:
            domains.append(step)
    domains = _with_unique_names(domains)
    if request.model is not None and models[_model_name(request)].semantics is None:
        labelled = tuple(domain for domain in domains if domain.labelled)
        yield MissingEncoder(request, labelled)
        return
    autoencoder = _autoencoder(request)
    extraction = Extraction(request, models, {domain.name: domain for domain in domains})
    extraction.layers.update(_layers(request, domains))
    yield _first_image(extraction)
    for name, model in models.items():
        steps = extract(
            model,
            domains,
            views=request.views,
            autoencoder=autoencoder if name in ROLES.values() else None,
            cache=request.cache,
        )
        for step in steps:
            cached = f" ({step.cached} from the cache)" if step.cached else ""
            text = f"Encoding by {name}: image {step.done} of {step.total}{cached}"
            yield Progress(step.done, step.total, text)
            if step.table is not None:
                extraction.tables[name] = step.table
    yield extraction


def _first_image(extraction: Extraction) -> FirstImage:
    domain = next(iter(extraction.domains.values()))
    case = domain[0]
    return FirstImage(extraction, Sample(domain.name, case.name, (0, 0)), case.image)


def _models(request: Request) -> dict[str, "SegmentationModel"]:
    from src_training.inference.model_file import load_model

    files: dict[str, Path] = {}
    if request.run is not None:
        folder = RunDirectory(request.run).models
        files = {
            name: folder / f"{role}.safetensors"
            for role, name in ROLES.items()
            if (folder / f"{role}.safetensors").exists()
        }
        if not files:
            raise InputError(f"{request.run} has no models yet; expected a run that has finished")
    if request.model is not None:
        files[_model_name(request)] = request.model
    if not files:
        raise InputError("there is nothing to explore; expected a run or a model")
    return {name: load_model(file) for name, file in files.items()}


def _model_name(request: Request) -> str:
    """Display name of the model file, distinct from the models of a run."""
    assert request.model is not None
    name = display_name(request.model)
    return f"{name} (file)" if name in ROLES.values() else name


def _domains(request: Request) -> "Iterator[Progress | Domain]":
    if request.run is not None and request.own_domains:
        yield from _domains_of_run(request.run)
    if request.sample:
        yield from _sample_domains()
    elif not request.datasets and not (request.run is not None and request.own_domains):
        raise InputError("there are no images to explore; expected a folder or open layers")
    for dataset in request.datasets:
        yield dataset.domain()


def _sample_domains() -> "Iterator[Progress | Domain]":
    """Yield synthetic domains by three cameras, and a `Progress` after each image."""
    from src_training.data.phantom.camera import draw_phantoms, phantom_domain

    total, done = _EYES * len(_SCANNERS), 0
    for scanner in _SCANNERS:
        cases = []
        for case in draw_phantoms(scanner, _EYES, _SIDE):
            cases.append(case)
            done += 1
            yield Progress(done, total, f"Drawing sample images: {done} of {total}")
        domain = phantom_domain(scanner, _EYES, _SIDE, cases=cases)
        yield replace(domain, name=f"scanner {scanner}")


def _domains_of_run(run: Path) -> list["Domain"]:
    """The source and test domains of a run."""
    from src_training.config.recipe import Recipe
    from src_training.runs.data import load_run_data

    data = load_run_data(Recipe.load(RunDirectory(run).recipe))
    sources = [replace(source, name=f"{source.name} (training)") for source in data.sources]
    return [*sources, *data.tests]


def _layers(request: Request, domains: Sequence["Domain"]) -> Iterator[tuple[tuple[str, str], str]]:
    """(domain, case) and layer id of images that are single layers, not slices of a stack."""
    chosen = request.datasets
    for domain, dataset in zip(domains[len(domains) - len(chosen) :], chosen, strict=True):
        if isinstance(dataset, LayerDataset):
            for names, pair in zip(case_names(dataset.pairs), dataset.pairs, strict=True):
                if pair.image.indices == ((),):
                    yield (domain.name, names[0]), pair.image.layer_id


def _with_unique_names(domains: Sequence["Domain"]) -> list["Domain"]:
    """The same domains, with numbers appended to duplicate names."""
    taken, named = set[str](), []
    for domain in domains:
        name, count = domain.name, 1
        while name in taken:
            count += 1
            name = f"{domain.name} {count}"
        taken.add(name)
        named.append(replace(domain, name=name))
    return named


def _autoencoder(request: Request) -> "SemanticAutoencoder | None":
    if request.run is None:
        return None
    from src_training.runs.load import load_networks

    try:
        return load_networks(request.run).autoencoder
    except InputError:
        # The checkpoints may have been deleted; then masks have no vectors.
        return None
