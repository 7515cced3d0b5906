"""Files, layers and classes with names of every script, in a real window."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from src_training.io.images import read_image
from src_training.io.volumes.registry import open_volume
from tests.gui.conftest import make_model

CLASSES = ["background", "شريان/يسار", "肝\"臓'", "e\u0301te\u0301", "🩸", "=1+1", "a\x1b[31m\tb"]
FILES = ["شريان", "肝臓と腎臓", "e\u0301te\u0301", "🩸 🫀", "'a' & <b>", "=1+1", "100 %s {}"]
if sys.platform != "win32":  # which allows no file of such a name
    FILES += ['"a"', "x\x1b[31m\ty"]


@pytest.fixture
def chosen(widget, tmp_path):
    """The widget, with a model whose name and classes are so named."""
    widget.model.open(make_model(tmp_path / "نموذج 模型 🩸.safetensors", CLASSES))
    return widget


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_name_is_opened_and_segmented(
    name, chosen, segmented, viewer, image, tmp_path
):
    Image.fromarray(image).save(tmp_path / f"{name}.png")
    [opened] = viewer.open(tmp_path / f"{name}.png", plugin="napari")
    chosen.image.layer = opened
    labels = segmented()
    assert name in labels.name and list(labels.features["class"]) == CLASSES
    record = json.loads(json.dumps(labels.metadata["msankd"]))
    assert record["input"] == opened.name and record["model"] == "نموذج 模型 🩸"
    [written] = labels.save(str(tmp_path / f"{name} labels.tif"), plugin="napari")
    assert np.array_equal(read_image(written), labels.data)


def test_a_volume_of_any_name_is_opened_and_its_labels_saved(chosen, segmented, viewer, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 255, (3, 40, 48)).astype(np.uint8)
    name = FILES[-1]
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.eye(4)), tmp_path / f"{name}.nii.gz")
    [opened] = viewer.open(tmp_path / f"{name}.nii.gz", plugin="napari-msankd")
    chosen.image.layer = opened
    labels = segmented()
    [written] = labels.save(str(tmp_path / f"{name} labels.nii.gz"), plugin="napari-msankd")
    assert np.array_equal(np.asarray(open_volume(written).voxels), labels.data)


def test_a_folder_of_any_names_has_a_table_and_pages(chosen, msankd, image, tmp_path):
    (photos := tmp_path / "صور").mkdir()
    for name in FILES:
        Image.fromarray(image).save(photos / f"{name}.png")
    out = tmp_path / "出力"
    said = msankd("triage", photos, "--model", chosen.model.path, "--out", out, "--device", "cpu")
    assert said.code == 0, said.err
    assert {file.stem for file in (out / "labels").iterdir()} == set(FILES)
    with (out / "triage.csv").open(encoding="utf-8", newline="") as file:
        assert len([*csv.DictReader(file)]) == len(FILES)
    texts = [(out / name).read_text("utf-8") for name in ("triage.csv", "triage.html")]
    assert not any(set(text) & {"\x1b", "\x07"} for text in [*texts, said.out, said.err])
