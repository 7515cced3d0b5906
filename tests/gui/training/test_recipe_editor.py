"""The recipe as a form and as YAML."""

import time
from typing import get_args

import pytest
import yaml
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QSpinBox, QTabBar

from napari_msankd.training.recipe_editor.dialog import RecipeEditor
from napari_msankd.training.recipe_editor.field_docs import field_docs
from napari_msankd.training.recipe_editor.pages import pages
from src_training.config.domains import DomainRecipe, Phantoms
from src_training.config.recipe import Recipe, preset_recipes
from src_training.config.stages import StageSchedule
from src_training.data.preprocessing import Preprocessing
from src_training.distillation import METHODS
from tests.distillation.new_method import SPEC
from tests.gui.conftest import PATIENCE

GROUPS = {page.name for page in pages(Recipe)}


@pytest.fixture
def recipe(make_recipe):
    return make_recipe()


@pytest.fixture
def editor(recipe, qtbot):
    made = RecipeEditor(recipe)
    qtbot.addWidget(made)
    made.show()
    return made


def field(editor, path):
    """The editor of a dotted field."""
    first, *rest = path.split(".")
    place = editor.form.editor(first if first in GROUPS else "")
    for name in rest if first in GROUPS else [first]:
        kinds = ("rows", "forms", "editors")
        places = next((getattr(place, kind) for kind in kinds if hasattr(place, kind)), place)
        place = places[int(name) if isinstance(places, list) else name]
    return place


def write(editor, path, text):
    line = field(editor, path)
    line.setText(text)
    line.textEdited.emit(text)


def ok(editor):
    return editor.buttons.button(editor.buttons.StandardButton.Ok)


@pytest.mark.parametrize("preset", sorted(preset_recipes()))
def test_a_recipe_that_ships_goes_through_the_form_unchanged(preset, qtbot, monkeypatch):
    monkeypatch.setenv("MSANKD_DATA", "data")
    recipe = Recipe.load(preset)
    editor = RecipeEditor(recipe)
    qtbot.addWidget(editor)
    for name in GROUPS:
        editor.form.editor(name)
    assert Recipe.validated(editor.form.content, "form") == recipe
    editor.tabs.setCurrentIndex(1)
    assert Recipe.validated(yaml.safe_load(editor.yaml.toPlainText()), "yaml") == recipe
    assert editor.recipe == recipe


def test_every_field_of_the_recipe_has_an_editor(editor, recipe):
    def names(content):
        return (
            {key: names(value) for key, value in content.items()}
            if content and isinstance(content, dict)
            else None
        )

    for name in GROUPS:
        editor.form.editor(name)
    assert editor.form.content.keys() == recipe.model_dump().keys()
    assert names(editor.form.content) == names(recipe.model_dump(mode="json"))


def test_a_number_changed_in_the_form_changes_recipe_and_yaml(editor, qtbot):
    with qtbot.waitSignal(editor.changed):
        field(editor, "stages.teacher")["steps"].setValue(77)
    assert editor.recipe.stages["teacher"].steps == 77
    write(editor, "weight_decay", "1e-3")
    editor.tabs.setCurrentIndex(1)
    content = yaml.safe_load(editor.yaml.toPlainText())
    assert content["stages"]["teacher"]["steps"] == 77
    assert content["weight_decay"] == 1e-3


def test_a_window_is_chosen_by_name_or_ends_slices_by_number(editor):
    field(editor, "preprocessing.kind").setCurrentText("window")
    field(editor, "preprocessing.neighbours").setCurrentText("3")
    write(editor, "preprocessing.window", "liver")
    assert editor.recipe.preprocessing.window == (-60, 140)
    write(editor, "preprocessing.window", "[0, 255]")
    write(editor, "preprocessing.side", "192")
    made = editor.recipe.preprocessing
    assert (made.window, made.neighbours, made.side) == ((0, 255), 3, 192)
    write(editor, "preprocessing.window", "lung")
    assert "expected [low, high] in HU, or one of liver" in editor.fault.text()
    assert editor.recipe.preprocessing == made


def test_another_kind_of_preprocessing_has_its_own_fields(editor):
    assert "neighbours" not in editor.form.editor("preprocessing").editors
    field(editor, "preprocessing.kind").setCurrentText("intensity")
    field(editor, "preprocessing.channels").setCurrentText("3")
    field(editor, "preprocessing.kind").setCurrentText("window")
    made = editor.recipe.preprocessing
    assert (made.kind, made.channels) == ("window", 3)
    assert "Lowest and highest HU" in field(editor, "preprocessing.window").toolTip()
    assert "Grey images are repeated" in field(editor, "preprocessing.channels").toolTip()


