"""How far the forward passes of one image have come, layer by layer, and a way to stop them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class PredictionCancelled(Exception):
    """Raised within a forward pass after `ForwardProgress.cancel`."""


class ForwardProgress:
    """Counts the layers that forward passes run; another thread reads it, and cancels.

    A photograph is often a single tile: its layers are the only steps that it has.

    Attributes
    ----------
    fraction
        From 0 to 1, over all forward passes of the image; never decreases.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self._done = self._passes = 0
        self._cancelled = False

    def start(self, passes: int) -> None:
        """Begin an image that takes so many forward passes."""
        self.fraction, self._done, self._passes = 0.0, 0, passes

    def cancel(self) -> None:
        """Let the forward pass under way raise `PredictionCancelled` at its next layer."""
        self._cancelled = True

    @contextmanager
    def counting(self, network: "nn.Module") -> Iterator[None]:
        """Count one forward pass of a network."""
        layers = [module for module in network.modules() if not any(module.children())]
        count = 0

        def after_layer(_module: "nn.Module", _inputs: Any, _output: Any) -> None:
            nonlocal count
            if self._cancelled:
                raise PredictionCancelled
            # A layer may run more than once; a pass is not over before its end.
            count = min(count + 1, len(layers) - 1)
            self._show(count / len(layers))

        hooks = [layer.register_forward_hook(after_layer) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._done += 1
        self._show(0)

    def _show(self, part: float) -> None:
        self.fraction = max(self.fraction, (self._done + part) / max(1, self._passes))
