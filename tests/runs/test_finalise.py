"""The results of a run: models, and a report of their scores, sizes and speeds."""

import json

import numpy as np
import pytest
import torch

from src_training.data.preprocessing import BasePreprocessing
from src_training.evaluation.calibration import calibrate
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_file import load_model, read_card
from src_training.inference.predictor import Predictor
from src_training.runs.data import load_domain, load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.finalise import finalise
from src_training.runs.load import load_networks
from src_training.runs.outcome import Outcome, as_markdown
from src_training.runs.run import distil

ROLES = ("teacher", "baseline", "distilled")


@pytest.fixture(scope="module")
def report(finished_run):
    return json.loads((finished_run.path / "report" / "report.json").read_text())


def test_every_model_is_scored_on_validation_and_tests(report):
    assert tuple(report) == ROLES
    for found in report.values():
        for part in ("scores", "fsd", "prior_fsd"):
            assert list(found[part]) == ["A, validation", "B"], part


def test_what_a_model_weighs_is_what_its_file_weighs(report, finished_run):
    for role in ROLES:
        file = finished_run.path / "models" / f"{role}.safetensors"
        assert report[role]["bytes"] == file.stat().st_size


def test_the_time_of_an_image_is_told_in_seconds(report):
    assert all(0 < found["seconds_per_image"] < 30 for found in report.values())


def test_a_saved_model_scores_as_the_report_says(report, finished_run):
    model = load_model(finished_run.path / "model.safetensors")
    test = load_domain(finished_run.recipe.tests[0], masks_required=True)
    found = evaluate(Predictor(model, "cpu"), test)
    assert found.to_dict() == report["distilled"]["scores"]["B"]
    assert model.card.metrics["B"]["dice"] == found.mean["dice"]


def test_the_report_gives_costs_and_a_caveat_of_validation(finished_run):
    said = (finished_run.path / "report" / "report.md").read_text()
    assert "| model | parameters | MB | GMAC a patch | ms an image | threshold |" in said
    assert all(f"| {role} |" in said for role in ROLES)
    assert "A, validation: chose checkpoints, calibration and thresholds" in said


def test_a_run_on_one_image_and_a_small_target_finishes(make_recipe, tmp_path):
    source = {"name": "A", "phantoms": {"scanner": "A", "images": 1, "size": 64}}
    target = {"name": "B", "phantoms": {"scanner": "B", "images": 1, "size": 64}}
    recipe = make_recipe(
        1, source=source, tests=[target], preprocessing={"kind": "fundus", "diameter": 32}
    )
    distil(recipe, tmp_path / "run", device="cpu")
    said = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "validation uses 1 image that the networks learn from" in said
    assert "too few patches" in said and "one patient" in said and "nan" not in said
    metrics = read_card(tmp_path / "run" / "model.safetensors").metrics
    assert list(metrics) == ["A, validation", "B"]


def test_calibration_is_alike_and_on_held_out_images(make_recipe, tmp_path, monkeypatch):
    calls = {}

    def recorded(predictor, *images):
        calls[predictor.model.card.name] = images
        calibrate(predictor, *images)

    monkeypatch.setattr("src_training.runs.finalise.calibrate", recorded)
    recipe = make_recipe(1)
    distil(recipe, tmp_path / "run", device="cpu")
    data = load_run_data(recipe)
    (training,), (held_out,) = data.sources, data.validation
    assert not set(training.names) & set(held_out.names)
    assert list(calls) == ["tiny-teacher", "tiny-baseline", "tiny"]
    for validation, styled in calls.values():
        assert [image.original.name for image in validation] == list(held_out.names)
        assert {image.original.name for image in styled} == set(held_out.names)
    pixels = [
        np.stack([image.image.pixels for image in (*validation, *styled)])
        for validation, styled in calls.values()
    ]
    np.testing.assert_array_equal(pixels[1:], [pixels[0]] * 2)


def test_a_fine_tuned_student_names_its_model_and_terms(finished_run, make_recipe, tmp_path):
    began = finished_run.path / "models" / "baseline.safetensors"
    recipe = make_recipe(1, name="tuned", student={"start_from": str(began)})
    distil(recipe, tmp_path / "run", device="cpu")
    cards = {role: read_card(tmp_path / "run" / "models" / f"{role}.safetensors") for role in ROLES}
    for role in ("baseline", "distilled"):
        assert cards[role].method.endswith(", begun from tiny-baseline")
        assert [domain.terms for domain in cards[role].sources] == ["no rights reserved"] * 2
    assert "begun" not in cards["teacher"].method and len(cards["teacher"].sources) == 1


def test_each_image_is_prepared_once_for_all_models(finished_run, make_recipe, monkeypatch):
    seen, prepare = [], BasePreprocessing.prepare

    def counted(self, image, fov=None):
        seen.append(image.tobytes())
        return prepare(self, image, fov)

    recipe, directory = finished_run.recipe, RunDirectory(finished_run.path)
    data, networks = load_run_data(recipe), load_networks(finished_run.path)
    monkeypatch.setattr("src_training.runs.finalise.write_text", lambda *_: None)
    monkeypatch.setattr("src_training.inference.model_file.SegmentationModel.save", lambda *_: None)
    monkeypatch.setattr(BasePreprocessing, "prepare", counted)
    finalise(recipe, data, networks, directory, torch.device("cpu"))
    for case in data.tests[0]:
        assert seen.count(case.image.tobytes()) == 1


def test_a_domain_without_masks_has_a_row_without_scores():
    outcome = Outcome(1_234_567, 0.5, 2_500_000, 0.4, False, 0.1, 0.0123, {}, {}, {}, False)
    said = as_markdown("mine", ["new"], {"baseline": outcome}, ["new: nothing is known"])
    assert "| baseline | 1,234,567 | 2.5 | 0.50 | 12 | 0.40 |" in said
    assert "| new | baseline |  | no masks |" in said
    assert said.endswith("\nnew: nothing is known.\n")
