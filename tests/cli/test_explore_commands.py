import csv
import json
from html import escape

import pytest

from src_training.cli import console
from src_training.cli.explore import align, features, report
from src_training.errors import InputError
from src_training.inference.model_file import load_model


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(console, "out", console.plain_console(width=200))


def test_features_writes_a_line_for_every_vector(model_file, make_domain, tmp_path, capsys):
    folders = [make_domain(), make_domain("bare", masks=False)]
    features(model=str(model_file), domain=folders, out_file=tmp_path / "out.csv", device="cpu")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["domain"] for row in rows] == ["scans"] * 3 + ["bare"] * 3
    assert rows[0]["dice"] and not rows[-1]["dice"] and rows[0]["z_2"]
    assert "out.csv: 6 vectors" in capsys.readouterr().out


def test_report_of_a_model_is_a_page(model_file, make_domain, tmp_path):
    folders = [make_domain(), make_domain("other", seed=4)]
    files = {f"{kind}_file": tmp_path / f"r.{kind}" for kind in ("json", "csv")}
    out = tmp_path / "r.html"
    report(out_file=out, model=str(model_file), domain=folders, device="cpu", **files)
    page = out.read_text()
    assert page.startswith("<!doctype html>") and "tiny" in page and "Will it work?" in page
    verdict = json.loads((tmp_path / "r.json").read_text())["domains"][1]
    assert verdict["domain"] == "other" and escape(verdict["verdict"][0]) in page
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["domain"] for row in rows] == ["scans"] * 3 + ["other"] * 3
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2


def test_report_of_a_run_shows_models_domains_and_masks(finished_run, tmp_path):
    report(out_file=tmp_path / "r.html", run=finished_run.path, device="cpu")
    page = (tmp_path / "r.html").read_text()
    for text in (
        "teacher",
        "baseline",
        "distilled",
        "A, training",
        "<th>B</th>",
        "<th>masks</th>",
    ):
        assert text in page


def test_what_cannot_be_reported_is_refused(tmp_path, model_file):
    def refused(sentence, **options):
        with pytest.raises(InputError, match=sentence):
            report(out_file=tmp_path / "r.html", device="cpu", **options)

    refused("either --model or --run")
    refused("either --model or --run", model="m", run=tmp_path)
    refused("takes --domain FOLDER", model=str(model_file))
    refused("there is no such", run=tmp_path / "none")


def test_align_gives_a_model_what_features_needs(tiny_model, make_domain, tmp_path, capsys):
    bare, aligned, folder = (
        tmp_path / "bare.safetensors",
        tmp_path / "new.safetensors",
        make_domain(),
    )
    tiny_model(semantics=False).save(bare)
    options = {"domain": folder, "out_file": aligned, "steps": 1, "device": "cpu"}
    with pytest.raises(InputError, match="or by msankd align"):
        features(model=str(bare), domain=[folder], out_file=tmp_path / "z.csv", device="cpu")
    align(str(bare), **options)
    assert load_model(aligned).card.semantics.latent == 512
    features(model=str(aligned), domain=[folder], out_file=tmp_path / "z.csv", device="cpu")
    with pytest.raises(InputError, match="exists already; expected a new file"):
        align(str(bare), **options)
