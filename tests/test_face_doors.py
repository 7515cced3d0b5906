"""What importing the plugin loads, tried in a fresh interpreter."""

import ast
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


FACE = ROOT / "napari_msankd"
ROWS = (
    {
        "__init__",
        "settings",
        "theme",
        "formatting",
        "masks",
        "torch_import",
        "workers",
        "layers",
        "planes",
    },
    {"sample_data", "readers", "writers"},
    {"widgets"},
    {"datasets"},
    {"segment", "training", "explore"},
    {"commands", "headless"},
    {"__main__"},
)
"""A part of the face imports what stands in earlier rows; files of the first two, each other."""

ADDS_LAYERS = {"add_layer", "add_image", "add_labels", "add_points", "add_shapes", "add_vectors"}


def test_a_part_of_the_face_imports_only_what_stands_before_it():
    row = {name: number for number, names in enumerate(ROWS) for name in names}
    against = set()
    for file in FACE.rglob("*.py"):
        own = file.relative_to(FACE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "napari_msankd."
            ):
                other = node.module.split(".")[1]
                allowed = other == own or row[other] < row[own]
                if not allowed and not row[other] == row[own] <= 1:
                    against.add((own, other))
    assert not against


def test_layers_are_added_in_one_module():
    elsewhere = set()
    for file in FACE.rglob("*.py"):
        if file.name in ("layers.py", "__main__.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ADDS_LAYERS:
                elsewhere.add(f"{file.name}: {called.attr}")
    assert not elsewhere


def test_the_window_shows_no_busy_bar():
    for file in FACE.rglob("*.py"):
        assert "setRange(0, 0)" not in file.read_text(encoding="utf-8"), file
