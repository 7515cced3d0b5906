"""Taps of every network: the module, and the shape of its output."""

import pytest
import torch

from src_training.networks import NETWORKS, SegmentationNetwork, build_network
from tests.small_networks import small_network

STRIDES = {"logits": 1, "half": 2, "quarter": 4, "eighth": 8}

# Path of the module and channels of its output, at the published width with two classes.
TAPS: dict[str, dict[str, tuple[str, int]]] = {
    "fanet": {
        "encoder_half": ("encoder.1", 128),
        "encoder_quarter": ("encoder.2", 256),
        "encoder_eighth": ("encoder.3", 512),
        "bottleneck": ("encoder.3", 512),
        "decoder_quarter": ("decoder.0", 256),
        "decoder_quarter_upsampled": ("decoder.0.up", 256),
        "decoder_half": ("decoder.1", 128),
    },
    "mobile_unet": {
        "encoder_half": ("encoder.0", 16),
        "encoder_quarter": ("encoder.1", 24),
        "encoder_eighth": ("encoder.2", 32),
        "bottleneck": ("encoder.4", 1280),
        "decoder_eighth": ("decoder.1", 32),
        "decoder_quarter": ("decoder.2", 24),
        "decoder_half": ("decoder.3", 16),
    },
    "enet": {
        "encoder_half": ("encoder_half", 16),
        "encoder_quarter": ("encoder_quarter", 64),
        "encoder_eighth": ("encoder_eighth", 128),
        "bottleneck": ("encoder_eighth", 128),
        "decoder_quarter": ("decoder_quarter", 64),
        "decoder_half": ("decoder_half", 16),
    },
    "erfnet": {
        "encoder_half": ("encoder_half", 16),
        "encoder_quarter": ("encoder_quarter", 64),
        "encoder_eighth": ("encoder_eighth", 128),
        "bottleneck": ("encoder_eighth", 128),
        "decoder_quarter": ("decoder_quarter", 64),
        "decoder_half": ("decoder_half", 16),
    },
    "wnet": {
        "encoder_half": ("encoder.1", 16),
        "encoder_quarter": ("encoder.2", 32),
        "encoder_eighth": ("encoder.2", 32),
        "bottleneck": ("encoder.2", 32),
        "decoder_quarter": ("decoder.0.joined", 32),
        "decoder_half": ("decoder.0", 16),
        "auxiliary_logits": ("first.head", 2),
    },
    "little_unet": {
        "encoder_half": ("encoder.1", 16),
        "encoder_quarter": ("encoder.2", 32),
        "encoder_eighth": ("encoder.2", 32),
        "bottleneck": ("encoder.2", 32),
        "decoder_quarter": ("decoder.0.joined", 32),
        "decoder_half": ("decoder.0", 16),
    },
    "raunet": {
        "encoder_half": ("encoder.stem", 64),
        "encoder_quarter": ("encoder.stages.0", 64),
        "encoder_eighth": ("encoder.stages.1", 128),
        "bottleneck": ("encoder.stages.3", 512),
        "decoder_eighth": ("attention.1", 128),
        "decoder_quarter": ("attention.2", 64),
        "decoder_half": ("decoder.3", 64),
    },
    "pspnet": {
        "encoder_half": ("encoder.stem.0", 64),
        "encoder_quarter": ("encoder.stages.0", 256),
        "encoder_eighth": ("encoder.stages.3", 2048),
        "bottleneck": ("encoder.stages.3", 2048),
        "decoder_quarter": ("upsample.0", 2),
        "decoder_half": ("upsample.1", 2),
    },
    "unet_plus_plus": {
        "encoder_half": ("encoder.1", 128),
        "encoder_quarter": ("encoder.2", 256),
        "encoder_eighth": ("encoder.3", 512),
        "bottleneck": ("encoder.4", 1024),
        "decoder_eighth": ("nested.3-1", 512),
        "decoder_quarter": ("nested.2-2", 256),
        "decoder_half": ("nested.1-3", 128),
    },
    "mobilenetv2": {
        "encoder_half": ("encoder.0.0", 32),
        "encoder_quarter": ("encoder.1", 96),
        "encoder_eighth": ("encoder.2", 1280),
        "bottleneck": ("encoder.2", 1280),
        "decoder_quarter": ("upsample.0", 2),
        "decoder_half": ("upsample.1", 2),
    },
    "resnet18": {
        "encoder_half": ("encoder.stem", 64),
        "encoder_quarter": ("encoder.stages.0", 64),
        "encoder_eighth": ("encoder.stages.1", 128),
        "bottleneck": ("encoder.stages.3", 512),
        "decoder_eighth": ("upsample.1", 2),
        "decoder_quarter": ("upsample.2", 2),
        "decoder_half": ("upsample.3", 2),
    },
}


