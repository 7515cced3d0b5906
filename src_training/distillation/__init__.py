"""What a teacher can teach: one interface, one file a method, all of them by name."""

from collections.abc import Iterable
from typing import NamedTuple

from src_training.distillation.adversarial import Adversarial
from src_training.distillation.attention_transfer import AttentionTransfer
from src_training.distillation.base import Distillation
from src_training.distillation.coco import CoCo
from src_training.distillation.dcgd import DCGD
from src_training.distillation.dicd import DICD
from src_training.distillation.emkd import EMKD
from src_training.distillation.fsp import FSP
from src_training.distillation.graph_flow import GraphFlow, NormalisedGraphFlow
from src_training.distillation.ifvd import IFVD
from src_training.distillation.logits import LogitsKD
from src_training.distillation.skd import SKD
from src_training.distillation.view_predictions import ViewPredictions

__all__ = ["METHODS", "Distillation", "Method", "losses_of", "refuse_sum"]


class Method(NamedTuple):
    """A method as its paper has it.

    Attributes
    ----------
    title
        What it is called in words, with where it is published.
    parts
        The distillations that it sums, each with its own weights.
    """

    title: str
    parts: tuple[type[Distillation], ...]


METHODS = {
    "gkd": Method("GKD (arXiv 2207.12995)", (DCGD, DICD, ViewPredictions)),
    "emkd": Method("EMKD (arXiv 2108.09987)", (EMKD,)),
    "graph_flow": Method("Graph Flow (arXiv 2203.08667)", (GraphFlow, Adversarial)),
    "graph_flow_normalised": Method(
        "Graph Flow, normalised (arXiv 2203.08667)", (NormalisedGraphFlow, Adversarial)
    ),
    "logits": Method("logits KD (arXiv 1503.02531)", (LogitsKD,)),
    "attention": Method("attention transfer (arXiv 1612.03928)", (AttentionTransfer,)),
    "fsp": Method("FSP (CVPR 2017)", (FSP,)),
    "ifvd": Method("IFVD (ECCV 2020)", (IFVD,)),
    "skd": Method("SKD, pair-wise (arXiv 1903.04197)", (SKD,)),
    "coco": Method("CoCo (arXiv 2108.12173)", (CoCo,)),
}


def losses_of(methods: Iterable[str]) -> set[str]:
    """Names of the losses of methods; KeyError if one is not in `METHODS`."""
    return {loss for method in methods for part in METHODS[method].parts for loss in part.weights}


def refuse_sum(methods: Iterable[str]) -> None:
    """Raise ValueError if a method is unknown, or two have different losses of one name."""
    of_loss: dict[str, tuple[str, type[Distillation]]] = {}
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method {method!r} is unknown; expected one of {list(METHODS)}")
        for part in METHODS[method].parts:
            for loss in part.weights:
                other, same = of_loss.setdefault(loss, (method, part))
                if same is not part:
                    raise ValueError(
                        f"methods {other} and {method} each have a loss {loss!r} of their own; "
                        "expected one of them"
                    )
