"""The optional packages of the export."""

from importlib import import_module

from src_training.errors import InputError


def require(*packages: str) -> None:
    """Import packages of the extra ``export``.

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
                f"{error.name} is not installed; expected it for the export: "
                "pip install 'napari-msankd[export]'"
            ) from None
