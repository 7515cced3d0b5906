"""Tables of vectors without a model."""

import numpy as np

from src_training.explore.embedding_table import EmbeddingTable


def table(*parts, dice=None):
    """Rows of parts ``(domain, case, values)`` or ``(domain, case, values, view, kind)``."""
    values, columns = [], []
    for domain, case, rows, *rest in parts:
        view, kind = rest or (0, "image")
        values.append(np.asarray(rows, np.float64))
        columns += [(domain, case, view, kind)] * len(rows)
    domains, cases, views, kinds = zip(*columns, strict=True)
    count = len(columns)
    return EmbeddingTable(
        values=np.concatenate(values),
        domains=domains,
        cases=cases,
        corners=np.zeros((count, 2), np.int64),
        views=np.array(views),
        areas=np.full((count, 1), np.nan),
        dice=np.full(count, np.nan) if dice is None else np.asarray(dice, np.float64),
        kinds=kinds,
    )
