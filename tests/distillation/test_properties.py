"""Properties of all distillations."""

import dataclasses

import pytest
import torch
from torch import nn

from src_training.distillation import METHODS, parse_options
from src_training.distillation.attention_transfer import AttentionTransfer
from src_training.distillation.base import ForwardOutputs
from src_training.distillation.coco import CoCo
from src_training.distillation.emkd import EMKD
from src_training.distillation.fsp import FSP
from src_training.distillation.function_matching import FunctionMatching
from src_training.distillation.gkd import DCGD, DICD, ViewPredictions
from src_training.distillation.graph_flow import GraphFlow, NormalisedGraphFlow, salient_patches
from src_training.distillation.ifvd import IFVD
from src_training.distillation.logits import LogitsKD
from src_training.distillation.masks import Masks
from src_training.distillation.skd import SKD
from src_training.errors import InputError
from src_training.networks import NETWORKS, build_network
from tests.distillation.random_outputs import (
    CLASSES,
    SCALES,
    STUDENT,
    TEACHER,
    VIEWS,
    random_masks,
    random_outputs,
)
from tests.small_networks import small_network


class SameTaps(nn.Module):
    """A paraphraser that returns the taps unchanged."""

    def forward(self, taps):
        return taps


def maker(part, method, *arguments):
    """Make a distillation with the default options of a method."""
    return lambda: part(parse_options({"method": method}), *arguments)


DISTILLATIONS = {
    "logits": maker(LogitsKD, "logits"),
    "predictions": maker(ViewPredictions, "gkd"),
    "function_matching": maker(FunctionMatching, "function_matching"),
    "masks": maker(Masks, "masks"),
    "attention": maker(AttentionTransfer, "attention"),
    "fsp": maker(FSP, "fsp", {}),
    "ifvd": maker(IFVD, "ifvd"),
    "skd": maker(SKD, "skd"),
    "coco": maker(CoCo, "coco"),
    "emkd": maker(EMKD, "emkd"),
    "graph_flow": maker(GraphFlow, "graph_flow", SameTaps()),
    "graph_flow_normalised": maker(NormalisedGraphFlow, "graph_flow_normalised", SameTaps()),
}
SAME_CHANNELS = {"fsp", "graph_flow", "graph_flow_normalised"}
ALL = pytest.mark.parametrize("name", DISTILLATIONS)


def teacher_of(name, **how):
    return random_outputs(0, STUDENT if name in SAME_CHANNELS else TEACHER, **how)


def values(name, teacher, student, mask):
    losses = DISTILLATIONS[name]()(teacher, student, mask)
    return {loss: value.item() for loss, value in losses.items()}


def test_every_part_of_every_method_is_tested():
    parts = {part for method in METHODS.values() for part in method.parts}
    seen = {type(make()) for make in DISTILLATIONS.values()}
    others = {part.__name__ for part in parts - seen}
    assert others == {"DCGD", "DICD", "Adversarial", "MixedMasks"}


@ALL
def test_the_losses_have_the_names_that_are_weighed(name):
    distillation = DISTILLATIONS[name]()
    losses = distillation(teacher_of(name), random_outputs(1), random_masks())
    assert losses.keys() == set(distillation.loss_names)
    assert all(loss.ndim == 0 and loss > 0 for loss in losses.values())


@pytest.mark.parametrize("name", sorted(DISTILLATIONS.keys() - {"masks"}))
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name):
    logits = (one := random_outputs(0)).logits
    in_every_style = torch.stack([logits] * VIEWS, dim=1)
    same = dataclasses.replace(one, view_logits=in_every_style, plain_logits=logits)
    assert all(abs(loss) < 1e-12 for loss in values(name, same, same, random_masks()).values())