def test_text_changed_in_the_yaml_changes_recipe_and_form(editor, qtbot):
    editor.tabs.setCurrentIndex(1)
    with qtbot.waitSignal(editor.changed):
        editor.yaml.setPlainText(editor.yaml.toPlainText().replace("patch: 32", "patch: 64"))
    assert editor.recipe.patch == 64
    editor.tabs.setCurrentIndex(0)
    assert field(editor, "patch").value == 64


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("weight_decay", "much", "the field weight_decay is 'much'"),
        ("weight_decay", "-1", "the field weight_decay is -1.0"),
        ("name", "a b", "the field name is 'a b'"),
        ("validation", "1.5", "the field validation"),
        ("student.options", "{width: [}", "the field student.options"),
        ("sources.0.only", "(", "is not a regular expression"),
        ("preprocessing.angle", "400", "the field preprocessing.angle is 400"),
    ],
)
def test_a_bad_value_is_one_sentence_and_changes_nothing(editor, path, text, message, recipe):
    write(editor, path, text)
    assert message in editor.fault.text()
    assert len(editor.fault.text().splitlines()) == 1
    assert editor.recipe == recipe
    assert not ok(editor).isEnabled()
    assert not editor.tabs.isTabEnabled(1)
    editor.accept()
    assert editor.isVisible()


def test_a_fault_that_is_mended_is_forgotten(editor):
    write(editor, "weight_decay", "much")
    write(editor, "weight_decay", "0.1")
    assert editor.fault.text() == ""
    assert ok(editor).isEnabled()
    assert editor.tabs.isTabEnabled(1)
    editor.accept()
    assert not editor.isVisible()
    assert editor.recipe.weight_decay == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML: .* in line 2"),
        ("- a", "expected fields"),
        ("naem: x", "the field naem is unknown"),
        ("", "recipe"),
    ],
)
def test_bad_yaml_is_reported_in_one_sentence(editor, text, message, qtbot, recipe):
    import re

    editor.tabs.setCurrentIndex(1)
    editor.yaml.setPlainText(text)
    qtbot.waitUntil(lambda: bool(re.search(message, editor.fault.text())), timeout=PATIENCE)
    assert editor.recipe == recipe
    assert not editor.tabs.isTabEnabled(0)


def test_whole_numbers_cannot_leave_their_bounds(editor):
    patch = field(editor, "patch")
    patch.setValue(3)
    assert patch.value == 32
    assert patch.singleStep() == 32
    assert field(editor, "stages.tan")["steps"].minimum() == 0


def test_what_may_be_missing_can_be_ticked_off(editor):
    phantoms = field(editor, "sources.0.phantoms")
    assert phantoms.isChecked()
    phantoms.setChecked(False)
    assert "expected either `folder` or `phantoms`" in editor.fault.text()
    write(editor, "sources.0.folder", "images")
    assert editor.recipe.sources[0] == DomainRecipe(
        name="A", folder="images", terms="no rights reserved"
    )


def test_domains_are_added_and_removed(editor):
    tests = editor.form.editor("tests")
    tests.add.click()
    assert "expected either" in editor.fault.text()
    line = tests.forms[1].editors["folder"]
    line.setText("b")
    line.textEdited.emit("b")
    assert [domain.folder for domain in editor.recipe.tests] == [None, "b"]
    remove = tests.forms[0].parentWidget().findChildren(QAbstractButton)
    next(button for button in remove if button.text() == "Remove").click()
    assert [domain.folder for domain in editor.recipe.tests] == ["b"]


def test_a_network_is_one_of_those_there_are(editor):
    student = field(editor, "student.name")
    assert isinstance(student, QComboBox)
    student.setCurrentText("mobile_unet")
    write(editor, "student.options", "{}")
    assert editor.recipe.student.name == "mobile_unet"


def test_methods_are_ticked_and_have_their_own_options(editor):
    page = editor.form.editor("distillation")
    assert [name for name, tick in page.ticks.items() if tick.isChecked()] == ["gkd"]
    assert "arXiv 2108.09987" in page.ticks["emkd"].toolTip()
    page.ticks["emkd"].setChecked(True)
    write(editor, "distillation.emkd.weight", "0.5")
    write(editor, "distillation.emkd.rad_high", "0.2")
    gkd, emkd = editor.recipe.distillation
    assert (gkd.method, gkd.views) == ("gkd", 2)
    assert (emkd.method, emkd.weight, emkd.rad_high, emkd.rad_low) == ("emkd", 0.5, 0.2, 0.9)
    page.ticks["gkd"].setChecked(False)
    assert [each.method for each in editor.recipe.distillation] == ["emkd"]
    assert page.forms["gkd"].isHidden() and not page.forms["emkd"].isHidden()
    editor.tabs.setCurrentIndex(1)
    assert yaml.safe_load(editor.yaml.toPlainText())["distillation"][0]["weight"] == 0.5


def test_a_recipe_without_a_method_is_refused(editor):
    editor.form.editor("distillation").ticks["gkd"].setChecked(False)
    assert "there is no method" in editor.fault.text()
    assert not ok(editor).isEnabled()


