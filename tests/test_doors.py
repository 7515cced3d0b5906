"""What may import what: read from the source, and tried in a fresh interpreter."""

import ast
import configparser
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "src_training"
PACKAGES = (ENGINE, ROOT / "napari_msankd")
WINDOWS = {"napari", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt", "matplotlib"}


IMPORT_ORDER = (
    {"errors", "formatting"},
    {"device", "seeds", "extras"},
    {"io"},
    {"data"},
    {"networks"},
    {"losses"},
    {"alignment"},
    {"distillation"},
    {"inference"},
    {"evaluation"},
    {"explore", "export"},
    {"config"},
    {"training"},
    {"runs"},
    {"comparison"},
    {"reports"},
    {"cli"},
)
"""A folder, or a file beside the folders, may import what stands in an earlier row."""

MOST_FILES, MOST_LINES, LONGEST_TEST_NAME = 14, 420, 60
VAGUE_NAMES = {
    *("words", "story", "looks", "kept", "told", "said", "found"),
    *("util", "utils", "helper", "helpers", "common", "misc", "manager", "handler"),
}


@cache
def imported(folder: Path) -> dict[str, set[str]]:
    """Every module that the files below a folder import, by file.

    Imports inside functions and under ``TYPE_CHECKING`` count, and so do names of modules in
    strings, which `import_module` would take.
    """
    modules = {}
    for file in folder.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file} imports relatively"
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(r"^src_training(?:\.\w+)+$", node.value))
        modules[str(file.relative_to(ROOT))] = names
    assert modules
    return modules


def folder_of(module: str) -> str:
    """The folder of the engine, or the file beside the folders, that a dotted module is in."""
    return module.split(".")[1]


def test_a_folder_imports_only_what_stands_before_it():
    row = {name: number for number, names in enumerate(IMPORT_ORDER) for name in names}
    against = set()
    for file, names in imported(ENGINE).items():
        inside = Path(file).relative_to("src_training")
        own = inside.parts[0].removesuffix(".py")
        if own.startswith("__"):  # the package's own door to all that is public
            continue
        assert own in row, f"{file} is in no folder of IMPORT_ORDER"
        for name in names:
            if not name.startswith("src_training."):
                continue
            other = folder_of(name)
            assert other in row, f"{file} imports {name}, which is in no folder of IMPORT_ORDER"
            if other != own and row[other] >= row[own]:
                against.add((str(inside), other))
    assert not against


def test_the_architecture_page_has_this_order_and_folders():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    order = next(block for block in page.split("```") if " < " in block).removeprefix("text")
    assert tuple(set(re.split(r",\s*", row.strip())) for row in order.split("<")) == IMPORT_ORDER
    described = set(re.findall(r"^\| `(\w+)` \| \S", page, re.MULTILINE))
    folders = {path.parent.name for path in ENGINE.glob("*/__init__.py")}
    assert described == folders
    for place in re.findall(rf"\b(?:{'|'.join(sorted(folders))})/\w[\w/]*", page):
        assert (ENGINE / place).is_dir() or (ENGINE / f"{place}.py").is_file(), place


def test_no_folder_has_too_many_files_or_a_single_one():
    for folder in (path for package in PACKAGES for path in package.rglob("*") if path.is_dir()):
        files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        if not files:  # data, or what is left of a folder that is gone
            continue
        assert len(files) > 1, f"{folder} has one file: put it beside its callers"
        assert len(files) <= MOST_FILES, f"{folder} has {len(files)} files"


def test_no_file_is_too_long_or_has_a_vague_name():
    for file in (path for package in PACKAGES for path in package.rglob("*.py")):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{file} has {lines} lines"
        assert not VAGUE_NAMES & set(file.stem.split("_")), file


def test_names_of_tests_are_short():
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert len(node.name) <= LONGEST_TEST_NAME, f"{file}: {node.name}"


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_engine_never_names_the_face_nor_a_window():
    for file, names in imported(ENGINE).items():
        tops = {name.split(".")[0] for name in names}
        assert not tops & (WINDOWS | {"napari_msankd"}), file


def test_nothing_is_pickled():
    for file, names in imported(ENGINE).items():
        assert not names & {"pickle", "dill", "joblib", "shelve"}, file


def test_the_face_and_the_door_of_the_engine_load_no_torch():
    heavy = {"torch", "monai", "kornia", "lightning_fabric", "sklearn"}
    assert not loaded("import napari_msankd, src_training, src_training.cli") & (heavy | WINDOWS)


def test_listing_needs_no_torch_and_scoring_no_monai(tmp_path):
    command = "from src_training.cli import app; app(%r, result_action='return_value')"
    for line in (["models"], ["runs"], ["models", "--models", str(tmp_path)]):
        assert "torch" not in loaded(command % line), line
    engine = "src_training.evaluation.evaluate, src_training.inference.volumes.segment"
    assert not loaded(f"import {engine}") & {"monai", "sklearn", "pandas", "zarr", "nibabel"}


def test_no_module_of_the_engine_loads_a_window():
    code = (
        "import importlib, pkgutil, src_training\n"
        "for module in pkgutil.walk_packages(src_training.__path__, 'src_training.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert not loaded(code) & WINDOWS


def test_neither_torchvision_nor_cuda_is_required():
    try:
        lines = requires("napari-msankd") or []
    except PackageNotFoundError:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        lines = setup["options"]["install_requires"].split("\n")
    names = {re.split(r"[^\w-]", line.strip())[0].lower() for line in lines if line.strip()}
    assert "torch" in names
    assert not {n for n in names if n.startswith(("torchvision", "nvidia", "matplotlib"))}
