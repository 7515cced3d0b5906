"""Domains of a recipe: locations and properties of their images."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from src_training.data.phantom.camera import ScannerName
from src_training.data.preprocessing import Angle
from src_training.data.preprocessing.base import MAX_SIDE
from src_training.errors import InputError

MaskValue = Annotated[int, Field(ge=-(2**31), lt=2**32)]


class Phantoms(BaseModel):
    """Synthetic fundus photographs instead of a folder.

    Attributes
    ----------
    scanner
        Synthetic camera.
    images
        Number of images.
    size
        Height and width, pixels.
    seed
        Seed of the random eyes. Two cameras show different eyes even with the
        same seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scanner: ScannerName
    images: Annotated[int, Field(ge=1, le=10_000, title="Number of images")] = 12
    size: Annotated[int, Field(ge=64, le=MAX_SIDE)] = 512
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0


class DomainRecipe(BaseModel):
    """A domain of a recipe: its name, the location of its images and how to read them.

    Attributes
    ----------
    name
        Name of the domain in tables and in the model.
    folder
        Folder with ``images/``, ``masks/`` and optionally ``fov/``, or of an unpacked
        public data set; see `LAYOUTS`. Environment variables (``${NAME}``) are
        expanded; a relative path is relative to the recipe's folder.
    phantoms
        Synthetic photographs instead of those of a folder.
    only
        Regular expression that must match a case's whole name. All cases if missing.
    exclude
        Names without suffix of images, volumes or slices to ignore (``eye_07``), or
        single files (``masks/eye_07.png``).
    masks
        ``present``: only images of the folder with a mask; ``absent``: only images
        without one. All if missing.
    class_values
        Stored value, or values, of each class. Read from the masks if missing.
    channel
        Image to read of each case if the folder has several: ``flair``, ``0001``, or a
        name from its ``dataset.json``.
    resample_masks
        Whether to resample masks of volumes to the grid of their image by nearest
        neighbour if they lie on another grid of the same space. Otherwise such masks
        are an error.
    angle
        Angle of the fundus camera's field of view, degrees, such as 30 or 45; see
        `Preprocessing.angle`. If missing, images are resized to the same diameter as
        those of the training camera.
    scanner
        Scanner of the images, if it is not the domain's name. Domains with the same
        `scanner`, or the same name if that is missing, count as one scanner.
    terms
        Terms of use of the images, stored in the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    folder: str | None = None
    phantoms: Annotated[Phantoms | None, Field(title="Synthetic images")] = None
    only: Annotated[str | None, Field(title="Only cases matching")] = None
    exclude: list[str] = []
    masks: Annotated[Literal["present", "absent"] | None, Field(title="Only where masks are")] = (
        None
    )
    class_values: dict[str, MaskValue | list[MaskValue]] | None = None
    channel: str | None = None
    resample_masks: Annotated[bool, Field(title="Resample masks on another grid")] = False
    angle: Annotated[Angle | None, Field(title="Camera angle")] = None
    scanner: str = ""
    terms: Annotated[str, Field(title="Terms of use")] = ""

    @model_validator(mode="after")
    def _one_place(self) -> "DomainRecipe":
        if (self.folder is None) == (self.phantoms is None):
            raise ValueError("expected either `folder` or `phantoms`")
        if self.phantoms is not None and self.masks is not None:
            raise ValueError("`masks` is given for phantoms, which all have one; expected a folder")
        if self.only is not None:
            try:
                re.compile(self.only)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"`only` is not a regular expression: {error}") from None
        return self

    def rooted(self, root: Path) -> Self:
        """Copy with an absolute folder, resolved against `root`; raises as `absolute`."""
        if self.folder is None:
            return self
        folder = absolute(self.folder, root, f"domain {self.name}")
        return self.model_copy(update={"folder": folder})

    def shares_with(self, other: "DomainRecipe") -> bool:
        """Whether both may be of one scanner: the same `scanner` or name, folder or phantom."""
        if (self.scanner or self.name) == (other.scanner or other.name):
            return True
        if self.phantoms is not None and other.phantoms is not None:
            return self.phantoms.scanner == other.phantoms.scanner
        return self.folder is not None and self.folder == other.folder

    def by_last_name(self) -> Self:
        """Copy for sharing, with only the last component of the folder's path."""
        if self.folder is None:
            return self
        return self.model_copy(update={"folder": Path(self.folder).name})


def absolute(path: str, root: Path, what: str) -> str:
    """Resolve a path against `root` and expand variables; `what` names the path in errors.

    Raises
    ------
    InputError
        If an environment variable is not set, a user in ``~user`` is unknown, or the path
        has a zero byte.
    """
    expanded = os.path.expandvars(path)
    if "\0" in expanded:
        raise InputError(f"{what}: {path!r:.80} holds a zero byte; expected a path")
    if "$" in expanded:
        raise InputError(f"{what}: {path} names an environment variable that is not set")
    try:
        return str((root / Path(expanded).expanduser()).resolve())
    except RuntimeError:
        raise InputError(f"{what}: {path} begins in a home that is not known") from None
