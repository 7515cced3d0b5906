"""The verdict on a domain: expected Dice and FSD together, without a mask."""

import json

import numpy as np
import pytest

from src_training.data.domain import Domain
from src_training.data.preprocessing import FundusPreprocessing, IntensityPreprocessing
from src_training.evaluation.quality.images import ImageQuality, image_quality
from src_training.explore.suitability import judge_suitability
from src_training.inference.expected_dice import ClassQuality, ExpectedDice, Quality, SourceDice
from src_training.inference.model_card import ModelCard
from src_training.inference.predictor import Predictor
from tests.explore.tables import table
from tests.explore.test_fsd_verdict import images

SEEN = ClassQuality(
    slope=1, offset=0, margin=0.4, lowest=0.5, largest=0.2, empty=0, size=0, size_margin=0.1
)
QUALITY = Quality(classes=[SEEN], images=4, restyled=12, source=SourceDice(mean=0.8, low=0.7))


def card(preprocessing=None, quality=QUALITY):
    return ModelCard(
        name="tiny",
        architecture="enet",
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing=preprocessing or IntensityPreprocessing(),
        patch=32,
        quality=quality,
    )


def lab(name, count):
    pixels, masks = [np.eye(8, dtype=np.float32)] * count, [np.eye(8, dtype=int)] * count
    names = [f"{name}{i}" for i in range(count)]
    return Domain.from_arrays(name, pixels, masks, names=names)


def of(name, values, dice=None, **flags):
    each = [ExpectedDice(v, v - 0.1, v + 0.1, v, **flags) for v in values]
    return [ImageQuality(f"{name}{i}", one, dice) for i, one in enumerate(each)]


def judged(far=0.75, shift=0.0, count=12, vectors=True, made=None, dice=None, **flags):
    domains = [lab("own", 12), lab("far", count)]
    values = np.linspace(far - 0.02, far + 0.02, count)
    qualities = {"own": of("own", [0.8] * 12), "far": of("far", values, dice, **flags)}
    rows = [*images("own", 0, 12), *images("far", 1, count, shift=shift)]
    return judge_suitability(made or card(), domains, qualities, table(*rows) if vectors else None)


def said(suitability):
    return " ".join(suitability.sentences(suitability.domains[1]))


def test_alike_and_as_sure_is_expected_to_work():
    found = judged()
    assert found.domains[1].help == ("nothing",)
    assert said(found).startswith("far: expected to work as on the training images. Expected Dice")
    assert "about as near as its own images: FSD" in said(found)


def test_less_sure_is_expected_to_work_less_well():
    found = judged(far=0.6)
    assert "expected to work less well than on the training images." in said(found)
    assert found.domains[1].help == ("calibrate",)
    assert "annotate the first two images and calibrate" in said(found)


@pytest.mark.parametrize("source", [0.02, 0.8])
def test_a_model_that_finds_nothing_is_not_recommended(source):
    quality = QUALITY.model_copy(update={"source": SourceDice(mean=source, low=source - 0.02)})
    found = judged(far=0.03, made=card(quality=quality))
    as_there = ", as on the training images" * (source == 0.02)
    assert said(found).startswith(f"far: the model is expected to find next to nothing{as_there}.")
    assert found.domains[1].help == ("train",) and "no setting makes up for that" in said(found)


def test_far_off_but_as_sure_is_called_a_disagreement():
    found = judged(shift=9)
    assert "but its images lie far from those of own." in said(found)
    assert "far off: FSD" in said(found) and "The two disagree" in said(found)
    assert found.domains[1].help == ("calibrate", "unlabelled")
    assert "unlabelled" not in judged(shift=9, count=5).domains[1].help


def test_what_cannot_be_trusted_is_said_to_be_unknown():
    found = judged(oversized=True)
    assert "how well the model works cannot be told (far more is labelled" in said(found)
    assert found.domains[1].help == ("train",)


def test_an_unknown_angle_is_asked_for_first():
    fundus = card(FundusPreprocessing(angle=30.0))
    assert judged(made=fundus, shift=9).domains[1].help[0] == "angle"
    assert "the angle of the camera" in said(judged(made=fundus))


def test_the_lowest_dice_and_the_most_influence_come_first():
    domains = [lab("own", 12), lab("far", 6)]
    dice = [0.8, 0.8, 0.79, 0.6, 0.8, 0.81]
    rows = [*images("own", 0, 12), *images("far", 1, 6)]
    rows[-3] = ("far", "far3", rows[-3][2] + 9)
    qualities = {"own": of("own", [0.8] * 12), "far": of("far", dice)}
    qualities["far"][5] = of("far", [0.9] * 6, extrapolated=True)[5]
    found = judge_suitability(card(), domains, qualities, table(*rows)).domains[1]
    # Images with a remark come first.
    assert found.first[:2] == ("far5", "far3") and len(found.first) == 3
    assert found.images[1].influence == max(each.influence for each in found.images)


def test_without_vectors_or_a_map_the_rest_is_said():
    found = judged(vectors=False)
    assert found.fsd is None and "FSD" not in said(found)
    bare = judged(made=card(quality=None))
    assert bare.domains[1].compared is None and "no figure of its source" in said(bare)


def test_masks_are_looked_at_not_annotated():
    assert "Annotate first: far" in said(judged()) and "real" not in said(judged())
    found = judged(dice=0.7)
    assert ", real 0.70." in said(found) and "Look at first: far" in said(found)


def test_few_images_are_a_first_impression():
    assert "a first impression, by 5 images." in said(judged(count=5))
    assert "There are too few images for FSD: 1, and 12 of own; expected 2 and 4." in said(
        judged(count=1)
    )


def test_the_verdict_is_written_as_json_and_lines():
    found = judged(shift=9)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    [own, far] = content["domains"]
    assert own["fsd"] is None and far["fsd"]["relation"] == "far"
    assert far["verdict"] == found.sentences(found.domains[1]) and len(far["images"]) == 12
    head, *rows = found.rows()
    assert len(rows) == 24 and {len(row) for row in rows} == {len(head)}


def test_every_image_is_segmented_and_scored_where_it_has_a_mask(tiny_model):
    random = np.random.default_rng(0)
    pixels = [random.random((48, 48)).astype(np.float32) for _ in range(2)]
    masks = [(each > 0.5).astype(np.uint8) for each in pixels]
    predictor = Predictor(tiny_model(), "cpu")
    found = list(image_quality(predictor, Domain.from_arrays("lab", pixels, masks)))
    assert all(0 <= each.dice <= 1 and 0 <= each.expected.value <= 1 for each in found)
    bare = list(image_quality(predictor, Domain.from_arrays("lab", pixels)))
    assert [each.dice for each in bare] == [None, None]
    assert bare[0].expected.value == pytest.approx(found[0].expected.value)
