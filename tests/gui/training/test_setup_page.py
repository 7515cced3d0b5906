"""The Prepare page in a real window: choose, estimate the cost, edit the recipe, start."""

from pathlib import Path

import psutil
import pytest
from qtpy.QtCore import QObject, Qt, Signal

from napari_msankd import settings
from napari_msankd.training import setup_page
from napari_msankd.training.run_request import NetworkChoice
from napari_msankd.training.setup_form import STUDENTS, SUITS, TEACHERS
from napari_msankd.training.setup_page import SetupPage
from src_training.networks import NETWORKS
from src_training.runs.directory import RunDirectory
from tests.gui.conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


class Watcher(QObject):
    """Stands in for a `RunWatcher` without a process."""

    changed = Signal()

    def __init__(self, recipe, folder):
        super().__init__()
        self.recipe, self.folder = recipe, RunDirectory(folder)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """Use a temporary runs folder; disable runs and automatic cost estimates."""
    root = tmp_path / "Läufe von heute"
    chosen = settings.Preferences("cpu", cache=tmp_path / "cache", runs=root)
    monkeypatch.setattr(setup_page, "preferences", lambda: chosen)
    monkeypatch.setattr(setup_page, "_REST_MS", 10**7)
    monkeypatch.setattr(
        setup_page.RunWatcher, "start", lambda recipe, folder, _device: Watcher(recipe, folder)
    )
    return chosen


@pytest.fixture
def make_page(viewer, qtbot):
    made = []

    def make():
        page = SetupPage(viewer)
        viewer.window.add_dock_widget(page, name="Setup")
        made.append(page)
        return page

    yield make
    for page in made:
        page.end()
    qtbot.waitUntil(lambda: not any(page.workers for page in made), timeout=PATIENCE)


@pytest.fixture
def page(make_page, eyes, qtbot):
    """A page that is ready to start."""
    made = make_page()
    qtbot.waitUntil(made.start.isEnabled, timeout=PATIENCE)
    return made


def test_nothing_starts_without_a_source_and_it_says_why(make_page, qtbot):
    page = make_page()
    (first,) = page.sources.choices
    qtbot.waitUntil(lambda: not first.looking, timeout=PATIENCE)
    assert not page.start.isEnabled()
    assert page.status.text() == page.start.toolTip()
    assert "expected images with masks" in page.status.text()
    assert first.sample.isVisibleTo(page)


def test_the_samples_are_a_source_to_start_with(make_page, viewer, qtbot):
    page = make_page()
    (first,) = page.sources.choices
    qtbot.waitUntil(lambda: not first.looking, timeout=PATIENCE)
    first.sample.click()
    qtbot.waitUntil(page.start.isEnabled, timeout=PATIENCE)
    assert len(viewer.layers) == 6 and page.status.text() == ""


def test_choices_reach_the_recipe_of_the_run(page, make_domain, model_file, qtbot):
    page.sources.add(make_domain("more"))
    page.targets.add(make_domain("theirs", seed=1))
    page.unlabelled.add(make_domain("unlabelled", seed=2, masks=False))
    page.teacher.model.open(model_file)
    page.teacher.training.value = False
    page.student.network.value = "erfnet"
    page.kind.value = "minmax"
    page.time.value = "standard"
    page.name.setText("my first run")
    assert page.name_note.text() == "Name of folder and model: my-first-run"
    qtbot.waitUntil(page.start.isEnabled, timeout=PATIENCE)
    with qtbot.waitSignal(page.started, timeout=PATIENCE) as started:
        page.start.click()
    recipe = started.args[0].recipe
    assert recipe.name == started.args[0].folder.path.name == "my-first-run"
    assert [each.name for each in recipe.sources][1:] == ["more"]
    assert [each.name for each in recipe.tests] == ["theirs"]
    assert [each.name for each in recipe.unlabelled] == ["unlabelled"]
    assert recipe.teacher.start_from == str(model_file) and not recipe.teacher.train
    assert recipe.student.name == "erfnet"


def test_without_a_teacher_the_recipe_trains_the_student_alone(page, qtbot):
    page.teacher.none.setChecked(True)
    assert not page.teacher.model.isVisibleTo(page) and not page.student.none.isVisibleTo(page)
    assert page.start.isEnabled()
    with qtbot.waitSignal(page.started, timeout=PATIENCE) as started:
        page.start.click()
    recipe = started.args[0].recipe
    assert not recipe.distils and recipe.student.name == "wnet"


def test_the_controls_of_a_network_follow_its_start(page, model_file):
    teacher, student = page.teacher, page.student
    assert teacher.network.native.isVisibleTo(page)
    assert not teacher.training.native.isVisibleTo(page)
    for selector in (teacher, student):
        selector.model.open(model_file)
        assert not selector.network.native.isVisibleTo(page)
    assert teacher.training.native.isVisibleTo(page) and student.note.isVisibleTo(page)
    assert page.state.teacher.train and page.state.teacher.start_from == model_file
    teacher.training.value = False
    assert not page.state.teacher.train


def test_a_model_that_does_not_fit_is_one_sentence(page, tmp_path, qtbot):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"")
    page.state.choose(teacher=NetworkChoice("", broken))
    page.start.click()
    qtbot.waitUntil(lambda: page.status.text().startswith("✕"), timeout=PATIENCE)
    assert "broken.safetensors" in page.status.text() and "\n" not in page.status.text()
    assert page.start.isEnabled()
    assert not list(setup_page.preferences().runs.glob("*"))


