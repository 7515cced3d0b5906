"""A failed export leaves a whole one, the former one, or nothing."""

import itertools
import os
import shutil
import signal

import pytest

from tests.faults.harness import Fault, in_child, moments, msankd, posix

pytestmark = [posix, pytest.mark.slow, pytest.mark.timeout(900)]


def export_of(graph, *arguments):
    """The command with a graph that was translated before, which takes most of its time."""
    from src_training.export import OnnxCheck, bioimageio, onnx

    content, check = graph.read_bytes(), OnnxCheck(0.0, ((1, 1, 64, 64),))
    for module in (bioimageio, onnx):
        module.checked_graph = lambda _model: (content, check)
    msankd("export", *arguments)


def files_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def sizes(files):
    return {name: len(content) for name, content in files.items()}


@pytest.mark.parametrize("option", ["--onnx", "--bioimageio"])
def test_an_export_that_fails_leaves_a_whole_one_or_none(model_file, tmp_path, option):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("bioimageio.spec")
    first, replaced = tmp_path / "first", option == "--onnx"
    name = "model.onnx" if replaced else "folder"
    done = in_child(msankd, "export", model_file, option, first / name)
    assert done.code == 0, done.said
    graph = first / name if replaced else first / name / "weights.onnx"

    def export(out, kind="killed", change=10**6):
        fault = Fault(kind, out, change)
        return in_child(export_of, graph, model_file, option, out / name, fault=fault)

    def former(out):
        """What is there before: a former file is replaced, a former folder is refused."""
        shutil.copytree(first, out) if replaced else out.mkdir()
        return files_of(out)

    former(tmp_path / "count")
    last = export(tmp_path / "count").changes
    whole = files_of(tmp_path / "count")
    assert whole.keys() == files_of(first).keys() and last > 3
    for kind, change in itertools.product(("full", "killed"), moments(27, 3, last)):
        before = former(out := tmp_path / f"{kind} {change}")
        failed, left = export(out, kind, change), files_of(out)
        found = {n: each for n, each in left.items() if not n.startswith(".")}
        assert found == before or sizes(found) == sizes(whole), change
        if kind == "killed":
            assert failed.code == -signal.SIGKILL, failed.said
            continue
        assert failed.code in (0, 1) and "Traceback" not in failed.said, failed.said
        assert failed.code == 0 or os.strerror(28) in failed.said
        assert found == left  # nothing of a temporary file
    if found == before:  # beside what the last kill left
        assert export(out).code == 0
    assert files_of(out).keys() >= whole.keys()