@ALL
def test_gradients_reach_the_student_alone(name):
    teacher, student = teacher_of(name, batch=1), random_outputs(1, batch=1)
    distillation, mask = DISTILLATIONS[name](), random_masks(batch=1)
    read = [tap for tap in distillation.taps if tap in student.taps]
    outputs = ("logits", "view_logits", "mixed_logits")
    leaves = [*(getattr(student, each) for each in outputs), *(student.taps[tap] for tap in read)]

    def losses(*values):
        taps = student.taps | dict(zip(read, values[len(outputs) :], strict=True))
        of_outputs = dict(zip(outputs, values, strict=False))
        changed = dataclasses.replace(student, **of_outputs, taps=taps)
        return torch.stack(list(distillation(teacher, changed, mask).values()))

    assert torch.autograd.gradcheck(losses, [leaf.requires_grad_() for leaf in leaves])
    for leaf in (teacher.logits, *teacher.taps.values()):
        leaf.requires_grad_()
    losses(*leaves).sum().backward()
    assert all(leaf.grad is None for leaf in (teacher.logits, *teacher.taps.values()))


@ALL
def test_the_order_of_the_samples_does_not_matter(name):
    teacher, student, mask = teacher_of(name), random_outputs(1), random_masks()
    turned = [each.map(lambda tensor: tensor.flip(0)) for each in (teacher, student)]
    expected = pytest.approx(values(name, teacher, student, mask), rel=1e-9)
    assert values(name, *turned, mask.flip(0)) == expected


def test_the_order_of_the_views_does_not_matter():
    teacher, student = random_outputs(0, TEACHER), random_outputs(1)
    turned = dataclasses.replace(student, view_logits=student.view_logits.flip(1))
    expected = pytest.approx(values("predictions", teacher, student, random_masks()), rel=1e-9)
    assert values("predictions", teacher, turned, random_masks()) == expected


@pytest.mark.parametrize("name", ["ifvd", "emkd"])
def test_the_numbers_of_the_classes_do_not_matter(name):
    teacher, student, mask = teacher_of(name), random_outputs(1), random_masks()
    expected = pytest.approx(values(name, teacher, student, mask), rel=1e-9)
    assert values(name, teacher, student, (mask + 1) % CLASSES) == expected


@pytest.mark.parametrize("name", sorted(DISTILLATIONS.keys() - SAME_CHANNELS))
def test_the_order_of_the_channels_does_not_matter(name):
    teacher, student = teacher_of(name), random_outputs(1)
    taps = {tap: feature.flip(1) for tap, feature in student.taps.items()}
    expected = pytest.approx(values(name, teacher, student, random_masks()), rel=1e-9)
    turned = dataclasses.replace(student, taps=taps)
    assert values(name, teacher, turned, random_masks()) == expected


@pytest.mark.parametrize("name", sorted(SAME_CHANNELS))
def test_the_order_of_the_nodes_does_not_matter(name):
    both = random_outputs(0), random_outputs(1)
    expected = values(name, *both, random_masks())

    def turned(each):
        taps = {tap: feature.flip(1) for tap, feature in each.taps.items()}
        return dataclasses.replace(each, taps=taps)

    found = values(name, *map(turned, both), random_masks())
    assert found == pytest.approx(expected, rel=1e-9)
    assert values(name, both[0], turned(both[1]), random_masks()) != pytest.approx(
        expected, rel=1e-3
    )


STRENGTHS = {
    "attention": True,
    "ifvd": True,
    "skd": True,
    "coco": True,
    "emkd": True,
    "graph_flow_normalised": True,
    "fsp": False,
    "graph_flow": False,
}


@pytest.mark.parametrize(("name", "invariant"), STRENGTHS.items())
def test_losses_that_ignore_the_strength_of_features(name, invariant):
    teacher, student = teacher_of(name), random_outputs(1)
    taps = {tap: 3 * feature for tap, feature in student.taps.items()}
    expected = values(name, teacher, student, random_masks())
    found = values(name, teacher, dataclasses.replace(student, taps=taps), random_masks())
    assert (found == pytest.approx(expected, rel=1e-6)) == invariant


