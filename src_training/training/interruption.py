"""Ending a stage at once, wherever in a step it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


class Interrupted(Exception):
    """The run was asked to stop; what is done is on disk."""


@contextmanager
def interruptible(module: nn.Module, stopping: Callable[[], bool], *, slow: bool) -> Iterator[None]:
    """Ask `stopping` at every pass through a module.

    Parameters
    ----------
    module
        Whose passes are to end.
    stopping
        Whether they are to.
    slow
        Ask at every layer forward and at every gradient backward, too: on a
        CPU a step of a wide network takes seconds, on a GPU less than that asking.

    Raises
    ------
    Interrupted
        From within the pass, if `stopping` says so.
    """

    def ask(*_: object) -> None:
        if stopping():
            raise Interrupted

    asked = set(module.children())
    learnt: list[nn.Parameter] = []
    if slow:
        asked |= {layer for layer in module.modules() if not any(True for _ in layer.children())}
        learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    handles = [layer.register_forward_pre_hook(ask) for layer in asked]
    for parameter in learnt:
        handles.append(parameter.register_post_accumulate_grad_hook(ask))  # type: ignore[no-untyped-call]  # torch's own lack
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
