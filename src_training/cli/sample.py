"""The command ``msankd sample``: writes synthetic images for trying the other commands."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from src_training.cli import console


def sample(
    folder: Annotated[Path, Parameter(help="Folder to write into; made if missing.")],
    *,
    size: Annotated[int, Parameter(help="Height and width of the photographs, pixels.")] = 512,
) -> None:
    """Write synthetic images to try everything on: fundus photographs of two cameras and a CT.

    For example:

    ```
    msankd sample data
    ```
    """
    from src_training.data.phantom.samples import write_samples

    console.require_folder(folder)
    for path, contents in write_samples(folder, size):
        console.out.print(f"{path}: {contents}", highlight=False, soft_wrap=True)
