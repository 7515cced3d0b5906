"""What importing the plugin loads, tried in a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODULES = [
    "napari_msankd",
    "napari_msankd.layers",
    "napari_msankd.sample_data",
    "napari_msankd.segment.widget",
    "napari_msankd.training.widget",
    "napari_msankd.explore.widget",
    "napari_msankd.commands",
    "napari_msankd.__main__",
]


def loaded_by(*modules: str) -> set[str]:
    code = f"import {', '.join(modules)}, sys; print(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_the_plugin_loads_no_torch():
    heavy = {"torch", "monai", "kornia", "lightning", "sklearn", "pyqtgraph"}
    assert not heavy & loaded_by(*MODULES)


def test_the_package_of_the_plugin_loads_neither_napari_nor_qt():
    assert not {"napari", "qtpy", "PyQt6", "PySide6"} & loaded_by("napari_msankd")


def test_states_need_no_qt():
    states = [
        ".".join(file.with_suffix("").relative_to(ROOT).parts)
        for file in (ROOT / "napari_msankd").rglob("state.py")
    ]
    if states:
        assert not {"qtpy", "PyQt6", "PySide6", "torch"} & loaded_by(*states)
