"""Properties of all networks: shapes, sizes, gradients, precision."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src_training.networks import NETWORKS, SegmentationNetwork, build_network
from src_training.networks.blocks.residual import BasicBlock, BottleneckBlock, ResidualEncoder
from tests.small_networks import small_network


def seeded(name: str, in_channels: int = 1, classes: int = 2) -> SegmentationNetwork:
    torch.manual_seed(0)
    return small_network(name, in_channels, classes)


@pytest.fixture(scope="module")
def networks() -> dict[str, SegmentationNetwork]:
    return {name: seeded(name).eval() for name in NETWORKS}


@pytest.mark.parametrize(
    ("name", "millions", "gmac", "bottleneck"),
    [
        ("fanet", 38.3, 41.7, (512, 16, 16)),
        ("mobile_unet", 4.7, 0.24, (1280, 4, 4)),
        ("enet", 0.35, 0.115, (128, 16, 16)),
        ("erfnet", 2.06, 0.83, (128, 16, 16)),
    ],
)
def test_size_and_cost_of_gkd_networks_are_published(
    name: str, millions: float, gmac: float, bottleneck: tuple[int, int, int]
) -> None:
    # Multiplications are published to two digits for mobile_unet: 0.2425 rounds to its 0.24.
    allowed = 0.005 if name == "mobile_unet" else 0.01 * gmac
    with torch.device("meta"):
        network = build_network(name, 1, 2).eval()
        image = torch.empty(1, 1, 128, 128)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        skips, features = network.encode(image)
        network.decode(skips, features)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(millions * 1e6, rel=0.01)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmac, abs=allowed)
    assert features.shape[1:] == bottleneck


@pytest.mark.parametrize(
    ("name", "millions", "bottleneck"),
    [
        ("raunet", 22.1, (512, 4, 4)),
        ("pspnet", 46.7, (2048, 16, 16)),
        ("unet_plus_plus", 36.6, (1024, 8, 8)),
        ("mobilenetv2", 2.2, (1280, 16, 16)),
        ("resnet18", 11.2, (512, 4, 4)),
    ],
)
def test_sizes_of_emkd_networks_are_published(
    name: str, millions: float, bottleneck: tuple[int, int, int]
) -> None:
    with torch.device("meta"):
        network = build_network(name, 1, 2).eval()
        features = network.encode(torch.empty(1, 1, 128, 128))[1]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # 2.226 M are printed as 2.2.
    assert parameters == pytest.approx(millions * 1e6, rel=0.01, abs=0.05e6)
    assert features.shape[1:] == bottleneck


@pytest.mark.parametrize(
    ("block", "counts"), [(BasicBlock, (3, 4, 6, 3)), (BottleneckBlock, (1, 2, 1, 2))]
)
def test_residual_encoder_equals_the_resnet_of_monai(
    block: type[BasicBlock] | type[BottleneckBlock], counts: tuple[int, ...]
) -> None:
    from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

    torch.manual_seed(0)
    ours = ResidualEncoder(3, 8, block, counts).eval()
    theirs = ResNet(
        ResNetBlock if block is BasicBlock else ResNetBottleneck,
        list(counts),
        [8, 16, 32, 64],
        spatial_dims=2,
        n_input_channels=3,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    ).eval()
    state = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(state))
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        reference = theirs.maxpool(theirs.act(theirs.bn1(theirs.conv1(image))))
        for level, feature in enumerate(ours(image)[1:], 1):
            reference = getattr(theirs, f"layer{level}")(reference)
            assert torch.allclose(feature, reference, atol=1e-5), level


def test_dilated_stages_equal_strided_ones_at_every_other_pixel() -> None:
    torch.manual_seed(0)
    dilated = ResidualEncoder(1, 4, BottleneckBlock, (1, 1, 1, 1), at_eighth=True).eval()
    strided = copy.deepcopy(dilated)
    for stage in strided.stages[2:]:
        for convolution in stage.modules():
            if isinstance(convolution, nn.Conv2d) and convolution.kernel_size == (3, 3):
                convolution.dilation, convolution.padding = (1, 1), (1, 1)
                convolution.stride = (2, 2)
        stage[0].shortcut[0].stride = (2, 2)
    image = torch.rand(1, 1, 128, 128)
    with torch.no_grad():
        dense, sparse = dilated(image), strided(image)
    assert [feature.shape[2] for feature in dense] == [64, 32, 16, 16, 16]
    assert torch.allclose(dense[3][..., ::2, ::2], sparse[3], atol=1e-5)
    assert torch.allclose(dense[4][..., ::4, ::4], sparse[4], atol=1e-5)


@pytest.mark.parametrize("name", ["raunet", "pspnet"])
def test_networks_with_pooling_train_on_a_single_image(name: str) -> None:
    network = seeded(name).train()
    logits = network(torch.rand(1, 1, 64, 64))
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_is_decode_of_encode_bit_for_bit(name: str) -> None:
    network = seeded(name).eval()
    image = torch.rand(2, 1, 40, 72)
    assert torch.equal(network(image), network.decode(*network.encode(image)))


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_depend_on_the_bottleneck(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    skips, bottleneck = network.encode(torch.rand(1, 1, 64, 64))
    swapped = network.decode(skips, torch.rand_like(bottleneck))
    assert not torch.allclose(swapped, network.decode(skips, bottleneck))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_gives_logits_of_that_size(
    networks: dict[str, SegmentationNetwork], name: str, height: int, width: int
) -> None:
    network = networks[name]
    with torch.no_grad():
        skips, bottleneck = network.encode(torch.rand(1, 1, height, width))
        logits = network.decode(skips, bottleneck)
    grid = (math.ceil(height / network.stride), math.ceil(width / network.stride))
    assert logits.shape == (1, 2, height, width)
    assert bottleneck.shape == (1, network.bottleneck_channels, *grid)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_any_size_can_be_trained_on(name: str, size: tuple[int, int]) -> None:
    network = seeded(name).train()
    assert network(torch.rand(2, 1, *size)).shape == (2, 2, *size)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("in_channels", "classes"), [(3, 5), (20, 2)])
def test_any_channels_and_classes(name: str, in_channels: int, classes: int) -> None:
    network = seeded(name, in_channels, classes).eval()
    assert network(torch.rand(1, in_channels, 32, 32)).shape == (1, classes, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_repeats_the_edge_and_only_where_needed(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    network = networks[name]
    fitting = torch.rand(1, 1, 2 * network.stride, network.stride)
    assert network.pad(fitting) is fitting
    odd = fitting[..., :-1, :-1]
    repeated = torch.cat((odd, odd[..., -1:]), dim=3)
    repeated = torch.cat((repeated, repeated[..., -1:, :]), dim=2)
    assert torch.equal(network.pad(odd), repeated)
    assert torch.equal(network(odd), network(repeated)[..., :-1, :-1])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = seeded(name).train()
    network(torch.rand(4, 1, 64, 64)).square().mean().backward()
    without = [
        parameter_name
        for parameter_name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    network = seeded(name).train()
    # A structure large enough for networks whose logits are at 1/32.
    target = torch.zeros(4, 64, 64, dtype=torch.long)
    target[..., :32] = 1
    image = 0.5 * torch.rand(4, 1, 64, 64) + 0.5 * target[:, None]
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        loss = nn.functional.cross_entropy(network(image), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def difference(network: SegmentationNetwork, image: Tensor, reference: Tensor) -> float:
    """Largest difference from the reference, relative to the reference's largest logit."""
    logits = network(image)
    assert logits.dtype == image.dtype
    return ((logits.double() - reference.double()).abs().max() / reference.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_double_precision_and_channels_last_agree(name: str) -> None:
    network = seeded(name).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        reference = network(image)
        assert difference(copy.deepcopy(network).double(), image.double(), reference) < 1e-4
        last = copy.deepcopy(network).to(memory_format=torch.channels_last)
        channels_last_image = image.to(memory_format=torch.channels_last)
        assert difference(last, channels_last_image, reference) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_autocast_trains(name: str) -> None:
    network = seeded(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.rand(2, 1, 33, 33))
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_restores_the_network(
    networks: dict[str, SegmentationNetwork], name: str
) -> None:
    again = small_network(name).eval()
    again.load_state_dict(networks[name].state_dict())
    image = torch.rand(1, 1, 32, 32)
    assert torch.equal(again(image), networks[name](image))
