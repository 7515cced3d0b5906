import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from src_training.io import atomic
from src_training.io.atomic import write_atomic, write_folder_atomic, write_text

posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals are POSIX's")


def beside(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def full(temporary: Path) -> None:
    temporary.write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_and_its_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.txt", "é\n")
    assert (tmp_path / "a" / "b" / "file.txt").read_bytes() == "é\n".encode()


def test_the_temporary_file_is_hidden_beside_it_with_its_suffix(tmp_path):
    seen = []
    write_atomic(tmp_path / "labels.png", lambda path: (seen.append(path), path.touch()))
    (temporary,) = seen
    assert temporary.parent == tmp_path
    assert temporary.suffix == ".png" and temporary.name.startswith(".")
    assert beside(tmp_path) == ["labels.png"]


def test_a_reader_sees_the_old_file_until_the_new_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "former")

    def slowly(temporary: Path) -> None:
        temporary.write_text("new")
        assert path.read_text() == "former"

    write_atomic(path, slowly)
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "former")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, fail)
    assert path.read_text() == "former" and beside(tmp_path) == ["file.txt"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    with pytest.raises(OSError) as caught:
        write_atomic(tmp_path / "model.safetensors", full)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "model.safetensors")
    assert beside(tmp_path) == []


@posix
def test_the_file_may_be_read_by_whom_the_umask_allows(tmp_path):
    former = os.umask(0o022)
    try:
        write_text(tmp_path / "file.txt", "")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o644


@posix
def test_a_writer_killed_half_way_leaves_the_former_file_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "former")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from src_training.io.atomic import write_atomic\n"
        "def die(path): path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path(sys.argv[1]), die)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "former"


@pytest.fixture
def windows(monkeypatch):
    """Simulate Windows, where a file that another process reads cannot be replaced."""
    pauses = []

    def make(refusals):
        replace = Path.replace

        def refuse(self, target):
            if len(pauses) < refusals:
                raise PermissionError(errno.EACCES, "in use", str(target))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", refuse)
        monkeypatch.setattr(atomic.sys, "platform", "win32")
        monkeypatch.setattr(atomic.time, "sleep", pauses.append)

    return make


def test_on_windows_a_file_that_is_read_is_waited_for(windows, tmp_path):
    windows(refusals=3)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text("utf-8") == "new"
    write_folder_atomic(tmp_path / "b", lambda folder: folder.mkdir())
    assert sorted(beside(tmp_path)) == ["a.txt", "b"]


def test_on_windows_a_file_that_stays_open_is_named(windows, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"former")
    windows(refusals=10**6)
    with pytest.raises(PermissionError) as caught:
        write_text(tmp_path / "a.txt", "new")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"former" and beside(tmp_path) == ["a.txt"]


def test_text_has_the_same_bytes_on_every_system(tmp_path):
    write_text(tmp_path / "a.csv", "a,b\n1,2\r\n")
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\n1,2\r\n"
