"""The documentation inside a bioimage.io folder."""

from src_training.export.preprocessing_spec import preparation, way_back
from src_training.inference.model_card import ModelCard

_README = """\
# {name}

{description}

{method}

## Input

`image`: (batch, {channels}, height, width) float32, any batch, height and width >= 1. bioimage.io \
has no words for this preparation, so **the caller does it**; napari-msankd does it by itself.

{preparation}

The same in Python, with napari-msankd installed:

```python
import onnxruntime
from src_training.io.images import read_image
from src_training.data.preprocessing import {preprocessing}

prepared = {preprocessing}({arguments}).prepare(read_image(image_path))
session = onnxruntime.InferenceSession("weights.onnx")
maps = session.run(None, {{"image": prepared.pixels[None]}})[0][0]
probabilities = prepared.geometry.to_original(maps)
```

## Output

`probabilities`: (batch, {classes}, height, width) float32, sums to 1 over the classes.

{way_back}

## Validation

{metrics}

The graph was compared with PyTorch when it was exported: at most {difference:.1e} apart in \
probability, on images of {sizes} pixels. Where max-unpooling finds two equal maxima, as in a \
frame of zeros or a repeated edge, the last bit of the arithmetic chooses, and runtimes may \
differ by some thousandths in a few pixels there.

## Training data and terms

{domains}

Terms of the weights: {licence}
"""


def readme(card: ModelCard, difference: float, sizes: list[tuple[int, int]]) -> str:
    """Markdown: what the model is, takes and returns, how good it is, and its terms.

    Parameters
    ----------
    difference, sizes
        What the check against PyTorch found, and (height, width) of its images.
    """
    return _README.format(
        name=card.name,
        description=card.description or f"Segments {', '.join(card.classes[1:])}.",
        method=f"Network: {card.architecture}; {card.method or 'trained by napari-msankd'}.",
        channels=card.in_channels,
        classes=len(card.classes),
        preparation=preparation(card.preprocessing),
        preprocessing=type(card.preprocessing).__name__,
        arguments=", ".join(f"{k}={v!r}" for k, v in card.preprocessing.model_dump().items()),
        way_back=way_back(card),
        metrics=_scores(card),
        difference=difference,
        sizes=", ".join(f"{height} x {width}" for height, width in sizes),
        domains=_domains(card),
        licence=card.licence or "not stated.",
    )


def _scores(card: ModelCard) -> str:
    """The scores of the card as a table, domains as columns."""
    if not card.metrics:
        return "The model came without scores."
    names = list(dict.fromkeys(name for scores in card.metrics.values() for name in scores))
    rows = [["", *card.metrics], ["---"] * (1 + len(card.metrics))]
    for name in names:
        values = (scores.get(name) for scores in card.metrics.values())
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _domains(card: ModelCard) -> str:
    if not card.sources:
        return "The model came without a word on its training data."
    return "\n".join(
        f"- {domain.name}: {domain.images} images; {domain.terms or 'terms not stated'}"
        for domain in card.sources
    )
