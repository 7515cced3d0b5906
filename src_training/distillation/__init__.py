"""Distillation methods: a common interface, one file per method, and a registry by name."""

from src_training.distillation.base import Distillation, MethodOptions
from src_training.distillation.registry import (
    METHODS,
    MethodSpec,
    active_parts,
    build_distillations,
    parse_options,
)

__all__ = [
    "METHODS",
    "Distillation",
    "MethodOptions",
    "MethodSpec",
    "active_parts",
    "build_distillations",
    "parse_options",
]
