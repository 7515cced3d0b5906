"""Little U-Net and W-Net: their published sizes, their options, and the W-Net's first output."""

import re

import pytest
import torch

from src_training.data.sampling import Batch
from src_training.errors import InputError
from src_training.losses.segmentation import supervised_losses
from src_training.networks import build_network
from src_training.networks.little_unet import LittleUNet, WNet
from src_training.training.stages.supervised import SupervisedStage


@pytest.mark.parametrize(("network", "parameters"), [(LittleUNet, 34_201), (WNet, 68_482)])
def test_as_many_parameters_as_published(network: type[LittleUNet], parameters: int) -> None:
    # As published: a color image, and one logit.
    assert sum(each.numel() for each in network(3, 1).parameters()) == parameters


@pytest.mark.parametrize("name", ["little_unet", "wnet"])
@pytest.mark.parametrize("depth", [3, 4, 5, 6])
def test_taps_of_any_depth_lie_at_their_scale(name: str, depth: int) -> None:
    network = build_network(name, 1, 3, width=2, depth=depth).eval()
    parts = {"logits": 1, "half": 2, "quarter": 4, "eighth": 8}
    with network.collect_taps(*network.taps) as features, torch.no_grad():
        logits = network(torch.rand(1, 1, 64, 96))
    assert logits.shape == (1, 3, 64, 96)
    assert network.stride == 2 ** (depth - 1)
    for tap, feature in features.items():
        stride = network.stride if tap == "bottleneck" else parts[tap.split("_")[1]]
        assert feature.shape[2:] == (64 // stride, 96 // stride), tap
    assert features["encoder_quarter"].shape == features["decoder_quarter"].shape


@pytest.mark.parametrize("depth", [2, 7, True, 3.0])
def test_other_depths_are_refused(depth: int | float) -> None:
    message = f"little_unet: option depth is {depth!r}; expected an integer from 3 to 6."
    with pytest.raises(InputError, match=re.escape(message)):
        build_network("wnet", 1, 2, depth=depth)


def test_the_second_unet_sees_the_logits_of_the_first() -> None:
    torch.manual_seed(0)
    network = build_network("wnet", 1, 2).eval()
    image = torch.rand(1, 1, 32, 32)
    before = network(image)
    with torch.no_grad():
        network.get_submodule("first.head").bias.add_(1)  # type: ignore[union-attr, operator]
    assert not torch.allclose(network(image), before)


def test_the_first_output_learns_from_masks_with_weight_1() -> None:
    torch.manual_seed(0)
    network = build_network("wnet", 1, 2)
    stage = SupervisedStage("student", network, "dice_focal").eval()
    image, mask = torch.rand(2, 1, 30, 30), torch.randint(2, (2, 30, 30))
    losses = stage(Batch(image, mask, None, image))
    with network.collect_taps("auxiliary_logits") as features:
        network(image)
    expected = supervised_losses(features["auxiliary_logits"][..., :30, :30], mask, "dice_focal")
    half = 0.5 * (expected["focal"] + expected["dice"])
    torch.testing.assert_close(losses["segmentation/auxiliary"], half)
    own = 0.5 * (losses["segmentation/focal"] + losses["segmentation/dice"])
    torch.testing.assert_close(stage.total(losses), own + half)
