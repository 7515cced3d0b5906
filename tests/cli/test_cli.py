import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from src_training.cli.progress import RunDisplay
from src_training.config.presets import preprocessing_for, recipe_for
from src_training.config.recipe import Recipe
from src_training.data.domain import Domain
from src_training.data.preprocessing import FundusPreprocessing
from src_training.evaluation.evaluate import evaluate
from src_training.inference.model_file import load_model, read_card
from src_training.inference.predictor import Predictor, labels_from
from src_training.io.images import read_image
from src_training.io.masks import read_mask
from src_training.runs.state import run_state

ROOT = Path(__file__).parents[2]
COMMANDS = ["recipe", "distil", "compare", "segment", "evaluate", "fsd", "models", "runs", "tune"]


def test_the_version_is_that_of_the_package_and_the_citation(msankd):
    import src_training

    said = msankd("--version")
    assert said.code == 0 and said.out.strip() == src_training.__version__ != "0.0.0"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == src_training.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"\n## {src_training.__version__}\n" in changelog


def test_help_names_every_command(msankd):
    said = msankd("--help")
    assert said.code == 0 and all(command in said.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS[:6])
def test_help_of_a_command_has_examples(msankd, command):
    said = msankd(command, "--help")
    assert said.code == 0 and "For example:" in said.out
    examples = said.out.partition("For example:")[2]
    assert f" msankd {command} " in examples and "--empty" not in said.out


def test_a_recipe_is_written_for_folders_and_not_over_another(msankd, make_domain, tmp_path):
    ours, theirs, file = make_domain("ours"), make_domain("theirs"), tmp_path / "mine.yaml"
    said = msankd("recipe", ours, "--target", theirs, "--time", "quick", "--out", file)
    assert said.code == 0 and f"Written to {file}" in said.out
    recipe = Recipe.load(file)
    assert (recipe.name, recipe.student.name) == ("mine", "wnet")
    assert [domain.folder for domain in (*recipe.sources, *recipe.tests)] == [
        str(ours),
        str(theirs),
    ]
    assert recipe == recipe_for(
        "mine",
        recipe.sources,
        recipe.tests,
        None,
        "quick",
        preprocessing=preprocessing_for(read_image(next((ours / "images").iterdir()))),
    )
    before = file.read_bytes()
    again = msankd("recipe", ours, "--out", file)
    assert again.code == 2 and "mine.yaml is there already" in again.err.replace("\n", "")
    assert file.read_bytes() == before
    once = msankd("recipe", ours, "--target", theirs, "--angle", 30, "--out", tmp_path / "a.yaml")
    assert once.code == 2 and "--angle was given 1 times; expected 2 or none" in once.err
    several = msankd("recipe", ours, theirs, "--out", tmp_path / "both.yaml")
    assert several.code == 0
    sources = Recipe.load(tmp_path / "both.yaml").sources
    assert [source.name for source in sources] == ["ours", "theirs"]


def test_a_recipe_has_a_frozen_teacher_and_unlabelled_images(
    msankd, make_domain, model_file, tmp_path
):
    ours, theirs, file = make_domain("ours"), make_domain("theirs"), tmp_path / "mine.yaml"
    words = ["--teacher", model_file, "--freeze-teacher", "--student", "erfnet"]
    said = msankd("recipe", ours, "--unlabelled", theirs, *words, "--out", file)
    assert said.code == 0, said.err
    recipe = Recipe.load(file)
    assert (recipe.teacher.start_from, recipe.teacher.train) == (str(model_file), False)
    assert recipe.student.name == "erfnet" and recipe.unlabelled[0].folder == str(theirs)


def test_the_true_command_has_exit_codes_and_a_quiet_stdout(tmp_path):
    code = "from src_training.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "segment", "none.png", "--model", "m", "--out", "labels"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "none.png: there is no such file; expected an image\n"


@pytest.mark.parametrize("arguments", [["segmant"], ["segment"], ["segment", "a", "--modell", "b"]])
def test_a_command_that_is_not_understood_exits_with_2(msankd, arguments):
    said = msankd(*arguments)
    assert said.code == 2 and said.err and "Traceback" not in said.err


def test_segment_writes_the_labels_of_every_image(msankd, make_domain, model_file, tmp_path):
    images = make_domain() / "images"
    said = msankd("segment", images, "--model", model_file, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    predictor = Predictor(load_model(model_file), device="cpu")
    for file in sorted(images.iterdir()):
        found = np.asarray(Image.open(tmp_path / "out" / file.name))
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels_from(predictor.predict(read_image(file)), 0.5))


