"""Extraction of the semantic vectors of whole domains, with a cache of the images done before."""

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
    """State of an extraction after an image.

    Attributes
    ----------
    done, total
        Images, over all domains.
    cached
        How many of those done were read from the cache.
    table
        All vectors, after the last image; None before.
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
    """Encode every patch of domains, its augmented views and its mask.

    If the iterator is closed early, the images cached so far stay cached.

    Parameters
    ----------
    model
        With its semantic encoder.
    domains
        At least one, with different names; masks are not needed.
    views
        Number of augmented views of each patch, in the style of the model's training.
    seed
        Seed of the views.
    autoencoder
        P-SAE of the run; patches with a mask then have a row of kind ``mask`` too.
    cache
        Folder of a file for each image, named by a digest of all that its
        rows depend on. A model that was never saved is not cached.

    Yields
    ------
    ExtractionProgress
        After each image; the last one holds the table.

    Raises
    ------
    InputError
        If there is no domain, two have the same name, the model has no
        semantic encoder or no augmentation to make views with, the
        autoencoder does not fit it, or an image cannot be prepared.
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
    """Digest of all that the rows of a case depend on; its views depend on its name."""
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
    """The cached rows; None if the file is missing or damaged."""
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            numbers = {name: stored[name] for name in _NUMBERS}
            kinds = tuple(stored["kinds"].tolist())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return EmbeddingTable(
        domains=(domain,) * len(kinds), cases=(case,) * len(kinds), kinds=kinds, **numbers
    )
