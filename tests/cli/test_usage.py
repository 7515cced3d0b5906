"""Usage of `msankd`: missing arguments, output, and exit codes."""

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import get_args

import pytest
from rich.table import Table

from src_training.cli import console
from src_training.cli.console import Model
from src_training.cli.progress import RunDisplay
from src_training.cli.usage import EXIT_CODES
from src_training.config.run_models import better_student
from src_training.runs.events import StageFinished, StageStarted, Validated

ROOT = Path(__file__).parents[2]
model_choices = get_args(Model)[1].completer


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["segment"], ["INPUTS", "--model", "--out"]),
        (["segment", "a.png", "--out=b"], ["--model"]),
        (["fsd", "--domain", "a"], ["--model"]),
        (["tune", "--domain", "a"], ["MODEL", "--out"]),
        (["compare"], ["RECIPE", "--out"]),
    ],
)
def test_every_missing_argument_is_named_with_what_it_takes(msankd, arguments, missing):
    said = msankd(*arguments)
    first, *lines = said.err.splitlines()
    assert said.code == 2 and said.out == ""
    assert f"msankd {arguments[0]} --help" in first
    assert [line.split()[0] for line in lines] == missing
    choices = {"MODEL": "vessels, liver-msd", "RECIPE": "chasedb1, "}
    for line in lines:
        name, *takes = line.split()
        assert takes and choices.get(name.strip("-").upper(), "") in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["segment", "a", "--model"], "msankd segment: --model has no value; expected Name of"),
        (["segment", "a", "--modell", "b"], "--modell. Did you mean --model?"),
        (["recipe", "a", "--out", "b", "--time", "fast"], '"quick", "standard", "full"'),
        (["evaluate", "--model=a", "--domain", "b", "c"], "no option takes c; expected an option"),
        (["segmant"], 'Did you mean "segment"?'),
        (["distil"], "a YAML file or one of chasedb1, "),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_choices(msankd, arguments, said):
    found = msankd(*arguments)
    assert found.code == 2 and found.out == ""
    assert said in found.err and found.err.count("\n") == 1


def test_listings_print_json_alone(msankd, make_domain, model_file, finished_run, tmp_path):
    first, second = make_domain("a", images=4), make_domain("b", seed=1, images=4)
    (second / "masks" / "001.png").unlink()
    shutil.copytree(finished_run.path, tmp_path / "runs" / "one")
    of_model = ("--model", model_file)

    def printed(*arguments, code=0):
        said = msankd(*arguments, "--json", "-")
        assert said.code == code, said.err
        return json.loads(said.out)

    models = printed("models", "--runs", tmp_path / "runs", "--models", model_file.parent)
    assert {"one · baseline", "tiny"} <= {each["title"] for each in models["models"]}
    assert models["folders"] == [str(tmp_path / "runs"), str(model_file.parent)]
    (run,) = printed("runs", tmp_path / "runs")["runs"]
    assert (run["state"], run["path"]) == ("finished", str(tmp_path / "runs" / "one"))
    assert run["better"] in ("baseline", "distilled") and run["verdict"]
    whole = printed("inspect", first)
    assert [case["name"] for case in whole["cases"]] == ["000", "001", "002", "003"]
    assert whole["cases"][0]["shape"] == [48, 48] and whole["problems"] == []
    assert "001.png has no mask" in printed("inspect", second, code=1)["problems"][0]
    assert printed("evaluate", *of_model, "--domain", first)["a"]["images"]
    assert printed("fsd", *of_model, "--domain", first, "--domain", second)[0]["n_a"] == 4


def test_json_in_a_file_stands_beside_the_tables(msankd, make_domain, tmp_path):
    file = tmp_path / "found.json"
    said = msankd("inspect", make_domain(), "--json", file)
    assert "000" in said.out and f"Written to {file}" in said.out
    assert len(json.loads(file.read_text("utf-8"))["cases"]) == 3


def test_what_was_written_is_said_without_a_terminal(msankd, make_domain, model_file, tmp_path):
    folder = make_domain()
    out = tmp_path / "labels"
    said = msankd("segment", folder / "images", "--model", model_file, "--out", out)
    assert f"Written to {out}: 3 of 3 images, and expected_dice.csv" in said.out
    said = msankd("recipe", folder, "--out", tmp_path / "r.yaml")
    assert f"Written to {tmp_path / 'r.yaml'}: images are prepared as " in said.out
    of_model = ("--model", model_file, "--domain", folder)
    for command, name in (("features", "v.csv"), ("report", "r.html")):
        assert (
            f"Written to {tmp_path / name}"
            in msankd(command, *of_model, "--out", tmp_path / name).out
        )


