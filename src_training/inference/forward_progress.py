"""Progress and cancellation of the forward passes of one image, layer by layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class PredictionCancelled(Exception):
    """Raised within a forward pass after `ForwardProgress.cancel`."""


class ForwardProgress:
    """Counts the layers that forward passes run; another thread may read it and cancel.

    A photograph is often a single tile, so tiles would be too coarse for its progress.

    Attributes
    ----------
    fraction
        Progress from 0 to 1 over all forward passes of the image; never decreases.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self._done = self._passes = 0
        self._cancelled = False

    def start(self, passes: int) -> None:
        """Begin an image that takes a number of forward passes."""
        self.fraction, self._done, self._passes = 0.0, 0, passes

    def cancel(self) -> None:
        """Make the current forward pass raise `PredictionCancelled` at its next layer."""
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
            # A layer may run more than once, so the count is clipped.
            count = min(count + 1, len(layers) - 1)
            self._update(count / len(layers))

        hooks = [layer.register_forward_hook(after_layer) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self._done += 1
        self._update(0)

    def _update(self, part: float) -> None:
        self.fraction = max(self.fraction, (self._done + part) / max(1, self._passes))
