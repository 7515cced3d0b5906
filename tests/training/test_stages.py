import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.data.preprocessing.geometry import Geometry, PreparedImage
from src_training.data.sampling import Batch
from src_training.distillation.base import Distillation
from src_training.distillation.function_matching import (
    FunctionMatching,
    FunctionMatchingOptions,
)
from src_training.distillation.gkd import DCGD, DICD, GKDOptions, ViewPredictions
from src_training.distillation.logits import LogitsKD, LogitsKDOptions
from src_training.distillation.masks import Masks, MasksOptions, MixedMasks
from src_training.losses.divergence import pixel_divergence
from src_training.networks import build_network
from src_training.training.builders import Networks
from src_training.training.stages.alignment import AlignmentStage
from src_training.training.stages.autoencoder import AutoencoderStage, VectorStage
from src_training.training.stages.base import mean_dice
from src_training.training.stages.distillation import DistillationStage
from src_training.training.stages.supervised import SupervisedStage

VIEWS = 2


def batch(views=VIEWS):
    torch.manual_seed(0)
    mask = torch.randint(2, (2, 32, 32))
    image = (mask[:, None] + torch.rand(2, 1, 32, 32)) / 2
    further = torch.rand(2 * views, 1, 32, 32) if views else None
    return Batch(image, mask, further, mask[:, None].float())


GKD = GKDOptions(views=VIEWS)


def network(width=2):
    return build_network("fanet", 1, 2, width=width)


def alignment(of):
    return AlignmentNetwork(of.bottleneck_channels, (4, 4), latent=8, hidden=4)


def autoencoder():
    return SemanticAutoencoder(1, patch=32, width=2, latent=8, hidden=4)


def distil(distillations):
    torch.manual_seed(0)
    student, teacher = network(), network(3)
    return DistillationStage(
        (student, alignment(student)),
        (teacher, alignment(teacher)),
        distillations,
        supervision="ce",
    )


def act():
    learned = network()
    return AlignmentStage("tan", alignment(learned), learned, autoencoder())


STAGES = {
    "teacher": lambda: SupervisedStage("teacher", network(), supervision="dice_ce"),
    "autoencoder": lambda: AutoencoderStage(autoencoder()),
    "vectors": lambda: VectorStage(autoencoder()),
    "tan": act,
    "distil": lambda: distil([DCGD(GKD), DICD(GKD)]),
    "distil with predictions": lambda: distil([ViewPredictions(GKD)]),
}


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def running(module):
    return {name: t.clone() for name, t in module.state_dict().items() if "running" in name}


def step(stage):
    trainable_parameters = [p for p in stage.trained.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trainable_parameters, lr=0.1, weight_decay=0.1)
    stage.train()
    losses = stage(batch(stage.views))
    stage.total(losses).backward()
    adam.step()
    return losses


@pytest.mark.parametrize("name", STAGES)
def test_a_step_changes_no_bit_of_what_is_frozen(name):
    stage = STAGES[name]()
    trained, frozen = state(stage.trained), state(stage.frozen)
    losses = step(stage)
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    assert any(not torch.equal(t, trained[n]) for n, t in stage.trained.state_dict().items())
    for key, tensor in stage.frozen.state_dict().items():
        assert torch.equal(tensor, frozen[key]), key
    assert all(parameter.grad is None for parameter in stage.frozen.parameters())
    assert not any(module.training for module in stage.frozen.modules())
    assert stage.trained.training


@pytest.mark.parametrize("name", ["teacher", "autoencoder", "distil"])
def test_every_weight_that_should_learn_gets_a_gradient(name):
    stage = STAGES[name]()
    step(stage)
    trainable_parameters = [(n, p) for n, p in stage.trained.named_parameters() if p.requires_grad]
    assert [n for n, p in trainable_parameters if p.grad is None] == []


def test_the_first_autoencoder_phase_leaves_the_perceptron():
    network = autoencoder()
    former = state(network.alignment)
    step(AutoencoderStage(network))
    assert all(torch.equal(t, former[n]) for n, t in network.alignment.state_dict().items())
    convolutions = state(network.encoder)
    step(VectorStage(network))
    assert all(torch.equal(t, convolutions[n]) for n, t in network.encoder.state_dict().items())
    assert any(not torch.equal(t, former[n]) for n, t in network.alignment.state_dict().items())


def test_a_distilled_student_trains_after_its_alignment():
    learned = network()
    AlignmentStage("san", alignment(learned), learned, autoencoder())
    assert not any(parameter.requires_grad for parameter in learned.parameters())
    SupervisedStage("baseline", learned, supervision="ce")
    assert all(parameter.requires_grad for parameter in learned.parameters())


