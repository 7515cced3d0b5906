"""Fitting a finished model to labelled images without training, and saving it as a new file."""

from collections.abc import Iterator
from pathlib import Path

from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.errors import InputError
from src_training.evaluation.calibration import calibrate, update_card
from src_training.evaluation.evaluate import evaluate
from src_training.evaluation.quality.agreement import agreement
from src_training.evaluation.quality.fit import fit_quality
from src_training.inference.model_file import copy_with_card
from src_training.inference.predictor import Predictor


def adapt_to_domain(predictor: Predictor, domain: Domain, file: Path) -> Iterator[str]:
    """Calibrate a finished model on labelled images of one scanner, and save it as a new file.

    The threshold adapts to how much the experts of that domain annotate, and batch-norm
    mixing to the appearance of its images. If the iterator is closed before its end,
    nothing is written.

    Parameters
    ----------
    predictor
        Predictor whose model is changed and named after `file`; the description on its card
        names the domain.
    domain
        At least one image, each with a mask of the model's classes.
    file
        ``.safetensors`` file to write or replace.

    Yields
    ------
    str
        A sentence before each step, and a last one with Dice before and after
        when the file is written.

    Raises
    ------
    InputError
        If `file` is the model's own, or an image cannot be prepared, segmented or scored.
    OSError
        If the file cannot be written.
    """
    model = predictor.model
    _refuse_itself(predictor, file)
    yield "Scoring the model as it is…"
    images = list(prepare_cases(domain, model.card.preprocessing))
    before = evaluate(predictor, domain, cases=images).mean["dice"]
    yield "Choosing statistics, calibration and threshold…"
    calibrate(predictor, images)
    yield "Fitting expected Dice…"
    fit_quality(predictor, images)
    yield "Scoring the adapted model…"
    after = evaluate(predictor, domain, cases=images).mean["dice"]
    note = f"Tuned to {len(images)} images of {domain.name}."
    update_card(
        predictor,
        name=file.stem,
        description=f"{model.card.description} {note}".strip(),
        # The scores on the card were measured with the former threshold.
        metrics={},
    )
    model.save(file)
    yield f"Dice {before:.3f} before, {after:.3f} on the images it was tuned to"


def add_expected_dice(predictor: Predictor, domain: Domain, file: Path) -> Iterator[str]:
    """Fit only the correction of expected Dice, and write the model with it as a new file.

    The tensors of the file and the labels of the model do not change.
    If the iterator is closed before its end, nothing is written.

    Parameters
    ----------
    predictor
        Predictor whose model was loaded from a file; its card is changed.
    domain
        Images that the model was not trained on, each with a mask of its classes.
    file
        ``.safetensors`` file to write or replace.

    Yields
    ------
    str
        A sentence before each step, and a last one when the file is written.

    Raises
    ------
    InputError
        If `file` is the model's own, or an image cannot be prepared or segmented.
    OSError
        If the file cannot be written.
    """
    _refuse_itself(predictor, file)
    source = predictor.model.source
    assert source is not None
    yield "Fitting expected Dice…"
    images = list(prepare_cases(domain, predictor.model.card.preprocessing))
    fit_quality(predictor, images)
    yield "Comparing expected with real Dice…"
    scores = evaluate(predictor, domain, cases=images)
    copy_with_card(source, predictor.model.card, file)
    real = {name: each["dice"] for name, each in scores.images.items()}
    result = agreement(scores.expected, real)
    yield (
        f"expected Dice {result.expected:.3f}, real {result.real:.3f} "
        f"on the {result.images} images it was fitted to"
    )


def _refuse_itself(predictor: Predictor, file: Path) -> None:
    source = predictor.model.source
    if source is not None and file.resolve() == source.resolve():
        raise InputError(f"{file} is the model to adapt; expected another file")
