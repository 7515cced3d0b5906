"""Ending a stage at once, wherever in a step it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


class Interrupted(Exception):
    """The run was asked to stop; what is done is on disk."""


@contextmanager
def interruptible(module: nn.Module, stopping: Callable[[], bool]) -> Iterator[None]:
    """Ask `stopping` at every layer of a pass forward, and at every gradient of one backward.

    A step of a wide network takes seconds on a CPU, which is too long to wait for.

    Raises
    ------
    Interrupted
        From within the pass, if `stopping` says so.
    """

    def ask(*_: object) -> None:
        if stopping():
            raise Interrupted

    layers = [layer for layer in module.modules() if not any(True for _ in layer.children())]
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    handles = [layer.register_forward_pre_hook(ask) for layer in layers]
    for parameter in learnt:
        handles.append(parameter.register_post_accumulate_grad_hook(ask))  # type: ignore[no-untyped-call]  # torch's own lack
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