@pytest.fixture(scope="module")
def networks() -> dict[str, SegmentationNetwork]:
    torch.manual_seed(0)
    return {name: small_network(name).eval() for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_are_outputs_of_these_modules_in_these_shapes(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 1, 2).eval()
        image = torch.empty(1, 1, 128, 192)
    assert network.tap_channels(*TAPS[name]) == {tap: c for tap, (_, c) in TAPS[name].items()}
    outputs: dict[str, torch.Tensor] = {}

    def record(path: str) -> None:
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            outputs[path] = output

        network.get_submodule(path).register_forward_hook(hook)

    for path, _ in TAPS[name].values():
        record(path)
    with network.collect_taps(*network.taps) as features, torch.no_grad():
        network(image)
    assert features.keys() == TAPS[name].keys()
    for tap, (path, channels) in TAPS[name].items():
        stride = network.stride if tap == "bottleneck" else STRIDES[tap.split("_")[1]]
        assert features[tap] is outputs[path] or tap in network.pooled_taps, tap
        assert features[tap].shape == (1, channels, 128 // stride, 192 // stride), tap


@pytest.mark.parametrize("name", NETWORKS)
def test_encoder_taps_are_the_skips_of_their_size(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    with network.collect_taps(*network.taps) as features:
        skips, bottleneck = network.encode(torch.rand(1, 1, 64, 96))
    assert features["bottleneck"] is bottleneck
    maps = {skip.shape[-2:]: skip for skip in skips.features if skip.is_floating_point()}
    for tap, feature in features.items():
        if tap.startswith("encoder") and feature.shape[-2:] in maps:
            assert feature is maps[feature.shape[-2:]], tap


@pytest.mark.parametrize("name", NETWORKS)
def test_decoder_taps_alone_depend_on_the_bottleneck(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    with network.collect_taps(*network.taps) as features, torch.no_grad():
        skips, bottleneck = network.encode(torch.rand(1, 1, 64, 96))
        encoded = set(features)
        network.decode(skips, bottleneck)
        first = dict(features)
        network.decode(skips, torch.rand_like(bottleneck))
    assert encoded == {tap for tap in network.taps if not tap.startswith("decoder")}
    for tap, feature in features.items():
        assert (feature is first[tap]) == (tap in encoded), tap
        assert torch.equal(feature, first[tap]) == (tap in encoded), tap


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_changes_the_bottleneck_tap_later(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    image = torch.rand(1, 1, 64, 64)
    with network.collect_taps("bottleneck") as features:
        network(image)
    assert torch.equal(features["bottleneck"], network.encode(image)[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tap_no_longer_collects_after_its_block(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    with network.collect_taps("decoder_half") as features:
        pass
    network(torch.rand(1, 1, 32, 32))
    assert features == {}


def test_an_unknown_tap_is_a_key_error(networks: dict[str, SegmentationNetwork]) -> None:
    with (
        pytest.raises(KeyError, match="decoder_tenth"),
        networks["enet"].collect_taps("decoder_tenth"),
    ):
        pass