def test_a_registered_method_is_on_the_page(recipe, qtbot, monkeypatch):
    monkeypatch.setitem(METHODS, "mean_logits", SPEC)
    editor = RecipeEditor(recipe)
    qtbot.addWidget(editor)
    page = editor.form.editor("distillation")
    page.ticks["mean_logits"].setChecked(True)
    field(editor, "distillation.mean_logits.power").setValue(5)
    assert "absolute difference" in field(editor, "distillation.mean_logits.power").toolTip()
    assert editor.recipe.distillation[1] == SPEC.options(power=5)


def test_the_order_of_methods_is_kept(make_recipe, qtbot):
    methods = [{"method": "skd"}, {"method": "emkd", "weight": 0.5}]
    editor = RecipeEditor(make_recipe(distillation=methods))
    qtbot.addWidget(editor)
    editor.form.editor("distillation")
    assert Recipe.validated(editor.form.content, "form") == editor.recipe


def test_save_and_load_give_the_recipe_back(editor, tmp_path, qtbot, recipe):
    path = tmp_path / "my recipe.yaml"
    field(editor, "seed").setValue(5)
    editor.save(path)
    qtbot.waitUntil(lambda: "Saved" in editor.fault.text(), timeout=PATIENCE)
    field(editor, "seed").setValue(6)
    with qtbot.waitSignal(editor.changed, timeout=PATIENCE):
        editor.load(path)
    assert editor.recipe == recipe.model_copy(update={"seed": 5})
    assert field(editor, "seed").value == 5


def test_saving_a_recipe_of_layers_warns_of_temporary_images(tmp_path, qtbot, recipe):
    layers = DomainRecipe(name="layers", folder=str(tmp_path / "plan" / "source" / "layers"))
    editor = RecipeEditor(
        recipe.model_copy(update={"sources": [layers]}), passing=tmp_path / "plan"
    )
    qtbot.addWidget(editor)
    editor.save(tmp_path / "kept.yaml")
    qtbot.waitUntil(
        lambda: "kept until this window closes" in editor.fault.text(), timeout=PATIENCE
    )
    lasting = RecipeEditor(recipe, passing=tmp_path / "plan")
    qtbot.addWidget(lasting)
    lasting.save(tmp_path / "kept.yaml")
    qtbot.waitUntil(lambda: "Saved" in lasting.fault.text(), timeout=PATIENCE)
    assert "⚠" not in lasting.fault.text()


def test_a_broken_file_is_said_and_changes_nothing(editor, tmp_path, qtbot, recipe):
    path = tmp_path / "broken.yaml"
    path.write_text("patch: -1")
    editor.load(path)
    qtbot.waitUntil(lambda: "broken.yaml" in editor.fault.text(), timeout=PATIENCE)
    assert editor.recipe == recipe


def test_loading_mends_what_was_wrong(editor, tmp_path, qtbot, recipe):
    recipe.save(tmp_path / "good.yaml")
    write(editor, "weight_decay", "much")
    editor.load(tmp_path / "good.yaml")
    qtbot.waitUntil(lambda: ok(editor).isEnabled(), timeout=PATIENCE)
    assert Recipe.validated(editor.form.content, "form") == recipe


def test_the_docstrings_are_the_tooltips(editor):
    assert "multiple of 32" in field(editor, "patch").toolTip()
    assert "Weights of the star graph" in field(editor, "distillation.gkd.cross").toolTip()
    assert field(editor, "stages.san")["rate"].toolTip().startswith("Peak learning rate")


@pytest.mark.parametrize(
    "model",
    [
        Recipe,
        DomainRecipe,
        Phantoms,
        StageSchedule,
        *[spec.options for spec in METHODS.values()],
        *get_args(get_args(Preprocessing)[0]),
    ],
)
def test_every_field_has_a_description(model):
    assert field_docs(model).keys() >= model.model_fields.keys()


def test_every_control_explains_itself_and_it_fits_a_laptop(editor):
    for name in GROUPS:
        editor.form.editor(name)
    for kind in (QLineEdit, QSpinBox, QComboBox, QAbstractButton):
        for control in editor.findChildren(kind):
            part_of_another = isinstance(control.parentWidget(), QSpinBox | QComboBox | QTabBar)
            if not part_of_another:
                assert control.toolTip(), (kind, control.parent())
    assert editor.height() <= 600


def test_the_wheel_scrolls_the_page_and_no_number(editor, qtbot):
    patch = field(editor, "patch")
    editor.yaml.setFocus()
    before = patch.value
    centre = QPointF(patch.rect().center())
    event = QWheelEvent(
        centre,
        QPointF(patch.mapToGlobal(patch.rect().center())),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(patch, event)
    assert patch.value == before


def test_a_change_is_judged_while_one_types(editor):
    spans = []
    for value in range(20):
        start = time.perf_counter()
        field(editor, "seed").setValue(value)
        spans.append(time.perf_counter() - start)
    assert sorted(spans)[10] < 0.05
