"""The library of models: listing without torch, renaming, remembering and protecting."""

import json
import subprocess
import sys
from dataclasses import replace
from shutil import copytree

import pytest
from filelock import FileLock

from src_training.config.networks import find_model
from src_training.config.run_models import better_student, run_verdict
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.inference.shipped import shipped_models
from src_training.runs.directory import RunDirectory
from src_training.runs.library import (
    Library,
    models_folder,
    runs_folder,
)


@pytest.fixture
def library(tmp_path, finished_run):
    """One finished run, one that has not finished, and no model files yet."""
    copytree(finished_run.path, tmp_path / "runs" / "first")
    (tmp_path / "runs" / "young").mkdir()
    return Library((tmp_path / "runs",), tmp_path / "models é")


@pytest.fixture
def own(library, tiny_model):
    """A model file in the models folder."""
    path = library.models / "mine.safetensors"
    path.parent.mkdir()
    model = tiny_model()
    metrics = {"A, validation": {"dice": 0.8}, "B": {"dice": None}}
    model.card = model.card.model_copy(update={"metrics": metrics})
    model.save(path)
    return path


def titles(library):
    return [entry.title for entry in library.list_models() if entry.origin != "shipped"]


def entry_of(library, title):
    return next(entry for entry in library.list_models() if entry.title == title)


def test_shipped_run_and_file_models_are_in_one_list(library, own):
    entries = library.list_models()
    assert [entry.path for entry in entries if entry.origin == "shipped"] == [
        *shipped_models().values()
    ]
    assert sorted(titles(library)) == [
        "first · baseline",
        "first · distilled",
        "first · teacher",
        "mine",
    ]
    mine = entry_of(library, "mine")
    card = read_card(own)
    assert (mine.classes, mine.architecture) == (tuple(card.classes), card.architecture)
    assert mine.created == card.created
    assert mine.validation_dice == ("A, validation", 0.8) and mine.test_dice is None


def test_models_of_a_run_say_their_data_and_scores(library):
    distilled = entry_of(library, "first · distilled")
    card = read_card(distilled.path)
    assert distilled.path.name == "model.safetensors"
    assert distilled.sources == tuple(source.name for source in card.sources)
    assert distilled.validation_dice[0].endswith(", validation")
    assert distilled.test_dice == ("B", card.metrics["B"]["dice"])
    # Both students of three steps have Dice 0: none is better.
    assert not any(entry.better for entry in library.list_models())


def scored(report, baseline, distilled):
    """A report with these Dice in every image, and three times as long to distil."""
    report["baseline"]["step_seconds"], report["distilled"]["step_seconds"] = 0.1, 0.3
    for role, dice in (("baseline", baseline), ("distilled", distilled)):
        for scores in report[role]["scores"].values():
            scores["mean"]["dice"] = dice
            scores["images"] = {name: {"dice": dice} for name in scores["images"]}
    return json.dumps(report)


@pytest.mark.parametrize("better", ["baseline", "distilled"])
def test_the_better_student_of_a_run_comes_first(library, better):
    run = RunDirectory(library.runs[0] / "first")
    dice = {role: 0.9 if role == better else 0.2 for role in ("baseline", "distilled")}
    (run.report / "report.json").write_text(scored(run.read_report(), **dice))
    assert titles(library)[0] == f"first · {better}"
    assert entry_of(library, f"first · {better}").better
    assert better_student(run.path) == entry_of(library, f"first · {better}").path
    with pytest.raises(InputError, match="there is no finished run"):
        better_student(library.runs[0] / "young")


@pytest.mark.parametrize(
    ("baseline", "distilled", "control"), [(0.2, 0.6, 0.9), (0.6, 0.2, 0.9), (0.6, 0.2, None)]
)
def test_all_choose_the_same_student_beside_a_control(library, baseline, distilled, control):
    run = RunDirectory(library.runs[0] / "first")
    copytree(run.path, run.control.path)
    (run.report / "report.json").write_text(scored(run.read_report(), baseline, distilled))
    text = "{" if control is None else scored(run.control.read_report(), 0.1, control)
    (run.control.report / "report.json").write_text(text)
    role = "baseline" if baseline > distilled else "distilled"
    [better] = [entry for entry in library.list_models() if entry.run == run.path and entry.better]
    assert better.role == role == run_verdict(run.path).better
    assert better_student(run.path) == find_model(run.path, "student") == better.path
    unknown = "No control at equal time" in run_verdict(run.path).sentence
    assert unknown == (control is None)


