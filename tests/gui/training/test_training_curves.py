"""Live curves: downsampled, legible in both themes, redrawn rarely."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject

from napari_msankd.theme import LINES, contrast
from napari_msankd.training.monitor.training_curves import TrainingCurves
from napari_msankd.widgets.downsampling import DownsampledSeries
from napari_msankd.widgets.line_plot import Legend
from src_training.runs.events import Measured
from src_training.runs.history import RunHistory, Series
from tests.gui.conftest import PATIENCE

from .event_log import run_events, stage_events, start_events


def history_of(events):
    history = RunHistory()
    for event in events:
        history.take(event)
    return history


@pytest.fixture
def curves(viewer, qtbot):
    # Not docked, because the viewer of a test and its docks are hidden.
    made = TrainingCurves(viewer)
    qtbot.addWidget(made)
    made.show()
    qtbot.waitUntil(lambda: made.fsd is not None and not made.workers, timeout=PATIENCE)
    return made


def shown(plot):
    lines = plot.canvas.getPlotItem().listDataItems()
    return {name: line.getData() for name, line in zip(plot.names, lines, strict=True)}


@given(st.integers(1, 500), st.integers(1, 50), st.integers(0, 3))
def test_a_thinned_series_keeps_ends_and_mean(length, limit, seed):
    values = np.random.default_rng(seed).random(length)
    trace = DownsampledSeries()
    trace.follow(Series(list(range(1, length + 1)), list(values)))
    steps, means = trace.thinned(limit)
    width = -(-length // limit)
    assert len(steps) == len(means) == -(-length // width) <= limit
    assert means[0] == pytest.approx(values[:width].mean())
    assert 1 <= steps[0] <= steps[-1] <= length


@given(st.lists(st.integers(1, 2000), max_size=5))
def test_a_series_taken_in_parts_is_that_taken_at_once(parts):
    series, bit_by_bit = Series(), DownsampledSeries()
    for part in parts:
        start = len(series.steps)
        series.steps += range(start, start + part)
        series.values += [float(x % 7) for x in range(start, start + part)]
        bit_by_bit.follow(series)
    at_once = DownsampledSeries()
    at_once.follow(series)
    assert bit_by_bit.length == len(series.steps)
    for one, other in zip(bit_by_bit.thinned(100), at_once.thinned(100), strict=True):
        assert np.array_equal(one, other)


def test_steps_said_again_after_a_resume_replace_the_old():
    series, trace = Series(), DownsampledSeries()
    for step in range(1, 11):
        series.add(step, 1.0)
    trace.follow(series)
    for step in range(6, 14):
        series.add(step, 2.0)
    trace.follow(series)
    steps, values = trace.thinned(100)
    assert list(steps) == list(range(1, 14))
    assert list(values) == [1.0] * 5 + [2.0] * 8


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_lines_differ_from_the_background(theme):
    background = get_theme(theme).background.as_hex()[:7]
    assert min(contrast(line, background) for line in LINES) >= 3
    assert len(set(LINES)) == len(LINES)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_losses_dice_and_fsd_are_drawn(curves):
    curves.draw(history_of(run_events()))
    curves.redraw()
    assert curves.losses.names == ["Cross-entropy", "Dice loss", "Total"]
    steps, values = shown(curves.losses)["Cross-entropy"]
    assert np.array_equal(steps, [1, 2, 3, 4])
    assert np.allclose(values, [1, 1 / 2, 1 / 3, 1 / 4])
    # Scores of other stages are not Dice, and not drawn.
    assert curves.dice.names == ["Teacher", "Student", "Baseline", "Distillation"]
    assert curves.fsd.names == ["DRIVE"]
    assert curves.fsd.isVisible()
    assert "DRIVE&nbsp;12" in curves.fsd.legend.text()


def test_values_that_change_lay_nothing_out_anew(curves, qtbot):
    class Asked(QObject):
        count = 0

        def eventFilter(self, watched, event):
            self.count += event.type() == QEvent.Type.LayoutRequest
            return False

    history = history_of([*start_events(), *stage_events("teacher", steps=9, to=2)])
    curves.draw(history)
    curves.redraw()
    qtbot.wait(50)
    asked = Asked()
    curves.installEventFilter(asked)
    curves.losses.installEventFilter(asked)
    history.losses["teacher"]["segmentation/ce"].add(3, 0.125)
    curves.redraw()
    qtbot.wait(50)
    assert "Cross-entropy&nbsp;0.125" in curves.losses.legend.text()
    assert asked.count == 0


def test_a_legend_is_as_tall_as_its_lines(qtbot):
    legend = Legend()
    qtbot.addWidget(legend)
    legend.resize(300, 10)
    legend.show()
    legend.setText("teacher 0.123")
    low = legend.height()
    legend.setText(" ".join(["teacher 0.123"] * 9))
    assert legend.height() > low > 0
    legend.resize(1500, 10)
    assert legend.height() == low


def test_a_domain_of_any_name_is_named_in_one_line(curves):
    events = [e for e in run_events() if not isinstance(e, Measured)]
    measured = Measured(stage="distil", step=4, fsd={"<A> & B": 2.0})
    curves.draw(history_of([*events, measured]))
    curves.redraw()
    assert "&lt;A&gt;&nbsp;&amp;&nbsp;B&nbsp;2" in curves.fsd.legend.text()


def test_a_run_of_the_first_version_has_no_fsd_and_no_empty_plot(curves):
    curves.draw(history_of([e for e in run_events() if not isinstance(e, Measured)]))
    curves.redraw()
    assert not curves.fsd.isVisible()


def test_losses_are_of_the_latest_or_the_selected_stage(curves):
    curves.draw(
        history_of(
            [*start_events(), *stage_events("teacher"), *stage_events("autoencoder", steps=9, to=2)]
        )
    )
    curves.redraw()
    assert len(shown(curves.losses)["Cross-entropy"][0]) == 2
    curves.stage.setCurrentText("Teacher")
    curves.redraw()
    assert len(shown(curves.losses)["Cross-entropy"][0]) == 4


def test_losses_of_different_sizes_are_drawn_as_logarithms(curves):
    history = history_of([*start_events(), *stage_events("teacher")])
    curves.draw(history)
    curves.redraw()
    assert not curves.losses.log
    history.losses["teacher"]["small"] = Series([1, 2, 3], [1e-4, 0.0, 1e-3])
    curves.redraw()
    assert not curves.losses.log
    history.losses["teacher"]["small"] = Series([1, 2, 4], [1e-4, 1e-5, 1e-3])
    curves.redraw()
    assert curves.losses.log
    assert np.allclose(shown(curves.losses)["small"][1], [-4, -5, -3])
    curves.log.click()
    assert not curves.losses.log


def test_ten_thousand_steps_are_few_points(curves):
    history = history_of([*start_events(), *stage_events("teacher")])
    steps = list(range(1, 10_001))
    history.losses["teacher"] = {"segmentation/ce": Series(steps, [1 / step for step in steps])}
    curves.draw(history)
    curves.redraw()
    assert len(shown(curves.losses)["Cross-entropy"][0]) <= 200


def test_it_is_drawn_at_most_four_times_a_second(curves, qtbot, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves.losses, "draw", lambda *_: drawn.append(1))
    history = history_of(run_events())
    curves.redraw()
    drawn.clear()
    for _ in range(25):
        curves.draw(history)
        qtbot.wait(20)
    assert 1 <= len(drawn) <= 4


def test_axes_stay_while_lines_grow_a_little(curves):
    history = history_of([*start_events(), *stage_events("teacher", steps=100, to=50)])
    curves.draw(history)
    curves.redraw()
    before = curves.losses.ends
    history.losses["teacher"]["segmentation/ce"].add(51, 0.02)
    curves.redraw()
    assert curves.losses.ends == before
    assert before[0] == 100


def test_another_run_takes_the_place_of_the_first(curves):
    curves.draw(history_of(run_events()))
    curves.redraw()
    curves.stage.setCurrentText("TAN")
    curves.draw(history_of([*start_events(), *stage_events("teacher", to=3, steps=9)]))
    curves.redraw()
    assert [curves.stage.itemText(i) for i in range(curves.stage.count())][1:] == ["Teacher"]
    assert len(shown(curves.losses)["Cross-entropy"][0]) == 3
    curves.draw(None)
    curves.redraw()
    assert curves.losses.names == []
    assert curves.empty.isVisible()


def test_plots_take_the_colours_of_another_theme(curves, viewer):
    viewer.theme = "light"
    assert curves.losses.canvas.backgroundBrush().color().name() == "#ebe7e6"
    viewer.theme = "dark"
    assert curves.losses.canvas.backgroundBrush().color().name() == "#23242b"


def test_errors_still_reach_napari_once_pyqtgraph_is_there():
    code = (
        "import sys; hook = sys.excepthook\n"
        "from napari_msankd.widgets.line_plot import load_pyqtgraph\n"
        "import napari_msankd.training.monitor.training_curves\n"
        "assert 'pyqtgraph' not in sys.modules\n"
        "list(load_pyqtgraph()); assert 'pyqtgraph' in sys.modules\n"
        "assert sys.excepthook is hook"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
