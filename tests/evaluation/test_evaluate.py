import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.data.preprocessing import IntensityPreprocessing
from src_training.errors import InputError
from src_training.evaluation.bootstrap import bootstrap_by_patient
from src_training.evaluation.evaluate import evaluate
from src_training.evaluation.metrics import METRICS, POOLED
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.inference.predictor import Predictor
from src_training.networks.base import SegmentationNetwork, Skips

RANDOM = np.random.default_rng(0)


class Brightness(SegmentationNetwork):
    """Predicts the brighter half as foreground."""

    stride = 1
    taps = {}  # noqa: RUF012 - as the base class declares it
    bottleneck_channels = 1

    def __init__(self):
        super().__init__(1, 2)
        self.gain = nn.Parameter(torch.tensor(10.0))

    def encode(self, x):
        return Skips((), tuple(x.shape[-2:])), x

    def decode(self, skips, bottleneck):
        logits = self.gain * (bottleneck - 0.5)
        return torch.cat([-logits, logits], 1)


@pytest.fixture
def predictor():
    card = ModelCard(
        name="brightness",
        architecture="brightness",
        in_channels=1,
        classes=["background", "bright"],
        preprocessing=IntensityPreprocessing(percentiles=(0, 100)),
        patch=32,
    )
    return Predictor(SegmentationModel(card, Brightness()), device="cpu")


def domain(n=4, wrong=0.1):
    """Masks, and images that show only a part of each."""
    masks = [(RANDOM.random((24, 30)) < 0.3).astype(np.uint8) for _ in range(n)]
    images = [np.where(RANDOM.random(m.shape) < wrong, 1 - m, m) * 200 for m in masks]
    return Domain.from_arrays("lab", images, masks)


def test_a_perfect_segmentation_scores_one(predictor):
    found = evaluate(predictor, domain(wrong=0))
    assert found.mean["dice"] == found.pooled["f1"] == found.pooled["auc"] == 1
    assert found.mean["hd95"] == 0
    assert found.interval["dice"] == (1, 1)


def test_every_image_is_scored_and_reported(predictor):
    seen = []
    found = evaluate(predictor, domain(), on_image=lambda *progress: seen.append(progress))
    assert [progress[:2] for progress in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [name for _, _, name in seen] == list(found.images)
    low, high = found.interval["dice"]
    assert low <= found.mean["dice"] <= high
    assert tuple(found.mean) == METRICS and set(found.pooled) == set(POOLED)


def test_undefined_scores_leave_the_mean_and_are_null_in_json(predictor):
    image = np.zeros((16, 16), np.uint8)
    image[4:8, 4:8] = 200
    masks = [(image > 0).astype(np.uint8), np.zeros_like(image)]
    found = evaluate(predictor, Domain.from_arrays("lab", [image, image], masks))
    assert found.mean["hd95"] == 0 and found.count["hd95"] == 1 and found.count["dice"] == 2
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [scores["hd95"] for scores in plain["images"].values()] == [0, None]


def test_one_image_has_no_interval(predictor):
    assert evaluate(predictor, domain(1)).to_dict()["interval"] == {"dice": [None, None]}


def test_the_interval_is_over_patients(predictor):
    lab = domain(4, wrong=0.3)
    images, masks = ([getattr(case, part) for case in lab] for part in ("image", "mask"))
    eyes = Domain.from_arrays("lab", images, masks, names=["1L", "1R", "2L", "2R"])
    found, independent = evaluate(predictor, eyes), evaluate(predictor, lab)
    assert (found.patients, independent.patients) == (2, 4)
    dice = {name: scores["dice"] for name, scores in found.images.items()}
    expected = bootstrap_by_patient([dice])
    assert found.interval["dice"] == (expected.low, expected.high)
    assert found.interval != independent.interval


def test_a_given_threshold_replaces_that_of_the_model(predictor):
    for threshold in (None, 0.3):
        found = evaluate(predictor, domain(1), threshold=threshold)
        assert list(found.thresholds.values()) == [threshold or 0.5]


def test_an_image_without_mask_is_named(predictor):
    images = [np.eye(8, dtype=np.uint8)]
    with pytest.raises(InputError, match="lab: image eye has no mask"):
        evaluate(predictor, Domain.from_arrays("lab", images, names=["eye"]))


def test_a_mask_with_a_class_the_model_lacks_is_named(predictor):
    image = np.eye(8, dtype=np.uint8)
    many = Domain.from_arrays(
        "lab", [image], [image * 2], classes=("background", "a", "b"), names=["eye"]
    )
    with pytest.raises(InputError, match="image eye: the mask holds classes 0 to 2"):
        evaluate(predictor, many)


def test_an_image_that_cannot_be_prepared_is_named(predictor):
    broken = Domain.from_arrays(
        "lab", [np.full((8, 8), np.nan)], [np.eye(8, dtype=np.uint8)], names=["eye"]
    )
    with pytest.raises(InputError, match="lab/eye: the image has 64 values that are NaN"):
        evaluate(predictor, broken)


def test_prepared_images_are_not_prepared_again(predictor, monkeypatch):
    lab = domain()
    expected = evaluate(predictor, lab)
    images = list(prepare_cases(lab, predictor.model.card.preprocessing))
    monkeypatch.setattr(IntensityPreprocessing, "prepare", None)
    assert evaluate(predictor, lab, cases=images).to_dict() == expected.to_dict()


def test_seconds_include_the_preprocessing(predictor):
    lab = domain(2)
    slow = [
        dataclasses.replace(image, seconds=image.seconds + 50)
        for image in prepare_cases(lab, predictor.model.card.preprocessing)
    ]
    found = evaluate(predictor, lab, cases=slow).seconds
    assert list(found) == list(lab.names)
    assert all(50 < seconds < 60 for seconds in found.values())
    assert "seconds" not in evaluate(predictor, lab).to_dict()
