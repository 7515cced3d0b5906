"""The command line as a whole, `recipe`, `distil`, `models` and `runs`."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src_training.cli.progress import RunDisplay
from src_training.config.presets import preprocessing_for, recipe_for
from src_training.config.recipe import Recipe
from src_training.inference.model_file import read_card
from src_training.io.images import read_image
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


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["runs", "."], 0), (["segment"], 2), (["inspect", "no folder of images"], 2)],
)
def test_a_process_ends_with_the_code_of_its_command(arguments, code, tmp_path):
    command = [sys.executable, "-m", "src_training", *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == code and (ended.stderr if code else ended.stdout).strip()
    assert "Traceback" not in ended.stderr


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


def test_a_recipe_without_a_teacher_keeps_one_for_later(msankd, make_domain, tmp_path):
    ours, file = make_domain("ours"), tmp_path / "alone.yaml"
    words = ["recipe", ours, "--teacher", "none", "--time", "quick", "--out", file]
    refused = msankd(*words, "--freeze-teacher")
    assert refused.code == 2 and "--teacher is none; expected no" in refused.err
    assert msankd(*words).code == 0
    recipe = Recipe.load(file)
    assert not recipe.distils and recipe.teacher.options == {"width": 8}


def test_a_student_trained_alone_is_listed_with_its_dice(msankd, finished_run, tmp_path):
    recipe, run = tmp_path / "tiny.yaml", tmp_path / "first"
    finished_run.recipe.save(recipe)
    words = ["distil", recipe, "--out", run, "--set", "distillation=[]", "--device", "cpu"]
    refused = msankd(*words, "--control")
    assert refused.code == 2 and "tiny has no distillation, so it has no control" in refused.err
    said = msankd(*words)
    assert said.code == 0, said.err
    assert f"The student is {run / 'model.safetensors'}" in said.out.replace("\n", "")
    listed = msankd("models", "--runs", tmp_path).out
    assert "first · student" in listed and "distilled" not in listed
    (found,) = json.loads(msankd("runs", tmp_path, "--json", "-").out)["runs"]
    assert found["dice"].keys() == {"A, validation", "B"}
    assert "Dice of the student: 0." in msankd("runs", tmp_path).out
    taught = msankd("distil", recipe, "--out", tmp_path / "b", "--set", f"teacher.start_from={run}")
    assert taught.code == 2 and "the run has no teacher of this package" in taught.err


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


@pytest.mark.parametrize("name", ["a[red]b", "a[/b]", "a[", ":smile:"])
def test_a_path_with_brackets_is_printed_as_it_is(msankd, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    code, _, err = msankd("segment", folder, "--model", "vessels", "--out", tmp_path / "o")
    assert code == 2 and str(folder) in err
