"""Calibration on validation images: batch-norm mixing, Platt scaling and thresholds."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit

from src_training.data.domain import Domain
from src_training.data.prepared import prepare_cases
from src_training.errors import InputError
from src_training.evaluation.adaptation import adapt_to_domain
from src_training.evaluation.calibration import (
    BN_MIXINGS,
    calibrate,
    choose_bn_mixing,
    choose_threshold,
    fit_platt_scaling,
    fold_platt_scaling,
    style_augmented,
    update_card,
)
from src_training.evaluation.dice_curve import THRESHOLDS
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel, read_card
from src_training.inference.predictor import Predictor
from src_training.networks import NETWORKS, NetworkSpec
from src_training.networks.base import SegmentationNetwork, Skips
from tests.small_networks import small_network


class Pixelwise(SegmentationNetwork):
    """Logits that are a linear function of the pixel: calibrated or not, as a test wants it.

    With the training statistics the batch norm is the identity.
    """

    stride, taps, bottleneck_channels = 1, {}, 1

    def __init__(self, in_channels, classes, slope=1.0, offset=0.0):
        super().__init__(in_channels, classes)
        self.norm = torch.nn.BatchNorm2d(1, eps=1e-12, affine=False)
        self.head = torch.nn.Conv2d(1, classes, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.5, 0.5, classes).view(-1, 1, 1, 1) * slope)
            self.head.bias.copy_(torch.linspace(-0.5, 0.5, classes) * offset)

    def encode(self, x):
        return Skips((), tuple(x.shape[-2:])), self.norm(x)

    def decode(self, skips, bottleneck):
        return self.head(bottleneck)


@pytest.fixture
def make_predictor(monkeypatch, tiny_model):
    spec = NetworkSpec(Pixelwise, parameters=0, suits="tests", citation="none")
    monkeypatch.setitem(NETWORKS, "pixelwise", spec)

    def make(slope, offset, classes=2):
        card = ModelCard(
            name="pixelwise",
            architecture="pixelwise",
            in_channels=1,
            classes=["background", "vessel", "lesion"][:classes],
            preprocessing=tiny_model().card.preprocessing,
            patch=32,
        )
        network = Pixelwise(1, classes, slope, offset).eval()
        return Predictor(SegmentationModel(card, network), "cpu")

    return make


def images_of(predictor, lab):
    return list(prepare_cases(lab, predictor.model.card.preprocessing))


def logistic_domain(count=3, slope=8.0, offset=-6.0, powers=(1, 1, 1)):
    """Images whose pixels x are foreground with probability expit(slope x + offset)."""
    random = np.random.default_rng(0)
    pixels = [random.random((90, 90)).astype(np.float32) ** powers[i] for i in range(count)]
    for each in pixels:
        # Preprocessing scales pixels by their minimum and maximum.
        each.flat[:2] = 0, 1
    masks = [(random.random(x.shape) < expit(slope * x + offset)).astype(np.uint8) for x in pixels]
    return Domain.from_arrays("lab", pixels, masks)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (18.0, -4.0), (8.0, -6.0)])
def test_calibrated_probabilities_are_frequencies(make_predictor, slope, offset):
    predictor, lab = make_predictor(slope, offset), logistic_domain()
    fit_platt_scaling(predictor, images_of(predictor, lab))
    pixels = lab[0].image
    found = predictor.predict(pixels)[1]
    np.testing.assert_allclose(found, expit(8 * pixels - 6), atol=0.03)


@pytest.mark.parametrize(
    ("slope", "full"), [(-8.0, False), (8.0, True)], ids=["negative slope", "one class only"]
)
def test_an_impossible_calibration_changes_nothing(make_predictor, slope, full):
    predictor, lab = make_predictor(slope, 1.0), logistic_domain()
    if full:
        images = [case.image for case in lab]
        lab = Domain.from_arrays("lab", images, [np.ones((90, 90), np.uint8)] * len(images))
    before = copy.deepcopy(predictor.model.network.state_dict())
    fit_platt_scaling(predictor, images_of(predictor, lab))
    after = predictor.model.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_platt_scaling_into_its_head(name):
    torch.manual_seed(0)
    network = small_network(name).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = network(image)
    fold_platt_scaling(network, 0.7, -0.4)
    with torch.no_grad():
        after = network(image)
    wanted = 0.7 * (before[:, 1] - before[:, 0]) - 0.4
    torch.testing.assert_close(after[:, 1] - after[:, 0], wanted, rtol=1e-3, atol=1e-3)


def test_the_threshold_is_that_of_the_best_mean_dice(tiny_model):
    predictor = Predictor(tiny_model(), "cpu")
    random = np.random.default_rng(0)
    masks = [(random.random((32, 32)) < 0.4).astype(np.uint8) for _ in range(2)]
    lab = Domain.from_arrays("lab", [random.random((32, 32)) for _ in masks], masks)
    chosen, _ = choose_threshold(predictor, images_of(predictor, lab))
    dice = {
        round(float(threshold), 2): evaluate(predictor, lab, threshold=threshold).mean["dice"]
        for threshold in THRESHOLDS
    }
    assert dice[chosen] == pytest.approx(max(dice.values()))


def test_only_the_field_of_view_counts_for_the_threshold(make_predictor):
    predictor, lab = make_predictor(8.0, -6.0), logistic_domain()
    fov = np.indices((90, 90))[0] < 45
    masks = [np.where(fov, case.mask, 1).astype(np.uint8) for case in lab]
    seen = Domain.from_arrays("lab", [case.image for case in lab], masks, [fov] * len(lab))
    dice = [evaluate(predictor, seen, threshold=float(t)).mean["dice"] for t in THRESHOLDS]
    chosen, _ = choose_threshold(predictor, images_of(predictor, seen))
    assert chosen == THRESHOLDS[int(np.argmax(dice))]


def test_a_weak_model_gets_a_low_threshold(make_predictor):
    faint = make_predictor(1.0, -2.4)
    lab = logistic_domain(slope=1.0, offset=-2.4)
    images = images_of(faint, lab)
    threshold, own = choose_threshold(faint, images)
    assert faint.predict(images[0].original.image, None, images[0].image)[1].max() < 0.2
    assert evaluate(faint, lab, threshold=threshold).mean["dice"] > 0.2
    assert own is False


def test_image_thresholds_need_calibrated_probabilities(make_predictor):
    lab = logistic_domain()
    calibrated, overconfident = make_predictor(8.0, -6.0), make_predictor(30.0, -4.0)
    assert choose_threshold(calibrated, images_of(calibrated, lab))[1] is True
    assert choose_threshold(overconfident, images_of(overconfident, lab))[1] is False


def test_bn_mixing_is_as_good_as_any_candidate(make_predictor):
    predictor, lab = make_predictor(8.0, -4.0), logistic_domain()
    # The same pixels at three brightnesses: with their own statistics one threshold fits all.
    for case, light in zip(lab, (0.4, 0.7, 1.0), strict=True):
        case.image[:, 1:] *= light
    images = images_of(predictor, lab)
    chosen = choose_bn_mixing(predictor, images, images)
    best = {}
    for share in BN_MIXINGS:
        update_card(predictor, bn_mixing=share)
        scores = [evaluate(predictor, lab, threshold=t).mean["dice"] for t in THRESHOLDS]
        best[share] = max(scores)
    assert best[chosen] >= max(best.values()) - 0.01
    assert best[chosen] > best[0.0] + 0.01


@pytest.mark.parametrize(
    ("dice", "chosen"),
    [
        ((0.700, 0.695, 0.6), 0.5),
        ((0.720, 0.695, 0.6), 0.0),
        ((0.6, 0.700, 0.705), 0.5),
        ((0.6, 0.700, 0.715), 1.0),
    ],
)
def test_bn_mixing_is_a_half_unless_another_is_clearly_better(
    make_predictor, monkeypatch, dice, chosen
):
    found = dict(zip(BN_MIXINGS, dice, strict=True))
    monkeypatch.setattr(
        "src_training.evaluation.calibration.best_dice",
        lambda predictor, _: found[predictor.model.card.bn_mixing],
    )
    assert choose_bn_mixing(make_predictor(8.0, -4.0), [], []) == chosen


def test_styles_of_other_scanners_favour_bn_mixing(make_predictor):
    # Brightness is of the tissue here, so on this scanner the training statistics are right.
    predictor, lab = (
        make_predictor(8.0, -6.0),
        logistic_domain(slope=800.0, offset=-600.0, powers=(0.5, 1, 1.5)),
    )
    images, shown = images_of(predictor, lab), []

    def in_other_lights(pixels):
        shown.append(pixels * float(torch.empty(()).uniform_(0.05, 0.5)))
        return shown[-1]

    before = torch.get_rng_state()
    styled = style_augmented(images, in_other_lights)
    style_augmented(images, in_other_lights)
    assert torch.equal(torch.get_rng_state(), before)
    # Three images in three styles each, the same styles in both calls.
    assert all(torch.equal(*pair) for pair in zip(shown[:9], shown[9:], strict=True))
    assert len({float(pixels.max()) for pixels in shown}) == 9
    assert choose_bn_mixing(predictor, images, images) == 0.0
    assert choose_bn_mixing(predictor, images, styled) > 0


def test_adapting_to_two_images_helps_on_the_others(make_predictor, tmp_path):
    # These experts annotate more than those of the training set.
    predictor, theirs = (
        make_predictor(8.0, -6.0),
        logistic_domain(count=6, offset=-4.0, powers=(1,) * 6),
    )
    few, others = theirs.subset(theirs.names[:2]), theirs.subset(theirs.names[2:])
    before = evaluate(predictor, others).mean["dice"]
    update_card(predictor, metrics={"lab": {"dice": before}})
    file = tmp_path / "theirs.safetensors"
    *_, sentence = adapt_to_domain(predictor, few, file)
    after = evaluate(predictor, others).mean["dice"]
    assert after > before + 0.02
    scores = evaluate(predictor, few).mean["dice"]
    assert sentence.endswith(f"before, {scores:.3f} on the images it was tuned to")
    card = read_card(file)
    assert (card.name, card.description) == ("theirs", "Tuned to 2 images of lab.")
    assert card == predictor.model.card and card.metrics == {}


def test_adapting_never_overwrites_the_model_itself(make_predictor, tmp_path):
    predictor, theirs = make_predictor(8.0, -6.0), logistic_domain()
    file = tmp_path / "given.safetensors"
    predictor.model.save(file)
    given = file.read_bytes()
    with pytest.raises(InputError, match=r"given.safetensors is the model to adapt"):
        next(adapt_to_domain(predictor, theirs, file))
    steps = adapt_to_domain(predictor, theirs, tmp_path / "other.safetensors")
    next(steps)
    steps.close()
    assert file.read_bytes() == given and list(tmp_path.iterdir()) == [file]


def test_more_than_two_classes_need_no_threshold(make_predictor):
    predictor, lab = make_predictor(8.0, -6.0, classes=3), logistic_domain()
    before = copy.deepcopy(predictor.model.network.state_dict())
    images = images_of(predictor, lab)
    calibrate(predictor, images, images)
    card = predictor.model.card
    assert (card.threshold, card.per_image_threshold) == (0.5, False)
    assert torch.equal(predictor.model.network.state_dict()["head.weight"], before["head.weight"])
