"""Extraction of the semantic vectors of domains, with a cache on disk."""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.case import Case
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable, concatenate
from src_training.explore.embeddings import PatchEmbedder
from src_training.inference.model_file import SegmentationModel
from src_training.io.atomic import write_atomic

_FORMAT = 1
_NUMBERS = ("values", "corners", "views", "areas", "dice")


@dataclass(frozen=True)
class ExtractionProgress:
    """Progress of an extraction after an image.

    Attributes
    ----------
    done, total
        Number of images over all domains.
    cached
        Number of images so far that were read from the cache.
    table
        Table of all vectors after the last image; None before.
    """

    done: int
    total: int
    cached: int = 0
    table: EmbeddingTable | None = None


def extract(
    model: SegmentationModel,
    domains: Sequence[Domain],
    *,
    views: int = 0,
    seed: int = 0,
    autoencoder: SemanticAutoencoder | None = None,
    cache: Path | None = None,
) -> Iterator[ExtractionProgress]:
    """Encode all patches of domains, their augmented views and their masks.

    If the iterator is closed early, images that were encoded remain in the cache.

    Parameters
    ----------
    model
        Model with a semantic encoder.
    domains
        At least one domain, with unique names; masks are not needed.
    views
        Number of augmented views of each patch, with the augmentation of the
        model's training.
    seed
        Seed of the views.
    autoencoder
        P-SAE of the run; adds a row of kind ``mask`` for each patch with a mask.
    cache
        Folder with a file for each image, named by a hash of all that its rows
        depend on. There is no caching for a model that was never saved.

    Yields
    ------
    ExtractionProgress
        Progress after each image; the last one has the table.

    Raises
    ------
    InputError
        If there is no domain, names are not unique, the model has no semantic
        encoder or, with views, no augmentation, the autoencoder does not match
        the model, or an image cannot be prepared.
    """
    _check_names(domains)
    embedder = PatchEmbedder(model, views=views, seed=seed, autoencoder=autoencoder)
    tables: list[EmbeddingTable] = []
    cached, total = 0, sum(len(domain) for domain in domains)
    for domain in domains:
        for case in domain.with_neighbours(model.card.preprocessing.neighbours):
            file = None
            if cache is not None and model.sha256 is not None:
                file = cache / f"{_digest(embedder.fingerprint, case, domain.angle)}.npz"
            rows = None if file is None else _read(file, domain.name, case.name)
            cached += rows is not None
            if rows is None:
                subset = domain.subset([case.name])
                [prepared] = prepare_cases(subset, model.card.preprocessing)
                rows = embedder.rows(prepared, domain.name)
                if file is not None:
                    _write(file, rows)
            tables.append(rows)
            done = len(tables)
            table = concatenate(tables) if done == total else None
            yield ExtractionProgress(done, total, cached, table)


def _check_names(domains: Sequence[Domain]) -> None:
    names = [domain.name for domain in domains]
    if not names:
        raise InputError("no domain was given; expected at least one")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two domains are called {repeated[0]}; expected different names")


def _digest(fingerprint: str, case: Case, angle: float | None) -> str:
    """Hash of all that the rows of a case depend on, including the name, which seeds the views."""
    digest = hashlib.sha256(f"{_FORMAT} {fingerprint} {case.name} {angle}".encode())
    for array in (case.image, case.mask, case.fov):
        if array is None:
            digest.update(b"none")
        else:
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write(file: Path, rows: EmbeddingTable) -> None:
    numbers = {name: getattr(rows, name) for name in _NUMBERS}
    kinds = np.array(rows.kinds)
    write_atomic(file, lambda temporary: np.savez(temporary, kinds=kinds, **numbers))


def _read(file: Path, domain: str, case: str) -> EmbeddingTable | None:
    """Read cached rows; None if the file is missing or damaged."""
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            numbers = {name: stored[name] for name in _NUMBERS}
            kinds = tuple(stored["kinds"].tolist())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return EmbeddingTable(
        domains=(domain,) * len(kinds), cases=(case,) * len(kinds), kinds=kinds, **numbers
    )