def test_segment_writes_probabilities_and_heeds_the_threshold(
    msankd, make_domain, model_file, tmp_path
):
    image, out = make_domain() / "images" / "000.png", tmp_path / "out"
    options = ("--model", model_file, "--out", out, "--probabilities", "--threshold")
    assert msankd("segment", image, *options, "0").code == 0
    assert np.asarray(Image.open(out / "000.png")).all()
    maps = np.load(out / "000_probabilities.npy")
    assert maps.shape == (2, 48, 48) and np.allclose(maps.sum(0), 1, atol=1e-5)
    assert msankd("segment", image, *options, "1").code == 0
    assert not np.asarray(Image.open(out / "000.png")).any()


def test_the_angle_of_a_camera_is_heeded_and_goes_with_images(
    msankd, make_domain, tiny_model, tmp_path
):
    model = tiny_model(FundusPreprocessing(diameter=64, angle=30))
    model.save(tmp_path / "fundus.safetensors")
    domain = make_domain()
    of_model = ("--model", model.source)
    image = sorted((domain / "images").iterdir())[0]
    said = msankd("segment", image, *of_model, "--out", tmp_path, "--angle", 45, "--probabilities")
    assert said.code == 0, said.err
    found = np.load(tmp_path / f"{image.stem}_probabilities.npy")
    expected = Predictor(model.for_camera(45), "cpu").predict(read_image(image))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    scores = []
    for angle in (30, 60):
        scores.append(tmp_path / f"{angle}.json")
        asked = ("--domain", domain, "--angle", angle, "--json", scores[-1])
        assert msankd("evaluate", *of_model, *asked).code == 0
    assert scores[0].read_bytes() != scores[1].read_bytes()
    refused = msankd("fsd", *of_model, "--domain", domain, "--domain", tmp_path, "--angle", 45)
    assert "--angle and --domain were given 1 and 2 times; expected an angle" in refused.err
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((5, 20, 20), np.uint8))
    refused = msankd("segment", stack, *of_model, "--out", tmp_path / "o", "--angle", 45)
    assert refused.code == 2 and "--angle: " in refused.err and "is a volume" in refused.err


