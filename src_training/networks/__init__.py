"""The teacher and the students, by name."""

from inspect import signature

from src_training.errors import InputError
from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.enet import ENet
from src_training.networks.erfnet import ERFNet
from src_training.networks.fanet import FANet
from src_training.networks.mobile_unet import MobileUNet
from src_training.networks.mobilenetv2 import MobileNetV2
from src_training.networks.pspnet import PSPNet
from src_training.networks.raunet import RAUNet
from src_training.networks.resnet18 import ResNet18
from src_training.networks.unet_plus_plus import UNetPlusPlus

__all__ = ["NETWORKS", "SegmentationNetwork", "Skips", "build_network"]

NETWORKS: dict[str, type[SegmentationNetwork]] = {
    "fanet": FANet,
    "mobile_unet": MobileUNet,
    "enet": ENet,
    "erfnet": ERFNet,
    "raunet": RAUNet,
    "pspnet": PSPNet,
    "unet_plus_plus": UNetPlusPlus,
    "mobilenetv2": MobileNetV2,
    "resnet18": ResNet18,
}


def build_network(
    name: str, in_channels: int, classes: int, **options: int | float | str | bool
) -> SegmentationNetwork:
    """Build a network by its name in `NETWORKS`, with fresh weights.

    Parameters
    ----------
    name
        Key of `NETWORKS`.
    in_channels
        Channels of the image, >= 1.
    classes
        Classes including the background, >= 2.
    **options
        The network's own (``width``, but for enet: ``unpooling``, and erfnet: none).

    Raises
    ------
    InputError
        If the name or an option is unknown, or a value is out of range.
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown; expected one of {', '.join(NETWORKS)}.")
    if in_channels < 1 or classes < 2:
        raise InputError(
            f"{name}: in_channels is {in_channels} and classes is {classes}; "
            "expected at least 1 and 2."
        )
    network = NETWORKS[name]
    known = list(signature(network).parameters)[2:]
    for option in options:
        if option not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise InputError(f"{name}: option {option!r} is unknown; expected {expected}.")
    return network(in_channels, classes, **options)


def published_width(name: str) -> float:
    """What a network has as ``width`` unless told otherwise: channels or a factor; 1 without."""
    width = signature(NETWORKS[name]).parameters.get("width")
    return 1.0 if width is None else float(width.default)
