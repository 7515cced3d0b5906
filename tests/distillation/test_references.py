"""Each loss against loops over pixels, in numpy and float64."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from src_training.distillation.attention_transfer import AttentionTransfer, AttentionTransferOptions
from src_training.distillation.coco import CoCo, CoCoOptions
from src_training.distillation.fsp import FSP, FSPOptions
from src_training.distillation.gkd import GKDOptions, ViewPredictions
from src_training.distillation.ifvd import IFVD, IFVDOptions
from src_training.distillation.logits import LogitsKD, LogitsKDOptions
from src_training.distillation.masks import MasksOptions, MixedMasks
from src_training.distillation.skd import SKD, SKDOptions
from tests.distillation.loop_references import (
    arrays,
    cosine,
    divergence,
    found,
    pixels,
    softmax,
    unit,
)
from tests.distillation.random_outputs import TEACHER, random_masks, random_outputs

EXACT = pytest.approx


def test_logits(both):
    expected = divergence(both[0].logits.numpy(), both[1].logits.numpy(), 4.0)
    assert found(LogitsKD(LogitsKDOptions()), *both, random_masks()) == {
        "logits": EXACT(expected, rel=1e-9)
    }


def test_view_predictions(both):
    teacher, student = both
    plain = teacher.plain_logits.numpy()
    parts = [divergence(plain, student.logits.numpy(), 1.0)]
    for view in range(student.view_logits.shape[1]):
        parts.append(divergence(plain, student.view_logits[:, view].numpy(), 1.0))
    expected = sum(parts) / len(parts)
    assert found(ViewPredictions(GKDOptions()), *both, random_masks()) == {
        "predictions": EXACT(expected, rel=1e-9)
    }


def test_mixed_masks():
    _, student = random_outputs(0, TEACHER), random_outputs(1)
    mask, share = random_masks(), torch.tensor([0.25, 0.75], dtype=torch.float64)
    # The first sample's partner has no mask.
    partner = torch.stack([torch.full_like(mask[0], -1), mask[0]])
    mixed = replace(student, mixed_share=share[:, None, None, None], partner_mask=partner)
    terms = []
    for b, y, x in np.ndindex(*mask.shape):
        p = softmax(student.mixed_logits[b, :, y, x].tolist())
        term = -share[b] * math.log(p[mask[b, y, x]])
        if b == 1:
            term -= (1 - share[b]) * math.log(p[partner[b, y, x]])
        terms.append(float(term))
    options = MasksOptions(views=0, mixed=1)
    assert found(MixedMasks(options), student, mixed, mask) == {
        "mixed": EXACT(np.mean(terms), rel=1e-9)
    }


def test_attention(both):
    (theirs, _), (ours, _) = map(arrays, both)
    expected = 0.0
    for tap in AttentionTransfer.taps:
        terms = []
        for t, s in zip(theirs[tap], ours[tap], strict=True):
            t_map = unit([sum(value**2 for value in pixel) for pixel in pixels(t)])
            s_map = unit([sum(value**2 for value in pixel) for pixel in pixels(s)])
            terms += [(a - b) ** 2 for a, b in zip(s_map, t_map, strict=True)]
        expected += np.mean(terms)
    assert found(AttentionTransfer(AttentionTransferOptions()), *both, random_masks()) == {
        "attention": EXACT(expected, rel=1e-9)
    }


def test_flow():
    teacher, student = random_outputs(0), random_outputs(1)
    (theirs, _), (ours, _) = arrays(teacher), arrays(student)

    def flow(first, second):
        block = first.shape[1] // second.shape[1] or 1
        if second.shape[1] > first.shape[1]:
            return flow(second, first).T
        table = np.zeros((len(first), len(second)))
        for i, j in np.ndindex(*table.shape):
            for y, x in np.ndindex(*second.shape[1:]):
                window = first[i, y * block : (y + 1) * block, x * block : (x + 1) * block]
                table[i, j] += window.max() * second[j, y, x] / second[0].size
        return table

    pairs = [
        ("encoder_half", "encoder_quarter"),
        ("encoder_quarter", "encoder_eighth"),
        ("decoder_quarter", "decoder_half"),
    ]
    terms = [
        np.mean(
            [
                (flow(ours[a][b], ours[c][b]) - flow(theirs[a][b], theirs[c][b])) ** 2
                for b in range(2)
            ]
        )
        for a, c in pairs
    ]
    assert found(FSP(FSPOptions(), {}), teacher, student, random_masks()) == {
        "flow": EXACT(np.mean(terms), rel=1e-9)
    }


def test_flow_brings_other_channels_to_the_teachers(both):
    pairs = {tap: (both[1].taps[tap].shape[1], TEACHER[tap]) for tap in FSP.taps}
    distillation = FSP(FSPOptions(), pairs).double()
    adapted = {
        tap: torch.einsum("oi,bihw->bohw", distillation.adapted[tap].weight[..., 0, 0], feature)
        for tap, feature in both[1].taps.items()
        if tap in pairs
    }
    brought = random_outputs(1)
    brought.taps.update({tap: feature.detach() for tap, feature in adapted.items()})
    expected = found(FSP(FSPOptions(), {}), both[0], brought, random_masks())
    assert found(distillation, *both, random_masks()) == EXACT(expected, rel=1e-9)


def typical(feature, mask):
    """Cosine of each pixel with the mean of its class, one sample."""
    step = mask.shape[0] // feature.shape[1]
    small = mask[::step, ::step].flatten()
    vectors = pixels(feature)
    means = {
        k: np.mean([v for v, c in zip(vectors, small, strict=True) if c == k], 0) for k in small
    }
    return [cosine(v, means[c]) for v, c in zip(vectors, small, strict=True)]


def test_variation(both):
    mask = random_masks().numpy()
    (theirs, _), (ours, _) = map(arrays, both)
    terms = [
        (a - b) ** 2
        for sample in range(2)
        for a, b in zip(
            typical(ours["decoder_half"][sample], mask[sample]),
            typical(theirs["decoder_half"][sample], mask[sample]),
            strict=True,
        )
    ]
    expected = EXACT(np.mean(terms), rel=1e-6)
    assert found(IFVD(IFVDOptions()), *both, random_masks()) == {"variation": expected}


def similar(feature, nodes):
    """Cosines between block means of one sample."""
    block = feature.shape[1] // nodes
    means = [
        feature[:, y * block : (y + 1) * block, x * block : (x + 1) * block].mean((1, 2))
        for y, x in np.ndindex(nodes, nodes)
    ]
    return np.array([[cosine(a, b) for b in means] for a in means])


def test_pairwise():
    teacher, student = random_outputs(0, TEACHER, side=32), random_outputs(1, side=32)
    terms = [
        (similar(s, 2) - similar(t, 2)) ** 2
        for t, s in zip(
            teacher.taps["encoder_eighth"].numpy(),
            student.taps["encoder_eighth"].numpy(),
            strict=True,
        )
    ]
    expected = {"pairwise": EXACT(np.mean(terms), rel=1e-9)}
    assert found(SKD(SKDOptions()), teacher, student, random_masks(side=32)) == expected


def test_pairwise_of_the_public_code():
    """Maxima of 2 x 2 nodes, with the norms as constants for the gradient."""
    teacher, student = random_outputs(0, TEACHER, side=32), random_outputs(1, side=32)
    feature = student.taps["encoder_eighth"].requires_grad_()
    skd = SKD(SKDOptions(form="code"))
    loss = skd(teacher, student, random_masks(side=32))["pairwise"]
    (gradient,) = torch.autograd.grad(loss, feature)
    b, _, height, width = feature.shape
    expected = torch.zeros(())
    target = teacher.taps["encoder_eighth"]
    ours = feature.detach().clone().requires_grad_()
    for sample in range(b):
        found_nodes = []
        for each in (ours[sample], target[sample]):
            halves = each.reshape(each.shape[0], 2, height // 2, 2, width // 2)
            found_nodes.append(halves.amax((2, 4)).flatten(1))
        s, t = (nodes / nodes.detach().norm(dim=0) for nodes in found_nodes)
        expected = expected + (s.T @ s - t.T @ t).square().mean() / b
    assert loss.item() == EXACT(expected.item(), rel=1e-6)
    (own,) = torch.autograd.grad(expected, ours)
    torch.testing.assert_close(gradient, own)
    through = SKD(SKDOptions())(teacher, student, random_masks(side=32))["pairwise"]
    assert loss.item() != EXACT(through.item())


def test_correlation():
    teacher, student = random_outputs(0, TEACHER, side=32), random_outputs(1, side=32)
    (theirs, _), (ours, _) = arrays(teacher), arrays(student)
    taps = ("encoder_quarter", "encoder_eighth", "decoder_quarter")
    terms = []
    for a, c in itertools.combinations(taps, 2):
        for b in range(2):
            s, t = (
                np.dot(similar(each[a][b], 2), similar(each[c][b], 2)) / 4
                for each in (ours, theirs)
            )
            terms.append((s - t) ** 2)
    expected = {"correlation": EXACT(np.mean(terms), rel=1e-9)}
    assert found(CoCo(CoCoOptions()), teacher, student, random_masks(side=32)) == expected