@pytest.mark.parametrize("name", ["ifvd", "emkd"])
@pytest.mark.parametrize("only", [0, 2])
def test_a_mask_of_one_class_leaves_everything_finite(name, only):
    teacher, student = teacher_of(name), random_outputs(1)
    leaf = student.taps["decoder_half" if name == "ifvd" else "encoder_half"].requires_grad_()
    losses = DISTILLATIONS[name]()(teacher, student, torch.full_like(random_masks(), only))
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert torch.isfinite(leaf.grad).all()
    if name == "emkd":
        assert losses["rad_low"] == losses["rad_high"] == 0


@ALL
def test_losses_with_masks_use_the_labelled_samples_alone(name):
    teacher, student, mask = teacher_of(name), random_outputs(1), random_masks()
    found = values(name, teacher, student, mask[:1])
    whole = values(name, teacher, student, mask)
    labelled = values(
        name, *(each.map(lambda tensor: tensor[:1]) for each in (teacher, student)), mask[:1]
    )
    for loss, value in found.items():
        masked = loss in ("variation", "ce") or loss.startswith("rad")
        assert value == pytest.approx((labelled if masked else whole)[loss], rel=1e-9)


def test_a_salient_patch_follows_its_pixel():
    feature = torch.zeros(1, 2, 6, 5)
    feature[0, 0, 2, 3], feature[0, 0, 3, 3] = 5.0, 2.0
    feature[0, 1, 5, 4] = 1.0
    patches = salient_patches(feature)[0].view(2, 3, 3)
    assert patches[0].tolist() == [[0, 0, 0], [0, 5, 0], [0, 2, 0]]
    assert patches[1].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert torch.equal(salient_patches(feature.roll((1, -1), (2, 3)))[0, 0], patches[0].flatten())


@pytest.mark.parametrize("student", ["enet", "erfnet", "mobile_unet", "little_unet", "wnet"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_every_student(method, student):
    torch.manual_seed(0)
    teacher, learner = build_network("fanet", 1, 2, width=2), build_network(student, 1, 2)
    for part in METHODS[method].parts:
        made_for = part.for_pair(parse_options({"method": method}), teacher, learner)
        assert set(made_for.taps) <= teacher.taps.keys() & learner.taps.keys()
        if made_for.has_paraphraser:
            said = made_for.paraphraser(
                {
                    tap: torch.zeros(1, channels, 4, 4)
                    for tap, channels in teacher.tap_channels(*made_for.taps).items()
                }
            )
            widths = {feature.shape[1] for feature in said.values()}
            published = {"mobile_unet": 24, "enet": 64, "erfnet": 64}
            assert widths == {published.get(student, 32)}


@pytest.mark.parametrize("teacher", ["raunet", "pspnet", "unet_plus_plus", "wnet"])
@pytest.mark.parametrize("student", ["enet", "mobilenetv2", "resnet18", "little_unet", "wnet"])
def test_every_method_fits_the_networks_of_emkd(teacher, student):
    torch.manual_seed(0)
    networks = [small_network(name) for name in (teacher, student)]
    image, passes = torch.rand(2, 1, 64, 64), []
    for network in networks:
        with network.collect_taps(*SCALES) as taps:
            skips, bottleneck = network.encode(image)
            logits = network.decode(skips, bottleneck)
        views = torch.stack([logits, logits.flip(0)], 1)
        made_of = (network, None, skips, bottleneck, logits, None, taps, views, logits, logits)
        pairs = (torch.rand(2, 1, 1, 1), random_masks(side=64, classes=2))
        passes.append(ForwardOutputs(*made_of, *pairs))
    parts = {part: name for name, method in METHODS.items() for part in method.parts}
    for part in parts.keys() - {DCGD, DICD}:
        options = parse_options({"method": parts[part]})
        if part.has_paraphraser and student in ("mobilenetv2", "resnet18"):
            with pytest.raises(InputError, match=f"{options.method} cannot teach this student"):
                part.for_pair(options, *networks)
            continue
        losses = part.for_pair(options, *networks)(*passes, random_masks(side=64, classes=2))
        assert losses.keys() == set(part.loss_names)
        assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_tap_channels_leave_a_network_unchanged(name):
    network = small_network(name)
    former = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    network.tap_channels(*network.taps)
    assert network.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, former[key]) for key, t in network.state_dict().items())
