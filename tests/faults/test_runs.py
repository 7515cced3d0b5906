"""Runs with changed recipes, images or folders, killed processes, or full disks."""

import errno
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Noted, RunFinished, StepDone, Validated, read_events
from src_training.runs.run import distil
from src_training.runs.state import run_state
from src_training.training.checkpoint import read_progress
from src_training.training.interruption import Interrupted
from tests.faults.harness import Fault, in_child, moments, msankd, posix
from tests.runs.test_resume import assert_same_outcome


def stop_in(stage, recipe, path, **options):
    """Start a run and stop it after the first step of a stage."""
    events = []

    def reached():
        return any(isinstance(event, StepDone) and event.stage == stage for event in events)

    with pytest.raises(Interrupted):
        distil(recipe, path, device="cpu", listener=events.append, stopping=reached, **options)


@pytest.fixture(scope="module")
def stopped(finished_run, tmp_path_factory):
    """A run of the tiny recipe, stopped in the stage student; read-only."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    stop_in("student", finished_run.recipe, path)
    return path


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of the stopped run."""
    return shutil.copytree(stopped, tmp_path / "run")


def edited(run, **fields):
    """Change fields of a run's recipe file; ``__`` separates nested names."""
    changed = Recipe.load(run / "recipe.yaml").changed(
        {name.replace("__", "."): value for name, value in fields.items()}, "test"
    )
    changed.save(run / "recipe.yaml")
    return changed


def refused(recipe, run, *words, **options):
    with pytest.raises(InputError) as caught:
        distil(recipe, run, resume=True, device="cpu", **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and all(str(word) in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stages__teacher__steps", 2, "stages.teacher.steps 3, and the recipe now has 2"),
        ("stages__student__steps", 1, "stages.student.steps 3, and the recipe now has 1"),
        ("stages__student__rate", 0.5, "stages.student.rate 0.001, and the recipe now has 0.5"),
        ("seed", 9, "seed 0, and the recipe now has 9"),
        ("patch", 64, "patch 32, and the recipe now has 64"),
    ],
)
def test_an_edited_recipe_is_refused_by_the_field_that_differs(run, field, value, words):
    recipe, before = edited(run, **{field: value}), read_events(run / "events.jsonl")
    refused(recipe, run, words, f"run{os.sep}stages{os.sep}", "or a new run")
    steps = [each for each in read_events(run / "events.jsonl") if isinstance(each, StepDone)]
    assert steps == [each for each in before if isinstance(each, StepDone)]


def test_what_no_finished_stage_depends_on_may_be_edited(run, finished_run):
    recipe = edited(run, description="of mine", stages__distil__steps=4, stages__san__steps=1)
    assert distil(recipe, run, resume=True, device="cpu").is_file()
    stages = RunDirectory(run)
    assert read_progress(stages.stage("distil") / "last.safetensors").step == 4


def test_fewer_steps_of_a_former_run_end(run):
    for file in run.rglob("stages/*/*.safetensors"):  # former checkpoints have no settings
        with safe_open(file, framework="pt") as content:
            header = {k: v for k, v in content.metadata().items() if k != "msankd-settings"}
        save_file(load_file(file), file, header)
    (run / "cases.json").unlink()
    recipe = edited(run, stages__student__steps=0)
    assert distil(recipe, run, resume=True, device="cpu").is_file()


@pytest.mark.parametrize(
    "header", ['{"step": "three"}', '{"step": -4}', "[[", '"text"', "[" * 9000]
)
def test_a_progress_that_is_none_is_one_sentence(run, finished_run, header):
    file = run / "stages" / "student" / "last.safetensors"
    save_file(load_file(file), file, {"msankd-checkpoint": header})
    refused(finished_run.recipe, run, file, "cannot be read")


@pytest.fixture
def on_disk(make_recipe, make_domain, tmp_path):
    """A run on images in a folder, stopped in the stage student, and the folder."""
    folder = make_domain(images=4)
    recipe = make_recipe(source={"name": "mine", "folder": str(folder)}, tests=[])
    stop_in("student", recipe, tmp_path / "run")
    return recipe, tmp_path / "run", folder


def exchange(first, second):
    first.rename(first.with_name("third"))
    second.rename(first)
    first.with_name("third").rename(second)


