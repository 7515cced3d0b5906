"""Reading weights from safetensors files, with checks against the architecture before loading."""

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
from src_training.formatting import format_bytes

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
"""Functions that initialise the tensors of a network."""


class _SkipInitialisation(TorchFunctionMode):
    """Skip the initialisation of tensors; on ``meta`` it has no effect but takes most time."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Build networks in the block on the ``meta`` device, without allocating memory.

    Examples
    --------
    >>> with shapes_alone():
    ...     torch.nn.Linear(10**6, 10**6).weight.device
    device(type='meta')
    """
    with torch.device("meta"), _SkipInitialisation():
        yield


def read_weights(
    path: Path,
    expected: Mapping[str, Tensor],
    leaves: Callable[[str], bool] = lambda _name: False,
) -> dict[str, Tensor]:
    """Read and check the tensors of a safetensors file.

    Parameters
    ----------
    path
        Path of the file.
    expected
        Name -> tensor with the expected shape and kind of number (floating point or integer).
        Only its metadata is used, so that it may be on ``meta``.
    leaves
        Whether to ignore an unexpected tensor, by its name.

    Returns
    -------
    dict of str to Tensor
        Copies of the tensors, independent of the file; floating point as float32.

    Raises
    ------
    InputError
        If the file is missing or broken; if a tensor is missing, unexpected, not finite, or of a
        different shape or kind of number; if a variance is negative; or if memory does not suffice.
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
                name: _checked_copy(path, name, file.get_tensor(name), tensor)
                for name, tensor in expected.items()
            }
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected weights") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the weights cannot be read ({error}); expected a whole .safetensors file"
        ) from None


def _check_header(path: Path, name: str, expected: Tensor, tensor_slice: Any) -> None:
    """Raise InputError if a tensor is missing (None) or has an unexpected shape or dtype."""
    shape = "missing" if tensor_slice is None else tuple(tensor_slice.get_shape())
    if shape != tuple(expected.shape):
        raise InputError(
            f"{path}: {name} is {shape}; expected {tuple(expected.shape)} for this architecture"
        )
    kinds = _FLOATS if expected.is_floating_point() else _INTEGERS
    if (code := tensor_slice.get_dtype()) not in kinds:
        dtype = (_FLOATS | _INTEGERS).get(code, code.lower())
        kind = "floating point" if expected.is_floating_point() else "integers"
        raise InputError(f"{path}: {name} holds {dtype}; expected {kind}")


def _require_memory(path: Path, expected: Mapping[str, Tensor]) -> None:
    needed = sum(4 * tensor.numel() for tensor in expected.values())
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: the weights take {format_bytes(needed)} of memory, of which "
            f"{format_bytes(free)} are free; expected a model that fits"
        )


def _checked_copy(path: Path, name: str, view: Tensor, expected: Tensor) -> Tensor:
    """Copy a tensor, which is a view of the file; raise InputError if a value is not finite."""
    if not expected.is_floating_point():
        return view.to(expected.dtype, copy=True)
    tensor = view.to(torch.float32, copy=True)
    # A float64 sum of float32 values cannot overflow, and it needs one pass and no further array.
    if not torch.isfinite(tensor.sum(dtype=torch.float64)):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        raise InputError(
            f"{path}: {name} has {bad:,} of {tensor.numel():,} values that are NaN, infinite or "
            "beyond float32; expected finite numbers"
        )
    if name.endswith(("running_var", "exp_avg_sq")) and tensor.numel() and tensor.min() < 0:
        raise InputError(f"{path}: {name} has a variance of {tensor.min():g}; expected at least 0")
    return tensor
