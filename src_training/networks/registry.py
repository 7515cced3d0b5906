"""Registry of the networks by the names that recipes and model cards use."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature

from src_training.data.preprocessing.base import MOST_CHANNELS
from src_training.errors import InputError
from src_training.networks.base import SegmentationNetwork
from src_training.networks.enet import ENet
from src_training.networks.erfnet import ERFNet
from src_training.networks.fanet import FANet
from src_training.networks.little_unet import LittleUNet, WNet
from src_training.networks.mobile_unet import MobileUNet
from src_training.networks.mobilenetv2 import MobileNetV2
from src_training.networks.pspnet import PSPNet
from src_training.networks.raunet import RAUNet
from src_training.networks.resnet18 import ResNet18
from src_training.networks.unet_plus_plus import UNetPlusPlus

Option = int | float | str | bool

MOST_CLASSES = 256
"""Largest number of classes, because labels are uint8."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network of the registry.

    Attributes
    ----------
    network
        Class of the network; called with the image's channels, the number of
        classes, and options.
    parameters
        Millions of parameters with the default options, for one image channel
        and two classes.
    suits
        Recommended use, in one line.
    citation
        Authors, year and reference.
    """

    network: type[SegmentationNetwork]
    parameters: float
    suits: str
    citation: str

    @property
    def options(self) -> dict[str, Option]:
        """Default of each option by name; the defaults give the published network."""
        parameters = list(signature(self.network).parameters.values())[2:]
        return {parameter.name: parameter.default for parameter in parameters}


NETWORKS: dict[str, NetworkSpec] = {
    "fanet": NetworkSpec(
        FANet,
        38.3,
        "teacher of GKD: features at full resolution; width 8 to 16 trains on a CPU",
        "Li et al. 2020, doi:10.1109/JBHI.2020.3028180",
    ),
    "mobile_unet": NetworkSpec(
        MobileUNet,
        4.7,
        "student of GKD: few operations; halves the image first, which loses thin vessels",
        "Sandler et al. 2018, arXiv 1801.04381",
    ),
    "enet": NetworkSpec(
        ENet,
        0.35,
        "student of GKD: the fewest operations; halves the image first, which loses thin vessels",
        "Paszke et al. 2016, arXiv 1606.02147",
    ),
    "erfnet": NetworkSpec(
        ERFNet,
        2.06,
        "student of GKD: convolutions in one dimension, no skips",
        "Romera et al. 2018, doi:10.1109/TITS.2017.2750080",
    ),
    "wnet": NetworkSpec(
        WNet,
        0.0683,
        "student for thin structures such as vessels: two little U-Nets at full resolution",
        "Galdran et al. 2022, doi:10.1038/s41598-022-09675-y",
    ),
    "little_unet": NetworkSpec(
        LittleUNet,
        0.0341,
        "student with the fewest parameters, half of wnet; with depth 5 for organs: the default "
        "for CT",
        "Galdran et al. 2022, doi:10.1038/s41598-022-09675-y",
    ),
    "raunet": NetworkSpec(
        RAUNet,
        22.1,
        "teacher of EMKD: skips weighted by attention",
        "Ni et al. 2019, arXiv 1909.10360",
    ),
    "pspnet": NetworkSpec(
        PSPNet,
        46.7,
        "teacher of EMKD for large structures: context from the whole image, logits at 1/8",
        "Zhao et al. 2017, arXiv 1612.01105",
    ),
    "unet_plus_plus": NetworkSpec(
        UNetPlusPlus,
        36.6,
        "teacher of EMKD: nested skips up to full resolution",
        "Zhou et al. 2018, arXiv 1807.10165",
    ),
    "mobilenetv2": NetworkSpec(
        MobileNetV2,
        2.23,
        "student of EMKD for large structures: no decoder, logits at 1/8",
        "Sandler et al. 2018, arXiv 1801.04381",
    ),
    "resnet18": NetworkSpec(
        ResNet18,
        11.2,
        "student of EMKD for large structures: no decoder, logits at 1/32",
        "He et al. 2016, arXiv 1512.03385",
    ),
}
"""All networks; a new network is a file in this package and an entry here."""


def migrate_options(name: str, options: Mapping[str, Option]) -> dict[str, Option]:
    """Drop options of former versions that have their current, fixed value.

    >>> migrate_options("enet", {"unpooling": "indices"})
    {}
    """
    fixed: dict[str, Option] = {"unpooling": "indices"} if name == "enet" else {}
    return {key: value for key, value in options.items() if fixed.get(key, ...) != value}


def build_network(
    name: str, in_channels: int, classes: int, **options: Option
) -> SegmentationNetwork:
    """Build a network by its name in `NETWORKS`, with random weights.

    Parameters
    ----------
    name
        Key of `NETWORKS`.
    in_channels
        Channels of the image, 1 to `MOST_CHANNELS`.
    classes
        Classes including the background, 2 to `MOST_CLASSES`.
    **options
        Options of the network: ``width``, except for `enet` and `erfnet`, and
        ``depth`` of `little_unet` and `wnet`.

    Raises
    ------
    InputError
        If the name or an option is unknown, or a value is out of range.

    Examples
    --------
    >>> network = build_network("fanet", in_channels=1, classes=2, width=8)
    >>> network.bottleneck_channels, network.stride
    (64, 8)
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown; expected one of {', '.join(NETWORKS)}.")
    if not (1 <= in_channels <= MOST_CHANNELS and 2 <= classes <= MOST_CLASSES):
        raise InputError(
            f"{name}: in_channels is {in_channels} and classes is {classes}; "
            f"expected 1 to {MOST_CHANNELS} and 2 to {MOST_CLASSES}."
        )
    spec = NETWORKS[name]
    for option in options:
        if option not in spec.options:
            expected = f"one of {', '.join(spec.options)}" if spec.options else "none"
            raise InputError(f"{name}: option {option!r} is unknown; expected {expected}.")
    return spec.network(in_channels, classes, **options)
