"""Each loss against loops over pixels, in numpy and float64."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from src_training.distillation.attention_transfer import AttentionTransfer, AttentionTransferOptions
from src_training.distillation.coco import CoCo, CoCoOptions
from src_training.distillation.emkd import EMKD, EMKDOptions
from src_training.distillation.fsp import FSP, FSPOptions
from src_training.distillation.gkd import GKDOptions, ViewPredictions
from src_training.distillation.graph_flow import (
    GraphFlow,
    GraphFlowOptions,
    NormalisedGraphFlow,
    Paraphraser,
    Paraphrasers,
)
from src_training.distillation.ifvd import IFVD, IFVDOptions
from src_training.distillation.logits import LogitsKD, LogitsKDOptions
from src_training.distillation.masks import MasksOptions, MixedMasks
from src_training.distillation.skd import SKD, SKDOptions
from src_training.errors import InputError
from src_training.networks import build_network
from tests.distillation.random_outputs import TEACHER, random_masks, random_outputs

EXACT = pytest.approx


def found(distillation, teacher, student, mask):
    return {name: loss.item() for name, loss in distillation(teacher, student, mask).items()}


def arrays(each):
    return {name: feature.numpy() for name, feature in each.taps.items()}, each.logits.numpy()


@pytest.fixture
def both():
    return random_outputs(0, TEACHER), random_outputs(1)


def softmax(logits):
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def divergence(teacher, student, temperature):
    terms = []
    for b, y, x in np.ndindex(teacher.shape[0], *teacher.shape[2:]):
        p, q = (
            softmax(teacher[b, :, y, x] / temperature),
            softmax(student[b, :, y, x] / temperature),
        )
        terms.append(sum(a * math.log(a / c) for a, c in zip(p, q, strict=True)))
    return temperature**2 * sum(terms) / len(terms)


def unit(vector):
    return np.asarray(vector) / math.sqrt(sum(value**2 for value in vector))


def cosine(a, b):
    return float(sum(x * y for x, y in zip(unit(a), unit(b), strict=True)))


def pixels(feature):
    """Feature vectors of one sample (C, h, w), in reading order."""
    return [feature[:, y, x] for y, x in np.ndindex(*feature.shape[1:])]


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


def importance(feature):
    return unit([np.mean([value**4 for value in pixel]) for pixel in pixels(feature)])


def affinities(feature, mask):
    """Cosine between mean features of every two present classes, one sample."""
    step = mask.shape[0] // feature.shape[1]
    small, vectors = mask[::step, ::step].flatten(), pixels(feature)
    means = {
        k: np.mean([v for v, c in zip(vectors, small, strict=True) if c == k], 0) for k in small
    }
    return {
        pair: cosine(*map(means.get, pair)) for pair in itertools.combinations(sorted(means), 2)
    }


@pytest.mark.parametrize("absent", [None, 1])
def test_emkd(both, absent):
    mask = random_masks()
    if absent is not None:
        mask[0][mask[0] == absent] = 0
    (theirs, t_logits), (ours, s_logits) = map(arrays, both)
    expected = {"pmd": divergence(t_logits, s_logits, 4.0)}
    for level, tap in (("low", "encoder_half"), ("high", "encoder_eighth")):
        both_maps = [
            (importance(s), importance(t)) for s, t in zip(ours[tap], theirs[tap], strict=True)
        ]
        expected[f"imd_{level}"] = np.mean([sum((s - t) ** 2) for s, t in both_maps])
        squares = []
        for b in range(2):
            s, t = (
                affinities(ours[tap][b], mask.numpy()[b]),
                affinities(theirs[tap][b], mask.numpy()[b]),
            )
            squares += [(s[pair] - t[pair]) ** 2 for pair in s]
        expected[f"rad_{level}"] = np.mean(squares)
    assert found(EMKD(EMKDOptions()), *both, mask) == EXACT(expected, rel=1e-6)


def test_empty_regions_may_count_as_no_distance(both):
    mask = random_masks(classes=2)
    mask[0] = 0
    (teacher, student), options = both, EMKDOptions()
    left_out, counted = (
        found(EMKD(options.model_copy(update={"empty_regions": how})), teacher, student, mask)
        for how in ("left_out", "counted")
    )
    # Three classes make three pairs, of which the second sample has one.
    assert counted["rad_low"] == EXACT(left_out["rad_low"] / 6)
    assert counted["imd_low"] == left_out["imd_low"]


def nodes_of(feature):
    """3x3 patches around each channel's maximum, one sample, zeros beyond the edge."""
    nodes = []
    for channel in feature:
        top, left = max(np.ndindex(*channel.shape), key=lambda place: channel[place])
        nodes.append(
            [
                channel[y, x] if 0 <= y < channel.shape[0] and 0 <= x < channel.shape[1] else 0.0
                for y in range(top - 1, top + 2)
                for x in range(left - 1, left + 2)
            ]
        )
    return np.array(nodes)


