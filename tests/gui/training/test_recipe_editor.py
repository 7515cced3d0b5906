"""The recipe as a form and as YAML."""

import re
from importlib import resources

import pytest
import yaml
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QTabBar,
)

from napari_msankd.training.recipe_editor.dialog import RecipeEditor
from napari_msankd.training.recipe_editor.form import PAGES
from src_training.config.domains import DomainRecipe
from src_training.config.recipe import Recipe, preset_recipes
from src_training.distillation import METHODS
from tests.distillation.new_method import SPEC
from tests.gui.conftest import PATIENCE

ABLATIONS = yaml.safe_load(
    resources.files("src_training.config").joinpath("ablations/gkd.yaml").read_text("utf-8")
)


@pytest.fixture
def recipe(make_recipe):
    return make_recipe()


@pytest.fixture
def make_editor(qtbot):
    def make(recipe, **arguments):
        editor = RecipeEditor(recipe, **arguments)
        qtbot.addWidget(editor)
        editor.show()
        return editor

    return make


@pytest.fixture
def editor(make_editor, recipe):
    return make_editor(recipe)


def field(editor, path):
    """The widget of a dotted field."""
    name, *rest = path.split(".")
    place = next(
        page[name] for page in map(editor.form.page, PAGES) if page.get_widget(name) is not None
    )
    for part in rest:
        if hasattr(place, "form"):
            place = place.form
        place = place.forms[int(part)] if part.isdigit() else place[part]
    return place


def write(editor, path, text):
    field(editor, path).native.setText(text)


def make_all_pages(editor):
    for title in PAGES:
        editor.form.page(title)


def ok(editor):
    return editor.buttons.button(editor.buttons.StandardButton.Ok)


@pytest.mark.parametrize("preset", sorted(preset_recipes()))
def test_a_recipe_that_ships_goes_through_unchanged(preset, make_editor, monkeypatch):
    monkeypatch.setenv("MSANKD_DATA", "data")
    recipe = Recipe.load(preset)
    editor = make_editor(recipe)
    make_all_pages(editor)
    assert editor.form.value == recipe.model_dump(mode="json")
    editor.tabs.setCurrentIndex(1)
    assert Recipe.validated(yaml.safe_load(editor.yaml.toPlainText()), "yaml") == recipe
    assert editor.recipe == recipe


def test_every_ablation_goes_through_unchanged(make_recipe, make_editor):
    recipe = make_recipe(distillation=[{"method": "gkd", "predictions": 20.0}])
    editor = make_editor(recipe)
    make_all_pages(editor)
    for fields in ABLATIONS.values():
        ablated = recipe.changed(fields, "ablation")
        editor.form.value = ablated.model_dump(mode="json")
        assert editor.form.value == ablated.model_dump(mode="json")


def test_every_field_of_the_recipe_is_on_a_page(editor, recipe):
    make_all_pages(editor)
    on_pages = [widget.name for title in PAGES for widget in editor.form.page(title)]
    assert sorted(on_pages) == sorted(recipe.model_dump())


def test_a_change_in_the_form_changes_recipe_and_yaml(editor, qtbot):
    with qtbot.waitSignal(editor.changed):
        field(editor, "stages.teacher.steps").value = 77
    assert editor.recipe.stages["teacher"].steps == 77
    write(editor, "weight_decay", "1e-3")
    editor.tabs.setCurrentIndex(1)
    content = yaml.safe_load(editor.yaml.toPlainText())
    assert content["stages"]["teacher"]["steps"] == 77
    assert content["weight_decay"] == 1e-3


def test_a_window_is_chosen_by_name_or_by_its_ends(editor):
    field(editor, "preprocessing").kind.value = "window"
    field(editor, "preprocessing.neighbours").value = 3
    write(editor, "preprocessing.window", "liver")
    assert editor.recipe.preprocessing.window == (-60, 140)
    write(editor, "preprocessing.window", "[0, 255]")
    write(editor, "preprocessing.side", "192")
    made = editor.recipe.preprocessing
    assert (made.window, made.neighbours, made.side) == ((0, 255), 3, 192)
    write(editor, "preprocessing.window", "lung")
    assert "expected [low, high] in HU, or one of liver" in editor.message.text()
    assert editor.recipe.preprocessing == made


