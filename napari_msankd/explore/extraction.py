"""What is explored: models, domains, and the semantic vectors that they make."""

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
    """What is to be extracted.

    Attributes
    ----------
    run
        Whose models are explored; None for none.
    model
        A model file beside them, or alone; None for none.
    datasets
        Chosen folders and layers.
    own_domains
        Whether those of the run's recipe come too.
    sample
        Whether synthetic fundus images of three cameras come too.
    views
        Number of augmented views of each patch.
    cache
        Folder in which vectors are cached.
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
    """Models, domains and vectors, as the pictures need them.

    Attributes
    ----------
    request
        What was to be extracted.
    models
        By the names they have in every picture.
    domains
        By name, in the order of every picture.
    tables
        Vectors of each model; those of a run have vectors of masks, too.
    layers
        ``unique_id`` of the layer that shows an image, by domain and case: that it was taken
        from, or that it was opened as later.
    """

    request: Request
    models: dict[str, "SegmentationModel"]
    domains: dict[str, "Domain"]
    tables: dict[str, "EmbeddingTable"] = field(default_factory=dict)
    layers: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MissingEncoder:
    """A model file has no semantic encoder.

    Attributes
    ----------
    request
        Whose `model` it is.
    domains
        Those of the request that have masks, to fit one to; may be empty.
    """

    request: Request
    domains: tuple["Domain", ...]


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes
    ----------
    done, total
        Images of one model, or steps; 0 of 0 while that is not known.
    text
        What is under way, in words.
    """

    done: int
    total: int
    text: str


@dataclass(frozen=True, eq=False)
class FirstImage:
    """The first image, read before anything is encoded, so that there is something to see.

    Attributes
    ----------
    extraction
        Without tables still.
    sample
        At its top left.
    image
        (H, W) or (H, W, C).
    """

    extraction: Extraction
    sample: Sample
    image: NDArray[Any]


Step = Progress | MissingEncoder | FirstImage | Extraction


def explore(request: Request) -> Iterator[Step]:
    """Read models and domains, encode every patch; the `Extraction` comes last. For a worker.

    Nothing is encoded where the model file has no semantic encoder: `MissingEncoder`
    comes last then.

    Raises
    ------
    InputError
        If there is no model or domain, or one cannot be used.
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
    domains = _with_own_names(domains)
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
    """Name of the model file beside the models of a run."""
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
    """Synthetic fundus images by three cameras, a `Progress` after each image."""
    from src_training.data.phantom.camera import draw_phantoms, phantom_domain

    total = _EYES * len(_SCANNERS)
    for place, scanner in enumerate(_SCANNERS):
        cases = []
        for case in draw_phantoms(scanner, _EYES, _SIDE):
            cases.append(case)
            done = place * _EYES + len(cases)
            yield Progress(done, total, f"Drawing sample images: {done} of {total}")
        domain = phantom_domain(scanner, _EYES, _SIDE, cases=cases)
        yield replace(domain, name=f"scanner {scanner}")


def _domains_of_run(run: Path) -> list["Domain"]:
    """What the run was trained on, and what it was tested on."""
    from src_training.config.recipe import Recipe
    from src_training.runs.data import load_run_data

    data = load_run_data(Recipe.load(RunDirectory(run).recipe))
    sources = [replace(each, name=f"{each.name} (training)") for each in data.sources]
    return [*sources, *data.tests]


def _layers(request: Request, domains: Sequence["Domain"]) -> Iterator[tuple[tuple[str, str], str]]:
    """The images that are open as layers of their own; slices of a stack are not."""
    chosen = request.datasets
    for domain, dataset in zip(domains[len(domains) - len(chosen) :], chosen, strict=True):
        if isinstance(dataset, LayerDataset):
            for names, pair in zip(case_names(dataset.pairs), dataset.pairs, strict=True):
                if pair.image.indices == ((),):
                    yield (domain.name, names[0]), pair.image.layer_id


def _with_own_names(domains: Sequence["Domain"]) -> list["Domain"]:
    """The same domains; one whose name is taken gets a number."""
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
        # Models may outlive the checkpoints they were made of; the masks have no vectors then.
        return None
