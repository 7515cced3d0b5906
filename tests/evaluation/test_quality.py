"""Expected Dice: computation without masks, fitting its correction, and its agreement."""

import json
import math

import numpy as np
import pytest
from safetensors.torch import load_file
from scipy.special import expit

from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.evaluation.adaptation import add_expected_dice
from src_training.evaluation.evaluate import evaluate
from src_training.evaluation.quality.agreement import agreement, auroc_worst_fifth
from src_training.evaluation.quality.fit import fit_quality
from src_training.inference.bn_adaptation import KnownInputs
from src_training.inference.expected_dice import (
    ClassQuality,
    ExpectedDice,
    Quality,
    SourceDice,
    are_foreign,
    compare_with_source,
    expected_by_class,
    expected_dice,
    expected_sizes,
    label_sums,
)
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor

SEEN = ClassQuality(
    slope=1, offset=0, margin=0.4, lowest=0.7, largest=0.2, empty=0, size=0, size_margin=0.1
)
QUALITY = Quality(classes=[SEEN], images=4, restyled=12)


def sums(labelled=100.0, inside=80.0, everywhere=100.0, pixels=1000.0):
    return np.array([[labelled, inside, everywhere, pixels]])


def images(count=6, seed=0, sharp=8.0):
    """Images whose pixels are foreground with a probability that is a logistic function of them."""
    random = np.random.default_rng(seed)
    pixels = [random.random((48, 48)).astype(np.float32) for _ in range(count)]
    masks = [(random.random(x.shape) < expit(sharp * x - 6)).astype(np.uint8) for x in pixels]
    return Domain.from_arrays("lab", pixels, masks)


def test_calibrated_probabilities_tell_dice():
    random = np.random.default_rng(0)
    foreground = expit(random.normal(-2, 2, (300, 300)))
    mask, labels = random.random(foreground.shape) < foreground, foreground > 0.4
    dice = 2 * (mask & labels).sum() / (mask.sum() + labels.sum())
    found = expected_dice(label_sums(np.stack([1 - foreground, foreground]), labels), None)
    assert found.value == pytest.approx(dice, abs=0.01)


def test_without_a_map_no_interval_is_known():
    found = expected_dice(sums(), None)
    assert found.value == 0.8 and math.isnan(found.low) and "no interval known" in str(found)
    assert found.to_dict()["low"] is None


def test_below_what_validation_saw_the_interval_is_wider():
    near, far = (expected_dice(sums(100, inside), QUALITY) for inside in (70, 40))
    assert not near.extrapolated and far.extrapolated and far.remark
    width = [math.log(e.high / (1 - e.high)) - math.log(e.low / (1 - e.low)) for e in (near, far)]
    assert width[0] == pytest.approx(0.8) and width[1] > 1.5


def test_far_more_labelled_than_on_validation_may_be_anything():
    found = expected_dice(sums(300, 290, 300), QUALITY)
    assert found.oversized and found.low == 0 and "far more is labelled" in found.remark


def test_nothing_labelled_was_right_as_often_as_on_validation():
    never = expected_dice(sums(0, 0, 5), QUALITY)
    assert (never.value, never.low, never.high, never.empty) == (0, 0, 1, True)
    often = Quality(classes=[SEEN.model_copy(update={"empty": 0.98})], images=4, restyled=12)
    found = expected_dice(sums(0, 0, 0), often)
    assert (found.value, found.low, found.high) == (0.98, 1, 1)


def test_an_image_is_compared_with_those_of_the_source():
    source = SourceDice(mean=0.8, low=0.7)
    seen = QUALITY.model_copy(update={"source": source})

    def relation(*of):
        return compare_with_source(expected_dice(sums(*of), seen), seen).relation

    assert relation(100, 80) == "as" and relation(100, 60) == "below"
    # The labels cannot be trusted, or are empty.
    assert relation(300, 290, 300) == relation(0, 0, 5) == "unknown"
    assert compare_with_source(expected_dice(sums(), QUALITY), QUALITY) is None
    assert compare_with_source(expected_dice(sums(), None), None) is None


def test_of_an_image_of_another_kind_nothing_is_told():
    found = expected_dice(sums(), QUALITY, [True])
    assert found.foreign and (found.low, found.high) == (0, 1)
    assert str(found) == "cannot be told" and found.remark.startswith("unlike any validation image")
    # The majority of the slices of a stack decides.
    assert not expected_dice(sums(), QUALITY, [True, False]).foreign
    known = KnownInputs(mean=[0.0], axes=[[1.0]], variances=[1.0], noise=1.0, limit=4.0)
    quality = QUALITY.model_copy(update={"known": known})
    assert are_foreign(quality, [np.array([1.0]), np.array([3.0]), None]) == [False, True, False]
    assert are_foreign(QUALITY, [np.array([3.0])]) == are_foreign(None, [None]) == [False]


def test_images_of_another_kind_do_not_count_for_agreement():
    told = ExpectedDice(0.8, 0.7, 0.9, 0.8)
    both = {"a": told, "b": ExpectedDice(0.9, 0, 1, 0.9, foreign=True)}
    found = agreement(both, {"a": 0.8, "b": 0.1})
    assert (found.images, found.foreign, found.error) == (1, 1, 0)
    none = agreement({"b": both["b"]}, {"b": 0.1})
    assert none.images == 0 and none.to_dict()["error"] is None


