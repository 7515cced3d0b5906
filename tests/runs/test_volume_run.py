"""A run on labelled volumes of several organs, from NIfTI files to scores in millimetres."""

import json

import numpy as np
import pytest

from src_training.data.slice_context import neighbouring
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.runs.directory import RunDirectory
from src_training.runs.run import distil

nib = pytest.importorskip("nibabel")

ORGANS = {"liver": 1, "kidney": 2}
HU = np.array([-100, 60, 120])


def write_case(folder, name, seed, spacing):
    """Two boxes of organs in fat, with noise: (6, 40, 44) voxels."""
    random = np.random.default_rng(seed)
    labels = np.zeros((6, 40, 44), np.uint8)
    labels[1:6, 5:20, 5:25], labels[2:5, 25:35, 25:38] = 1, 2
    hu = (HU[labels] + random.normal(0, 10, labels.shape)).astype(np.int16)
    for part, voxels in (("images", hu), ("masks", labels)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(voxels.transpose(2, 1, 0)[::-1, ::-1], np.diag([*spacing, 1]))
        nib.save(image, folder / part / f"{name}.nii.gz")
    return hu


@pytest.mark.slow
def test_organs_of_volumes_are_learned_from_neighbouring_slices(make_recipe, msankd, tmp_path):
    folder = tmp_path / "ct"
    for seed, spacing in enumerate([(1, 1, 3), (2, 2, 5), (1, 1, 4)]):
        hu = write_case(folder, "abc"[seed], seed, spacing)
    source = {"name": "ct", "folder": str(folder), "class_values": ORGANS}
    recipe = make_recipe(
        source=source | {"only": "[ab]_.*"},
        tests=[source | {"only": "c_.*"}],
        preprocessing={"kind": "window", "window": "soft_tissue", "neighbours": 3},
        supervised="dice_ce",
    )
    model = load_model(distil(recipe, tmp_path / "run", device="cpu"))
    card = model.card
    assert card.classes == ["background", "liver", "kidney"] and card.in_channels == 3
    assert card.spacing in ((3, 1, 1), (5, 2, 2)), "the volume that was trained on"
    assert card.preprocessing.window == (-160, 240)
    assert Predictor(model, "cpu").predict(neighbouring(hu, 0, 3)).shape == (3, 40, 44)
    report = json.loads((RunDirectory(tmp_path / "run").report / "report.json").read_text())
    scores = report["distilled"]["scores"]["ct"]
    assert len(scores["images"]) == 6 and {"dice_liver", "dice_kidney"} <= scores["mean"].keys()
    assert {"dice", "hd95_liver", "assd_kidney"} <= scores["volumes"]["c"].keys()
    said = msankd("evaluate", "--model", model.source, "--domain", folder, "--device", "cpu")
    assert said.code == 0, said.err
    for told in ("mean Dice, liver", "mean Dice, kidney", "volumes as wholes", "HD95, mm"):
        assert told in said.out