def test_a_run_without_a_report_is_listed_without_a_verdict(library):
    (library.runs[0] / "first" / "report" / "report.json").unlink()
    assert titles(library)[0] == "first · distilled"
    assert not any(entry.better for entry in library.list_models())


def test_a_file_that_is_no_model_is_named(library, own):
    broken = own.with_name("broken.safetensors")
    broken.write_bytes(b"\xff" * 20)
    assert "broken" not in titles(library)
    [problem] = library.unreadable()
    assert problem.startswith(str(broken))


def test_a_model_from_elsewhere_is_remembered_until_forgotten(library, own, tmp_path):
    elsewhere = own.rename(tmp_path / "theirs.safetensors")
    for _ in range(2):
        library.remember(elsewhere)
    again = replace(library)
    assert titles(again).count("theirs") == 1
    assert again.is_elsewhere(entry_of(again, "theirs"))
    again.forget(entry_of(again, "theirs"))
    assert "theirs" not in titles(again) and elsewhere.exists()


def test_a_run_from_elsewhere_is_remembered_with_all_its_models(library, tmp_path):
    run = (library.runs[0] / "first").rename(tmp_path / "moved")
    assert titles(library) == []
    library.remember(run / "models" / "teacher.safetensors")
    assert len(titles(library)) == 3
    entry = entry_of(library, "moved · distilled")
    assert library.is_elsewhere(entry)
    library.forget(entry)
    assert titles(library) == [] and run.exists()


def test_a_run_that_has_not_finished_is_remembered_too(library, tmp_path):
    run = tmp_path / "elsewhere"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: young")
    for path in (run, run, library.runs[0] / "first"):
        library.remember(path)
    assert library.opened_runs() == [run]


def test_a_file_that_is_no_model_is_not_remembered(library, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no model")
    library.remember(tmp_path / "x.safetensors")
    assert not library.opened.exists()


def test_what_is_listed_anyway_is_not_remembered_twice(library, own):
    library.remember(own)
    library.remember(next(iter(shipped_models().values())))
    assert not library.opened.exists()


def test_a_renamed_file_has_another_name(library, own):
    moved = library.rename(entry_of(library, "mine"), "Retina 2026 ")
    assert moved == own.with_name("Retina 2026.safetensors") and moved.exists()
    assert "Retina 2026" in titles(library) and "mine" not in titles(library)


def test_a_renamed_run_keeps_its_directory(library):
    entry = entry_of(library, "first · distilled")
    assert library.rename(entry, "My retina") == entry.path
    assert "My retina · distilled" in titles(library)
    assert (library.runs[0] / "first").is_dir()


@pytest.mark.parametrize("name", ["", "  ", "a/b", ".hidden", "a\nb", "con", "Aux.v2", "ours."])
def test_a_name_that_no_file_can_have_is_refused(library, own, name):
    with pytest.raises(InputError, match="cannot be a name"):
        library.rename(entry_of(library, "mine"), name)


def test_no_model_takes_the_place_of_another(library, own, tiny_model):
    tiny_model().save(own.with_name("other.safetensors"))
    with pytest.raises(InputError, match="exists already"):
        library.rename(entry_of(library, "mine"), "other")


def test_shipped_models_and_runs_in_use_are_not_deleted(library, own):
    shipped = library.list_models()[0]
    for change in (library.removable, lambda entry: library.rename(entry, "x")):
        with pytest.raises(InputError, match="comes with the package"):
            change(shipped)
    assert library.removable(entry_of(library, "mine")) == own
    entry = entry_of(library, "first · teacher")
    with FileLock(entry.run / ".lock"), pytest.raises(InputError, match="still training"):
        library.removable(entry)
    assert library.removable(entry) == library.runs[0] / "first"


def test_the_environment_names_other_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("MSANKD_RUNS", str(tmp_path / "r"))
    monkeypatch.setenv("MSANKD_MODELS", str(tmp_path / "m"))
    assert Library.default() == Library((tmp_path / "r",), tmp_path / "m")
    monkeypatch.setenv("MSANKD_RUNS", "")
    monkeypatch.delenv("MSANKD_MODELS")
    assert runs_folder().name == "runs" and models_folder().name == "models"


def test_models_are_listed_without_torch():
    code = (
        "import sys; from src_training.runs.library import Library\n"
        "assert Library.default().list_models() and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
