"""What is explored: models, domains, and the semantic vectors that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_msankd.datasets.layer_export import case_names
from napari_msankd.datasets.selection import Dataset, LayerDataset
from napari_msankd.torch_import import gc_paused, preload
from napari_msankd.widgets.model_combo import display_name
from src_training.errors import InputError
from src_training.runs.directory import ROLES, RunDirectory

if TYPE_CHECKING:
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
    from src_training.data.domain import Domain
    from src_training.explore.embedding_table import EmbeddingTable
    from src_training.inference.model_file import SegmentationModel

_SCANNERS = ("A", "B", "C")
_EYES, _SIDE = 4, 512


@dataclass(frozen=True)
class Request:
    """What a person wants to see.

    Attributes
    ----------
    run
        Whose models are looked at; None for none.
    model
        A model file beside them, or alone; None for none.
    domains
        Chosen folders and layers.
    own_domains
        Whether those of the run's recipe come too.
    phantoms
        Whether synthetic eyes of three cameras come too: the sample.
    views
        Further views of every patch.
    cache
        Folder in which vectors are kept.
    """

    run: Path | None
    model: Path | None
    domains: tuple[Dataset, ...] = ()
    own_domains: bool = False
    phantoms: bool = False
    views: int = 0
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class Extraction:
    """Models, domains and vectors, as the pictures need them.

    Attributes
    ----------
    request
        What was asked for.
    models
        By what they are called in every picture.
    domains
        By name, in the order of every picture.
    tables
        Vectors of each model; those of a run have vectors of masks, too.
    layers
        Name of the opened layer that an image is, by domain and case.
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
    words
        What is under way.
    """

    done: int
    total: int
    words: str


def explore(request: Request) -> Iterator[Progress | MissingEncoder | Extraction]:
    """Read models and domains, encode every patch; the `Extraction` comes last. For a worker.

    Nothing is encoded where the model file has no semantic encoder: `MissingEncoder`
    comes last then.

    Raises
    ------
    InputError
        If there is no model or domain, or one cannot be used.
    """
    yield Progress(0, 0, "Loading the engine…")
    preload()
    with gc_paused():
        from src_training.explore.extraction import extract

    models = _models(request)
    yield Progress(0, 0, "Reading the domains…")
    domains = _domains(request)
    if request.model is not None and models[_called(request)].semantics is None:
        labelled = tuple(domain for domain in domains if domain.labelled)
        yield MissingEncoder(request, labelled)
        return
    autoencoder = _autoencoder(request)
    found = Extraction(request, models, {domain.name: domain for domain in domains})
    found.layers.update(_layers(request, domains))
    for name, model in models.items():
        steps = extract(
            model,
            domains,
            views=request.views,
            autoencoder=autoencoder if name in ROLES.values() else None,
            cache=request.cache,
        )
        for step in steps:
            kept = f", {step.cached} kept from before" if step.cached else ""
            words = f"Vectors of {name}: {step.done} of {step.total} images{kept}"
            yield Progress(step.done, step.total, words)
            if step.table is not None:
                found.tables[name] = step.table
    yield found


def _models(request: Request) -> dict[str, "SegmentationModel"]:
    from src_training.inference.model_file import load_model

    files: dict[str, Path] = {}
    if request.run is not None:
        folder = RunDirectory(request.run).models
        files = {
            words: folder / f"{role}.safetensors"
            for role, words in ROLES.items()
            if (folder / f"{role}.safetensors").exists()
        }
        if not files:
            raise InputError(f"{request.run} has no models yet; expected a run that has finished")
    if request.model is not None:
        files[_called(request)] = request.model
    if not files:
        raise InputError("there is nothing to explore; expected a run or a model")
    return {name: load_model(file) for name, file in files.items()}


def _called(request: Request) -> str:
    """What the model file is called beside the models of a run."""
    assert request.model is not None
    name = display_name(request.model)
    return f"{name} (file)" if name in ROLES.values() else name


def _domains(request: Request) -> list["Domain"]:
    domains: list[Domain] = []
    if request.run is not None and request.own_domains:
        domains += _domains_of_run(request.run)
    if request.phantoms:
        from src_training.data.phantom.camera import phantom_domain

        domains += [
            replace(phantom_domain(scanner, _EYES, _SIDE), name=f"scanner {scanner}")
            for scanner in _SCANNERS
        ]
    domains += [chosen.domain() for chosen in request.domains]
    if not domains:
        raise InputError("there is no domain to look at; expected a folder or open layers")
    return _apart(domains)


def _domains_of_run(run: Path) -> list["Domain"]:
    """What the run learnt from, and what it was tested on."""
    from src_training.config.recipe import Recipe
    from src_training.runs.data import load_run_data

    data = load_run_data(Recipe.load(RunDirectory(run).recipe))
    sources = [replace(each, name=f"{each.name} (learnt)") for each in data.sources]
    return [*sources, *data.tests]


def _layers(request: Request, domains: Sequence["Domain"]) -> Iterator[tuple[tuple[str, str], str]]:
    """The images that are open as layers of their own; slices of a stack are not."""
    chosen = request.domains
    for domain, what in zip(domains[len(domains) - len(chosen) :], chosen, strict=True):
        if isinstance(what, LayerDataset):
            for names, pair in zip(case_names(what.pairs), what.pairs, strict=True):
                if pair.image.indices == ((),):
                    yield (domain.name, names[0]), pair.image.name


def _apart(domains: Sequence["Domain"]) -> list["Domain"]:
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
