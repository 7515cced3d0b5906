"""Every command on the pages and in the README, run on small phantoms; and what they name."""

import configparser
import re
import shlex
import shutil
from pathlib import Path

import pytest

from src_training.config.recipe import Recipe
from src_training.data.phantom import samples
from src_training.data.phantom.abdomen import CTPhantom, ct_phantom
from src_training.inference import shipped
from src_training.inference.model_file import load_model, save_model

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```[^\n`]*\n(.*?)^```", re.M | re.S)
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
ADDRESS = SETUP["metadata"]["url"]
REPOSITORY = f"{ADDRESS}/blob/main/"
RAW = f"{ADDRESS.replace('github.com', 'raw.githubusercontent.com')}/main/"

_STAGES = ("teacher", "autoencoder", "vectors", "tan", "student", "san", "distil")
_SMALL = [
    *("patch=32", "preprocessing.diameter=64", "teacher.options.width=2"),
    *("latent=8", "hidden=4", "distillation.gkd.views=2"),
    *(f"stages.{stage}.{field}" for stage in _STAGES for field in ("steps=1", "batch=2")),
]
"""What makes a run of a recipe a matter of seconds."""


def commands(page: Path) -> list[list[str]]:
    """Every line of a page's blocks that begins with ``msankd``, in words."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("msankd ")]


def as_small(arguments: list[str]) -> list[str]:
    """The same command, with a small size."""
    command, *rest = arguments
    if command == "sample":
        return [*arguments, "--size", "96"]
    if command == "align":
        return [*arguments, "--steps", "1"]
    if command not in ("distil", "estimate", "compare") or "--resume" in rest:
        return arguments
    settings = small_settings(rest[0], "--method" in rest)
    if command == "estimate":
        Recipe.load(rest[0], dict(each.split("=") for each in settings)).save(Path("small.yaml"))
        return [command, "small.yaml"]
    return [*arguments, *(word for each in settings for word in ("--set", each)), "--device", "cpu"]


def small_settings(recipe: str, other_methods: bool) -> list[str]:
    """What makes a run of this recipe small."""
    read = Recipe.load(recipe)
    left_out = set()
    if other_methods or [options.method for options in read.distillation] != ["gkd"]:
        left_out.add("distillation.gkd.views")
    if getattr(read.teacher, "name", None) != "fanet":
        left_out.add("teacher.options.width")
    return [each for each in _SMALL if each.partition("=")[0] not in left_out]


def small_ct(seed: int, _coarseness: float) -> CTPhantom:
    return ct_phantom(seed, 4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, finished_run):
    """What a reader has who went through the README: samples, a run, a bare model."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "ct_phantom", small_ct)
        list(samples.write_samples(folder / "data", 96))
    shutil.copytree(finished_run.path, folder / "runs" / "first")
    model = load_model(finished_run.path / "model.safetensors")
    bare = model.card.model_copy(update={"semantics": None})
    save_model(bare, model.network, folder / "bare.safetensors")
    weights = folder / "package" / "inference" / "weights"
    weights.mkdir(parents=True)
    preprocessing = model.card.preprocessing.model_copy(update={"angle": 45.0})
    vessels = model.card.model_copy(update={"preprocessing": preprocessing})
    save_model(vessels, model.network, weights / "vessels.safetensors", model.semantics)
    shutil.copy(shipped.shipped_models()["liver-msd"], weights)
    return folder


@pytest.fixture
def reader(tmp_path, monkeypatch, prepared):
    """A copy of that folder, which is the current one."""
    monkeypatch.setattr(samples, "ct_phantom", small_ct)
    # The shipped model of vessels brings every photograph to its full size: seconds each.
    monkeypatch.setattr(shipped, "files", lambda _package: prepared / "package")
    shutil.copytree(prepared, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")


def runnable() -> list[object]:
    """The pages with commands; those that export, compare or start processes are slow."""
    slow = {"export", "compare", "--workers"}
    return [
        pytest.param(
            page,
            id=page.stem,
            marks=pytest.mark.slow if slow & {word for words in found for word in words} else (),
        )
        for page in PAGES
        if (found := commands(page))
    ]


@pytest.mark.parametrize("page", runnable())
def test_the_commands_of_a_page_work_in_their_order(page, reader, msankd):
    done = commands(page)
    if any(words[0] == "sample" for words in done):
        shutil.rmtree("data")
        shutil.rmtree("runs")
    for words in done:
        result = msankd(*as_small(words))
        assert result.code == 0, f"msankd {shlex.join(words)}: {result.err}{result.out}"


def test_the_readme_is_two_pages():
    assert len(README.read_text(encoding="utf-8")) <= 7_000


def test_links_of_the_readme_are_absolute_and_their_files_exist():
    targets = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert all(target.startswith("https://") for target in targets)
    inside = [
        target.removeprefix(start).partition("#")[0]
        for target in targets
        for start in (REPOSITORY, RAW)
        if target.startswith(start)
    ]
    assert inside and not [file for file in inside if not (ROOT / file).is_file()]


def test_no_page_but_the_readme_has_the_address():
    files = [ROOT / "CITATION.cff", *(page for page in PAGES if page != README)]
    assert not [file for file in files if ADDRESS in file.read_text(encoding="utf-8")]
    assert f"repo_url: {ADDRESS}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_targets_of_make_and_extras_of_pip_exist(page):
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        name for names in re.findall(r"^\.PHONY: (.*)$", makefile, re.M) for name in names.split()
    }
    code = "\n".join([*BLOCK.findall(text), *re.findall(r"`([^`\n]+)`", text)])
    assert set(re.findall(r"^make ([\w-]+)", code, re.M)) <= targets
    named = re.findall(r'(?:"\.|napari-msankd)\[([\w,]+)\]', text)
    assert {extra for names in named for extra in names.split(",")} <= set(
        SETUP["options.extras_require"]
    )