def variation(encoder, decoder, normalised):
    sides = []
    for feature in (decoder, encoder):
        nodes = nodes_of(feature)
        if normalised:
            nodes = np.array([unit(node) for node in nodes])
        sides.append((nodes, np.array([[sum(a * b) for b in nodes] for a in nodes])))
    return sides[0][0] - sides[1][0], sides[0][1] - sides[1][1]


@pytest.mark.parametrize("form", [GraphFlow, NormalisedGraphFlow])
def test_graph_flow(both, form):
    teacher, student = both
    pairs = {tap: (TEACHER[tap], student.taps[tap].shape[1]) for tap in GraphFlow.taps}
    paraphrasers = Paraphrasers(pairs).double().requires_grad_(False)
    said = {tap: feature.numpy() for tap, feature in paraphrasers(teacher.taps).items()}
    ours, _ = arrays(student)
    normalised = form is NormalisedGraphFlow
    vertices, edges = [], []
    for b in range(2):
        s, t = (
            variation(each["encoder_quarter"][b], each["decoder_quarter"][b], normalised)
            for each in (ours, said)
        )
        vertices.append((s[0] - t[0]) ** 2)
        edges.append((s[1] - t[1]) ** 2)
    total = np.mean if normalised else lambda squares: np.sum(squares) / 2
    expected = {
        "vertices": total(vertices),
        "edges": total(edges),
        "prediction": divergence(teacher.logits.numpy(), student.logits.numpy(), 1.0),
    }
    assert found(form(GraphFlowOptions(), paraphrasers), *both, random_masks()) == EXACT(
        expected, rel=1e-9
    )


def test_graph_flow_may_read_the_teacher_before_its_skip():
    options = GraphFlowOptions(teacher_decoder="upsampled", prediction=0)
    teacher, student = (build_network("fanet", 1, 2, width=width).eval() for width in (4, 2))
    flow = GraphFlow.for_pair(options, teacher, student)
    names = ("encoder_quarter", "decoder_quarter_upsampled")
    assert flow.teacher_taps == names and set(flow.paraphraser.by_tap) == set(names)
    image = torch.rand(1, 1, 32, 32)
    outputs = []
    for network, taps in ((teacher, flow.teacher_taps), (student, flow.taps)):
        with network.tapped(*taps) as features, torch.no_grad():
            outputs.append(replace(random_outputs(0), logits=network(image), taps=dict(features)))
    up = teacher.decoder[0].up
    deepest = torch.nn.functional.interpolate(
        teacher.encode(image)[1], scale_factor=2.0, mode="bilinear"
    )
    read = outputs[0].taps["decoder_quarter_upsampled"]
    torch.testing.assert_close(read, up(deepest).detach())
    losses = flow(*outputs, torch.zeros(1, 32, 32, dtype=torch.long))
    assert losses["vertices"].item() > 0
    with pytest.raises(InputError, match="teacher_decoder is upsampled, but the teacher has no"):
        GraphFlow.for_pair(options, build_network("enet", 1, 2), student)


def test_a_paraphraser_is_three_convolutions_and_their_mirror():
    paraphraser = Paraphraser(6, 4).double()
    kinds = [type(layer).__name__ for layer in (*paraphraser.encoder, *paraphraser.decoder)]
    assert kinds == ["Conv2d", "LeakyReLU"] * 3 + ["ConvTranspose2d", "LeakyReLU"] * 3
    channels = [
        (layer.in_channels, layer.out_channels)
        for layer in (*paraphraser.encoder, *paraphraser.decoder)
        if hasattr(layer, "in_channels")
    ]
    assert channels == [(6, 6), (6, 4), (4, 4), (4, 4), (4, 6), (6, 6)]
    feature = torch.randn(2, 6, 5, 7).double()
    assert paraphraser(feature).shape == feature.shape
    assert paraphraser.encoder(feature).shape == (2, 4, 5, 7)


def test_reconstruction_of_a_paraphraser():
    torch.manual_seed(0)
    taps = random_outputs(0, TEACHER).taps
    read = {tap: taps[tap] for tap in ("encoder_half", "encoder_eighth")}
    paraphrasers = Paraphrasers({tap: (each.shape[1], 2) for tap, each in read.items()}).double()
    squares = []
    for tap, feature in read.items():
        again = paraphrasers.by_tap[tap](feature).detach().numpy()
        differences = (again - feature.numpy()).ravel()
        squares.append(sum(difference**2 for difference in differences) / len(differences))
    assert paraphrasers.reconstruction(read).item() == EXACT(sum(squares) / 2, rel=1e-9)
    learnt = [*paraphrasers.parameters()]

    def loss(*_weights):
        # Scaled up, because gradients of the encoder are below the tolerance of gradcheck.
        return 1e4 * paraphrasers.reconstruction(read)

    assert torch.autograd.gradcheck(loss, learnt, fast_mode=True)