def test_a_change_in_the_yaml_changes_recipe_and_form(editor, qtbot):
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
        ("weight_decay", "-1", "the field weight_decay is -1"),
        ("weight_decay", "", "the field weight_decay is None; expected a number"),
        ("name", "a b", "the field name is 'a b'"),
        ("validation", "1.5", "the field validation"),
        ("student.options", "{width: [}", "the field student.options"),
        ("sources.0.only", "(", "is not a regular expression"),
        ("preprocessing.angle", "400", "the field preprocessing.angle is 400"),
    ],
)
def test_a_bad_value_is_one_sentence_and_no_recipe(editor, path, text, message, recipe):
    write(editor, path, text)
    assert message in editor.message.text()
    assert len(editor.message.text().splitlines()) == 1
    assert editor.recipe == recipe
    assert not ok(editor).isEnabled()
    assert not editor.tabs.isTabEnabled(1)
    editor.accept()
    assert editor.isVisible()


def test_a_corrected_value_clears_the_message(editor):
    write(editor, "weight_decay", "much")
    write(editor, "weight_decay", "0.1")
    assert editor.message.text() == ""
    assert ok(editor).isEnabled()
    assert editor.tabs.isTabEnabled(1)
    editor.accept()
    assert not editor.isVisible()
    assert editor.recipe.weight_decay == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML: .* in line 1"),
        ("- a", "expected fields"),
        ("naem: x", "the field naem is unknown"),
        ("", "recipe"),
    ],
)
def test_bad_yaml_is_one_sentence(editor, text, message, qtbot, recipe):
    editor.tabs.setCurrentIndex(1)
    editor.yaml.setPlainText(text)
    qtbot.waitUntil(lambda: bool(editor.message.text()), timeout=PATIENCE)
    assert re.search(message, editor.message.text())
    assert editor.recipe == recipe
    assert not editor.tabs.isTabEnabled(0)


def test_ok_takes_yaml_that_was_just_typed(editor):
    editor.tabs.setCurrentIndex(1)
    editor.yaml.setPlainText(editor.yaml.toPlainText().replace("patch: 32", "patch: 64"))
    editor.accept()
    assert editor.recipe.patch == 64


def test_a_folder_takes_the_place_of_phantoms(editor):
    field(editor, "sources.0.phantoms").tick.value = False
    assert "expected either `folder` or `phantoms`" in editor.message.text()
    write(editor, "sources.0.folder", "images")
    assert editor.recipe.sources[0] == DomainRecipe(
        name="A", folder="images", terms="no rights reserved"
    )


def test_domains_are_added(editor):
    tests = field(editor, "tests")
    tests.add.native.click()
    assert "expected either" in editor.message.text()
    write(editor, "tests.1.folder", "b")
    assert [domain.folder for domain in editor.recipe.tests] == [None, "b"]


def test_a_network_is_one_of_those_there_are(editor):
    write(editor, "student.options", "{}")
    field(editor, "student.name").value = "mobile_unet"
    assert editor.recipe.student.name == "mobile_unet"
    with pytest.raises(ValueError, match="not a valid choice"):
        field(editor, "student.name").value = "other"


def test_a_network_may_be_that_of_the_model_it_starts_from(editor):
    write(editor, "student.start_from", "vessels")
    field(editor, "student.name").value = None
    assert "options are given without a name" in editor.message.text()
    write(editor, "student.options", "{}")
    student = editor.recipe.student
    assert (student.name, student.options) == ("wnet", {})


def test_methods_have_their_own_options(editor):
    methods = field(editor, "distillation")
    assert [form.name for form in methods if form.tick.value] == ["gkd"]
    assert "arXiv 2108.09987" in methods["emkd"].tick.tooltip
    methods["emkd"].tick.value = True
    write(editor, "distillation.emkd.weight", "0.5")
    write(editor, "distillation.emkd.rad_high", "0.2")
    gkd, emkd = editor.recipe.distillation
    assert (gkd.method, gkd.views) == ("gkd", 2)
    assert (emkd.method, emkd.weight, emkd.rad_high, emkd.rad_low) == ("emkd", 0.5, 0.2, 0.9)
    methods["gkd"].tick.value = False
    assert [each.method for each in editor.recipe.distillation] == ["emkd"]


def test_without_a_method_the_student_is_trained_alone(editor):
    field(editor, "distillation.gkd").tick.value = False
    assert ok(editor).isEnabled() and not editor.recipe.distils


def test_a_registered_method_is_on_the_page(recipe, make_editor, monkeypatch):
    monkeypatch.setitem(METHODS, "mean_logits", SPEC)
    editor = make_editor(recipe)
    field(editor, "distillation.mean_logits").tick.value = True
    power = field(editor, "distillation.mean_logits.power")
    power.value = 5
    assert "absolute difference" in power.tooltip
    assert editor.recipe.distillation[1] == SPEC.options(power=5)


