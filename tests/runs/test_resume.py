"""A run that was interrupted and resumed ends with the weights of an uninterrupted one."""

import json

import pytest
import torch
from safetensors.torch import load_file

from src_training.config.stages import REQUIRED_STAGES
from src_training.runs.events import StageFinished, StepDone, read_events
from src_training.runs.run import distil
from src_training.runs.state import run_state
from src_training.training.interruption import Interrupted

MODELS = ("models/teacher", "models/baseline", "models/distilled", "model")


def assert_same_outcome(path, finished_run):
    for model in MODELS:
        expected = load_file(finished_run.path / f"{model}.safetensors")
        found = load_file(path / f"{model}.safetensors")
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), f"{name} of {model}"
    reports = [
        json.loads((p / "report/report.json").read_text()) for p in (path, finished_run.path)
    ]
    for report in reports:
        for found in report.values():
            # Only the times may differ.
            del found["seconds_per_image"], found["step_seconds"]
    assert reports[0] == reports[1]


def assert_nothing_done_twice(path):
    events = read_events(path / "events.jsonl")
    steps = [(event.stage, event.step) for event in events if isinstance(event, StepDone)]
    assert len(steps) == len(set(steps))
    assert [e.stage for e in events if isinstance(e, StageFinished)] == list(REQUIRED_STAGES)


def test_a_run_stopped_in_every_stage_ends_as_if_it_had_not_been(finished_run, tmp_path):
    path = tmp_path / "run"
    for stage in REQUIRED_STAGES:
        done = []

        def stepped(stage=stage, done=done):
            return any(isinstance(event, StepDone) and event.stage == stage for event in done)

        with pytest.raises(Interrupted):
            distil(
                finished_run.recipe,
                path,
                resume=path.exists(),
                device="cpu",
                listener=done.append,
                stopping=stepped,
            )
        state = run_state(path)
        assert (state.state, state.stop_reason) == ("stopped", "stopped on request")
        assert (state.stage, state.step) == (stage, 1)
    distil(finished_run.recipe, path, resume=True, device="cpu")
    assert_same_outcome(path, finished_run)
    assert_nothing_done_twice(path)
    assert run_state(path).state == "finished"
