"""Tables of `msankd evaluate`."""

import math
from typing import TYPE_CHECKING

from rich.table import Table

from src_training.formatting import format_number, format_range

if TYPE_CHECKING:
    from src_training.evaluation.evaluate import DomainScores
    from src_training.explore.fsd import FSD
    from src_training.inference.model_card import ModelCard


def score_table(
    card: "ModelCard", results: list["DomainScores"], distances: dict[str, "FSD"]
) -> Table:
    """Table of scores with a column for each domain."""
    from src_training.evaluation.quality.images import mean_over_images

    threshold = f"threshold {card.threshold:g}"
    if card.per_image_threshold:
        threshold = "each image's own threshold"
    table = Table(title=f"{card.name}, {threshold}")
    table.add_column("inside the field of view")
    for result in results:
        count = images_used(len(result.images), len(result.left_out))
        table.add_column(f"{result.domain} ({count})", justify="right")
    foreground = card.classes[1:] if len(card.classes) > 2 else ()
    metrics = {"dice": "Dice"} | {f"dice_{name}": f"Dice, {name}" for name in foreground}
    metrics |= {"hd95": "HD95, pixels", "surface_dice": "surface Dice"}
    for name, title in metrics.items():
        table.add_row(f"mean {title}", *(f"{result.mean[name]:.3f}" for result in results))
    intervals = [_interval(result.interval["dice"]) for result in results]
    table.add_row("95 % of mean Dice, over patients", *intervals)
    means = (mean_over_images([*result.expected.values()]) for result in results)
    table.add_row("expected Dice without masks", *map(str, means))
    if distances:
        cells = ("" if (d := distances.get(r.domain)) is None else _fsd(d) for r in results)
        table.add_row(f"FSD from {results[0].domain}", *cells)
    table.add_row("patients", *(str(result.patients) for result in results))
    for name in results[0].pooled:
        table.add_row(f"pooled {name}", *(f"{result.pooled[name]:.3f}" for result in results))
    return table


def images_used(used: int, left_out: int) -> str:
    """Number of images that the figures of a domain are over: ``8``, or ``7 of 8``."""
    return f"{used} of {used + left_out}" if left_out else f"{used}"


def agreement_table(results: list["DomainScores"]) -> Table:
    """Table of how well expected Dice agrees with real Dice in each domain."""
    table = Table("domain", title="expected Dice, without masks, against real Dice")
    columns = {
        "expected": "expected",
        "real": "real",
        "mean_absolute_error": "mean absolute error",
        "pearson": "Pearson",
        "spearman": "Spearman",
        "auroc_worst_fifth": "AUROC, worst fifth",
        "coverage": "in the interval",
        "foreign": "cannot be told",
    }
    for title in columns.values():
        table.add_column(title, justify="right")
    for result in results:
        # Other measures are in the JSON. Without expected Dice there are none.
        if "expected Dice" not in result.agreement:
            continue
        values = result.agreement["expected Dice"].to_dict()
        cells = (
            "" if (v := values[name]) is None else f"{v}" if name == "foreign" else f"{v:.3f}"
            for name in columns
        )
        table.add_row(result.domain, *cells)
    return table


def volume_table(results: list["DomainScores"]) -> Table:
    """Table of scores with a row for each volume."""
    table = Table("domain", "volume", "expected Dice", title="volumes as wholes")
    columns = {
        "dice": "Dice",
        "voe": "VOE",
        "rvd": "RVD",
        "hd95": "HD95, mm",
        "assd": "average surface distance, mm",
    }
    for title in columns.values():
        table.add_column(title, justify="right")
    table.add_column("ml, expected (real)", justify="right")
    for result in results:
        for volume, scores in result.volumes.items():
            cells = (f"{scores[name]:{'+' if name == 'rvd' else ''}.3f}" for name in columns)
            sizes = "\n".join(
                f"{name} {ml['expected']:,.0f}, {ml['low']:,.0f} to {ml['high']:,.0f} "
                f"({ml['real']:,.0f})"
                for name, ml in result.milliliters[volume].items()
            )
            expected = str(result.expected_volumes[volume])
            table.add_row(result.domain, volume, expected, *cells, sizes)
    return table


def _fsd(fsd: "FSD") -> str:
    return f"{format_number(fsd.value)} ({format_range(fsd.low, fsd.high)})"


def _interval(ends: tuple[float, float]) -> str:
    return "one patient" if math.isnan(ends[0]) else f"{ends[0]:.3f} to {ends[1]:.3f}"
