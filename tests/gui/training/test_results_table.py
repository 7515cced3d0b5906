"""The table of a run's results."""

import csv
import io

import pytest
from qtpy.QtGui import QGuiApplication

from napari_msankd.training.monitor.results import read_results
from napari_msankd.training.monitor.results_table import ResultsTable
from src_training.config.run_models import run_verdict
from src_training.errors import InputError

from .event_log import run_events, write_report, write_run


@pytest.fixture
def run(tmp_path):
    path = write_run(tmp_path / "a run é", run_events())
    write_report(path, bytes=2_500_000, seconds_per_image=0.0421)
    return path


@pytest.fixture
def table(qtbot):
    made = ResultsTable()
    qtbot.addWidget(made)
    return made


def cells(table):
    grid = table.table
    return {
        grid.verticalHeaderItem(row).text(): [
            grid.item(row, column).text() for column in range(grid.columnCount())
        ]
        for row in range(grid.rowCount())
    }


def test_models_are_columns_and_measures_rows(table, run):
    table.open(run)
    found = cells(table)
    assert found["Dice\nDRIVE"] == [
        "0.800\n0.790\N{EN DASH}0.810",
        "0.700\n0.690\N{EN DASH}0.710",
        "0.750\n0.740\N{EN DASH}0.760",
    ]
    assert found["FSD\nbare"] == ["3.25\n0.00\N{EN DASH}6.50"] * 3
    assert "Dice\nbare" not in found or found["Dice\nbare"] == ["—"] * 3
    assert found["Parameters"] == ["1,234,567"] * 3
    assert found["Model file"] == ["2.5 MB"] * 3
    assert found["Time per image"] == ["42 ms"] * 3


def test_a_report_without_times_is_shown_without_times(table, tmp_path):
    run = write_run(tmp_path / "old", run_events())
    write_report(run)
    (run / "models").mkdir()
    (run / "models" / "teacher.safetensors").write_bytes(b"x" * 3_000_000)
    table.open(run)
    assert cells(table)["Time per image"] == ["—"] * 3
    assert cells(table)["Model file"] == ["3.0 MB", "—", "—"]


def test_the_csv_holds_every_number_unrounded(table, run):
    table.open(run)
    table.csv.click()
    rows = list(csv.DictReader(io.StringIO(QGuiApplication.clipboard().text())))
    assert len(rows) == 6
    row = next(r for r in rows if r["model"] == "student distilled" and r["domain"] == "DRIVE")
    assert float(row["dice"]) == 0.75
    assert float(row["dice_low"]) == 0.75 - 0.01
    assert float(row["fsd_high"]) == 6.5
    assert row["parameters"] == "1234567"
    assert row["bytes"] == "2500000"
    assert float(row["seconds_per_image"]) == 0.0421
    bare = next(r for r in rows if r["domain"] == "bare")
    assert bare["dice"] == ""


@pytest.mark.parametrize("column, role", [(0, "teacher"), (1, "baseline"), (2, "distilled")])
def test_buttons_act_on_the_model_of_the_chosen_column(table, run, column, role):
    received = []
    for signal in (table.segment_with, table.export_onnx, table.export_bioimageio):
        signal.connect(received.append)
    table.open_folder.connect(received.append)
    table.open(run)
    table.table.selectColumn(column)
    for button in (table.segment, table.onnx, table.bioimageio, table.folder):
        button.click()
    assert received == [run / "models" / f"{role}.safetensors"] * 3 + [run]


def test_the_better_student_is_named_and_chosen(table, run):
    (run / "model.safetensors").write_bytes(b"")
    received = []
    table.segment_with.connect(received.append)
    table.open(run, run_verdict(run))
    assert table.verdict.text().startswith("Distillation helped at equal steps: Dice")
    assert table.segment.text() == "Se&gment with the distilled student (higher Dice)"
    table.segment.click()
    assert received == [run / "model.safetensors"]


def test_a_gain_without_its_control_offers_to_train_it(table, run):
    received = []
    table.train_control.connect(received.append)
    table.open(run, run_verdict(run))
    assert table.verdict.text().endswith("No control at equal time was trained.")
    assert table.control.isVisibleTo(table)
    table.control.click()
    assert received == [run]
    control = write_run(run.with_name(f"{run.name}-equal-time"), run_events())
    write_report(control, dice={"teacher": 0.8, "baseline": 0.7, "distilled": 0.74}, taught=False)
    table.open(run, run_verdict(run))
    assert "At equal time without a teacher" in table.verdict.text()
    assert "Dice 0.740" in table.verdict.text() and not table.control.isVisibleTo(table)
    table.open(control, run_verdict(control))
    assert table.table.horizontalHeaderItem(2).text().startswith("Control\nstudent")
    assert not table.control.isVisibleTo(table)


def test_the_seconds_of_each_training_are_shown(table, run):
    write_report(run, steps=300, step_seconds=0.5)
    table.open(run, run_verdict(run))
    assert cells(table)["Training"] == ["2 min 30 s"] * 3
    assert "The baseline is a control at equal time, too" in table.verdict.text()
    assert not table.control.isVisibleTo(table)


def test_a_distilled_student_that_lost_is_not_offered(table, run):
    write_report(run, dice={"teacher": 0.2, "baseline": 0.164, "distilled": 0.0})
    received = []
    table.segment_with.connect(received.append)
    table.open(run, run_verdict(run))
    assert table.verdict.text().startswith("Distillation did not help here")
    assert table.segment.text() == "Se&gment with the baseline (higher Dice)"
    table.segment.click()
    assert received == [run / "models" / "baseline.safetensors"]


def test_without_a_verdict_the_distilled_student_is_chosen(table, run):
    table.open(run)
    assert table.segment.text() == "Se&gment with the distilled student"
    assert table.verdict.text() == ""


def test_a_student_trained_alone_is_the_only_column(table, tmp_path):
    run = write_run(tmp_path / "alone", run_events())
    write_report(run, {"student": 0.8})
    (run / "model.safetensors").write_bytes(b"")
    table.open(run, run_verdict(run))
    assert cells(table)["Dice\nDRIVE"] == ["0.800\n0.790\N{EN DASH}0.810"]
    assert table.table.horizontalHeaderItem(0).text() == "Student"
    assert table.segment.text() == "Se&gment with the student"
    assert table.chosen.file == run / "model.safetensors"
    assert table.verdict.text() == "" and table.control.isHidden()


def test_a_run_without_a_report_says_so(table, tmp_path):
    table.open(write_run(tmp_path / "young", []))
    assert "expected a finished run" in table.note.text()
    assert not table.segment.isEnabled()
    assert not table.csv.isEnabled()
    assert table.folder.isEnabled()


@pytest.mark.parametrize("content", ["", "[]", '{"teacher": {}}', '{"teacher": 3}', "\ufeff{"])
def test_a_broken_report_is_one_sentence(tmp_path, content):
    run = write_run(tmp_path / "broken", [])
    (run / "report").mkdir()
    (run / "report" / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="expected the report of a run"):
        read_results(run)
