"""Pages about the program agree with it: their Python runs, and what they quote is said."""

import ast
import re
import runpy
from pathlib import Path

import pytest

from src_training.config.recipe import Recipe
from src_training.inference.model_file import read_card

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
QUOTED = re.compile(r"^> (.+)$", re.M)
SHORTEST = 8


def python_pages() -> list[Path]:
    """Pages outside the folder of extending, which has tests of its own, with Python to run."""
    pages = (page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "extending")
    return [page for page in pages if PYTHON.search(page.read_text(encoding="utf-8"))]


def texts_of_the_program() -> str:
    """Every string of both packages; adjoining ones are one, as in the code."""
    found = []
    for package in ("src_training", "napari_msankd"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
    return "\n".join(found)


@pytest.mark.parametrize("page", python_pages(), ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, make_recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(Recipe, "load", lambda *_arguments: make_recipe(steps=1))
    monkeypatch.chdir(tmp_path)
    for block in PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(compile(block, str(page), "exec"), {})


def test_the_toy_distillation_trains_and_names_its_loss(tiny_content, tmp_path):
    import yaml

    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny_content), encoding="utf-8")
    script = DOCS / "tutorials" / "toy_distillation.py"
    names = runpy.run_path(str(script))
    try:
        names["train"](recipe, tmp_path / "run")
    finally:
        del names["METHODS"]["blocks"]
    assert "blocks/blocks" in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8")
    assert read_card(tmp_path / "run" / "model.safetensors").name == "tiny"


def test_sentences_of_troubleshooting_are_said_by_the_program():
    said = texts_of_the_program()
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    parts = [part.strip() for line in QUOTED.findall(page) for part in line.split("…")]
    parts = [part for part in parts if len(part) >= SHORTEST]
    assert len(parts) >= 10
    assert not [part for part in parts if part not in said]
