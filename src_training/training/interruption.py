"""Interrupting a stage in the middle of a step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


class Interrupted(Exception):
    """Raised when the user stops a run; completed steps are saved."""


@contextmanager
def interruptible(module: nn.Module, stopping: Callable[[], bool], *, slow: bool) -> Iterator[None]:
    """Call `stopping` during every forward and backward pass of a module.

    Parameters
    ----------
    module
        Module whose passes may be interrupted.
    stopping
        Returns whether to stop.
    slow
        Also call it before every layer and after every gradient. A step of a wide network
        takes seconds on a CPU; on a GPU it takes less time than these calls.

    Raises
    ------
    Interrupted
        From within the pass, if `stopping` returns true.
    """

    def check(*_: object) -> None:
        if stopping():
            raise Interrupted

    layers = set(module.children())
    parameters: list[nn.Parameter] = []
    if slow:
        layers |= {layer for layer in module.modules() if not any(True for _ in layer.children())}
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    handles = [layer.register_forward_pre_hook(check) for layer in layers]
    for parameter in parameters:
        handles.append(parameter.register_post_accumulate_grad_hook(check))  # type: ignore[no-untyped-call]  # untyped in torch
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
