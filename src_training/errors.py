"""The one exception a person is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Input that cannot be used, said in one sentence.

    The message names the file, layer or field, what was found there, and what
    is expected. The command line prints it and exits with 2; the widgets show
    it in place. Anything else that is raised is a fault of ours.
    """


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
        if str(path) in str(error):
            raise
        raise InputError(f"{path}, {error}") from None
