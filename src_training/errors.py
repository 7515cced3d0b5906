"""The exception for invalid input, errors of full memory, and printable text."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_MAX_LENGTH = 1000
"""Maximum number of characters of a message, which may quote values of any length from a file."""

MEMORY_IS_FULL = (
    "The memory is full; expected less at once (a smaller image, patch or batch, fewer workers), "
    "other programs closed, or another device"
)

# Control characters, bidirectional control characters, and lone surrogates, which Python uses for
# bytes of a file name that are no UTF-8, and which cannot be encoded.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

# Messages of torch's allocators and of oneDNN, whose errors have no type of their own.
_OUT_OF_MEMORY = re.compile(
    "out of memory|not enough memory|can't allocate memory|cannot allocate memory|bad_alloc"
    "|could not create a (primitive|memory)|unable to allocate|failed to allocate",
    re.IGNORECASE,
)


class InputError(ValueError):
    """Raised for invalid input, with a message of one sentence for the user.

    The message names the file, layer or field, the value that was found, and the value that
    is expected. The command line prints it and exits with 2; the widgets show
    it. Any other exception is a bug.

    Parameters
    ----------
    sentence
        The message. The middle of a very long one is left out, and control characters,
        which a file name may contain, are replaced by visible symbols.
    """

    def __init__(self, sentence: object = "") -> None:
        text = printable(str(sentence))
        if len(text) > _MAX_LENGTH:
            text = f"{text[: _MAX_LENGTH // 2]} … {text[-_MAX_LENGTH // 2 :]}"
        super().__init__(text)


def printable(text: str, *, lines: bool = False) -> str:
    r"""Replace characters that control a terminal or cannot be encoded by visible symbols.

    Parameters
    ----------
    text
        Text that may contain names of files, classes and domains.
    lines
        Whether to keep line breaks.

    Examples
    --------
    >>> printable("\x1b[31mliver\n")
    '␛[31mliver␊'
    """
    return (_UNPRINTABLE_IN_LINES if lines else _UNPRINTABLE).sub(_control_picture, text)


def _control_picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


MEMORY_ERRORS = (MemoryError, OSError, RuntimeError)
"""Types that an error of full memory can have, torch's included; see `is_out_of_memory`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the memory of the computer or of a GPU is full.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("could not create a primitive"))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


@contextmanager
def memory_of(what: object, expected: str) -> Iterator[None]:
    """Convert errors of full memory to `InputError`.

    Parameters
    ----------
    what
        File, layer or stage that needs the memory.
    expected
        Advice on how to use less memory.

    Examples
    --------
    >>> with memory_of("ct.nii", "fewer --workers"):
    ...     raise MemoryError
    Traceback (most recent call last):
        ...
    src_training.errors.InputError: ct.nii needs more memory than is free; expected fewer --workers
    """
    try:
        yield
    except MEMORY_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{what} needs more memory than is free; expected {expected}") from error


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Prefix the path to an `InputError` whose message does not contain it.

    Examples
    --------
    >>> with naming("ct.nii"):
    ...     raise InputError("slice 2 is empty; expected pixels")
    Traceback (most recent call last):
        ...
    src_training.errors.InputError: ct.nii, slice 2 is empty; expected pixels
    """
    try:
        yield
    except InputError as error:
        if printable(str(path)) in str(error):
            raise
        raise InputError(f"{path}, {error}") from None
