"""Table of the semantic vectors of patches, with metadata of each patch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_training.io.atomic import write_text
from src_training.io.tables import csv_table

EmbeddingKind = Literal["image", "mask"]


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Semantic vectors of one model: a row for each patch, augmented view and mask.

    Attributes
    ----------
    values
        Semantic vectors (N, d) float64.
    domains, cases
        Name of the domain and of the image of each row.
    corners
        (N, 2) int64, top and left of each patch, pixels of the prepared image.
    views
        (N,) int64; 0: the patch itself, k: its k-th augmented view.
    areas
        (N, foreground classes) float64 in [0, 1], share of each class in the part
        of the patch inside the field of view; NaN without mask.
    dice
        (N,) float64, Dice of the patch, mean over the foreground classes,
        with the batch norm statistics and the threshold of its image. NaN
        without mask, and for rows of kind ``mask``. 1 if prediction and mask
        are empty.
    kinds
        ``image``: E(F) of the patch; ``mask``: z_y of its mask by P-SAE.
    """

    values: NDArray[np.float64]
    domains: tuple[str, ...]
    cases: tuple[str, ...]
    corners: NDArray[np.int64]
    views: NDArray[np.int64]
    areas: NDArray[np.float64]
    dice: NDArray[np.float64]
    kinds: tuple[EmbeddingKind, ...]

    @classmethod
    def of_case(cls, domain: str, case: str, kind: EmbeddingKind, **columns: NDArray[Any]) -> Self:
        """Create the rows of one kind of one image from the other columns by name."""
        count = len(columns["values"])
        return cls(
            domains=(domain,) * count, cases=(case,) * count, kinds=(kind,) * count, **columns
        )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: ArrayLike) -> "EmbeddingTable":
        """Select rows by indices, in their order, or by a mask (N,) bool."""
        indices = np.asarray(indices)
        chosen = np.arange(len(self))[indices] if indices.size else np.arange(0)
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
        self,
        *,
        domain: str | None = None,
        kind: EmbeddingKind | None = None,
        view: int | None = None,
    ) -> "EmbeddingTable":
        """Select the rows of a domain, kind and view; None selects all."""
        chosen = np.ones(len(self), bool)
        if domain is not None:
            chosen &= np.array(self.domains) == domain
        if kind is not None:
            chosen &= np.array(self.kinds) == kind
        if view is not None:
            chosen &= self.views == view
        return self.take(np.flatnonzero(chosen))

    def save_csv(self, path: Path) -> None:
        """Write the table, a line for each row; NaN is written as an empty cell.

        ``top`` and ``left`` are the corner of the patch, pixels of the prepared
        image; ``area_1`` is the first foreground class, ``z_0`` the first
        component of the vector.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        classes, latent = self.areas.shape[1], self.values.shape[1]
        head = ["domain", "case", "kind", "view", "top", "left", "dice"]
        head += [f"area_{k}" for k in range(1, classes + 1)] + [f"z_{i}" for i in range(latent)]
        numbers = np.column_stack([self.dice, self.areas, self.values]).tolist()
        rows = (
            [
                *(self.domains[row], self.cases[row], self.kinds[row]),
                *(int(self.views[row]), *self.corners[row].tolist(), *numbers[row]),
            ]
            for row in range(len(self))
        )
        write_text(path, csv_table(head, rows))


def concatenate(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """Concatenate the rows of one or more tables."""
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
