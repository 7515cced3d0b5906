"""Untrusted recipes, names and texts: clear errors, and no terminal escape sequences."""

import csv
import io
import json
import os
from itertools import pairwise

import pytest

from src_training.cli.console import plain_console
from src_training.config.recipe import Recipe
from src_training.errors import InputError, is_out_of_memory, printable
from src_training.extras import require
from src_training.io.images import read_image
from src_training.io.names import file_name, name_fault
from src_training.io.tables import csv_table, html_table, markdown_text
from tests.faults.harness import in_child, linux, msankd, posix

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, r"more than 200,000 values, aliases unfolded, in line"),
        ("a: &a [*a]", r"more than 200,000 values, aliases unfolded, in line 1"),
        ("[" * 900 + "]" * 900, "more than 40 levels of fields in line 1"),
        ("seed: " + "9" * 5000, "a number of 5,000 digits in line 1"),
        ("seed: 1" + ":59" * 9999, "a number of 29,998 digits in line 1"),
        ("seed: !!int foo", "'foo', which is no int in line 1"),
        ("name: 2024-13-45", "'2024-13-45', which is no timestamp in line 1"),
        ("name: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("#" * (50 << 20), "50.0 MB; expected at most 1 MB"),
        ("name: \x1b[2J", "not allowed"),
    ],
)
def test_a_recipe_that_unfolds_or_cannot_be_is_refused(text, found, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"the file is not YAML .*{found}") as caught:
        Recipe.load(path)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("latent", "1.0e+11", "the field latent is 100000000000.0; expected at most 16384"),
        ("latent", "1e11", "the field latent is '1e11'; expected a whole number"),
        ("hidden", "100000000", "expected at most 16384"),
        ("patch", "1048576", "expected at most 4096"),
        ("seed", "9" * 399, "expected at most"),
        ("weight_decay", ".inf", "expected a number"),
        ("stages.distil.rate", ".nan", "the field stages.distil.rate is nan"),
        ("stages.distil.batch", "1000000000", "expected at most 4096"),
        ("distillation.gkd.views", "1000000", "expected at most 64"),
        ("sources.0.only", "'a{99999999999999}'", "`only` is not a regular expression"),
        ("sources.0.only", '"' + "(" * 5000 + '"', "`only` is not a regular expression"),
    ],
)
def test_a_field_beyond_its_bounds_is_refused(field, value, found, make_recipe, tmp_path):
    make_recipe().save(tmp_path / "recipe.yaml")
    with pytest.raises(InputError) as caught:
        Recipe.load(tmp_path / "recipe.yaml", {field: value})
    assert found in str(caught.value)


@pytest.mark.parametrize("text", ["'9" + "9" * 5000, "[" * 900, "&a [*a]"])
def test_a_setting_that_is_no_yaml_is_refused(text, make_recipe, tmp_path):
    make_recipe().save(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match=r"--set latent=.*: the value is not YAML"):
        Recipe.load(tmp_path / "recipe.yaml", {"latent": text})


@pytest.mark.parametrize(
    ("folder", "found"),
    [("~nobody-is-called-so/x", "a home that is not known"), ("a\0b", "holds a zero byte")],
)
def test_a_folder_that_cannot_be_is_refused(folder, found, make_recipe, tmp_path):
    content = make_recipe().model_dump(mode="json")
    content["sources"][0] |= {"phantoms": None, "folder": folder}
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    with pytest.raises(InputError, match=found):
        Recipe.load(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("..", "begins with '.'"),
        ("-rf", "begins with '-'"),
        ("CON", "is a device of Windows"),
        ("aux.v1", "is a device of Windows"),
        ("a" * 5000, "has 5000 letters"),
        ("end.", "ends with '.'"),
    ],
)
def test_a_run_has_a_name_that_a_folder_may_have(name, found, make_recipe):
    with pytest.raises(InputError) as caught:
        make_recipe().changed({"name": name}, "--set")
    assert f"it {found}" in str(caught.value) and len(str(caught.value)) < 6000


@pytest.mark.parametrize("name", ["drive", "Gefäße", "血管", "हृदय", "שריד", "سرطان", "a b"])
def test_names_of_every_script_are_names_of_files(name, tmp_path):
    assert not name_fault(name) and file_name(name) == name
    (tmp_path / file_name(name)).touch()


@pytest.mark.parametrize("name", ["a/b", "..", "\x1b[2J", "a" * 300, "", "x\udcff", "a\u202eb"])
def test_other_names_have_one_of_their_own_as_file(name, tmp_path):
    assert name_fault(name)
    file = file_name(name)
    assert not name_fault(file) and file != file_name(name + "-")
    (tmp_path / file).touch()
    assert (tmp_path / file).parent == tmp_path


def test_sentences_hold_no_control_characters_and_no_novel():
    error = InputError("a\x1b[31m\n\x00\x9b\u202e" + "x" * 10**6)
    assert str(error).startswith("a␛[31m␊␀��xxx") and len(str(error)) < 1100
    assert printable("a\nb\x07", lines=True) == "a\nb␇"


def test_a_terminal_is_not_steered_by_names():
    written = io.StringIO()
    console = plain_console(file=written, width=200)
    from rich.markdown import Markdown
    from rich.table import Table

    table = Table("name\x1b[2J", title="\x1b]0;title\x07")
    table.add_row("\x9b31m\udcff.png")
    console.print("a\x1b[31mb", table, Markdown("# c\x1b[0m"), sep="\n")
    text = written.getvalue()
    assert "a␛[31mb" in text and "name␛[2J" in text and "c␛[0m" in text
    assert not set(text) & {"\x1b", "\x9b", "\x07", "\udcff"}


def test_reports_hold_no_control_characters_and_no_formulas():
    name = "\x1b[31m<b>"
    assert markdown_text(name) == "␛\\[31m\\<b>"
    assert "␛[31m&lt;b&gt;" in html_table([name], [[name]])
    cells = ["=1+1", "+1", "-a", "@x", "＝1", "\t=1", "-1.5", "a\x1b"]
    (row,) = csv.reader(io.StringIO(csv_table(cells, [])))
    assert row == ["'=1+1", "+1", "'-a", "'@x", "'＝1", "␉=1", "-1.5", "a␛"]


def test_a_missing_extra_is_named_with_its_brackets():
    with pytest.raises(InputError) as caught:
        require("export", "the export", "no_such_package")
    written = io.StringIO()
    plain_console(file=written, width=200).print(str(caught.value), style="red", soft_wrap=True)
    assert "pip install 'napari-msankd[export]'" in written.getvalue()


@posix
def test_a_pipe_is_not_called_a_folder(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a pipe or a device; expected an image file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("CUDA error: out of memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_is_full_is_known_by_what_is_raised(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


@linux
def test_a_recipe_for_networks_beyond_memory_says_so(make_recipe, tmp_path):
    large = {"teacher": {"name": "unet_plus_plus", "options": {"width": 512}}, "latent": 16384}
    make_recipe().changed(large, "test").save(tmp_path / "r.yaml")
    ended = in_child(msankd, "distil", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert ended.code == 2 and "GB of memory, most of it teacher" in ended.said


def test_a_recipe_that_leaves_out_20000_images_is_read(make_recipe, tmp_path):
    names = [f"scan_{number:05d}" for number in range(20_000)]
    make_recipe().changed({"sources.0.exclude": names}, "test").save(tmp_path / "r.yaml")
    assert Recipe.load(tmp_path / "r.yaml").sources[0].exclude == names
