"""Optional dependencies."""

from importlib import import_module

from src_training.errors import InputError


def require(extra: str, purpose: str, *packages: str) -> None:
    """Check that packages of an extra are installed.

    Parameters
    ----------
    extra
        Name of the extra in setup.cfg.
    purpose
        Purpose of the packages, as in "expected it for the export".
    *packages
        Names of modules to import.

    Raises
    ------
    InputError
        If one is not installed; the message says how to install it.
    """
    for package in packages:
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{error.name} is not installed; expected it for {purpose}: "
                f"pip install 'napari-msankd[{extra}]'"
            ) from None
