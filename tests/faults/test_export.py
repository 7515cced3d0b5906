"""A failed export leaves the former export intact, or nothing."""

import os
import signal

import pytest

from tests.faults.harness import Fault, in_child, moments, msankd, posix

pytestmark = [posix, pytest.mark.slow, pytest.mark.timeout(1800)]


def files_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("kind", ["full", "killed"])
@pytest.mark.parametrize("option", ["--onnx", "--bioimageio"])
def test_an_export_that_fails_leaves_the_former_one_whole(model_file, tmp_path, option, kind):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    target = out / ("model.onnx" if option == "--onnx" else "folder")

    def export(change=10**6):
        command = (msankd, "export", model_file, option, target)
        return in_child(*command, fault=Fault(kind, out, change))

    first = export()
    assert first.code == 0, first.said
    changes = export()  # replaces a former one
    former = files_of(out)
    for change in moments(27, 4, changes.changes):
        failed = export(change)
        if kind == "killed":
            assert failed.code in (0, -signal.SIGKILL), failed.said
            assert target.exists() or any(each.name.endswith(".old") for each in out.iterdir())
        else:
            assert failed.code in (0, 1) and "Traceback" not in failed.said, failed.said
            assert files_of(out).keys() == former.keys()
            assert failed.code == 0 or os.strerror(28) in failed.said
    assert export().code == 0 and target.exists()