def test_images_that_were_exchanged_are_named_and_may_be_taken(on_disk):
    recipe, run, folder = on_disk
    exchange(folder / "images" / "000.png", folder / "images" / "001.png")
    names = [folder / "images" / f"{name}.png" for name in ("000", "001")]
    refused(recipe, run, *(f"{name} changed" for name in names), "--changed-images")
    (folder / "images" / "001.png").unlink()
    (folder / "masks" / "001.png").unlink()
    refused(recipe, run, "001 of ", "went away")
    said = []
    distil(recipe, run, resume=True, device="cpu", changed_images=True, listener=said.append)
    notes = [event.sentence for event in said if isinstance(event, Noted)]
    assert any("its images changed" in note and "001" in note for note in notes)


def test_a_moved_data_set_is_the_same(on_disk, tmp_path):
    recipe, run, folder = on_disk
    folder.rename(tmp_path / "elsewhere")
    source = recipe.sources[0].model_copy(update={"folder": str(tmp_path / "elsewhere")})
    recipe = recipe.model_copy(update={"sources": [source]})
    recipe.save(run / "recipe.yaml")
    assert distil(recipe, run, resume=True, device="cpu").is_file()


def test_no_model_is_written_of_images_that_changed_meanwhile(on_disk):
    recipe, run, folder = on_disk

    def change(event):
        if isinstance(event, Validated) and event.stage == "distil":
            shutil.copy(folder / "images" / "000.png", folder / "images" / "001.png")

    changed = f"{folder / 'images' / '001.png'} changed"
    refused(recipe, run, changed, "--changed-images", listener=change)
    assert not (run / "model.safetensors").exists() and not (run / "models").exists()


@pytest.mark.parametrize(("stage", "how"), [("student", "renamed"), ("san_distilled", "removed")])
def test_a_run_folder_that_goes_away_is_not_made_again(run, finished_run, tmp_path, stage, how):
    away = tmp_path / "away"

    def move(event):
        if isinstance(event, StepDone) and event.stage == stage and run.exists():
            run.rename(away) if how == "renamed" else shutil.rmtree(run)

    refused(finished_run.recipe, run, run, "renamed or removed", listener=move)
    assert not run.exists()
    if how == "renamed":
        assert run_state(away).state == "stopped"
        distil(finished_run.recipe, away, resume=True, device="cpu")
        assert_same_outcome(away, finished_run)


@pytest.mark.parametrize("content", [b"", b'{"parameters": 1'])
def test_damaged_scores_are_scored_again(finished_run, tmp_path, content):
    run = shutil.copytree(finished_run.path, tmp_path / "run")
    (run / "model.safetensors").unlink()
    (run / "report" / "baseline.json").write_bytes(content)
    distil(finished_run.recipe, run, resume=True, device="cpu")
    assert_same_outcome(run, finished_run)


BAD_FILES = {
    "recipe.yaml": [b"name: [", b"", b"name: 1", b"\xff\xfe", b"{a: " * 900, b"name: &a [*a]"],
    "events.jsonl": [
        *(b"\xff\n", b"[" * 9000 + b"\n", b'{"kind": "step_done", "step": "x"}\n'),
        b'{"kind": "run_started", "time": "soon", "device": "", "precision": "", "stages": []}\n',
    ],
    "title.txt": [b"\xff\xfe\x00"],
    "report/report.json": [b"", b"[" * 9000, b'{"teacher": 3}', b"[1]"],
    "output.log": [b"\xff\x00"],
}


def test_one_bad_run_hides_no_other(msankd, finished_run, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished_run.path, runs / "good")
    for name, contents in BAD_FILES.items():
        for number, content in enumerate(contents):
            bad = shutil.copytree(finished_run.path, runs / f"{name.split('/')[-1]}-{number}")
            (bad / name).write_bytes(content)
        folder = shutil.copytree(finished_run.path, runs / f"{name.split('/')[-1]}-folder") / name
        folder.unlink(missing_ok=True)
        folder.mkdir()
    said = msankd("runs", runs)
    assert said.code == 0 and "Traceback" not in said.err, said.err
    assert all(each.name in said.out for each in runs.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_one_sentence(run, finished_run, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(_file, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    refused(finished_run.recipe, run, run, "cannot be locked", os.strerror(number))
    assert run_state(run).state == "stopped" and not RunDirectory(run).in_use


def test_a_run_that_ends_while_it_is_looked_at_never_died(run, finished_run, monkeypatch):
    """The last event is written after a watcher reads events and before it checks the process."""
    events = run / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-1]))
    assert run_state(run).state == "died"

    def ended(_directory):
        with events.open("ab") as file:
            file.write(RunFinished(model="model.safetensors", seconds=1).model_dump_json().encode())
            file.write(b"\n")
        return False

    monkeypatch.setattr(RunDirectory, "in_use", property(ended))
    assert run_state(run).state == "finished"