def test_a_run_is_a_model_too_its_better_student(msankd, finished_run, make_domain, tmp_path):
    domain = ("--domain", make_domain(), "--json", "-")
    scored = msankd("evaluate", "--model", finished_run.path, *domain)
    better = better_student(finished_run.path)
    assert scored.code == 0 and scored.out == msankd("evaluate", "--model", better, *domain).out
    said = msankd("evaluate", "--model", tmp_path, *domain)
    assert said.code == 2 and "there is no finished run" in said.err


LONG = "/a folder/of a long name/" + "runs-" * 20 + "1/model.safetensors"


def narrow_table():
    table = Table("model", "trained on", "Dice", "file", title="two models")
    table.add_row("first", "CHASE_DB1, HRF", "0.807 CHASE_DB1\n0.773 DRIVE", LONG)
    table.add_row("second", "", "0.5", "b.safetensors")
    return table


def test_a_table_in_a_file_has_whole_lines(capsys, monkeypatch):
    monkeypatch.setattr(console, "out", console.plain_console(width=80))
    console.print_table(narrow_table())
    lines = capsys.readouterr().out.splitlines()
    assert any("CHASE_DB1, HRF" in line and LONG in line for line in lines)
    assert not any("…" in line for line in lines)


def test_a_narrow_terminal_gets_a_line_for_each_cell(capsys, monkeypatch):
    terminal = console.plain_console(width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "out", terminal)
    console.print_table(narrow_table())
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "two models"
    assert f"file        {LONG}" in lines and "            0.773 DRIVE" in lines
    assert [line.split()[0] for line in lines if line].count("trained") == 1
    console.print_table(Table("model", "file"))
    assert "┏" in capsys.readouterr().out


def test_a_run_without_a_terminal_names_its_scores(capsys):
    events = (
        StageStarted(stage="teacher", step=0, steps=120),
        Validated(stage="teacher", step=60, score=0.68, best=True),
        StageFinished(stage="teacher", score=0.7, seconds=11),
        StageFinished(stage="tan", score=-1.7, seconds=7),
    )
    with RunDisplay(console.plain_console()) as display:
        for event in events:
            display.show(event)
    assert capsys.readouterr().out.splitlines() == [
        "teacher, step 60 of 120: validation Dice 0.680",
        "teacher: best Dice 0.700 in 11 s",
        "tan: best loss 1.700 in 7.0 s",
    ]


def test_the_page_on_exit_codes_is_the_table(msankd):
    page = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE))
    assert rows == {str(code): when for code, when in EXIT_CODES.items()}
    said = " ".join(msankd("--help").out.split())
    assert all(f"{code} " in said.partition("Exit codes:")[2] for code in EXIT_CODES)


def test_each_exit_code_is_met(msankd, make_domain, model_file, tmp_path, monkeypatch):
    folder = make_domain()
    codes = {msankd("inspect", folder).code, msankd("inspect", tmp_path / "none").code}
    (folder / "masks" / "000.png").unlink()
    codes.add(msankd("inspect", folder).code)
    monkeypatch.setattr("src_training.data.validation.inspect_folder", interrupted)
    codes.add(msankd("inspect", folder).code)
    assert codes == EXIT_CODES.keys()


def interrupted(*_arguments, **_options):
    raise KeyboardInterrupt


def test_output_of_another_encoding_does_not_end_a_command():
    code = "from src_training.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", "Läufe ★"],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert b"Looked in L?ufe ?" in done.stdout


def test_the_shell_completes_commands_models_and_files(msankd, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    script = tmp_path / "msankd.bash"
    assert msankd("--install-completion", "--shell", "bash", "--output", script).code == 0
    assert all(command in script.read_text("utf-8") for command in ("segment", "triage"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.safetensors").touch()
    (tmp_path / "photo.png").touch()
    found = model_choices(Namespace(incomplete=""))
    assert {"vessels", "own.safetensors"} <= set(found) and "photo.png" not in found
