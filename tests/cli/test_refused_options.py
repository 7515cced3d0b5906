"""Options that cannot be meant, or do not fit the inputs, are refused before any work."""

import numpy as np
import pytest
import tifffile

from src_training.cli.segment import check_threshold
from src_training.data.case import read_labels
from src_training.errors import InputError
from src_training.io.images import write_labels


@pytest.mark.parametrize("angle", ["nan", "inf", "0", "-5", "400"])
def test_an_angle_that_no_camera_has_is_refused(msankd, make_domain, tmp_path, angle):
    domain, out = str(make_domain()), str(tmp_path / "out")
    for words in (
        ["segment", domain, "--model", "vessels", "--out", out],
        ["evaluate", "--model", "vessels", "--domain", domain],
        ["recipe", domain, "--out", f"{out}.yaml"],
    ):
        said = msankd(*words, f"--angle={angle}")
        assert said.code == 2 and "expected above 0 and at most 360" in said.err
        assert "Traceback" not in said.err and said.err.count("\n") == 1


def test_options_of_volumes_are_refused_for_images(msankd, make_domain, tmp_path):
    images = str(make_domain() / "images")
    words = ["segment", images, "--model", "liver-msd", "--out", str(tmp_path / "out")]
    for option in (["--keep-largest", "liver"], ["--fill-holes", "liver"], ["--axis", "x"]):
        said = msankd(*words, *option)
        assert said.code == 2 and f"{option[0]}: " in said.err and "is an image" in said.err


def test_a_side_that_matters_is_not_flipped(msankd, make_domain, tmp_path):
    images = str(make_domain() / "images")
    words = ["segment", images, "--model", "liver-msd", "--flips", "--out", str(tmp_path / "out")]
    said = msankd(*words)
    assert said.code == 2 and "liver-msd was trained without flips" in said.err


def test_a_pattern_of_cases_that_is_none_is_refused(msankd, make_domain, tmp_path):
    words = ["tune", "vessels", "--domain", str(make_domain()), "--only", "("]
    said = msankd(*words, "--out", str(tmp_path / "tuned.safetensors"))
    assert said.code == 2 and "--only (: " in said.err and "a regular expression" in said.err


def test_a_comparison_is_not_put_into_a_run(msankd, finished_run, tmp_path, make_recipe):
    make_recipe().save(tmp_path / "tiny.yaml")
    words = ["compare", str(tmp_path / "tiny.yaml"), "--method", "logits"]
    said = msankd(*words, "--out", str(finished_run.path))
    assert said.code == 2 and "holds a run" in said.err
    said = msankd(*words, "--seed", "-1", "--out", str(tmp_path / "out"))
    assert said.code == 2 and "the field seed is -1" in said.err
    assert not (tmp_path / "out").exists()


def test_a_threshold_is_refused_where_several_classes_compete():
    check_threshold(0.3, ["background", "vessel"])
    with pytest.raises(InputError, match="tells background, a, b apart by the most probable"):
        check_threshold(0.3, ["background", "a", "b"])


def test_a_volume_that_is_no_ct_is_warned_of(msankd, tmp_path):
    stack = np.random.default_rng(0).integers(0, 4096, (3, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "ct.tif", stack, photometric="minisblack")
    words = ["segment", str(tmp_path / "ct.tif"), "--model", "liver-msd"]
    said = msankd(*words, "--out", str(tmp_path / "out"))
    assert said.code == 0 and "ct.tif: This model expects Hounsfield units" in said.err


def test_rows_that_a_comparison_leaves_out_are_named(make_recipe, msankd, tmp_path):
    make_recipe(1).save(tmp_path / "tiny.yaml")
    words = ["compare", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out")]
    assert msankd(*words, "--method", "logits", "--device", "cpu").code == 0
    assert msankd(*words, "--method", "fsp", "--device", "cpu").code == 0
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| fsp |" in page and "what this command compares: logits." in page


def test_values_of_a_class_are_given_wherever_masks_are_read(msankd, make_domain, model_file):
    domain = make_domain()
    mask = next((domain / "masks").iterdir())
    write_labels(mask, 2 * read_labels(mask, (48, 48)).astype(np.uint8))
    out = domain.parent
    words = ["--domain", str(domain), "--class", "vessel=1,2"]
    for command in (
        ["tune", str(model_file), "--out", str(out / "tuned.safetensors")],
        ["features", "--model", str(model_file), "--out", str(out / "vectors.csv")],
        ["report", "--model", str(model_file), "--out", str(out / "page.html")],
    ):
        said = msankd(*command, *words[:2])
        assert said.code == 2, said.err
        said = msankd(*command, *words)
        assert said.code == 0, said.err


def test_a_file_in_place_of_a_folder_is_found_before_any_work(msankd, make_domain, tmp_path):
    domain, file = str(make_domain()), tmp_path / "afile"
    file.write_text("kept")
    inside = str(file / "inside")
    for words in (
        ["segment", domain, "--model", "vessels", "--out", str(file)],
        ["triage", domain, "--model", "vessels", "--out", inside],
        ["distil", "phantom", "--out", inside],
        ["compare", "phantom", "--out", str(file)],
        ["sample", str(file)],
        ["tune", "vessels", "--domain", domain, "--out", f"{inside}.safetensors"],
        ["evaluate", "--model", "vessels", "--domain", domain, "--json", f"{inside}.json"],
    ):
        said = msankd(*words)
        assert said.code == 2 and f"{file} is a file; expected a folder" in said.err
    assert file.read_text() == "kept"
