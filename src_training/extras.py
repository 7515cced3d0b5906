"""The optional packages."""

from importlib import import_module

from src_training.errors import InputError


def require(extra: str, purpose: str, *packages: str) -> None:
    """Import packages of an extra.

    Parameters
    ----------
    extra
        Its name in setup.cfg.
    purpose
        What they are needed for, as in "expected it for the export".

    Raises
    ------
    InputError
        If one is not installed; says how to install it.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{error.name} is not installed; expected it for {purpose}: "
                f"pip install 'napari-msankd[{extra}]'"
            ) from None
