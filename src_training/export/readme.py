"""The README.md of a bioimage.io folder."""

from src_training.export.preprocessing_spec import (
    bioimageio_preprocessing,
    postprocessing_text,
    preprocessing_text,
)
from src_training.inference.model_card import ModelCard
from src_training.io.tables import markdown_table, markdown_text

_README = """\
# {name}

{description}

{method}

## Input

`image`: (batch, {channels}, height, width) float32, any batch, height and width >= 1. {prepared_by}

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

{postprocessing}

## Validation

{metrics}

The graph was compared with PyTorch when it was exported: at most {difference:.1e} apart in \
probability, on images of noise of {sizes} pixels. Where max-unpooling finds two equal maxima, as \
in a frame of zeros or a repeated edge, the last bit of the arithmetic decides, and runtimes may \
differ by some thousandths in a few pixels there.

## Training data and terms

{domains}

Terms of the weights: {licence}
"""


_BY_THE_CALLER = """\
bioimage.io has no steps for this preparation of fundus photographs, so **the caller does it**; \
napari-msankd does it by itself."""

_BY_THE_READER = """\
`rdf.yaml` describes the scaling of intensities (step 2) in bioimage.io's own steps, so programs \
that follow it give the image with its own intensities and scale it themselves. {resizing}The file \
`weights.onnx` alone takes the image after all of these steps:"""

_RESIZED_FIRST = """\
They resize before they scale, as bioimage.io has no step for resizing; napari-msankd scales \
first, so the two differ slightly where intensities are clipped. """


def readme(card: ModelCard, difference: float, sizes: list[tuple[int, int]]) -> str:
    """Describe a model in Markdown: input, output, scores and terms.

    Parameters
    ----------
    card
        Card of the model.
    difference
        Largest difference from PyTorch, see `OnnxCheck`.
    sizes
        Height and width of the images of that check.
    """
    return _README.format(
        name=markdown_text(card.name),
        description=card.description or f"Segments {', '.join(card.classes[1:])}.",
        method=f"Network: {card.architecture}; {card.method or 'trained by napari-msankd'}.",
        channels=card.in_channels,
        classes=len(card.classes),
        prepared_by=_prepared_by(card),
        preparation=preprocessing_text(card.preprocessing),
        preprocessing=type(card.preprocessing).__name__,
        arguments=", ".join(f"{k}={v!r}" for k, v in card.preprocessing.model_dump().items()),
        postprocessing=postprocessing_text(card),
        metrics=_scores(card),
        difference=difference,
        sizes=", ".join(f"{height} x {width}" for height, width in sizes),
        domains=_domains(card),
        licence=card.licence or "not stated.",
    )


def _prepared_by(card: ModelCard) -> str:
    if not bioimageio_preprocessing(card.preprocessing):
        return _BY_THE_CALLER
    resized = card.preprocessing.longer_side is not None
    return _BY_THE_READER.format(resizing=_RESIZED_FIRST if resized else "")


def _scores(card: ModelCard) -> str:
    """Markdown table of the card's scores, with a column for each domain."""
    if not card.metrics:
        return "The model has no scores."
    names = list(dict.fromkeys(name for scores in card.metrics.values() for name in scores))
    rows = []
    for name in names:
        values = (scores.get(name) for scores in card.metrics.values())
        rows.append([name, *("" if value is None else f"{value:.3f}" for value in values)])
    return "\n".join(markdown_table(["", *card.metrics], rows))


def _domains(card: ModelCard) -> str:
    if not card.sources:
        return "The training data are not stated."
    return "\n".join(
        f"- {markdown_text(domain.name)}: {domain.images} images; "
        f"{domain.terms or 'terms not stated'}"
        for domain in card.sources
    )
