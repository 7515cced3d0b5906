"""Networks at widths that tests can afford."""

from src_training.networks import SegmentationNetwork, build_network

Options = dict[str, int | float | str | bool]

SMALL_OPTIONS: dict[str, Options] = {
    "fanet": {"width": 8},
    "raunet": {"width": 8},
    "pspnet": {"width": 4},
    "unet_plus_plus": {"width": 4},
    "mobilenetv2": {"width": 0.35},
    "resnet18": {"width": 8},
}
"""Options by name; the others are small enough as they are."""


def small_network(
    name: str, in_channels: int = 1, classes: int = 2, **options: int | float | str | bool
) -> SegmentationNetwork:
    """A network by name, narrow unless an option says otherwise."""
    return build_network(name, in_channels, classes, **{**SMALL_OPTIONS.get(name, {}), **options})
