"""Progress and cancellation within the forward passes of one image."""

from dataclasses import replace

import numpy as np
import pytest

from src_training.inference.forward_progress import ForwardProgress, PredictionCancelled
from src_training.inference.predictor import Predictor


@pytest.fixture
def image():
    return np.random.default_rng(0).random((48, 56)).astype(np.float32)


class Recorded(ForwardProgress):
    """Records every reported fraction, and cancels above one of them."""

    def __init__(self, last=2.0):
        super().__init__()
        self.shares = []
        self.last = last

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "fraction" and hasattr(self, "last"):
            self.shares.append(value)
            if value > self.last:
                self.cancel()


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_one_tile_has_many_steps_up_to_one(tiny_model, image, flips, mixing):
    model = tiny_model()
    card = model.card.model_copy(update={"bn_mixing": mixing})
    model = replace(model, card=card)
    predictor, passes = Predictor(model, flips=flips), Recorded()
    steps = list(predictor.tiles(image, passes=passes))
    assert len(steps) == 1
    assert len(set(passes.shares)) > 5
    assert passes.shares == sorted(passes.shares) and passes.shares[-1] == 1


def test_the_probabilities_are_the_same_when_counted(tiny_model, image):
    predictor = Predictor(tiny_model())
    (step,) = predictor.tiles(image, passes=ForwardProgress())
    np.testing.assert_array_equal(step.probabilities, predictor.predict(image))


def test_an_image_is_left_within_its_only_tile(tiny_model, image):
    predictor, passes = Predictor(tiny_model()), Recorded(last=0.5)
    with pytest.raises(PredictionCancelled):
        list(predictor.tiles(image, passes=passes))
    assert 0.5 < max(passes.shares) < 0.8
    assert len(list(predictor.tiles(image))) == 1, "no hook is left on the network"