def distil_in_child(recipe, run, *options):
    begins = (recipe, "--out", run) if not (run / "recipe.yaml").exists() else ("--resume", run)
    return in_child(msankd, "distil", *begins, "--device", "cpu", *options)


@pytest.fixture
def recipe_file(finished_run, tmp_path):
    finished_run.recipe.save(tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"


def with_fault(kind, recipe, run, change):
    begins = (recipe, "--out", run) if not (run / "recipe.yaml").exists() else ("--resume", run)
    fault = Fault(kind, run, change)
    return in_child(msankd, "distil", *begins, "--device", "cpu", fault=fault)


def survives(kind, recipe, run, changes, finished_run):
    """Check that a run has the same outcome after faults before each of these changes in turn."""
    for change in changes:
        ended = with_fault(kind, recipe, run, change)
        # A run can finish on a full disk if only removals and renames are left.
        assert ended.code in ((-signal.SIGKILL,) if kind == "killed" else (0, 1)), ended.said
        assert "Traceback" not in ended.said, ended.said
    done = distil_in_child(recipe, run)
    assert done.code == 0, done.said
    assert_same_outcome(run, finished_run)


@posix
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["killed", "full"])
def test_a_run_struck_at_any_change_ends_as_if_not(kind, recipe_file, finished_run, tmp_path):
    survives(kind, recipe_file, tmp_path / "run", moments(27, 2, 90), finished_run)


def sleeper(run):
    """The process of a run once it sleeps."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        events = read_events(run / "events.jsonl") if (run / "events.jsonl").exists() else []
        if events and psutil.Process(events[0].process).status() == psutil.STATUS_STOPPED:
            return events[0].process
        time.sleep(0.05)
    pytest.fail("the run does not sleep")


@posix
@pytest.mark.timeout(300)
def test_a_run_that_sleeps_is_neither_dead_nor_free(recipe_file, finished_run, tmp_path):
    run, long_ago = tmp_path / "run", time.time() - 10**5
    with ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(with_fault, "asleep", recipe_file, run, 50)
        process = sleeper(run)
        try:
            for file in run.rglob("*"):
                os.utime(file, (long_ago, long_ago))
            assert run_state(run).state == "running"
            refused(finished_run.recipe, run, run, "in use by another process")
        finally:
            os.kill(process, signal.SIGCONT)
        assert asleep.result().code == 0
    assert_same_outcome(run, finished_run)


def changes_of(recipe, run):
    done = with_fault("killed", recipe, run, 10**6)
    assert done.code == 0, done.said
    return done.changes


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["killed", "full"])
def test_a_run_struck_often_ends_as_if_not(kind, recipe_file, finished_run, tmp_path):
    # Counted anew each time that it is resumed.
    survives(kind, recipe_file, tmp_path / "run", moments(28, 4, 30), finished_run)


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["killed", "full"])
def test_scoring_and_writing_models_survive_any_fault(kind, run, finished_run, tmp_path):
    distil(finished_run.recipe, run, resume=True, device="cpu")
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "report"), shutil.rmtree(run / "models")
    whole = shutil.copytree(run, tmp_path / "whole")
    last = changes_of(None, whole)
    for change in moments(27, 5, last):
        struck = shutil.copytree(run, tmp_path / f"run {change}")
        survives(kind, None, struck, [change], finished_run)
        shutil.rmtree(struck)


@posix
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_processes_that_begin_at_once_one_runs(recipe_file, finished_run, tmp_path):
    for race in range(2):
        run = tmp_path / f"run {race}"
        with ThreadPoolExecutor(3) as pool:
            ends = list(pool.map(distil_in_child, [recipe_file] * 3, [run] * 3))
        refused = [end for end in ends if end.code]
        words = ("in use by another process", "holds a run already")
        assert all(end.code == 2 and any(w in end.said for w in words) for end in refused)
        assert len(refused) == 2
        assert_same_outcome(run, finished_run)