def test_decoding_views_does_not_change_the_anchors_predictions():
    plain, decoding = (distil(asked).eval() for asked in ([], [ViewPredictions(GKD)]))
    drawn = batch()
    losses = decoding(drawn)
    assert losses["segmentation/ce"].item() == pytest.approx(
        plain(drawn)["segmentation/ce"].item(), rel=1e-6
    )
    (_, teacher, _), student = decoding.frozen, decoding.trained
    images = torch.cat([drawn.image, drawn.views])
    plain = torch.cat([drawn.unaugmented, drawn.unaugmented.repeat_interleave(VIEWS, 0)])
    expected = pixel_divergence(teacher(plain), student(images))
    assert losses["gkd/predictions"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_cross_pass_leaves_running_statistics_alone():
    plain, crossed = distil([]), distil([DICD(GKD)])
    former = running(plain.trained)
    for stage in (plain, crossed):
        stage.train()
        stage(batch())
    found = running(crossed.trained)
    assert any(not torch.equal(tensor, former[name]) for name, tensor in found.items())
    assert all(torch.equal(tensor, found[n]) for n, tensor in running(plain.trained).items())


def test_views_stay_with_their_sample():
    class Recorded(Distillation):
        reads_vectors = True
        loss_names = ()
        views = VIEWS

        def losses(self, teacher, student, mask):
            self.passes = (teacher, student)
            return {}

    recorded = Recorded(GKD)
    stage = distil([recorded]).eval()
    given = batch()
    copies = dataclasses.replace(given, views=given.image.repeat_interleave(VIEWS, 0))
    with torch.no_grad():
        stage(copies)
    for each in recorded.passes:
        assert each.vectors.shape == (2, 1 + VIEWS, 8)
        assert torch.allclose(
            each.vectors, each.vectors[:, :1].expand(-1, 1 + VIEWS, -1), atol=1e-5
        )
        assert not torch.allclose(each.vectors[0], each.vectors[1], atol=1e-5)
        assert each.logits.shape == (2, 2, 32, 32) and each.bottleneck.shape[0] == 2
        expected = each.network(given.image)
        assert torch.allclose(each.logits, expected, atol=1e-5)


def test_the_total_is_the_weighted_sum():
    options = GKDOptions(weight=0.5, intra=4.0, inter=0.0)
    values = {"segmentation/ce": 1.0, "gkd/intra": 3.0, "gkd/inter": 9.0}
    losses = {name: torch.tensor(value) for name, value in values.items()}
    assert distil([DCGD(options)]).total(losses).item() == 7


def test_the_losses_have_the_names_that_recipes_weigh():
    assert set(step(STAGES["distil"]())) == {
        *("segmentation/ce", "gkd/intra", "gkd/inter", "gkd/cross")
    }
    assert set(step(STAGES["teacher"]())) == {"segmentation/ce", "segmentation/dice"}
    assert set(step(STAGES["tan"]())) == {
        *("alignment/reconstruction", "alignment/latent", "alignment/ce", "alignment/kl")
    }


def test_dice_focal_is_half_focal_and_half_dice():
    stage = SupervisedStage("teacher", network(), supervision="dice_focal")
    losses = {"segmentation/focal": torch.tensor(3.0), "segmentation/dice": torch.tensor(0.5)}
    assert stage.total(losses).item() == 1.75


class Echo(nn.Module):
    """Predicts the class that the image holds."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return nn.functional.one_hot(x[:, 0].long(), 3).movedim(-1, 1).float()


class Timid(nn.Module):
    """Separates foreground from background, but with probabilities of at most 0.4."""

    classes = 2

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        foreground = 0.4 * x[:, 0] + 0.1 * (1 - x[:, 0])
        return torch.stack([1 - foreground, foreground], 1).log()


def prepared(predicted, mask, fov=None):
    predicted, mask = np.array(predicted, np.float32), np.array(mask, np.uint8)
    fov = np.ones(mask.shape, bool) if fov is None else np.array(fov, bool)
    size = mask.shape
    return PreparedImage(predicted[None], fov, Geometry(size, (0, 0, *size), size), mask)


@pytest.mark.parametrize(
    ("predicted", "mask", "fov", "dice"),
    [
        ([[0, 1], [2, 2]], [[0, 1], [2, 2]], None, 1.0),
        ([[0, 1], [1, 0]], [[0, 1], [0, 0]], None, 2 / 3),
        ([[0, 1], [1, 0]], [[0, 1], [0, 0]], [[1, 1], [0, 1]], 1.0),
        ([[1, 1], [2, 0]], [[1, 1], [0, 2]], None, 0.5),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], None, 0.0),
    ],
)
def test_validation_is_the_mean_dice_of_classes_that_are_there(predicted, mask, fov, dice):
    assert mean_dice(Echo(), [prepared(predicted, mask, fov)]) == pytest.approx(dice)


def test_validation_uses_the_best_threshold_of_all_cases():
    truth, wrong = [[0, 1], [1, 0]], [[0, 1], [0, 0]]
    assert mean_dice(Timid(), [prepared(truth, truth)]) == pytest.approx(1)
    both = mean_dice(Timid(), [prepared(truth, truth), prepared(wrong, truth)])
    assert both == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("name", "options", "channels"),
    [
        ("fanet", {}, 512),
        ("fanet", {"width": 8}, 64),
        ("enet", {}, 128),
        ("wnet", {"width": 16}, 64),
        ("pspnet", {}, 512),
    ],
)
def test_the_bottleneck_of_the_autoencoder_is_the_teachers(name, options, channels, make_recipe):
    recipe = make_recipe(teacher={"name": name, "options": options})
    with torch.device("meta"):
        autoencoder = Networks.build(recipe, 2).autoencoder
    assert autoencoder.encode(torch.zeros(1, 1, 32, 32, device="meta")).shape[1] == channels


@pytest.mark.parametrize("distillation", [DCGD(GKD), ViewPredictions(GKD)])
def test_a_distilled_wnet_learns_with_both_outputs(distillation):
    torch.manual_seed(0)
    student, teacher = build_network("wnet", 1, 2, width=2), network(3)
    pair = [
        (each, AlignmentNetwork(each.bottleneck_channels, (32 // each.stride,) * 2, 8, hidden=4))
        for each in (student, teacher)
    ]
    stage = DistillationStage(*pair, [distillation], supervision="ce").eval()
    drawn = batch()
    with student.collect_taps("auxiliary_logits") as features:
        student(drawn.image)
    expected = nn.functional.cross_entropy(features["auxiliary_logits"], drawn.mask)
    losses = stage(drawn)
    torch.testing.assert_close(losses["segmentation/auxiliary"], expected)
    stage.total(losses).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


class Seen(nn.Module):
    """Records the inputs of a network."""

    def __init__(self, network):
        super().__init__()
        self.images = []
        network.register_forward_pre_hook(lambda _, inputs: self.images.append(inputs[0]))


def mixed_batch(stage):
    torch.manual_seed(1)
    return stage.prepare(batch())


@pytest.mark.parametrize(("sees", "expected"), [("same", None), ("plain", "unaugmented")])
def test_a_teacher_of_outputs_sees_what_the_recipe_says(sees, expected):
    stage = distil([LogitsKD(LogitsKDOptions(teacher_sees=sees))]).eval()
    student, teacher = stage.trained, stage.frozen[1]
    drawn = batch()
    shown = drawn.image if expected is None else getattr(drawn, expected)
    loss = stage(drawn)["logits/logits"]
    target, own = teacher(shown) / 4, student(drawn.image) / 4
    torch.testing.assert_close(loss, 16 * pixel_divergence(target, own))


def test_a_teacher_of_plain_patches_alone_takes_one_pass():
    stage = distil([ViewPredictions(GKD)])
    seen, encoded = Seen(stage.frozen[1]), []
    stage.frozen[1].encoder[0].register_forward_hook(lambda *_: encoded.append(1))
    stage(drawn := batch())
    assert len(encoded) == 1 and torch.equal(seen.images[0], drawn.unaugmented)


def test_mixed_masks_ask_nothing_of_a_teacher():
    stage = distil([MixedMasks(MasksOptions(views=0, mixed=1))]).eval()
    stage.frozen[1].encoder[0].register_forward_hook(lambda *_: pytest.fail("the teacher is asked"))
    drawn = mixed_batch(stage)
    logits, share = stage.trained(drawn.mixed.image), drawn.mixed.share[:, 0]
    own, other = (
        nn.functional.cross_entropy(logits, mask, reduction="none")
        for mask in (drawn.mask, drawn.mask.roll(1, 0))
    )
    expected = (share * own + (1 - share) * other).mean()
    torch.testing.assert_close(stage(drawn)["masks/mixed"], expected)


def test_masks_ask_nothing_of_a_teacher():
    stage = distil([Masks(MasksOptions(views=VIEWS))]).eval()
    stage.frozen[1].encoder[0].register_forward_hook(lambda *_: pytest.fail("the teacher is asked"))
    drawn = batch()
    images = torch.cat([drawn.image, drawn.views])
    masks = torch.cat([drawn.mask, drawn.mask.repeat_interleave(VIEWS, 0)])
    expected = nn.functional.cross_entropy(stage.trained(images), masks)
    torch.testing.assert_close(stage(drawn)["masks/ce"], expected)


@pytest.mark.parametrize("sees", ["same", "plain"])
def test_function_matching_mixes_one_input_for_both(sees):
    stage = distil([FunctionMatching(FunctionMatchingOptions(teacher_sees=sees))]).eval()
    student, teacher = stage.trained, stage.frozen[1]
    drawn = mixed_batch(stage)
    share = drawn.mixed.share
    assert ((share > 0) & (share < 1)).all()
    other = drawn.image.flip(0)
    torch.testing.assert_close(drawn.mixed.image, share * drawn.image + (1 - share) * other)
    loss = stage(drawn)["function_matching/matching"]
    target = teacher(drawn.mixed.image)
    if sees == "plain":
        own, partner = (teacher(i).softmax(1) for i in (drawn.unaugmented, drawn.mixed.partner))
        target = (share * own + (1 - share) * partner).log()
    torch.testing.assert_close(loss, pixel_divergence(target, student(drawn.mixed.image)))


def test_mixed_patches_leave_running_statistics_alone():
    matching = distil([FunctionMatching(FunctionMatchingOptions())])
    plain = distil([LogitsKD(LogitsKDOptions())])
    drawn = mixed_batch(matching)
    matching(drawn)
    plain(drawn)
    for name, statistic in running(matching.trained).items():
        assert torch.equal(statistic, running(plain.trained)[name]), name
