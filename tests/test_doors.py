"""What may import what: read from the source, and tried in a fresh interpreter."""

import ast
import configparser
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "src_training"
WINDOWS = {"napari", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt", "matplotlib"}


def imported(folder: Path) -> dict[str, set[str]]:
    """Every module that the files below a folder import, by file."""
    found = {}
    for file in folder.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file} imports relatively"
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        found[str(file.relative_to(ROOT))] = names
    assert found
    return found


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("room", "closed"),
    [
        ("networks", ["alignment", "distillation", "training", "inference", "recipe", "data"]),
        ("alignment", ["distillation", "training", "inference", "recipe", "data", "events"]),
        ("distillation", ["training", "inference", "evaluation", "recipe", "data", "events"]),
        ("data", ["alignment", "distillation", "training", "inference", "recipe", "events"]),
        ("inference", ["training", "distillation", "recipe", "events", "evaluation"]),
        ("evaluation", ["training", "distillation", "recipe", "events"]),
    ],
)
def test_doors_inside_the_engine_stay_shut(room, closed):
    barred = tuple(f"src_training.{name}" for name in closed)
    for file, names in imported(ENGINE / room).items():
        through = {n for n in names if n in barred or n.startswith(tuple(b + "." for b in barred))}
        assert not through, f"{file} imports {through}"


def test_the_engine_never_names_the_face_nor_a_window():
    for file, names in imported(ENGINE).items():
        tops = {name.split(".")[0] for name in names}
        assert not tops & (WINDOWS | {"napari_msankd"}), file


def test_nothing_is_pickled():
    for file, names in imported(ENGINE).items():
        assert not names & {"pickle", "dill", "joblib", "shelve"}, file


def test_the_face_and_the_door_of_the_engine_load_no_torch():
    heavy = {"torch", "monai", "kornia", "lightning_fabric", "sklearn"}
    assert not loaded("import napari_msankd, src_training, src_training.cli") & (heavy | WINDOWS)


def test_no_module_of_the_engine_loads_a_window():
    code = (
        "import importlib, pkgutil, src_training\n"
        "for module in pkgutil.walk_packages(src_training.__path__, 'src_training.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert not loaded(code) & WINDOWS


def test_neither_torchvision_nor_cuda_is_required():
    try:
        lines = requires("napari-msankd") or []
    except PackageNotFoundError:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        lines = setup["options"]["install_requires"].split("\n")
    names = {re.split(r"[^\w-]", line.strip())[0].lower() for line in lines if line.strip()}
    assert "torch" in names
    assert not {n for n in names if n.startswith(("torchvision", "nvidia", "matplotlib"))}
