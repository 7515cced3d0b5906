"""`msankd triage`: a folder sorted by expected Dice, resumable without repeating files."""

import csv
import json
import os

import numpy as np
import pytest
import tifffile

from src_training.data.domain import Domain
from src_training.evaluation.adaptation import add_expected_dice
from src_training.evaluation.quality.triage import TriagedFile
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor
from src_training.reports.triage import TriageEntry, write_triage


@pytest.fixture
def photos(make_domain):
    return make_domain("photos", images=5) / "images"


def rows_of(out):
    with (out / "triage.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_a_folder_is_sorted_and_a_fifth_is_to_review(msankd, photos, model_file, tmp_path):
    out = tmp_path / "out"
    said = msankd("triage", photos, "--model", model_file, "--out", out)
    assert said.code == 0, said.err
    rows = rows_of(out)
    values = [float(row["expected Dice"]) for row in rows if not row["remark"]]
    assert len(rows) == 5 and values == sorted(values)
    names = {path.name for path in photos.iterdir()}
    assert {path.name for path in (out / "labels").iterdir()} == names
    review = (out / "review.txt").read_text().splitlines()
    assert review == [row["file"] for row in rows if row["review"]] and review
    page = (out / "triage.html").read_text()
    assert all(name in page for name in names) and page.count("<img") == 5
    assert len(list((out / "thumbnails").iterdir())) == 5


def test_many_files_are_on_pages_of_two_hundred(tmp_path):
    def written(count):
        entries = [
            TriageEntry(TriagedFile(f"{i}.png", "", error="none"), None) for i in range(count)
        ]
        write_triage(tmp_path, entries, ["background", "liver"], None)
        return sorted(path.name for path in tmp_path.glob("*.html"))

    assert written(401) == ["triage-2.html", "triage-3.html", "triage.html"]
    second, last = ((tmp_path / f"triage-{n}.html").read_text() for n in (2, 3))
    assert second.count("<tr>") == 201 and last.count("<tr>") == 2
    assert "Here: 201 to 400." in second and 'href="triage.html"' in second
    # With fewer files, further pages of an earlier triage are removed.
    assert written(150) == ["triage.html"]


def test_what_is_done_is_not_done_again(msankd, photos, model_file, tmp_path):
    out, files = tmp_path / "out", sorted(photos.iterdir())
    command = ("triage", photos, "--model", model_file, "--out", out)
    assert msankd(*command).code == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()}
    record = out / "triage.jsonl"
    # Killed while it wrote: the last line is torn; one image is newer; one has lost its labels.
    record.write_bytes(record.read_bytes()[:-20])
    os.utime(files[0], ns=(1, 1))
    (out / "labels" / files[1].name).unlink()
    said = msankd(*command)
    assert said.code == 0 and "5 files, 2 of them done before" in said.out
    after = {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()}
    assert sum(before[path] != after[path] for path in before) == 3
    assert "5 files, 5 of them done before" in msankd(*command).out


def test_another_model_is_refused_in_the_same_folder(
    msankd, photos, model_file, tiny_model, tmp_path
):
    out = tmp_path / "out"
    assert msankd("triage", photos, "--model", model_file, "--out", out).code == 0
    other = tiny_model(seed=5)
    other.save(tmp_path / "other.safetensors")
    said = msankd("triage", photos, "--model", other.source, "--out", out)
    assert said.code == 2 and "begun with model" in said.err
    said = msankd("triage", photos, "--model", model_file, "--out", out, "--flips")
    assert said.code == 2 and "begun with flips False, not True" in said.err


def test_a_broken_file_is_named_and_the_others_are_done(msankd, photos, model_file, tmp_path):
    (photos / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    said = msankd("triage", photos, "--model", model_file, "--out", out)
    assert said.code == 1 and "6 files" in said.out
    first = rows_of(out)[0]
    assert first["file"].endswith("broken.png") and first["review"] == "yes" and first["remark"]
    assert (out / "review.txt").read_text().splitlines()[0] == first["file"]


def test_stacks_and_volumes_have_one_line_each(msankd, model_file, tmp_path):
    folder, noise = tmp_path / "scans", np.random.default_rng(0).integers(0, 255, (4, 40, 36))
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        metadata = {"axes": "ZYX"}
        tifffile.imwrite(folder / name, noise.astype(np.uint8), imagej=True, metadata=metadata)
    said = msankd("triage", folder, "--model", model_file, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert [row["slices"] for row in rows_of(tmp_path / "out")] == ["4", "4"]
    again = msankd("triage", folder, "--model", model_file, "--out", tmp_path / "out")
    assert "2 of them done before" in again.out


def test_several_processes_find_the_same(msankd, photos, model_file, tmp_path):
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        command = ("triage", photos, "--model", model_file, "--out", out)
        assert msankd(*command, "--workers", workers, "--device", "cpu").code == 0
        found.append({row["file"]: float(row["expected Dice"]) for row in rows_of(out)})
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_the_interval_of_a_model_with_a_map_is_in_table_and_page(
    msankd, make_domain, model_file, tmp_path
):
    folder = make_domain("photos", images=5)
    predictor = Predictor(load_model(model_file), "cpu")
    tuned = tmp_path / "tuned.safetensors"
    list(add_expected_dice(predictor, Domain.from_folder(folder), tuned))
    out = tmp_path / "out"
    said = msankd("triage", folder / "images", "--model", tuned, "--out", out)
    assert said.code == 0, said.err
    for row in rows_of(out):
        assert float(row["low"]) <= float(row["expected Dice"]) <= float(row["high"])
    assert "90 % interval" in (out / "triage.html").read_text()
    assert json.loads((out / "triage.jsonl").read_text().splitlines()[0])["flips"] is False
