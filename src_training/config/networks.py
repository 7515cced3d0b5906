"""The two networks of a run: their architectures and initial weights."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from src_training.config.domains import absolute
from src_training.config.run_models import better_student
from src_training.errors import InputError
from src_training.inference.external.model import ExternalModel
from src_training.networks import NETWORKS

Role = Literal["teacher", "student"]
NETWORK_ROLES: tuple[Role, ...] = ("teacher", "student")


class NetworkRecipe(BaseModel):
    """A network, given by its name and options or by the model that it starts from.

    Attributes
    ----------
    name
        One of `NETWORKS`; if missing, that of the model in `start_from`.
    options
        Options of the network, such as ``width``; those of the model if the name is
        missing.
    start_from
        Model with the initial weights: the name of a shipped model, a file, or the
        directory of a finished run. Of a run, the teacher is taken for the teacher
        and the better of the two students (`better_student`) for the student. A relative path
        is relative to the recipe's folder. The model must have this network and
        these options, and the recipe's channels and number of classes. Random
        weights if missing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    role: ClassVar[Role] = "student"

    name: str
    options: dict[str, bool | int | float | str] = {}
    start_from: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete_from_model(cls, content: Any) -> Any:
        """Take missing name and options from the model in `start_from`."""
        if not isinstance(content, dict) or content.get("name") or not content.get("start_from"):
            return content
        if content.get("options"):
            raise ValueError("options are given without a name; expected both or neither")
        from src_training.inference.model_file import read_card

        try:
            card = read_card(find_model(content["start_from"], cls.role))
        except InputError as error:
            raise ValueError(str(error)) from None
        return content | {"name": card.architecture, "options": card.options}

    @model_validator(mode="after")
    def _check_name(self) -> "NetworkRecipe":
        if self.name not in NETWORKS:
            raise ValueError(f"network {self.name!r} is unknown; expected one of {list(NETWORKS)}")
        return self

    def by_last_name(self) -> "NetworkRecipe":
        """Copy for sharing, with only the last component of the model's path."""
        last = self.start_from and Path(self.start_from).name
        return self.model_copy(update={"start_from": last})


class TeacherRecipe(NetworkRecipe):
    """A teacher that is a network of this package, trained in the run or before.

    Attributes
    ----------
    kind
        ``network``.
    train
        Whether the stage ``teacher`` trains it, from random weights or from
        `start_from` (fine-tuning). If false, the model in `start_from` is used
        unchanged, and its stage takes no steps.
    flips
        Whether its prediction of a plain patch is the mean over the patch's eight
        flips and rotations, which takes eight times as long; see
        `OutputOptions.teacher_sees`.
    """

    role: ClassVar[Role] = "teacher"
    outputs_only: ClassVar[bool] = False

    kind: Literal["network"] = "network"
    train: bool = True
    flips: bool = False

    @model_validator(mode="after")
    def _check_trained(self) -> "TeacherRecipe":
        if not self.train and self.start_from is None:
            raise ValueError("train is false but start_from is missing; expected a trained model")
        return self


class EnsembleTeacher(BaseModel):
    """A teacher that averages the probabilities of several trained models.

    Attributes
    ----------
    kind
        ``ensemble``.
    start_from
        Models, each as in `NetworkRecipe`; their networks may differ.
    flips
        Whether predictions of plain patches are means over flips; see `TeacherRecipe`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: ClassVar[str] = "ensemble"
    options: ClassVar[dict[str, bool | int | float | str]] = {}
    train: ClassVar[bool] = False
    outputs_only: ClassVar[bool] = True

    kind: Literal["ensemble"] = "ensemble"
    start_from: Annotated[list[str], Field(min_length=2)]
    flips: bool = False

    def by_last_name(self) -> Self:
        """Copy for sharing, with only the last component of each model's path."""
        return self.model_copy(update={"start_from": [Path(path).name for path in self.start_from]})


class ExternalTeacher(ExternalModel):
    """A trained teacher of another tool: an ONNX file or a bioimage.io folder.

    Attributes
    ----------
    kind
        ``onnx``.
    flips
        Whether predictions of plain patches are means over flips; see `TeacherRecipe`.
    """

    name: ClassVar[str] = "onnx"
    options: ClassVar[dict[str, bool | int | float | str]] = {}
    train: ClassVar[bool] = False
    outputs_only: ClassVar[bool] = True

    kind: Literal["onnx"] = "onnx"
    flips: bool = False

    def by_last_name(self) -> Self:
        """Copy for sharing, with only the last component of the file's path."""
        return self.model_copy(update={"file": Path(self.file).name})


def _with_kind(content: Any) -> Any:
    """Add the kind of a teacher, which follows from its fields, if it is missing."""
    if not isinstance(content, dict) or "kind" in content:
        return content
    several = isinstance(content.get("start_from"), list)
    return content | {"kind": "onnx" if "file" in content else "ensemble" if several else "network"}


Teacher = Annotated[
    Annotated[TeacherRecipe | EnsembleTeacher | ExternalTeacher, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]
"""The teacher of a recipe, of any kind."""


def find_model(start_from: str | Path, role: Role) -> Path:
    """Find the model file that `NetworkRecipe.start_from` refers to.

    Parameters
    ----------
    start_from
        Name of a shipped model, a file, or the directory of a finished run.
    role
        Model to take of a run.

    Raises
    ------
    InputError
        If there is no such model, or the run is not finished.
    """
    from src_training.inference.shipped import shipped_models

    shipped = shipped_models()
    if str(start_from) in shipped:
        return shipped[str(start_from)]
    path = Path(start_from)
    if path.is_file():
        return path
    if path.is_dir():
        student, teacher = better_student(path), path / "models" / "teacher.safetensors"
        if role == "teacher" and not teacher.is_file():
            raise InputError(
                f"{path}: the run has no teacher of this package; expected a run with one, or the "
                f"file of its student, {student}"
            )
        return student if role == "student" else teacher
    raise InputError(
        f"{start_from}: there is no such model; expected a .safetensors file, the directory of a "
        f"finished run, or a shipped model ({', '.join(shipped) or 'none'})"
    )


def rooted_model(start_from: object, root: Path, role: Role) -> object:
    """`NetworkRecipe.start_from` as a shipped name or an absolute path; raises as `absolute`."""
    from src_training.inference.shipped import shipped_models

    if isinstance(start_from, list):
        return [rooted_model(model, root, role) for model in start_from]
    if not isinstance(start_from, str) or start_from in shipped_models():
        return start_from
    return absolute(start_from, root, f"{role}.start_from")
