"""Networks with folded batch norms compared with the original networks."""

import pytest
import torch
from torch import nn

from src_training.inference.bn_folding import FoldedNetwork
from src_training.networks import NETWORKS, build_network


def lively(name):
    """A network whose batch norms are not the identity."""
    torch.manual_seed(0)
    network = build_network(name, 1, 2).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.running_mean, module.bias.data):
                nn.init.uniform_(tensor, -0.2, 0.2)
    return network


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_network_gives_the_same_with_fewer_norms(name):
    network = lively(name)
    folded = FoldedNetwork(network).folded()
    image = torch.rand(1, 1, 2 * network.stride, 3 * network.stride)
    expected, found = network(image), folded(image)
    # Rounding errors can move the maxima of pooling.
    assert (found - expected).abs().quantile(0.99) < 1e-3 * expected.std()
    assert norms(folded) < norms(network)


@torch.no_grad()
def test_later_statistics_and_weights_are_folded_anew(tiny_model):
    network, image = tiny_model().network, torch.rand(1, 1, 16, 16)
    folding = FoldedNetwork(network)
    network.down[1].running_mean.fill_(0.3)
    network.down[0].weight.mul_(1.5)
    network.up[1].bias.add_(1)
    torch.testing.assert_close(folding.folded()(image), network(image))


@torch.no_grad()
def test_a_convolution_that_is_read_twice_is_not_folded(tiny_model):
    network, image = tiny_model().network, torch.rand(1, 1, 16, 16)

    class Beside(nn.Module):
        def __init__(self, convolution, norm):
            super().__init__()
            self.convolution, self.norm = convolution, norm

        def forward(self, x):
            features = self.convolution(x)
            return features + self.norm(features)

    network.down[0], network.down[1] = Beside(*network.down[:2]), nn.Identity()
    torch.testing.assert_close(FoldedNetwork(network).folded()(image), network(image))
