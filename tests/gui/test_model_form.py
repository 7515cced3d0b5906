"""A form of any pydantic model."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
from pydantic import BaseModel, Field
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QApplication

from napari_msankd.widgets.model_form import ModelForm, choice, filter_rows
from napari_msankd.widgets.model_form.fields import described, field_docs
from src_training.config.domains import DomainRecipe, Phantoms
from src_training.config.recipe import NetworkRecipe, Recipe
from src_training.config.stages import StageSchedule
from src_training.data.preprocessing import Preprocessing
from src_training.distillation import METHODS


class Circle(BaseModel):
    """A circle.

    Attributes
    ----------
    radius
        Distance from the centre, pixels.
    filled
        Whether it is drawn full.
    """

    kind: Literal["circle"] = "circle"
    radius: float = 1e-5
    filled: bool = False


class Box(BaseModel):
    """A box.

    Attributes
    ----------
    side
        Pixels along each side.
    filled
        Whether it is drawn full.
    """

    kind: Literal["box"] = "box"
    side: Annotated[int, Field(ge=8, lt=64, multiple_of=8)] = 16
    filled: bool = False


class Drawing(BaseModel):
    """All types that a field can have.

    Attributes
    ----------
    line_width
        Of the pen, mm. A sentence on seconds.
    """

    title: str
    line_width: Annotated[float, Field(gt=0)] = 0.1
    seed: int = -5
    large: int = 2**40
    visible: bool = True
    color: Literal["red", "blue"] = "blue"
    frame: Literal["thin", "thick"] | None = None
    note: str | None = None
    empty_note: str | None = ""
    angle: float | None = None
    whole: int | None = 3
    folder: Path | None = None
    window: tuple[float, float] = (0.5, 1 / 3)
    values: dict[str, int | list[int]] | None = {"vessel": [1, 2]}
    share: list[str] | Annotated[float, Field(gt=0, lt=1)] = 0.2
    shape: Annotated[Circle | Box, Field(discriminator="kind")] = Circle()
    inner: Box = Box(side=24)
    missing: Box | None = None
    present: Box | None = Box(side=32)
    boxes: list[Box] = [Box(), Box(side=40)]
    named: dict[str, Box] = {"a": Box(), "b_c": Box(side=48)}


@pytest.fixture
def form(qtbot):
    made = ModelForm(Drawing)
    qtbot.addWidget(made.native)
    made.native.show()
    return made


def test_defaults_are_the_first_value(form):
    assert form.value == Drawing(title="").model_dump(mode="json")


@pytest.mark.parametrize(
    "changes",
    [
        {"line_width": 2e-4, "seed": 0, "large": -(2**35), "visible": False, "color": "red"},
        {"frame": "thick", "note": "a: b", "empty_note": None, "angle": 30.0, "whole": None},
        {"note": "[^38]_1", "folder": "images/of 2026", "values": None, "share": ["case 1", "2"]},
        {"shape": Box(side=40, filled=True).model_dump(), "missing": Box().model_dump()},
        {"present": None, "boxes": [], "named": {}},
        {"boxes": [Box(filled=True).model_dump()] * 3, "named": {"d": Box().model_dump()}},
    ],
)
def test_values_come_back_exactly(form, changes):
    drawing = Drawing.model_validate({"title": "x", **changes})
    form.value = drawing.model_dump(mode="json")
    assert form.value == drawing.model_dump(mode="json")
    assert Drawing.model_validate(form.value) == drawing


def test_bounds_and_steps_are_those_of_the_field(form):
    side = form["inner"]["side"]
    assert (side.min, side.max, side.step) == (8, 63, 8)
    side.native.setValue(3)
    assert side.value == 8


def test_a_number_is_typed_in_any_notation(form):
    for text in ("1e-3", "0.001", "1.0E-3"):
        form["line_width"].native.setText(text)
        assert Drawing.model_validate({**form.value, "title": "x"}).line_width == 1e-3


def test_what_is_not_yaml_stays_for_the_model_to_refuse(form):
    form["values"].native.setText("{vessel: [")
    assert form.value["values"] == "{vessel: ["


def test_labels_are_words_with_units():
    assert described(Drawing, "line_width")["label"] == "Line width (mm)"
    assert described(Circle, "radius")["label"] == "Radius (px)"
    assert described(Box, "side")["label"] == "Side (px)"
    assert described(Box, "filled")["label"] == "Filled"
    assert described(StageSchedule, "rate")["label"] == "Learning rate"


def test_a_tooltip_has_the_description_and_the_name(form):
    tooltip = form["line_width"].tooltip
    assert "Of the pen" in tooltip
    assert "line_width" in tooltip


def test_a_change_of_any_widget_is_emitted(form):
    emitted = []
    form.changed.connect(lambda: emitted.append(form.value))
    form["seed"].value = 3
    form["named"]["b_c"]["side"].value = 56
    form["boxes"].add.native.click()
    assert emitted[0]["seed"] == 3
    assert emitted[1]["named"]["b_c"]["side"] == 56
    assert emitted[-1]["boxes"][-1] == Box().model_dump()


def test_a_choice_back_to_none_is_emitted(form):
    emitted = []
    form["frame"].value = "thin"
    form.changed.connect(lambda: emitted.append(form.value["frame"]))
    form["frame"].native.setCurrentText("not set")
    assert emitted == [None]


def test_models_are_added_and_removed(form):
    boxes = form["boxes"]
    boxes.add.native.click()
    boxes.forms[2]["side"].value = 56
    remove, _ = boxes[0]
    remove.native.click()
    assert [each["side"] for each in form.value["boxes"]] == [40, 56]


def test_an_optional_model_is_none_without_its_tick(form):
    form["missing"].tick.value = True
    assert form.value["missing"] == Box().model_dump()
    assert form["missing"].form.native.isVisible()
    form["missing"].tick.value = False
    assert form.value["missing"] is None
    assert not form["missing"].form.native.isVisible()


def test_another_kind_keeps_the_fields_that_both_have(form):
    shape = form["shape"]
    shape.form["filled"].value = True
    shape.kind.value = "box"
    assert shape.value == {"kind": "box", "side": 16, "filled": True}
    assert [form.native.isVisible() for form in shape.forms.values()] == [False, True]


@pytest.mark.parametrize(
    ("text", "shown", "hidden"),
    [
        ("line width", "line_width", "seed"),
        ("of the pen", "line_width", "inner"),
        ("b_c", "named", "boxes"),
        ("distance from", "shape", "inner"),
    ],
)
def test_a_filter_shows_the_rows_that_match(form, text, shown, hidden):
    assert filter_rows(form, text)
    assert form[shown].native.isVisible()
    assert not form[hidden].native.isVisible()
    assert filter_rows(form, "")
    assert form[hidden].native.isVisible()


def test_a_filter_without_a_match_shows_nothing(form):
    assert not filter_rows(form, "no such field")
    assert not form["title"].native.isVisible()


def test_a_group_that_matches_shows_all_its_fields(form):
    filter_rows(form, "inner")
    assert form["inner"]["side"].native.isVisible()
    filter_rows(form, "drawn full")
    assert not form["inner"]["side"].native.isVisible()
    assert form["inner"]["filled"].native.isVisible()


def test_an_own_widget_takes_the_place_of_a_field(qtbot):
    editors = {(NetworkRecipe, "name"): lambda **named: choice(["enet", "fanet"], **named)}
    form = ModelForm(NetworkRecipe, editors=editors)
    qtbot.addWidget(form.native)
    form["name"].value = "fanet"
    assert form.value["name"] == "fanet"
    with pytest.raises(ValueError, match="not a valid choice"):
        form["name"].value = "other"


def test_tab_goes_from_top_to_bottom(form):
    form["missing"].tick.value = True
    form["boxes"].add.native.click()
    QApplication.processEvents()
    first = form["title"].native
    places, control = [], first
    while control is not first or not places:
        in_a_row = not isinstance(control.parentWidget(), QAbstractSpinBox)
        if in_a_row and control.focusPolicy() & Qt.FocusPolicy.TabFocus and control.isVisible():
            place = control.mapTo(form.native, control.rect().center())
            places.append((place.y() // 10, place.x()))
        control = control.nextInFocusChain()
    assert len(places) > len(Drawing.model_fields)
    assert places == sorted(places)


def test_the_wheel_scrolls_the_page_and_no_number(form):
    seed = form["seed"]
    form["title"].native.setFocus()
    centre = QPointF(seed.native.rect().center())
    event = QWheelEvent(
        centre,
        QPointF(seed.native.mapToGlobal(seed.native.rect().center())),
        QPoint(0, 0),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(seed.native, event)
    assert seed.value == -5


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
