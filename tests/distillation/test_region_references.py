"""Losses of regions and of graphs against loops over pixels, in numpy and float64."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from src_training.distillation.emkd import EMKD, EMKDOptions
from src_training.distillation.graph_flow import (
    GraphFlow,
    GraphFlowOptions,
    NormalisedGraphFlow,
    Paraphraser,
    Paraphrasers,
)
from src_training.errors import InputError
from src_training.networks import build_network
from tests.distillation.loop_references import (
    arrays,
    cosine,
    divergence,
    found,
    pixels,
    unit,
)
from tests.distillation.random_outputs import TEACHER, random_masks, random_outputs

EXACT = pytest.approx


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
        with network.collect_taps(*taps) as features, torch.no_grad():
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
