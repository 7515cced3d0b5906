"""The combobox of runs."""

import os

import pytest
from filelock import FileLock

from napari_msankd.widgets import run_combo
from napari_msankd.widgets import run_index as run_list
from napari_msankd.widgets.run_combo import RunCombo
from napari_msankd.widgets.run_index import RunIndex
from src_training.config.stages import REQUIRED_STAGES
from src_training.runs.events import RunStarted, RunStopped
from tests.gui.conftest import PATIENCE
from tests.gui.training.event_log import (
    append_events,
    run_events,
    stage_events,
    start_events,
    write_run,
)


def age(run, seconds):
    """Set the start of a run to this many seconds earlier."""
    recipe = run / "recipe.yaml"
    when = recipe.stat().st_mtime - seconds
    os.utime(recipe, (when, when))
    return run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "my runs é"


@pytest.fixture
def choose(qtbot):
    made = []

    def make(root):
        choice = RunCombo(root)
        qtbot.addWidget(choice)
        made.append(choice)
        looked(choice)
        return choice

    def looked(choice):
        with qtbot.waitSignal(choice.refreshed, timeout=PATIENCE):
            choice.refresh()
        qtbot.waitUntil(lambda: not choice.workers, timeout=PATIENCE)

    make.looked = looked
    yield make
    for choice in made:
        choice.end()


def entries(choice):
    return [choice.itemText(i) for i in range(choice.count())]


def look(runs):
    return {state.path.name: state for state in next(runs.read())}


def test_runs_are_listed_newest_first_with_their_states_in_words(root, choose):
    age(write_run(root / "a", run_events()), 10)
    stopped = [
        *start_events(),
        *stage_events("teacher", to=2),
        RunStopped(reason="stopped on request"),
    ]
    age(write_run(root / "b", stopped, name="b"), 20)
    age(write_run(root / "c", [*start_events(), *stage_events("teacher", to=1)], name="c"), 30)
    (root / "d").mkdir()
    (root / "d" / "recipe.yaml").write_text("[")
    age(root / "d", 40)
    choice = choose(root)
    assert entries(choice) == [
        "a · finished",
        "b · stopped in Teacher 50 %",
        "c · ended unexpectedly in Teacher 25 %",
        "d · cannot be read",
        "Open run folder…",
    ]
    assert choice.path == root / "a"


def test_a_run_that_scores_its_models_is_past_its_last_stage(root, choose):
    scoring = run_events()[:-1]
    write_run(root / "new", scoring)
    age(write_run(root / "old", [*scoring, RunStopped(reason="stopped on request")]), 10)
    age(write_run(root / "killed", scoring), 20)
    with FileLock(root / "new" / ".lock"):
        assert entries(choose(root))[:3] == [
            "new · running, scoring",
            "old · stopped in scoring",
            "killed · ended unexpectedly in scoring",
        ]


def test_a_folder_that_is_not_there_has_no_runs(root, choose):
    choice = choose(root)
    assert entries(choice) == ["No runs yet", "Open run folder…"]
    assert choice.path is None
    write_run(root / "first", run_events(), name="first")
    choose.looked(choice)
    assert choice.path == root / "first"


def test_the_run_that_is_going_on_is_chosen_at_first(root, choose):
    write_run(root / "new", run_events())
    age(write_run(root / "old", [*start_events(), *stage_events("teacher", to=2)], name="old"), 100)
    with FileLock(root / "old" / ".lock"):
        choice = choose(root)
        assert choice.path == root / "old"
        assert choice.currentText() == "old · running, Teacher 50 %"


def test_the_choice_stays_when_newer_runs_appear(root, choose):
    age(write_run(root / "a", run_events()), 10)
    choice = choose(root)
    received = []
    choice.changed.connect(received.append)
    write_run(root / "b", run_events())
    choose.looked(choice)
    assert choice.count() == 3
    assert choice.path == root / "a"
    assert received == []
    choice.activated.emit(0)
    assert received == [root / "b"]


def test_a_run_from_elsewhere_is_listed_and_chosen(root, choose, tmp_path):
    write_run(root / "a", run_events())
    elsewhere = write_run(tmp_path / "elsewhere", run_events(), name="elsewhere")
    choice = choose(root)
    received = []
    choice.changed.connect(received.append)
    choice.open(elsewhere)
    choose.looked(choice)
    assert choice.path == elsewhere
    assert received == [elsewhere]
    assert choice.currentText() == "elsewhere · finished"


def test_a_run_that_is_being_prepared_stays_chosen(root, choose):
    write_run(root / "a", run_events())
    choice = choose(root)
    choice.open(root / "coming")
    choose.looked(choice)
    assert choice.path == root / "coming"
    write_run(root / "coming", start_events(), name="coming")
    choose.looked(choice)
    assert choice.path == root / "coming"
    assert len(entries(choice)) == 3


def test_what_ended_is_read_once(root, monkeypatch):
    for name in "abc":
        write_run(root / name, run_events())
    runs, read = RunIndex(root), []
    real = run_list.read_state
    monkeypatch.setattr(run_list, "read_state", lambda path: read.append(path) or real(path))
    for _ in range(3):
        assert {state.state for state in look(runs).values()} == {"finished"}
    assert read == []
    append_events(
        root / "b", [RunStarted(device="cpu", precision="32-true", stages=list(REQUIRED_STAGES))]
    )
    assert look(runs)["b"].state == "died"
    assert read == [root / "b"]


def test_of_what_runs_only_the_news_is_read(root, monkeypatch):
    run = write_run(root / "a", [*start_events(), *stage_events("teacher", steps=100, to=10)])
    runs, read = RunIndex(root), []
    real = run_list.read_state
    monkeypatch.setattr(run_list, "read_state", lambda path: read.append(path) or real(path))
    with FileLock(run / ".lock"):
        assert look(runs)["a"].step == 10
        append_events(run, stage_events("teacher", steps=100, to=20)[11:])
        found = look(runs)["a"]
        assert (found.state, found.stage, found.step) == ("running", "teacher", 20)
        assert len(read) == 1
    append_events(run, [RunStopped(reason="stopped on request")])
    assert look(runs)["a"].state == "stopped"


def test_an_opened_run_is_listed_in_the_next_session(root, choose, tmp_path, monkeypatch):
    elsewhere = write_run(tmp_path / "elsewhere", run_events())
    choice = choose(root)
    monkeypatch.setattr(run_combo.QFileDialog, "getExistingDirectory", lambda *_: str(elsewhere))
    choice.setCurrentIndex(choice.count() - 1)
    choice.activated.emit(choice.count() - 1)
    assert choice.path == elsewhere
    assert "elsewhere · finished" in entries(choose(root))
