"""The one exception a person is meant to read, and text as it can be shown."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 1000
"""Letters of a sentence: a file may hold names and values of any length."""

MEMORY_IS_FULL = (
    "The memory is full; expected less at once (a smaller image, patch or batch, fewer workers), "
    "other programs closed, or another device"
)

# Control characters, those that turn the direction of what follows, and halves of surrogates,
# which stand for bytes of a file's name that are no UTF-8 and cannot be written.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSHOWN_IN_LINES = re.compile(_UNSHOWN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

# What torch's allocators and oneDNN say, whose errors have no type of their own.
_OUT_OF_MEMORY = re.compile(
    "out of memory|not enough memory|can't allocate memory|cannot allocate memory|bad_alloc"
    "|could not create a (primitive|memory)|unable to allocate|failed to allocate",
    re.IGNORECASE,
)


class InputError(ValueError):
    """Input that cannot be used, said in one sentence.

    The message names the file, layer or field, what was found there, and what
    is expected. The command line prints it and exits with 2; the widgets show
    it in place. Anything else that is raised is a fault of ours.

    Parameters
    ----------
    sentence
        The message; of one that is very long the middle is left out, and control characters,
        which a file's name may hold, are shown as pictures.
    """

    def __init__(self, sentence: object = "") -> None:
        text = printable(str(sentence))
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
        super().__init__(text)


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return text without characters that would steer a terminal or cannot be written.

    Parameters
    ----------
    text
        With names of files, classes and domains, which may hold anything.
    lines
        Whether line breaks stay.

    Examples
    --------
    >>> printable("\x1b[31mliver\n")
    '␛[31mliver␊'
    """
    return (_UNSHOWN_IN_LINES if lines else _UNSHOWN).sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


MEMORY_ERRORS = (MemoryError, OSError, RuntimeError)
"""Among these are the errors of full memory, see `is_out_of_memory`; torch's are a RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of the processor or of a GPU is full.

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
    """Raise as an `InputError` if the memory does not suffice.

    Parameters
    ----------
    what
        What needs it: a file, a layer or a stage.
    expected
        What would help.

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
    """Let an `InputError` from inside begin with a path that it does not name.

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