def test_no_target_is_trained_on(page, make_domain, qtbot):
    (source,) = page.sources.choices
    target = page.targets.add()
    qtbot.waitUntil(lambda: page.targets.value() is not None, timeout=PATIENCE)
    assert not page.start.isEnabled()
    both = (
        "✕ Layer 'eye 0', 'eye 1', 'eye 2' is in Sources and in Targets; expected each image once."
    )
    assert page.status.text() == both
    for row in range(1, 3):
        target.rows.topLevelItem(row).setCheckState(0, Qt.CheckState.Unchecked)
    source.rows.topLevelItem(0).setCheckState(0, Qt.CheckState.Unchecked)
    qtbot.waitUntil(page.start.isEnabled, timeout=PATIENCE)
    assert page.status.text() == ""
    folder = make_domain()
    for choice in (source, target):
        choice.choose_folder(folder)
    qtbot.waitUntil(lambda: "✕ Folder" in page.status.text(), timeout=PATIENCE)
    assert not page.start.isEnabled()


def test_a_changed_recipe_has_another_cost(page, make_recipe):
    page.state.estimate = {"seconds": 60.0, "memory": 10**9, "device": "cpu"}
    assert page.cost.text().startswith("About 1 min")
    page.state.edited = make_recipe(3)
    page.advanced.click()
    page.editor.accept()
    assert page.cost.text() == "" and page.state.estimate is None
    page.time.value = "full"
    assert page.status.text().startswith("Advanced settings were reset")


def test_the_cost_is_measured_with_a_bar_and_ends_with_the_page(
    make_page, eyes, monkeypatch, qtbot, qtlog
):
    monkeypatch.setattr(setup_page, "_REST_MS", 0)
    page = make_page()
    page.window().show()
    qtbot.waitUntil(lambda: page.bar.isVisibleTo(page), timeout=PATIENCE)
    qtbot.waitUntil(lambda: page.bar.maximum() > 2, timeout=PATIENCE)
    assert page.cost.text().startswith(("Estimating", "Roughly"))
    page.end()
    qtbot.waitUntil(lambda: not running_children(), timeout=PATIENCE)
    assert not [record.message for record in qtlog.records if "QProcess" in record.message]


def test_no_cost_is_measured_beside_a_run_of_the_folder(
    make_page, eyes, own_folders, monkeypatch, make_recipe, qtbot
):
    monkeypatch.setattr(setup_page, "_REST_MS", 0)
    run = RunDirectory(own_folders.runs / "mine")
    run.path.mkdir(parents=True)
    make_recipe().save(run.recipe)
    with run.locked():
        page = make_page()
        page.window().show()
        qtbot.waitUntil(lambda: "“mine” is training" in page.cost.text(), timeout=PATIENCE)
        assert not running_children() and page.start.isEnabled()


def test_a_run_that_starts_ends_the_measuring(make_page, eyes, monkeypatch, qtbot):
    monkeypatch.setattr(setup_page, "_REST_MS", 0)
    page = make_page()
    page.window().show()
    qtbot.waitUntil(lambda: page.bar.maximum() > 2, timeout=PATIENCE)
    page.start.click()
    qtbot.waitUntil(lambda: not running_children(), timeout=PATIENCE)
    assert not page.bar.isVisibleTo(page)
    qtbot.waitUntil(lambda: "is training" in page.cost.text(), timeout=PATIENCE)


def running_children():
    return [each for each in psutil.Process().children() if each.status() != "zombie"]


def test_a_model_from_elsewhere_is_described_and_teaches(page, tmp_path, qtbot):
    pytest.importorskip("onnx")
    from tests.training.test_output_teachers import write_graph

    file = write_graph(tmp_path / "big.onnx", [[1.0], [-1.0]])
    assert page.teacher.model.findText("A model from elsewhere (ONNX, bioimage.io)…") > 0
    assert page.student.model.findText("A model from elsewhere (ONNX, bioimage.io)…") < 0
    page.teacher.open_elsewhere(file)
    dialog = page.teacher.dialog
    dialog.form["preprocessing"]["normalise"].value = "fixed"
    dialog.buttons.button(dialog.buttons.StandardButton.Ok).click()
    assert dialog.isVisible() and "mean has 0 values" in dialog.message.text()
    dialog.form["preprocessing"]["normalise"].value = "none"
    dialog.form["output"].value = "logits"
    dialog.buttons.button(dialog.buttons.StandardButton.Ok).click()
    assert page.teacher.note.text().startswith("big.onnx teaches as it is, by its logits")
    assert not page.teacher.training.native.isVisibleTo(page)
    qtbot.waitUntil(page.start.isEnabled, timeout=PATIENCE)
    with qtbot.waitSignal(page.started, timeout=PATIENCE) as started:
        page.start.click()
    recipe = started.args[0].recipe
    assert (recipe.teacher.kind, recipe.teacher.file) == ("onnx", str(file))
    assert recipe.distillation[0].predictions and not recipe.distillation[0].cross


def test_page_and_window_say_what_each_network_suits():
    page = (Path(__file__).parents[3] / "docs" / "networks.md").read_text(encoding="utf-8")
    for name, spec in NETWORKS.items():
        assert f"| `{name}` | {spec.parameters:g} | {spec.suits} |" in page
        assert SUITS.get(name, spec.suits) == spec.suits, name
    assert {*STUDENTS, *TEACHERS} <= SUITS.keys()
