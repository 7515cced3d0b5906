"""Checkpoints of a stage as safetensors files (nothing is unpickled), and snapshots among them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from src_training.config.migration import migrate_recipe
from src_training.config.stages import StageSchedule, first_difference
from src_training.config.yaml_io import first_fault
from src_training.errors import InputError
from src_training.io.atomic import write_bytes
from src_training.io.yaml_json import parse_json
from src_training.networks.weights import read_weights

_HEADER, _SETTINGS = "msankd-checkpoint", "msankd-settings"
SNAPSHOTS = 20
"""Most snapshots of a stage."""

_SNAPSHOTS, _FORMER_SNAPSHOTS = "snapshots", "kept"
_WEIGHTS, _OPTIMISER = "weights/", "optimiser/"


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes
    ----------
    step
        Steps done.
    score
        Best validation score so far.
    seconds
        Time spent, over all processes that worked on it.
    finished
        Whether all its steps are done.
    validated
        Step of the last validation; -1 before the first.
    """

    step: Annotated[int, Field(ge=0)] = 0
    score: float = float("-inf")
    seconds: Annotated[float, Field(ge=0)] = 0.0
    finished: bool = False
    validated: Annotated[int, Field(ge=-1)] = -1


_progress = TypeAdapter(Progress)


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    progress: Progress,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, atomically.

    Parameters
    ----------
    path
        The file.
    module, optimiser, progress
        Weights, the state of their optimiser (if any), and how far they have come.
    settings
        What of the recipe they depend on; see `StageSpec.settings_of`.

    Raises
    ------
    OSError
        If it cannot be written; the former file stays whole.
    """
    tensors = {_WEIGHTS + name: value for name, value in module.state_dict().items()}
    if optimiser is not None:
        for index, slots in optimiser.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"{_OPTIMISER}{index}/{slot}"] = torch.as_tensor(value)
    # Cloned one by one: views of shared memory are refused by the format.
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {_HEADER: json.dumps(asdict(progress))}
    if settings is not None:
        header[_SETTINGS] = json.dumps(settings)
    content = save(whole, header)
    write_bytes(path, content)


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> Progress:
    """Fill a module, and an optimiser of the same parameters, from a checkpoint.

    Raises
    ------
    InputError
        If the file is missing, broken or does not fit, or a tensor is not finite; the message
        names it.
    """
    progress = read_progress(path)
    weights = {_WEIGHTS + name: tensor for name, tensor in module.state_dict().items()}
    slots = {} if optimiser is None else _expected_slots(path, optimiser)
    tensors = read_weights(path, weights | slots, leaves=lambda name: name.startswith(_OPTIMISER))
    module.load_state_dict({name.removeprefix(_WEIGHTS): tensors[name] for name in weights})
    if optimiser is not None:
        optimiser.load_state_dict(
            {"state": _slots(tensors), "param_groups": optimiser.state_dict()["param_groups"]}
        )
    return progress


def read_progress(path: Path) -> Progress:
    """The progress of a checkpoint, from its header alone.

    Raises
    ------
    InputError
        If the file is missing, truncated or not one of ours.
    """
    header = _read_header(path)
    try:
        return _progress.validate_json(header[_HEADER], strict=True)
    except ValidationError as error:
        found = first_fault(error)
    except (KeyError, ValueError, RecursionError):
        found = "no progress in its header"
    raise InputError(
        f"{path}: the checkpoint cannot be read ({found}); expected one written by msankd"
    )


def require_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Check that a checkpoint was trained with these settings; one of a former version has none.

    Raises
    ------
    InputError
        If not; names the first field of the recipe that differs.
    """
    header = _read_header(path)
    if _SETTINGS not in header:
        return
    try:
        was, _ = migrate_recipe(parse_json(header[_SETTINGS]), str(path))
    except ValueError:
        raise InputError(
            f"{path}: the settings in its header cannot be read; expected a checkpoint written "
            "by msankd"
        ) from None
    if difference := first_difference(was, settings):
        field, before, now = difference
        raise InputError(
            f"{path} was trained with {field} {before!r}, and the recipe now has {now!r}; "
            f"expected {before!r} again, or a new run"
        )


def _read_header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the checkpoint cannot be read ({error}); expected one written by msankd"
        ) from None


def snapshot_steps(schedule: StageSchedule) -> list[int]:
    """The steps of which snapshots are written: the first, the last, and validations between.

    At most `SNAPSHOTS`, evenly spaced; they follow from the schedule alone, so
    that an interruption changes nothing.

    >>> snapshot_steps(StageSchedule(steps=100, validate_every=50))
    [0, 50, 100]
    """
    validated = [*range(0, schedule.steps, schedule.validate_every), schedule.steps]
    if len(validated) <= SNAPSHOTS:
        return validated
    return [validated[i * (len(validated) - 1) // (SNAPSHOTS - 1)] for i in range(SNAPSHOTS)]


def save_snapshot(
    directory: Path,
    trained: nn.Module,
    schedule: StageSchedule,
    progress: Progress,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a snapshot of a stage's weights, where its step is one of `snapshot_steps`."""
    if progress.step in snapshot_steps(schedule):
        file = directory / _SNAPSHOTS / f"{progress.step}.safetensors"
        save_checkpoint(file, trained, None, progress, settings)


def snapshot_files(directory: Path) -> dict[int, Path]:
    """Step -> snapshot of a stage's weights, in the order of steps."""
    folders = (_FORMER_SNAPSHOTS, _SNAPSHOTS)
    files = [file for folder in folders for file in directory.glob(f"{folder}/[0-9]*.safetensors")]
    return dict(sorted((int(file.stem), file) for file in files))


def _expected_slots(path: Path, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Tensors of a checkpoint that fill an optimiser, as large as the parameters they belong to."""
    parameters = [each for group in optimiser.param_groups for each in group["params"]]
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_OPTIMISER)]  # noqa: SIM118
    expected = {}
    for name in names:
        index, _, slot = name.removeprefix(_OPTIMISER).partition("/")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise InputError(
                f"{path}: {name} is of no parameter; expected a number below {len(parameters)}"
            )
        expected[name] = torch.zeros(()) if slot == "step" else parameters[int(index)]
    return expected


def _slots(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMISER):
            index, slot = name.removeprefix(_OPTIMISER).split("/")
            # An optimiser keeps what it is given: mapped, Windows could not replace the file.
            state.setdefault(int(index), {})[slot] = tensor.clone()
    return state
