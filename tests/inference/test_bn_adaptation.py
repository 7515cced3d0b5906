"""Adapted batch norms compared with the definition of batch norm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src_training.inference.bn_adaptation import BatchNormAdaptation
from src_training.inference.predictor import Predictor
from src_training.networks.blocks.pooling import PooledBatchNorm2d

RADIUS = 16
"""Larger than the receptive field of the tiny network."""


def picture(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)


def network_and_tiles(tiny_model, tiles=1):
    torch.manual_seed(1)
    return tiny_model().network, [3 * torch.rand(1, 1, 32, 32) + 2 for _ in range(tiles)]


@torch.no_grad()
def by_hand(network, x, means, variances):
    first, norm, _, last = network.down
    y = F.relu(F.batch_norm(first(x), means, variances, norm.weight, norm.bias, eps=norm.eps))
    return network.up(last(y))


@pytest.mark.parametrize("mixing", [0.0, 0.3, 1.0])
def test_statistics_are_a_mean_of_training_and_image(tiny_model, mixing):
    network, tiles = network_and_tiles(tiny_model, tiles=3)
    norm, features = network.down[1], [network.down[0](tile).detach() for tile in tiles]
    image = [
        torch.stack([f(each, dim=(0, 2, 3)) for each in features]).mean(0)
        for f in (torch.mean, torch.var)
    ]
    trained = norm.running_mean, norm.running_var
    mixed = [(1 - mixing) * a + mixing * b for a, b in zip(trained, image, strict=True)]
    found = BatchNormAdaptation(network).adapt(tiles, mixing)
    torch.testing.assert_close(found(tiles[0]).detach(), by_hand(network, tiles[0], *mixed))


def test_the_network_itself_stays_as_it_was(tiny_model):
    network, tiles = network_and_tiles(tiny_model)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    adapted = BatchNormAdaptation(network).adapt(tiles, 0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in (*network.modules(), *adapted.modules()))
    assert not torch.equal(adapted.down[1].running_mean, network.down[1].running_mean)


def test_a_norm_of_a_single_value_keeps_its_statistics(tiny_model):
    network, tiles = network_and_tiles(tiny_model)
    network.down = torch.nn.Sequential(
        *network.down, torch.nn.AdaptiveAvgPool2d(1), pooled := PooledBatchNorm2d(8)
    )
    pooled.running_mean.fill_(0.53)
    pooled.eval()
    with torch.no_grad():
        assert network.down(tiles[0]).shape == (1, 8, 1, 1)
    adapted = BatchNormAdaptation(network.down).adapt(tiles, 1.0)
    assert torch.equal(adapted[-1].running_mean, pooled.running_mean)
    assert torch.equal(adapted[-1].running_var, pooled.running_var)
    assert not torch.equal(adapted[1].running_mean, network.down[1].running_mean)


def test_a_network_without_batch_norm_is_the_same(tiny_model):
    network, tiles = network_and_tiles(tiny_model)
    network.down[1] = torch.nn.Identity()
    adapted = BatchNormAdaptation(network).adapt(tiles, 1.0)
    torch.testing.assert_close(adapted(tiles[0]), network(tiles[0]))


def adapting(tiny_model, mixing):
    model = tiny_model()
    model.card = model.card.model_copy(update={"bn_mixing": mixing})
    return model


def test_statistics_do_not_depend_on_the_tiling(tiny_model):
    model, image = adapting(tiny_model, 0.4), picture(100, 120)
    whole = Predictor(model, "cpu").predict(image)
    tiled = Predictor(model, "cpu", tile=96, batch=2).predict(image)
    # The corner lies in the first tile alone, far from its border.
    corner = (slice(None), slice(0, 32 - RADIUS), slice(0, 32 - RADIUS))
    np.testing.assert_allclose(tiled[corner], whole[corner], atol=1e-4)
    without = Predictor(tiny_model(), "cpu").predict(image)
    assert np.abs(without - whole).max() > 0.01


def test_a_large_image_is_sampled(tiny_model):
    model, seen = adapting(tiny_model, 0.4), []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    next(Predictor(model, "cpu", tile=900).tiles(picture(900, 2600)))
    assert seen[:-1] == [(1, 1, 512, 512)] * 8
