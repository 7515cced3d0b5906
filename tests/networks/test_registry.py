"""Networks are built by name; errors list the valid names and options."""

import re

import pytest
import torch

from src_training.errors import InputError
from src_training.networks import NETWORKS, build_network


@pytest.mark.parametrize("name", NETWORKS)
def test_every_name_builds_its_class(name: str) -> None:
    with torch.device("meta"):
        assert type(build_network(name, 1, 2)) is NETWORKS[name].network


def test_an_option_reaches_the_network() -> None:
    assert build_network("fanet", 1, 2, width=8).bottleneck_channels == 64


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_counts_are_within_one_percent(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 1, 2)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(NETWORKS[name].parameters, rel=0.01)


def test_options_are_those_of_the_published_network() -> None:
    assert NETWORKS["enet"].options == {}
    assert NETWORKS["fanet"].options == {"width": 64}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {}, "network 'unet' is unknown; expected one of fanet, mobile_unet, enet, erfnet"),
        ("fanet", {"depth": 3}, "fanet: option 'depth' is unknown; expected one of width"),
        ("erfnet", {"width": 3}, "erfnet: option 'width' is unknown; expected none"),
        ("fanet", {"width": 0}, "fanet: option width is 0; expected a positive integer"),
        ("fanet", {"width": 8.5}, "fanet: option width is 8.5; expected a positive integer"),
        ("fanet", {"width": True}, "fanet: option width is True; expected a positive integer"),
        ("pspnet", {"width": 0}, "pspnet: option width is 0; expected a positive integer"),
        ("raunet", {"width": 6}, "raunet: option width is 6; expected a positive multiple of 4"),
        ("mobilenetv2", {"width": 3}, "mobilenetv2: width is 3; expected a number from 0.1 to 2"),
        ("mobile_unet", {"width": "1"}, "width is '1'; expected a number from 0.1 to 2"),
        ("enet", {"unpooling": "indices"}, "enet: option 'unpooling' is unknown; expected none"),
    ],
)
def test_an_unknown_name_or_option_is_refused(
    name: str, options: dict[str, int | float | str | bool], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        build_network(name, 1, 2, **options)


@pytest.mark.parametrize(("in_channels", "classes"), [(0, 2), (1, 1)])
def test_too_few_channels_or_classes_are_refused(in_channels: int, classes: int) -> None:
    with pytest.raises(InputError, match="expected 1 to 64 and 2 to 256"):
        build_network("enet", in_channels, classes)
