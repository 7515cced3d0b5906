"""Checkpoints and snapshots of a stage, as safetensors files (which need no pickle)."""

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
"""Maximum number of snapshots of a stage."""

_SNAPSHOTS, _FORMER_SNAPSHOTS = "snapshots", "kept"
_WEIGHTS, _OPTIMISER = "weights/", "optimiser/"


@dataclass(frozen=True)
class Progress:
    """Training progress of a stage.

    Attributes
    ----------
    step
        Number of steps done.
    score
        Best validation score so far.
    seconds
        Training time, including that before the stage was resumed.
    finished
        Whether all steps are done.
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
    """Write a checkpoint atomically.

    Parameters
    ----------
    path
        File to write.
    module, optimiser, progress
        Module and optimiser whose states are saved, and the progress of the stage.
    settings
        Fields of the recipe that the weights depend on; see `StageSpec.settings_of`.

    Raises
    ------
    OSError
        If the file cannot be written; an existing file is then unchanged.
    """
    tensors = {_WEIGHTS + name: value for name, value in module.state_dict().items()}
    if optimiser is not None:
        for index, slots in optimiser.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"{_OPTIMISER}{index}/{slot}"] = torch.as_tensor(value)
    # Safetensors refuses tensors that share memory, so every tensor is cloned.
    cloned = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {_HEADER: json.dumps(asdict(progress))}
    if settings is not None:
        header[_SETTINGS] = json.dumps(settings)
    write_bytes(path, save(cloned, header))


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> Progress:
    """Load a checkpoint into a module, and into an optimiser of the same parameters.

    Raises
    ------
    InputError
        If the file is missing, broken or does not match the module, or a tensor is not finite.
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
    """Read the progress of a checkpoint from its header.

    Raises
    ------
    InputError
        If the file is missing, truncated or no checkpoint of this package.
    """
    header = _read_header(path)
    try:
        return _progress.validate_json(header[_HEADER], strict=True)
    except ValidationError as error:
        fault = first_fault(error)
    except (KeyError, ValueError, RecursionError):
        fault = "no progress in its header"
    raise InputError(
        f"{path}: the checkpoint cannot be read ({fault}); expected one written by msankd"
    )


def require_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Check that a checkpoint was trained with these settings.

    Checkpoints of former versions have no settings and always pass.

    Raises
    ------
    InputError
        If they differ; the message names the first field that does.
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
    """Steps at which snapshots are written: step 0, the last one, and validations in between.

    There are at most `SNAPSHOTS`, evenly spaced. They depend on the schedule alone, so that
    an interruption does not change them.

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
    """Write a snapshot of a stage's weights if the step is one of `snapshot_steps`."""
    if progress.step in snapshot_steps(schedule):
        file = directory / _SNAPSHOTS / f"{progress.step}.safetensors"
        save_checkpoint(file, trained, None, progress, settings)


def snapshot_files(directory: Path) -> dict[int, Path]:
    """Step -> snapshot file of a stage, sorted by step."""
    folders = (_FORMER_SNAPSHOTS, _SNAPSHOTS)
    files = [file for folder in folders for file in directory.glob(f"{folder}/[0-9]*.safetensors")]
    return dict(sorted((int(file.stem), file) for file in files))


def _expected_slots(path: Path, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name of each optimiser tensor in a checkpoint -> a tensor of the expected shape."""
    parameters = [weight for group in optimiser.param_groups for weight in group["params"]]
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
            state.setdefault(int(index), {})[slot] = tensor
    return state