def test_stripes_are_foreign_to_a_model_of_noise(tiny_model):
    model = tiny_model()
    model.card = model.card.model_copy(update={"bn_mixing": 0.5})
    predictor, lab = Predictor(model, "cpu"), images(8)
    fit_quality(predictor, list(prepare_cases(lab, model.card.preprocessing)))
    alike = images(4, seed=9)
    stripes = [np.tile(np.arange(48) % 2, (48, 1)).astype(np.float32)] * 2
    other = Domain.from_arrays("other", stripes, [stripes[0].astype(int)] * 2)
    for domain, foreign in ((alike, 0), (other, 2)):
        scores = evaluate(predictor, domain)
        assert sum(each.foreign for each in scores.expected.values()) == foreign
        assert scores.agreement["expected Dice"].foreign == foreign


def test_classes_have_maps_of_their_own():
    other = SEEN.model_copy(update={"offset": -1.0})
    both = Quality(classes=[SEEN, other], images=4, restyled=0)
    two = np.concatenate([sums(), sums()])
    each = expected_by_class(two, both, ["background", "liver", "kidney"])
    assert each["liver"].value == pytest.approx(0.8) and each["kidney"].value < 0.7
    mean = expected_dice(two, both)
    assert mean.value == pytest.approx((each["liver"].value + each["kidney"].value) / 2)


def test_expected_sizes_have_an_interval():
    [size] = expected_sizes(sums(), QUALITY)
    assert size.low < size.value == 100 < size.high
    [unknown] = expected_sizes(sums(), None)
    assert unknown.value == 100 and math.isnan(unknown.low)


def test_the_map_is_of_the_validation_images_alone(tiny_model):
    predictor, lab = Predictor(tiny_model(), "cpu"), images()
    cases = list(prepare_cases(lab, predictor.model.card.preprocessing))
    fit_quality(predictor, cases)
    quality = predictor.model.card.quality
    assert (quality.images, quality.restyled) == (6, 36) and quality.classes[0].slope > 0
    fit_quality(predictor, cases)
    assert predictor.model.card.quality == quality
    plain = [each.value for each in evaluate(predictor, lab).expected.values()]
    assert min(plain) <= quality.source.mean <= max(plain) and quality.source.low < min(plain)


def test_the_map_moves_the_mean_to_that_of_validation(tiny_model):
    predictor, lab = Predictor(tiny_model(), "cpu"), images()
    found = [evaluate(predictor, lab)]
    fit_quality(predictor, list(prepare_cases(lab, predictor.model.card.preprocessing)))
    found.append(evaluate(predictor, lab))
    before, after = (abs(each.agreement["expected Dice"].error) for each in found)
    assert after < max(before, 0.02)
    assert found[1].agreement["expected Dice"].coverage >= 0.8


def test_one_validation_image_gives_a_wide_interval(tiny_model):
    widths = []
    for count in (1, 6):
        predictor = Predictor(tiny_model(), "cpu")
        lab = images(count)
        fit_quality(predictor, list(prepare_cases(lab, predictor.model.card.preprocessing)))
        widths.append(predictor.model.card.quality.classes[0].size_margin)
    assert widths[0] > widths[1]


def test_the_expected_size_is_that_of_plain_images(tiny_model):
    sizes, margins = [], []
    for style in (lambda pixels: pixels, lambda pixels: 1 - pixels):
        predictor, lab = Predictor(tiny_model(), "cpu"), images()
        cases = list(prepare_cases(lab, predictor.model.card.preprocessing))
        fit_quality(predictor, cases, style)
        (fitted,) = predictor.model.card.quality.classes
        sizes.append(fitted.size)
        margins.append(fitted.size_margin)
    assert sizes[0] == sizes[1] and margins[0] != margins[1]


def test_the_worst_fifth_is_found_by_low_values():
    truth = np.linspace(0.1, 0.9, 10)
    assert auroc_worst_fifth(truth, truth) == 1 and auroc_worst_fifth(-truth, truth) == 0
    assert auroc_worst_fifth(np.ones(10), truth) == 0.5 and math.isnan(
        auroc_worst_fifth(truth[:4], truth[:4])
    )


def test_agreement_of_one_image_is_defined():
    found = agreement({"a": ExpectedDice(0.8, 0.7, 0.9, 0.8)}, {"a": 0.6})
    assert found.error == pytest.approx(0.2) and found.coverage == 0
    assert json.dumps(found.to_dict(), allow_nan=False) and found.to_dict()["pearson"] is None


def test_the_map_joins_a_file_without_a_change_of_tensors(tiny_model, tmp_path):
    model = tiny_model()
    model.network.half()
    model.save(tmp_path / "old.safetensors")
    predictor = Predictor(load_model(tmp_path / "old.safetensors"), "cpu")
    *_, sentence = add_expected_dice(predictor, images(), tmp_path / "new.safetensors")
    assert "expected Dice" in sentence
    old, new = (load_file(tmp_path / f"{name}.safetensors") for name in ("old", "new"))
    assert old.keys() == new.keys()
    assert all(old[n].dtype == new[n].dtype and bool((old[n] == new[n]).all()) for n in old)
    loaded = load_model(tmp_path / "new.safetensors").card
    assert loaded.quality == predictor.model.card.quality is not None
    assert loaded.threshold == model.card.threshold
