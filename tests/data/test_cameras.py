"""Images of cameras with different angles are resized to equal pixels per degree."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from src_training.config.domains import DomainRecipe, Phantoms
from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.errors import InputError
from src_training.inference.predictor import Predictor
from src_training.runs.data import load_domain

LEARNT = FundusPreprocessing(diameter=200, angle=30)


def photograph(side):
    """A bright disc in a dark frame, with a darker disc of a tenth of its width at its centre."""
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    away = np.hypot(row, column)
    mask = (away <= side / 20).astype(np.uint8)
    return np.where(away <= side / 2 - 2, 200 - 100 * mask, 0).astype(np.uint8), mask


def domain(angle, side=150):
    image, mask = photograph(side)
    return replace(Domain.from_arrays("lab", [image], [mask]), angle=angle)


@given(angle=st.floats(10, 200), known=st.floats(10, 200), diameter=st.integers(32, 640))
def test_every_camera_shows_as_many_pixels_a_degree(angle, known, diameter):
    learnt = FundusPreprocessing(diameter=diameter, angle=known)
    wanted = diameter * angle / known
    if not 32 <= round(wanted) <= 4096:
        with pytest.raises(InputError, match="expected 32 to 4096"):
            learnt.for_camera(angle)
        return
    seen = learnt.for_camera(angle)
    assert abs(seen.diameter - wanted) <= 0.5
    assert seen == learnt.model_copy(update={"diameter": seen.diameter, "angle": angle})


@pytest.mark.parametrize(
    "learnt", [LEARNT, FundusPreprocessing(), IntensityPreprocessing(percentiles=(0, 100))]
)
def test_a_camera_that_nobody_knows_changes_nothing(learnt):
    assert learnt.for_camera(None) is learnt


def test_without_the_angle_of_the_training_camera_none_is_taken():
    with pytest.raises(InputError, match="angle is 45 degrees, but that of the training camera"):
        FundusPreprocessing(diameter=200).for_camera(45)
    with pytest.raises(InputError, match="but images are prepared as window; expected fundus"):
        WindowPreprocessing().for_camera(45)


@pytest.mark.parametrize("kind", [IntensityPreprocessing, WindowPreprocessing])
def test_only_a_fundus_camera_has_an_angle(kind):
    with pytest.raises(ValidationError, match="angle"):
        kind(angle=30)


@pytest.mark.parametrize(("angle", "wide"), [(None, 200), (30, 200), (45, 300), (15, 100)])
def test_images_of_a_domain_are_prepared_for_its_camera(angle, wide):
    [case] = prepare_cases(domain(angle), LEARNT)
    assert case.image.pixels.shape == (1, wide, wide)
    # The small disc has a tenth of the prepared width, too.
    across = np.flatnonzero(case.image.mask.any(axis=0))
    assert across.size == pytest.approx(wide / 10, abs=3)


def test_the_angle_of_a_domain_stays_with_its_parts():
    assert domain(45).subset(["000"]).angle == 45
    phantoms = Phantoms(scanner="A", images=2, size=64)
    named = DomainRecipe(name="A", phantoms=phantoms, angle=45, only="A_000")
    assert load_domain(named, masks_required=True).angle == 45


def test_a_model_for_another_camera_works_at_its_scale(tiny_model):
    model = tiny_model(FundusPreprocessing(diameter=64, angle=30))
    known = model.card.preprocessing
    image, _ = photograph(120)
    twice = FundusPreprocessing(diameter=2 * known.diameter)
    expected = replace(model, card=model.card.model_copy(update={"preprocessing": twice}))
    found = Predictor(model.for_camera(60), "cpu").predict(image)
    np.testing.assert_array_equal(found, Predictor(expected, "cpu").predict(image))
    assert np.abs(found - Predictor(model, "cpu").predict(image)).max() > 1e-3
    assert model.card.preprocessing == known