def test_the_order_of_methods_stays(make_recipe, make_editor):
    methods = [{"method": "skd"}, {"method": "emkd", "weight": 0.5}]
    editor = make_editor(make_recipe(distillation=methods))
    make_all_pages(editor)
    assert Recipe.validated(editor.form.value, "form") == editor.recipe


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("learning rate", {"Training"}),
        ("weight_decay", {"Training"}),
        ("TEMPERATURE", {"Distillation"}),
        ("importance maps", {"Distillation"}),
        ("regular expression", {"Sources", "Test sets"}),
        ("no such field", set()),
    ],
)
def test_search_finds_fields_on_all_pages(editor, text, pages):
    editor.form.search.setText(text)
    rows = range(editor.form.list.count())
    items = [editor.form.list.item(row) for row in rows]
    assert {item.text() for item in items if not item.isHidden()} == pages
    assert editor.form.list.currentItem().text() in pages or not pages
    assert bool(editor.form.no_match.text()) == (not pages)
    editor.form.search.clear()
    assert not any(item.isHidden() for item in items)


def test_search_leaves_only_the_matching_rows(editor):
    editor.form.search.setText("decoupled")
    assert field(editor, "weight_decay").native.isVisible()
    assert not field(editor, "supervised").native.isVisible()


def test_stages_go_by_their_titles(editor):
    editor.form.search.setText("p-sae vectors")
    assert editor.form.list.currentItem().text() == "Training"
    titles = [label.text() for label in editor.form.page("Training").native.findChildren(QLabel)]
    assert {"TAN", "SAN", "P-SAE vectors", "Learning rate"} <= set(titles)


def test_save_and_load_give_the_recipe_back(editor, tmp_path, recipe):
    path = tmp_path / "my recipe.yaml"
    field(editor, "seed").value = 5
    editor.save(path)
    assert "Saved" in editor.message.text()
    field(editor, "seed").value = 6
    editor.load(path)
    assert editor.recipe == recipe.model_copy(update={"seed": 5})
    assert field(editor, "seed").value == 5


def test_saving_a_recipe_of_layers_warns(tmp_path, make_editor, recipe):
    layers = DomainRecipe(name="layers", folder=str(tmp_path / "plan" / "source" / "layers"))
    of_layers = recipe.model_copy(update={"sources": [layers]})
    editor = make_editor(of_layers, temporary=tmp_path / "plan")
    editor.save(tmp_path / "kept.yaml")
    assert "stored only until this window closes" in editor.message.text()
    lasting = make_editor(recipe, temporary=tmp_path / "plan")
    lasting.save(tmp_path / "kept.yaml")
    assert "⚠" not in lasting.message.text()


def test_a_file_that_cannot_be_written_is_one_sentence(editor, tmp_path):
    (tmp_path / "file").touch()
    editor.save(tmp_path / "file" / "recipe.yaml")
    assert editor.message.text().startswith("✕")
    assert "file" in editor.message.text()


def test_a_broken_file_changes_nothing(editor, tmp_path, recipe):
    path = tmp_path / "broken.yaml"
    path.write_text("patch: -1")
    editor.load(path)
    assert "broken.yaml" in editor.message.text()
    assert editor.recipe == recipe


def test_loading_clears_a_bad_value(editor, tmp_path, recipe):
    recipe.save(tmp_path / "good.yaml")
    write(editor, "weight_decay", "much")
    editor.load(tmp_path / "good.yaml")
    assert ok(editor).isEnabled()
    assert Recipe.validated(editor.form.value, "form") == recipe


def test_the_docstrings_are_the_tooltips(editor):
    assert "multiple of 32" in field(editor, "patch").tooltip
    assert "Weights of the star graph" in field(editor, "distillation.gkd.cross").tooltip
    assert field(editor, "stages.san.rate").tooltip.startswith("Peak learning rate")


def test_every_control_has_a_tooltip(editor):
    make_all_pages(editor)
    for kind in (QLineEdit, QAbstractSpinBox, QComboBox, QAbstractButton):
        for control in editor.findChildren(kind):
            part_of_another = isinstance(
                control.parentWidget(), QAbstractSpinBox | QComboBox | QTabBar | QLineEdit
            )
            if not part_of_another:
                assert control.toolTip(), (kind, control.parent())


def test_tab_goes_from_the_search_over_the_page_to_ok(editor):
    editor.form.list.setCurrentRow(list(PAGES).index("Training"))
    stops = [
        editor.form.search,
        editor.form.list,
        field(editor, "supervised").native,
        field(editor, "stages.teacher.steps").native,
        field(editor, "stages.distil.rate").native,
        ok(editor),
    ]
    order, control = [], editor.form.search
    while control not in order:
        order.append(control)
        control = control.nextInFocusChain()
    assert sorted(stops, key=order.index) == stops


def test_the_dialog_fits_a_laptop(editor):
    assert editor.height() <= 680
    assert editor.width() <= 1000
