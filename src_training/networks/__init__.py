"""Segmentation networks for teachers and students, by name in `NETWORKS`."""

from src_training.networks.base import SegmentationNetwork, Skips
from src_training.networks.registry import NETWORKS, NetworkSpec, build_network, migrate_options

__all__ = [
    "NETWORKS",
    "NetworkSpec",
    "SegmentationNetwork",
    "Skips",
    "build_network",
    "migrate_options",
]
