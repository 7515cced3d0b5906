"""`msankd evaluate`, `fsd` and `tune`."""

import json

import numpy as np
import pytest
from PIL import Image

from src_training.data.domain import Domain
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_file import load_model, read_card
from src_training.inference.predictor import Predictor
from src_training.io.masks import read_mask


def test_evaluate_scores_as_the_engine_and_writes_every_image(
    msankd, make_domain, model_file, tmp_path
):
    folders = [make_domain("a"), make_domain("b", seed=1)]
    domains = [argument for folder in folders for argument in ("--domain", folder)]
    said = msankd("evaluate", "--model", model_file, *domains, "--json", tmp_path / "scores.json")
    assert said.code == 0, said.err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["a", "b"]
    assert list(scores["a"]["images"]) == ["000", "001", "002"]
    expected = evaluate(Predictor(load_model(model_file), "cpu"), Domain.from_folder(folders[1]))
    assert scores["b"]["mean"]["dice"] == pytest.approx(expected.mean["dice"])
    assert f"{expected.mean['dice']:.3f}" in said.out
    assert scores["a"]["fsd"] is None and scores["b"]["fsd"]["from"] == "a"
    assert "FSD from a" in said.out and "expected Dice without masks" in said.out
    assert {"accuracy", "sensitivity", "specificity", "miou", "f1", "auc"} <= set(
        scores["a"]["pooled"]
    )


def test_how_masks_are_read_is_said_and_recorded(msankd, make_domain, model_file, tmp_path):
    folder = make_domain("a")
    for file in sorted((folder / "masks").iterdir()):
        mask = read_mask(file) > 0
        file.unlink()
        Image.fromarray((mask * 255).astype(np.uint8)).save(file.with_suffix(".jpg"))
    note = "two and noise of a lossy compression: above 127 is foreground."
    said = msankd("inspect", folder)
    assert said.code == 0 and note in " ".join(said.out.split())
    scores = tmp_path / "scores.json"
    said = msankd("evaluate", "--model", model_file, "--domain", folder, "--json", scores)
    assert said.code == 0 and note in " ".join(said.out.split())
    assert note in json.loads(scores.read_text())["a"]["mask_notes"][0]
    refused = msankd("inspect", folder, "--class", "vessel=255")
    assert refused.code == 1 and "expected only 0 (background), 255 (vessel)" in refused.err


def test_fsd_is_symmetric_and_zero_between_a_domain_and_its_copy(
    msankd, make_domain, model_file, tmp_path
):
    a, b, copy = make_domain("a", images=6), make_domain("b", 1, 6), make_domain("copy", 0, 6)

    def measured(*folders):
        domains = [argument for folder in folders for argument in ("--domain", folder)]
        said = msankd("fsd", "--model", model_file, *domains, "--json", tmp_path / "fsd.json")
        assert said.code == 0, said.err
        return json.loads((tmp_path / "fsd.json").read_text())

    found = {(each["a"], each["b"]): each["value"] for each in measured(a, b, copy)}
    assert found.keys() == {("a", "b"), ("a", "copy"), ("b", "copy")}
    assert found["a", "copy"] == pytest.approx(0, abs=1e-9)
    assert found["a", "b"] == pytest.approx(found["b", "copy"], rel=1e-6)
    (swapped,) = measured(b, a)
    assert swapped["value"] == pytest.approx(found["a", "b"], rel=1e-6)
    assert found["a", "b"] > 0 and swapped["n_a"] == 6


def test_domains_of_one_folder_name_are_named_by_their_paths(
    msankd, make_domain, model_file, tmp_path
):
    folders = [make_domain("site1/test"), make_domain("site2/test", seed=1)]
    domains = [argument for folder in folders for argument in ("--domain", folder)]
    for command in ("evaluate", "fsd"):
        said = msankd(command, "--model", model_file, *domains, "--json", tmp_path / "a.json")
        assert said.code == 0, said.err
        written = (tmp_path / "a.json").read_text()
        assert all(str(folder) in written for folder in folders)
    twice = msankd("fsd", "--model", model_file, *domains[:2], *domains[:2])
    assert twice.code == 2 and "was given twice" in twice.err


def test_tune_writes_a_fitted_model_and_leaves_the_given_one(
    msankd, make_domain, model_file, tmp_path
):
    theirs, given = make_domain("theirs"), read_card(model_file)
    out = tmp_path / "tuned.safetensors"
    said = msankd("tune", model_file, "--domain", theirs, "--out", out)
    assert said.code == 0, said.err
    tuned = read_card(out)
    assert (tuned.name, tuned.description) == ("tuned", "Tuned to 3 images of theirs.")
    assert read_card(model_file) == given
    before, after = (float(part.split()[0]) for part in said.out.split("Dice ")[1].split(", "))
    assert after >= before
    domain = Domain.from_folder(theirs)
    scores = evaluate(Predictor(load_model(out), "cpu"), domain)
    assert scores.mean["dice"] == pytest.approx(after, abs=5e-4)
    again = msankd("tune", model_file, "--domain", theirs, "--out", out)
    assert again.code == 2 and "exists already" in again.err
    bare = make_domain("bare", masks=False)
    unlabelled = msankd("tune", model_file, "--domain", bare, "--out", tmp_path / "other")
    assert unlabelled.code == 2 and "mask" in unlabelled.err
    assert not (tmp_path / "other").exists()
