"""The smallest recipe that runs every stage, and what a run of it leaves."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from src_training.config.recipe import Recipe
    from src_training.data.preprocessing import Preprocessing
    from src_training.inference.model_file import SegmentationModel
    from src_training.runs.events import Event

# Sums in another order round otherwise: every test has as many threads, whoever imports
# torch first.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes is a question for the bench, never a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

collect_ignore = ["bench"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give every test that opens a window to one worker, and the others file by file.

    Two workers would fight for the focus of one screen, and fixtures of a module are made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FileScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/gui" if nodeid.startswith("tests/gui/") else nodeid.split("::")[0]

    return FileScheduling(config, log)


def _use_own_folders(patch: pytest.MonkeyPatch, base: Path) -> None:
    patch.setenv("MSANKD_RUNS", str(base / "runs"))
    patch.setenv("MSANKD_MODELS", str(base / "models"))


@pytest.fixture(scope="session", autouse=True)
def own_folders_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor does a fixture of a session or module, which is made before those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        _use_own_folders(patch, tmp_path_factory.getbasetemp() / "own")
        yield


@pytest.fixture(autouse=True)
def own_folders_are_temporary(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test reads or writes the models and runs of the person who runs it."""
    _use_own_folders(monkeypatch, tmp_path_factory.getbasetemp() / f"own {uuid4().hex[:8]}")


STAGES = ("teacher", "autoencoder", "vectors", "tan", "student", "san", "distil")


def _content(steps: int) -> dict[str, Any]:
    small = {"name": "little_unet", "options": {"width": 4}}
    stage = {"steps": steps, "batch": 2, "validate_every": 2}
    return {
        "name": "tiny",
        "source": {
            "name": "A",
            "phantoms": {"scanner": "A", "images": 3, "size": 64},
            "terms": "no rights reserved",
        },
        "validation": 0.3,
        "tests": [{"name": "B", "phantoms": {"scanner": "B", "images": 2, "size": 64, "seed": 9}}],
        "preprocessing": {"kind": "fundus", "diameter": 64},
        "patch": 32,
        "teacher": small,
        "student": copy.deepcopy(small),
        "latent": 8,
        "hidden": 4,
        "distillation": [{"method": "gkd", "views": 2}],
        "stages": {name: dict(stage) for name in STAGES},
    }


@pytest.fixture
def tiny_content() -> dict[str, Any]:
    """What the YAML file of the tiny recipe holds."""
    return _content(steps=3)


@pytest.fixture
def make_recipe() -> Callable[..., "Recipe"]:
    """Make tiny recipes; keywords replace whole fields."""
    from src_training.config.recipe import Recipe

    def make(steps: int = 3, **fields: Any) -> "Recipe":
        content = _content(steps) | fields
        if "sources" in fields:
            del content["source"]
        return Recipe.validated(content, "tiny")

    return make


class FinishedRun(NamedTuple):
    """A run that nothing interrupted."""

    recipe: "Recipe"
    path: Path
    events: list["Event"]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The tiny recipe, run once from its start to its end; not to be written to."""
    from src_training.config.recipe import Recipe
    from src_training.runs.run import distil

    recipe = Recipe.validated(_content(steps=3), "tiny")
    path, events = tmp_path_factory.mktemp("runs") / "whole", list["Event"]()
    distil(recipe, path, device="cpu", listener=events.append)
    return FinishedRun(recipe, path, events)


@pytest.fixture
def tiny_model() -> Callable[..., "SegmentationModel"]:
    """Make models of a real but tiny network, with a semantic encoder unless told otherwise."""
    import torch

    from src_training.alignment.alignment_network import SemanticEncoder
    from src_training.data.preprocessing import IntensityPreprocessing
    from src_training.inference.model_card import ModelCard, SemanticSpace
    from src_training.inference.model_file import SegmentationModel
    from src_training.networks import build_network

    minmax = IntensityPreprocessing(percentiles=(0, 100))

    def make(
        preprocessing: "Preprocessing" = minmax, semantics: bool = True, seed: int = 0
    ) -> "SegmentationModel":
        torch.manual_seed(seed)
        network = build_network("fanet", 1, 2, width=2)
        space = SemanticSpace(grid=(4, 4), latent=3, hidden=4) if semantics else None
        card = ModelCard(
            name="tiny",
            architecture="fanet",
            options={"width": 2},
            in_channels=1,
            classes=["background", "vessel"],
            preprocessing=preprocessing,
            patch=32,
            semantics=space,
        )
        encoder = SemanticEncoder(16, (4, 4), 3, 4).eval() if semantics else None
        return SegmentationModel(card, network.eval(), semantics=encoder)

    return make


@pytest.fixture
def model_file(tiny_model: Callable[..., "SegmentationModel"], tmp_path: Path) -> Path:
    """A tiny model on disk."""
    path = tmp_path / "tiny.safetensors"
    tiny_model().save(path)
    return path


class CommandResult(NamedTuple):
    """Exit code and output of a command of `msankd`."""

    code: int
    out: str
    err: str


@pytest.fixture
def msankd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """Run a command line in this process."""
    import sys

    from src_training import cli
    from src_training.cli import console

    monkeypatch.setattr(console, "out", console.plain_console(width=200))

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["msankd", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return CommandResult(code, *capsys.readouterr())

    return run


@pytest.fixture
def make_domain(tmp_path: Path) -> Callable[..., Path]:
    """Make folders with ``images/`` and ``masks/`` of random squares."""
    import numpy as np

    from src_training.data.domain import Domain, write_domain

    def make(name: str = "scans", seed: int = 0, images: int = 3, masks: bool = True) -> Path:
        random = np.random.default_rng(seed)
        labels = [np.zeros((48, 48), np.uint8) for _ in range(images)]
        for mask in labels:
            top, left = random.integers(0, 30, 2)
            mask[top : top + 15, left : left + 15] = 1
        pixels = [
            (mask * 120 + random.integers(0, 100, mask.shape)).astype(np.uint8) for mask in labels
        ]
        domain = Domain.from_arrays(name, pixels, labels if masks else None)
        write_domain(domain, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Within the block the system writes at most so many bytes to a file: a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)

    return limit
