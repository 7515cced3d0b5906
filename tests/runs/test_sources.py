"""A run with several labelled sources: how they are drawn, reported and named."""

import json

import numpy as np
import pytest
import torch

from src_training.inference.model_card import TrainingDomain
from src_training.inference.model_file import read_card
from src_training.runs.data import load_run_data
from src_training.runs.directory import RunDirectory
from src_training.runs.load import load_networks
from src_training.runs.pipeline import Pipeline
from src_training.runs.run import distil

PHOTOMETRIC = ("brightness", "contrast", "gamma", "blur", "noise", "illumination")


def phantoms(name, images, **more):
    return {"name": name, "phantoms": {"scanner": name, "images": images, "size": 64}, **more}


@pytest.mark.parametrize(("sampling", "share"), [("even", 0.5), ("by_size", 0.25)])
def test_sources_are_drawn_evenly_or_by_size(make_recipe, tmp_path, sampling, share):
    recipe = make_recipe(
        sources=[phantoms("A", 3), phantoms("B", 9)],
        validation={"A": ["A_000"], "B": ["B_000", "B_001", "B_002"]},
        source_sampling=sampling,
        augmentation=dict.fromkeys(PHOTOMETRIC, 0.0) | {"resolution": 1.0},
    )
    pipeline = Pipeline(recipe, load_run_data(recipe), RunDirectory(tmp_path))
    few, many = pipeline.training_images
    assert (len(few), len(many)) == (2, 6)
    for value, images in ((0.25, few), (0.75, many)):
        for image in images:
            image.pixels[:] = value
    torch.manual_seed(0)
    sampler, _ = pipeline.samplers()
    centres = sampler.sample(400, 0, torch.device("cpu")).image[:, 0, 16, 16].numpy()
    drawn = np.abs(centres - 0.25) < np.abs(centres - 0.75)
    assert abs(drawn.mean() - share) < 0.08


def test_report_and_cards_name_every_source(make_recipe, tmp_path):
    recipe = make_recipe(
        1,
        sources=[phantoms("A", 3, terms="one"), phantoms("B", 3, terms="two")],
        tests=[phantoms("C", 2)],
        labelled=1.0,
    )
    distil(recipe, tmp_path / "run", device="cpu")
    directory = RunDirectory(tmp_path / "run")
    domains = ["A, validation", "B, validation", "C"]
    report = json.loads((directory.report / "report.json").read_text())
    for outcome in report.values():
        assert list(outcome["scores"]) == domains
    page = (directory.report / "report.md").read_text()
    assert all(f"| {name} |" in page for name in domains)
    assert all(f"{name}: chose checkpoints" in page for name in domains[:2])
    card = read_card(directory.model)
    assert card.sources == [
        TrainingDomain(name="A", images=2, terms="one"),
        TrainingDomain(name="B", images=2, terms="two"),
    ]
    assert load_networks(directory.path).recipe == recipe
