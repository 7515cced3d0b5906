"""Common functions of image decoders: errors, memory, orientation and palettes."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from src_training.errors import InputError, memory_of
from src_training.formatting import format_bytes

Pixels = NDArray[Any]

NARROWEST = 8
"""Minimum width of a grey stack (Z, H, W); a shorter last axis is an axis of channels."""

ORIENTATION_TAG = 274
"""Number of the orientation tag of EXIF and TIFF."""

# Orientation tag -> whether to transpose, then whether to flip rows and columns.
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

# These libraries log errors that they also raise; silence the log.
_DECODING = ContextVar("decoding", default=False)
for _library in ("tifffile", "nibabel.global"):
    logging.getLogger(_library).addFilter(lambda _record: not _DECODING.get())


_WARNINGS_LOCK = threading.Lock()
_silent_decoders = 0
_catcher = warnings.catch_warnings()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence the warnings of decoders, including those in several threads at once.

    `warnings.catch_warnings` is not thread-safe: it could restore the filters while another
    thread still decodes. Here the first thread sets the filters, and the last one restores them.
    """
    global _silent_decoders, _catcher
    with _WARNINGS_LOCK:
        if _silent_decoders == 0:
            _catcher = warnings.catch_warnings()
            _catcher.__enter__()
            warnings.simplefilter("ignore")
        _silent_decoders += 1
    try:
        yield
    finally:
        with _WARNINGS_LOCK:
            _silent_decoders -= 1
            if _silent_decoders == 0:
                _catcher.__exit__(None, None, None)


@contextmanager
def as_input_error(what: object, expected: str) -> Iterator[None]:
    """Convert all exceptions that a decoder raises for a broken file to `InputError`.

    Parameters
    ----------
    what
        Name of the file for the message.
    expected
        Expected kind of file, such as ``a whole .png image``.

    Examples
    --------
    >>> with as_input_error("scan.nii", "a NIfTI file"):
    ...     raise OSError("unexpected end of file")
    Traceback (most recent call last):
        ...
    src_training.errors.InputError: scan.nii cannot be read (unexpected end of file); expected a \
NIfTI file
    """
    decoding = _DECODING.set(True)
    try:
        with memory_of(what, "a file that fits"):
            yield
    except InputError:
        raise
    except Exception as error:  # decoders raise many types of errors: zlib, struct, Syntax...
        # The message of a LookupError is a missing key, which does not describe the file.
        reason = "" if isinstance(error, LookupError) else " ".join(str(error).split())
        raise InputError(
            f"{what} cannot be read ({reason or 'it is broken'}); expected {expected}"
        ) from error
    finally:
        _DECODING.reset(decoding)


def require_memory(path: object, what: str, numbers: int, itemsize: int) -> None:
    """Check that there is memory for two copies of the numbers: decoded, and as an array.

    Parameters
    ----------
    path, what
        Name of the file, and description of its content such as ``10 × 10 px``, for the message.
    numbers, itemsize
        Number of values, and bytes of each.

    Raises
    ------
    InputError
        If they need more memory than is free.
    """
    needed, free = 2 * itemsize * numbers, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path} is {what} and takes about {format_bytes(needed)} of memory to read, "
            f"of which {format_bytes(free)} are free; expected what fits"
        )


def is_turned(orientation: int) -> bool:
    """Whether an orientation tag exchanges rows and columns."""
    return _UPRIGHT.get(orientation, (False,))[0]


def upright(pixels: Pixels, orientation: int, rows: int = 0) -> Pixels:
    """Rotate and flip pixels according to their orientation tag, as viewers do.

    Parameters
    ----------
    pixels
        Array whose axes `rows` and `rows` + 1 are rows and columns.
    orientation
        Value of the orientation tag, 1 to 8; other values change nothing.
    rows
        See `pixels`.
    """
    transpose, flip_rows, flip_columns = _UPRIGHT.get(orientation, (False, False, False))
    turned = np.swapaxes(pixels, rows, rows + 1) if transpose else pixels
    flipped = [axis for axis, flip in ((rows, flip_rows), (rows + 1, flip_columns)) if flip]
    return np.asarray(np.flip(turned, tuple(flipped))) if flipped else turned


def resolve_palette(indices: Pixels, palette: NDArray[np.uint8], labels: bool) -> Pixels:
    """Return the colours of palette indices; for labels the indices, or the grey values.

    Labels take the values of a grey palette, because there are GIF masks whose index 0 is white.
    """
    if not labels:
        return np.asarray(palette[indices])
    grey = (palette == palette[:, :1]).all()
    return np.asarray(palette[indices, 0]) if grey else indices


def file_suffix(path: Path) -> str:
    """Return the suffix that determines the decoder, in lower case.

    Examples
    --------
    >>> file_suffix(Path("im0001.PPM.gz")), file_suffix(Path("eye.1.PNG"))
    ('.ppm.gz', '.png')
    """
    return ".ppm.gz" if path.name.lower().endswith(".ppm.gz") else path.suffix.lower()


def file_stem(path: Path) -> str:
    """Return the name without the suffix of `file_suffix`."""
    return path.name[: len(path.name) - len(file_suffix(path))]
