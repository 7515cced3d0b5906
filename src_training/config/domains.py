"""Where the images of a recipe are."""

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
    """Synthetic fundus photographs in the place of a folder.

    Attributes
    ----------
    scanner
        Which synthetic camera.
    images
        How many.
    size
        Height and width, pixels.
    seed
        Of the eyes; those of two cameras differ, whatever their seeds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scanner: ScannerName
    images: Annotated[int, Field(ge=1, le=10_000, title="Number of images")] = 12
    size: Annotated[int, Field(ge=64, le=MAX_SIDE)] = 512
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0


class DomainRecipe(BaseModel):
    """Where the images of one domain are.

    Attributes
    ----------
    name
        What the domain is called in tables and in the model.
    folder
        Folder with ``images/``, ``masks/`` and perhaps ``fov/``, or of a public data
        set as it is unpacked; see `LAYOUTS`. Environment
        variables (``${NAME}``) are filled in; a relative path counts from
        the recipe's folder.
    phantoms
        Synthetic photographs instead of those of a folder.
    only
        Regular expression that a case's whole name must match; all if missing.
    exclude
        What is left out unread: names of images, volumes or slices without suffix
        (``eye_07``), or single files (``masks/eye_07.png``).
    masks
        ``present``: only the images of the folder that have a mask; ``absent``: only
        those that have none. All if missing.
    class_values
        Stored value, or values, of each class; read from the masks if missing.
    channel
        Which image of each case is read, where the folder has several: ``flair``, ``0001``,
        or a name from its ``dataset.json``.
    resample_masks
        Whether masks of volumes that lie on another grid of the same space are resampled
        to the grid of their image, nearest neighbour. They are refused otherwise.
    angle
        Degrees that the field of view of the fundus camera spans, such as 30
        or 45, with `Preprocessing.angle`. If missing, images are brought to the
        same diameter as those of the training camera.
    scanner
        What the images were taken with, where the name does not say it: two domains are of
        one scanner if both have one `scanner`, or, where it is missing, one name.
    terms
        Terms of the images, written into the model.
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
        """With its folder made absolute, from `root` on; errors as `absolute`."""
        if self.folder is None:
            return self
        folder = absolute(self.folder, root, f"domain {self.name}")
        return self.model_copy(update={"folder": folder})

    def shares_with(self, other: "DomainRecipe") -> bool:
        """Whether both may be of one scanner: one `scanner` or name, one folder or one phantom."""
        if (self.scanner or self.name) == (other.scanner or other.name):
            return True
        if self.phantoms is not None and other.phantoms is not None:
            return self.phantoms.scanner == other.phantoms.scanner
        return self.folder is not None and self.folder == other.folder

    def by_last_name(self) -> Self:
        """As it may be handed on: its folder by the last name only."""
        if self.folder is None:
            return self
        return self.model_copy(update={"folder": Path(self.folder).name})


def absolute(path: str, root: Path, what: str) -> str:
    """A path from `root` on, the environment filled in; `what` names it in an error.

    Raises
    ------
    InputError
        If it names an environment variable that is not set, a person who is not known, or holds
        a character that no path has.
    """
    filled = os.path.expandvars(path)
    if "\0" in filled:
        raise InputError(f"{what}: {path!r:.80} holds a zero byte; expected a path")
    if "$" in filled:
        raise InputError(f"{what}: {path} names an environment variable that is not set")
    try:
        return str((root / Path(filled).expanduser()).resolve())
    except RuntimeError:
        raise InputError(f"{what}: {path} begins in a home that is not known") from None