def test_a_stack_is_segmented_slice_by_slice(msankd, model_file, tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (3, 40, 36), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    said = msankd("segment", tmp_path / "stack.tif", "--model", model_file, "--out", tmp_path / "o")
    assert said.code == 0, said.err
    assert tifffile.imread(tmp_path / "o" / "stack.tif").shape == stack.shape


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


def test_models_lists_shipped_trained_and_own_models(msankd, finished_run, model_file, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "runs" / "first")
    folders = ("--runs", tmp_path / "runs", "--models", model_file.parent)
    said = msankd("models", *folders)
    assert said.code == 0
    for listed in ("vessels", "first · distilled", "first · baseline", "tiny"):
        assert listed in said.out
    assert f"Looked in {tmp_path / 'runs'}, {model_file.parent}." in said.out


def test_models_and_runs_look_in_the_own_folders(msankd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSANKD_RUNS", str(tmp_path / "own runs"))
    assert f"Looked in {tmp_path / 'own runs'} (does not exist)" in msankd("runs").out
    (tmp_path / "runs").mkdir()
    (tmp_path / "own runs").mkdir()
    for command in ("models", "runs"):
        assert f"Looked in runs, {tmp_path / 'own runs'}" in msankd(command).out


def test_runs_says_how_each_run_stands(msankd, finished_run, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "whole")
    shutil.copytree(finished_run.path, tmp_path / "killed")
    said = (tmp_path / "killed" / "events.jsonl").read_text().splitlines(keepends=True)
    second = next(i for i, line in enumerate(said) if '"step_done"' in line and '"step":2' in line)
    (tmp_path / "killed" / "events.jsonl").write_text("".join(said[: second + 1]))
    said = msankd("runs", tmp_path)
    lines = {line.split("│")[1].strip(): line for line in said.out.splitlines() if "│" in line}
    assert said.code == 0
    assert "finished" in lines["whole"] and "Dice baseline" in lines["whole"]
    assert "died" in lines["killed"] and "teacher" in lines["killed"]
    assert "2 of 3" in lines["killed"]


def test_distil_stops_at_a_signal_and_goes_on_to_a_model(
    msankd, finished_run, tmp_path, monkeypatch
):
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    finished_run.recipe.save(recipe)

    show = RunDisplay.show

    def interrupt(self, event):
        show(self, event)
        if event.kind == "step_done":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunDisplay, "show", interrupt)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    said = msankd("distil", recipe, "--out", run, "--set", "seed=4", "--device", "cpu")
    assert said.code == 130 and f"msankd distil --resume {run}" in said.err.replace("\n", "")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert run_state(run).state == "stopped" and Recipe.load(run / "recipe.yaml").seed == 4


def test_a_signal_before_the_first_step_ends_at_once(msankd, finished_run, tmp_path, monkeypatch):
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    finished_run.recipe.save(recipe)
    monkeypatch.setattr(RunDisplay, "show", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert msankd("distil", recipe, "--out", run, "--device", "cpu").code == 130
    assert not list(run.rglob("*.safetensors"))
    monkeypatch.undo()
    assert msankd("distil", "--resume", run, "--device", "cpu").code == 0
    assert read_card(run / "model.safetensors").name == "tiny"


def test_distil_prints_its_report_and_writes_a_usable_model(
    msankd, finished_run, make_domain, tmp_path, monkeypatch
):
    monkeypatch.setattr("src_training.runs.finalise.finalise", lambda *_: None)
    run = tmp_path / "run"
    shutil.copytree(finished_run.path, run)
    said = msankd("distil", "--resume", run, "--device", "cpu")
    assert said.code == 0, said.err
    assert "distilled" in said.out and "|---|" not in said.out and "model.safetensors" in said.out
    card = read_card(run / "model.safetensors")
    assert card.name == "tiny" and card.sources[0].terms == "no rights reserved"
    assert card.metrics.keys() == {"A, validation", "B"} and card.semantics is not None
    image = make_domain() / "images" / "000.png"
    said = msankd("segment", image, "--model", run / "model.safetensors", "--out", tmp_path / "o")
    assert said.code == 0 and (tmp_path / "o" / "000.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distil"], "distil takes either a recipe or --resume DIR"),
        (["distil", "phantom", "--resume", "run"], "distil takes either"),
        (["distil", "--resume", "run", "--set", "seed=1"], "--set changes a recipe"),
        (["distil", "phantom", "--set", "seed"], "--set seed: there is no '='"),
        (["distil", "phantom", "--set", "stages.tan.steps=many"], "stages.tan.steps is 'many'"),
        (["distil", "none.yaml"], "none.yaml: there is no such recipe"),
        (["fsd", "--model", "m", "--domain", "a"], "expected at least two domains"),
        (
            ["evaluate", "--model", "vessels", "--domain", "a", "--class", "liver=x"],
            "--class liver=x: the values are no whole numbers; expected NAME=VALUE",
        ),
        (["evaluate", "--model", "none", "--domain", "a"], "none: there is no such model"),
    ],
)
def test_invalid_arguments_are_one_line_on_stderr_exit_code_2(
    msankd, arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = msankd(*arguments)
    assert said.code == 2 and words in said.err
    assert said.err.count("\n") == 1 and list(tmp_path.iterdir()) == []


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


def test_labels_never_replace_the_images_they_are_of(msankd, make_domain, model_file):
    images = make_domain() / "images"
    former = {file.name: file.read_bytes() for file in images.iterdir()}
    said = msankd("segment", images, "--model", model_file, "--out", images)
    assert said.code == 2 and "would replace it" in said.err
    assert {file.name: file.read_bytes() for file in images.iterdir()} == former


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "nowhere"], "nowhere: there is no such folder; expected one with images/"),
        (["distil", "--resume", "nowhere"], "nowhere: there is no run in it; expected recipe.yaml"),
    ],
)
def test_a_folder_that_is_not_there_is_said_to_be_missing(msankd, words, said):
    answer = msankd(*words)
    assert answer.code != 0 and not answer.out
    assert answer.err.startswith(said)


@pytest.mark.parametrize("name", ["a[red]b", "a[/b]", "a[", ":smile:"])
def test_a_path_with_brackets_is_printed_as_it_is(msankd, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    code, _, err = msankd("segment", folder, "--model", "vessels", "--out", tmp_path / "o")
    assert code == 2 and str(folder) in err


def test_segment_writes_the_expected_dice_of_every_file(msankd, make_domain, model_file, tmp_path):
    out, images = tmp_path / "out", sorted((make_domain() / "images").iterdir())
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((3, 40, 36), np.uint8), photometric="minisblack"
    )
    for inputs in (images[:2], [images[2], tmp_path / "stack.tif"]):
        said = msankd("segment", *inputs, "--model", model_file, "--out", out)
        assert said.code == 0, said.err
    with (out / "expected_dice.csv").open(newline="") as file:
        rows = {row["labels"]: row for row in csv.DictReader(file)}
    labels = {path.name for path in out.iterdir() if path.suffix != ".csv"}
    assert rows.keys() == labels and len(rows) == 4
    for name, row in rows.items():
        assert 0 <= float(row["expected Dice"]) <= 1 and row["low"] == ""
        if name != "stack.tif":
            assert int(row["pixels, vessel"]) == np.count_nonzero(Image.open(out / name))
    with (out / "stack_expected_dice.csv").open(newline="") as file:
        assert [row["slice"] for row in csv.DictReader(file)] == ["0", "1", "2"]
