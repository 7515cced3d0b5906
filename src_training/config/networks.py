"""The two networks of a run: which they are, and what they start from."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from src_training.config.domains import absolute
from src_training.config.stages import STAGES, stage_name
from src_training.errors import InputError
from src_training.inference.external.model import ExternalModel
from src_training.io.yaml_json import parse_json
from src_training.networks import NETWORKS

Role = Literal["teacher", "student"]


class NetworkRecipe(BaseModel):
    """A network by its name and options, or by the model that it starts from.

    Attributes
    ----------
    name
        One of `NETWORKS`; that of the model in `start_from` if missing.
    options
        Its own, such as ``width``; those of the model where the name is missing.
    start_from
        Model whose weights it starts from: the name of one that ships, a file,
        or the directory of a finished run, which stands for the run's teacher,
        or for the better of its two students (`judge`). A relative path counts
        from the recipe's folder. The model must have this network, these options,
        and the recipe's channels and number of classes. Random weights if missing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    role: ClassVar[Role] = "student"

    name: str
    options: dict[str, bool | int | float | str] = {}
    start_from: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_model(cls, content: Any) -> Any:
        """Take name and options from the model that it starts from where no name is given."""
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
    def _known(self) -> "NetworkRecipe":
        if self.name not in NETWORKS:
            raise ValueError(f"network {self.name!r} is unknown; expected one of {list(NETWORKS)}")
        return self

    def by_last_name(self) -> "NetworkRecipe":
        """As it may be handed on: its model by the last name only."""
        last = self.start_from and Path(self.start_from).name
        return self.model_copy(update={"start_from": last})


class TeacherRecipe(NetworkRecipe):
    """The teacher: as `NetworkRecipe`, and whether it is trained.

    Attributes
    ----------
    kind
        ``network``.
    train
        Whether the stage ``teacher`` trains it: from random weights, or on from
        those of `start_from` (fine-tuning). If false, it is used as it is in
        `start_from`: its stage takes no steps.
    flips
        Whether it predicts plain patches as the mean over their eight flips and
        turns, for eight times the time; see `OutputOptions.teacher_sees`.
    """

    role: ClassVar[Role] = "teacher"
    outputs_only: ClassVar[bool] = False

    kind: Literal["network"] = "network"
    train: bool = True
    flips: bool = False

    @model_validator(mode="after")
    def _trained_somewhere(self) -> "TeacherRecipe":
        if not self.train and self.start_from is None:
            raise ValueError("train is false but start_from is missing; expected a trained model")
        return self


class EnsembleTeacher(BaseModel):
    """Several models that teach together, as they are: the mean of their probabilities.

    Attributes
    ----------
    kind
        ``ensemble``.
    start_from
        Models, each as in `NetworkRecipe`; their networks may differ.
    flips
        As of `TeacherRecipe`.
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
        """As it may be handed on: its models by the last name only."""
        return self.model_copy(update={"start_from": [Path(each).name for each in self.start_from]})


class ExternalTeacher(ExternalModel):
    """A model from elsewhere that teaches as it is: an ONNX file or a bioimage.io folder.

    Attributes
    ----------
    kind
        ``onnx``.
    flips
        As of `TeacherRecipe`.
    """

    name: ClassVar[str] = "onnx"
    options: ClassVar[dict[str, bool | int | float | str]] = {}
    train: ClassVar[bool] = False
    outputs_only: ClassVar[bool] = True

    kind: Literal["onnx"] = "onnx"
    flips: bool = False

    def by_last_name(self) -> Self:
        """As it may be handed on: its file by the last name only."""
        return self.model_copy(update={"file": Path(self.file).name})


def _with_kind(content: Any) -> Any:
    """Fields of a teacher with their kind, which need not be given."""
    if not isinstance(content, dict) or "kind" in content:
        return content
    several = isinstance(content.get("start_from"), list)
    return content | {"kind": "onnx" if "file" in content else "ensemble" if several else "network"}


Teacher = Annotated[
    Annotated[TeacherRecipe | EnsembleTeacher | ExternalTeacher, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]
"""The teacher of a recipe, whatever its kind."""


def find_model(start_from: str | Path, role: Role) -> Path:
    """The model file that `NetworkRecipe.start_from` names.

    Parameters
    ----------
    start_from
        Name of a shipped model, a file, or the directory of a finished run.
    role
        Which model of a run.

    Raises
    ------
    InputError
        If there is no such model, or the run has left none yet.
    """
    from src_training.inference.shipped import shipped_models

    shipped = shipped_models()
    if str(start_from) in shipped:
        return shipped[str(start_from)]
    path = Path(start_from)
    if path.is_file():
        return path
    if path.is_dir():
        return _model_of_run(path, role)
    raise InputError(
        f"{start_from}: there is no such model; expected a .safetensors file, the directory of a "
        f"finished run, or a shipped model ({', '.join(shipped) or 'none'})"
    )


def _model_of_run(run: Path, role: Role) -> Path:
    """The teacher of a finished run, or its better student; see `judge`."""
    from src_training.evaluation.verdict import judge

    distilled = run / "model.safetensors"
    if not distilled.is_file():
        raise InputError(f"{run}: there is no finished run; expected model.safetensors in it")
    if role == "teacher":
        return run / "models" / "teacher.safetensors"
    try:
        report = parse_json((run / "report" / "report.json").read_text(encoding="utf-8"))
        verdict = judge({stage_name(name): outcome for name, outcome in report.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return distilled
    names = ("baseline", *STAGES["baseline"].former_names)
    files = [run / "models" / f"{name}.safetensors" for name in names]
    baseline = next((file for file in files if file.is_file()), distilled)
    return baseline if verdict is not None and verdict.better == "baseline" else distilled


def rooted_model(start_from: object, root: Path, role: Role) -> object:
    """`NetworkRecipe.start_from` as a shipped name or an absolute path; errors as `absolute`."""
    from src_training.inference.shipped import shipped_models

    if isinstance(start_from, list):
        return [rooted_model(each, root, role) for each in start_from]
    if not isinstance(start_from, str) or start_from in shipped_models():
        return start_from
    return absolute(start_from, root, f"{role}.start_from")
