"""Cost estimate of a run, measured by a few real steps in another process."""

import atexit
import json
import sys
from pathlib import Path

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

_PROCESSES: set[QProcess] = set()
"""Processes that have not ended. Qt warns if a QProcess is deleted while its process runs, so
each is kept here and may outlive its widget."""


class CostEstimate(QObject):
    """Run ``msankd estimate`` on a recipe, one at a time.

    Attributes
    ----------
    progressed
        Emitted with the fields of an `EstimateProgress`.
    done
        Emitted with the result of `Estimate.to_dict`.
    failed
        Emitted with an error message.
    """

    progressed = Signal(object)
    done = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._last = ""

    @property
    def running(self) -> bool:
        """Whether an estimate is active."""
        return self._process is not None

    def start(self, recipe: Path, device: str) -> None:
        """Start the estimate of a recipe, and cancel the former one."""
        self.stop()
        self._last = ""
        process = self._process = _create_process(recipe, device)
        process.readyReadStandardOutput.connect(self._on_output)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        # Kill the process when the widget is deleted.
        self.destroyed.connect(process.kill)
        process.start()

    def stop(self) -> None:
        """Cancel the estimate."""
        if self._process is not None:
            process, self._process = self._process, None
            process.readyReadStandardOutput.disconnect(self._on_output)
            process.finished.disconnect(self._on_finished)
            process.errorOccurred.disconnect(self._on_error)
            process.kill()

    def _on_output(self) -> None:
        assert self._process is not None
        while self._process.canReadLine():
            line = bytes(self._process.readLine().data()).decode(errors="replace").strip()
            if line.startswith("{"):
                self._last = line
                content = json.loads(line)
                if "roughly" in content:
                    self.progressed.emit(content)
            if self._process is None:  # a slot called `stop`
                return

    def _on_finished(self, code: int) -> None:
        process = self._process
        assert process is not None
        self._on_output()
        self._process = None
        if code == 0:
            self.done.emit(json.loads(self._last))
            return
        stderr = bytes(process.readAllStandardError().data()).decode(errors="replace")
        lines = [line for line in stderr.splitlines() if line.strip()]
        self.failed.emit(lines[-1].strip() if lines else f"msankd estimate ended with code {code}")

    def _on_error(self, error: QProcess.ProcessError) -> None:
        """Report a process that could not be started; Qt emits no `finished` for it."""
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            process, self._process = self._process, None
            _delete(process)
            self.failed.emit(f"msankd estimate could not be started: {process.errorString()}")


def _create_process(recipe: Path, device: str) -> QProcess:
    process = QProcess()
    # The environment of the system, without changes that tools made for this process.
    process.setProcessEnvironment(QProcessEnvironment.systemEnvironment())
    # Not the current directory, where a file could shadow one of our modules.
    process.setWorkingDirectory(str(recipe.parent))
    process.setProgram(sys.executable)
    options = ["--json", "-", "--progress", "--device", device]
    process.setArguments(["-m", "src_training", "estimate", str(recipe), *options])
    _PROCESSES.add(process)
    process.finished.connect(lambda: _delete(process))
    return process


def _delete(process: QProcess) -> None:
    _PROCESSES.discard(process)
    process.deleteLater()


@atexit.register
def _end_all() -> None:
    """Kill all processes, and wait until they have ended."""
    for process in tuple(_PROCESSES):
        process.kill()
        process.waitForFinished(-1)
