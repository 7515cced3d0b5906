"""Weights in safetensors files, compared with what a network takes before they are read."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from src_training.errors import InputError

_FLOATS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}
_INTEGERS = {
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
}

_FILLS = {"zero_", "fill_", "normal_", "uniform_", "constant_", "kaiming_uniform_"}
"""What fills the tensors of a network when it is built."""


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills a tensor: on ``meta`` it takes most of the time and does nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Build the networks of the block without values: they take no memory.

    Examples
    --------
    >>> with shapes_alone():
    ...     torch.nn.Linear(10**6, 10**6).weight.device
    device(type='meta')
    """
    with torch.device("meta"), _Unfilled():
        yield


def read_weights(
    path: Path,
    expected: Mapping[str, Tensor],
    leaves: Callable[[str], bool] = lambda _name: False,
) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, every one of them checked.

    Parameters
    ----------
    path
        The file.
    expected
        Name -> a tensor of the shape and kind of number that is expected; it may be on ``meta``,
        and none of it is allocated.
    leaves
        Whether a further tensor of that name is passed over.

    Returns
    -------
    dict of str to Tensor
        In memory of their own, floating point as float32.

    Raises
    ------
    InputError
        If the file is missing or broken, a tensor is missing, unknown, of another shape or kind
        of number, or not finite; if a variance is negative; or if memory lacks. Names the tensor.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name, tensor in expected.items():
                _check_header(path, name, tensor, file.get_slice(name) if name in names else None)
            unknown = sorted(name for name in names - expected.keys() if not leaves(name))
            if unknown:
                raise InputError(
                    f"{path}: {unknown[0]} is no weight of this architecture; "
                    "expected none but its own"
                )
            _require_memory(path, expected)
            return {
                name: _checked(path, name, file.get_tensor(name), tensor)
                for name, tensor in expected.items()
            }
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected weights") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the weights cannot be read ({error}); expected a whole .safetensors file"
        ) from None


def _check_header(path: Path, name: str, expected: Tensor, found: Any) -> None:
    """InputError unless a tensor, None if it is missing, is of the shape and kind expected."""
    shape = "missing" if found is None else tuple(found.get_shape())
    if shape != tuple(expected.shape):
        raise InputError(
            f"{path}: {name} is {shape}; expected {tuple(expected.shape)} for this architecture"
        )
    kinds = _FLOATS if expected.is_floating_point() else _INTEGERS
    if found.get_dtype() not in kinds:
        dtype = (_FLOATS | _INTEGERS).get(found.get_dtype(), found.get_dtype().lower())
        what = "floating point" if expected.is_floating_point() else "integers"
        raise InputError(f"{path}: {name} holds {dtype}; expected {what}")


def _require_memory(path: Path, expected: Mapping[str, Tensor]) -> None:
    needed = sum(4 * tensor.numel() for tensor in expected.values())
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: the weights take {needed / 1e9:.1f} GB of memory, of which "
            f"{free / 1e9:.1f} GB are free; expected a model that fits"
        )


def _checked(path: Path, name: str, found: Tensor, expected: Tensor) -> Tensor:
    """A copy of a tensor, which would else be a view of the file; InputError if it is no number."""
    if not expected.is_floating_point():
        return found.to(expected.dtype, copy=True)
    tensor = found.to(torch.float32, copy=True)
    # A sum of float32 in float64 cannot overflow, and takes one pass without another array.
    if not torch.isfinite(tensor.sum(dtype=torch.float64)):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        raise InputError(
            f"{path}: {name} has {bad:,} of {tensor.numel():,} values that are NaN, infinite or "
            "beyond float32; expected finite numbers"
        )
    if name.endswith(("running_var", "exp_avg_sq")) and tensor.numel() and tensor.min() < 0:
        raise InputError(f"{path}: {name} has a variance of {tensor.min():g}; expected at least 0")
    return tensor
