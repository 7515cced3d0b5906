"""Semantic vectors of domains with what is known of each: what Explore draws and measures.

Torch is imported only where vectors are made: who looks at a table does not wait for it.
"""

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_training.errors import InputError
from src_training.io.atomic import write_atomic, write_text

if TYPE_CHECKING:
    from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
    from src_training.data.case import Case
    from src_training.data.domain import Domain
    from src_training.inference.model_file import SegmentationModel

Kind = Literal["image", "mask"]

_FORMAT = 1
_NUMBERS = ("values", "corners", "views", "areas", "dice")


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Semantic vectors of one model, a row for each patch, view and mask.

    Attributes
    ----------
    values
        (N, d) float64.
    domains, cases
        Names of the domain and of the image of each row.
    corners
        (N, 2) int64, top and left of each patch on the prepared grid, pixels.
    views
        (N,) int64; 0: the patch as it is, k: its k-th augmented view.
    areas
        (N, foreground classes) float64 in [0, 1], share of the patch inside
        the field of view that each class covers; NaN without mask.
    dice
        (N,) float64, Dice of that patch, mean over the foreground classes,
        by the training's statistics and the model's fixed threshold: a patch
        has none of its own. NaN without mask, and for rows of kind ``mask``.
    kinds
        ``image``: E(F) of the patch; ``mask``: z_y that P-SAE makes of its mask.
    """

    values: NDArray[np.float64]
    domains: tuple[str, ...]
    cases: tuple[str, ...]
    corners: NDArray[np.int64]
    views: NDArray[np.int64]
    areas: NDArray[np.float64]
    dice: NDArray[np.float64]
    kinds: tuple[Kind, ...]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: ArrayLike) -> "EmbeddingTable":
        """The rows at these indices, or where a mask (N,) bool is true, in this order."""
        wanted = np.asarray(indices)
        chosen = np.arange(len(self))[wanted] if wanted.size else np.arange(0)
        return EmbeddingTable(
            values=self.values[chosen],
            domains=tuple(self.domains[i] for i in chosen),
            cases=tuple(self.cases[i] for i in chosen),
            corners=self.corners[chosen],
            views=self.views[chosen],
            areas=self.areas[chosen],
            dice=self.dice[chosen],
            kinds=tuple(self.kinds[i] for i in chosen),
        )

    def where(
        self, *, domain: str | None = None, kind: Kind | None = None, view: int | None = None
    ) -> "EmbeddingTable":
        """The rows of a domain, a kind, a view; None takes any."""
        chosen = np.ones(len(self), bool)
        if domain is not None:
            chosen &= np.array(self.domains) == domain
        if kind is not None:
            chosen &= np.array(self.kinds) == kind
        if view is not None:
            chosen &= self.views == view
        return self.take(np.flatnonzero(chosen))

    def save_csv(self, path: Path) -> None:
        """Write the table, a line for each row; what is not known is left empty.

        ``top`` and ``left`` are the corner of the patch, pixels of the prepared
        image; ``area_1`` is the first foreground class, ``z_0`` the first of the vector.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        classes, latent = self.areas.shape[1], self.values.shape[1]
        writer.writerow(
            ["domain", "case", "kind", "view", "top", "left", "dice"]
            + [f"area_{k}" for k in range(1, classes + 1)]
            + [f"z_{i}" for i in range(latent)]
        )
        known = np.column_stack([self.dice, self.areas, self.values])
        for row, numbers in enumerate(known):
            place = (int(self.views[row]), *self.corners[row].tolist())
            told = ("" if np.isnan(number) else f"{number:.9g}" for number in numbers)
            writer.writerow([self.domains[row], self.cases[row], self.kinds[row], *place, *told])
        write_text(path, text.getvalue())


@dataclass(frozen=True)
class Extracted:
    """How far `extract` has come.

    Attributes
    ----------
    done, total
        Images, over all domains.
    kept
        Of those done, how many were in the cache.
    table
        All vectors, in the last; None before.
    """

    done: int
    total: int
    kept: int = 0
    table: EmbeddingTable | None = None


def joined(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """The rows of at least one table after those of another."""
    return EmbeddingTable(
        values=np.concatenate([table.values for table in tables]),
        domains=tuple(name for table in tables for name in table.domains),
        cases=tuple(name for table in tables for name in table.cases),
        corners=np.concatenate([table.corners for table in tables]),
        views=np.concatenate([table.views for table in tables]),
        areas=np.concatenate([table.areas for table in tables]),
        dice=np.concatenate([table.dice for table in tables]),
        kinds=tuple(kind for table in tables for kind in table.kinds),
    )


def extract(
    model: "SegmentationModel",
    domains: "Sequence[Domain]",
    *,
    views: int = 0,
    seed: int = 0,
    autoencoder: "SemanticAutoencoder | None" = None,
    cache: Path | None = None,
) -> Iterator[Extracted]:
    """Vectors of every patch of domains, of its augmented views and of its mask.

    Closing the iterator stops after the image at hand; what was cached stays.

    Parameters
    ----------
    model
        With its semantic encoder.
    domains
        Of different names; masks are not needed.
    views
        Augmented views of each patch, made as the model's recipe says.
    seed
        Of the views.
    autoencoder
        P-SAE of the run; patches with a mask then have a row of kind ``mask``.
    cache
        Folder of what was made before: a file for each image, named by the
        digest of all that its rows depend on. A model that was never saved
        is not cached.

    Yields
    ------
    Extracted
        After each image; the last holds the table.

    Raises
    ------
    InputError
        If there is no domain, two have one name, the model has no semantic
        encoder or does not say how its views are made, the autoencoder does
        not fit it, or an image cannot be prepared.
    """
    from src_training.data.prepared import prepared_images
    from src_training.explore.patch_embeddings import PatchEmbedder

    _refuse_names(domains)
    encoder = PatchEmbedder(model, views=views, seed=seed, autoencoder=autoencoder)
    parts: list[EmbeddingTable] = []
    kept = 0
    total = sum(len(domain) for domain in domains)
    for domain in domains:
        for case in domain.with_neighbours(model.card.preprocessing.neighbours):
            name, file = case.name, None
            if cache is not None and model.sha256 is not None:
                file = cache / f"{_digest(encoder.stamp, case, domain.angle)}.npz"
            rows = None if file is None else _read(file, domain.name, name)
            kept += rows is not None
            if rows is None:
                alone = domain.subset([name])
                [image] = prepared_images(alone, model.card.preprocessing)
                rows = encoder.rows(image, domain.name)
                if file is not None:
                    _write(file, rows)
            parts.append(rows)
            done = len(parts)
            yield Extracted(done, total, kept, joined(parts) if done == total else None)


def _refuse_names(domains: "Sequence[Domain]") -> None:
    names = [domain.name for domain in domains]
    if not names:
        raise InputError("no domain was given; expected at least one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two domains are called {twice[0]}; expected different names")


def _digest(stamp: str, case: "Case", angle: float | None) -> str:
    """Of all that the rows of a case depend on; its name sets its views."""
    digest = hashlib.sha256(f"{_FORMAT} {stamp} {case.name} {angle}".encode())
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
    """What was cached; None where there is nothing, or nothing whole."""
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            numbers = {name: stored[name] for name in _NUMBERS}
            kinds = tuple(stored["kinds"].tolist())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return EmbeddingTable(
        domains=(domain,) * len(kinds), cases=(case,) * len(kinds), kinds=kinds, **numbers
    )
