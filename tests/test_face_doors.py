"""What may be imported where, tried in a fresh interpreter."""

import subprocess
import sys

import pytest

FACE = [
    "napari_msankd",
    "napari_msankd.layers",
    "napari_msankd.samples",
    "napari_msankd.segment.widget",
    "napari_msankd.distil.widget",
    "napari_msankd.explore.widget",
    "napari_msankd.commands",
    "napari_msankd.__main__",
]


def loaded_by(module: str) -> set[str]:
    code = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", FACE)
def test_the_face_loads_no_torch(module):
    heavy = {"torch", "monai", "kornia", "lightning", "sklearn", "pyqtgraph"}
    assert not heavy & loaded_by(module)


def test_the_face_itself_loads_neither_napari_nor_qt():
    assert not {"napari", "qtpy", "PyQt6", "PySide6"} & loaded_by("napari_msankd")


def test_the_engine_loads_no_window():
    seen = loaded_by("src_training.inference.predictor, src_training.evaluation.metrics")
    assert not {"napari", "qtpy", "PyQt6", "PySide6", "magicgui", "matplotlib"} & seen
