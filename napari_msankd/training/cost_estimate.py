"""The cost of a run on this machine, measured by a few real steps in another process."""

import atexit
import json
import sys
from pathlib import Path

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

_ENDING: set[QProcess] = set()
"""Processes until the system has ended them: each outlives the widget that started it, as a
process object that is deleted while its process is running would end it with a warning."""


class CostEstimate(QObject):
    """Runs ``msankd estimate`` on a recipe; one at a time.

    Attributes
    ----------
    progressed
        Emitted with the fields of an `EstimateProgress`.
    done
        Emitted with the estimate, as `Estimate.to_dict` has it.
    failed
        Emitted with a sentence.
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
        """Whether steps are being timed."""
        return self._process is not None

    def start(self, recipe: Path, device: str) -> None:
        """Begin to time a recipe; what was being timed is cancelled."""
        self.stop()
        self._last = ""
        process = self._process = _create_process(recipe, device)
        process.readyReadStandardOutput.connect(self._on_output)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        # A widget that is deleted takes its process along.
        self.destroyed.connect(process.kill)
        process.start()

    def stop(self) -> None:
        """Cancel what is being timed."""
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
            if self._process is None:  # stopped by whoever listens
                return

    def _on_finished(self, code: int) -> None:
        process = self._process
        assert process is not None
        self._on_output()
        self._process = None
        if code == 0:
            self.done.emit(json.loads(self._last))
            return
        printed = bytes(process.readAllStandardError().data()).decode(errors="replace")
        lines = [line for line in printed.splitlines() if line.strip()]
        self.failed.emit(lines[-1].strip() if lines else f"msankd estimate ended with code {code}")

    def _on_error(self, error: QProcess.ProcessError) -> None:
        """Nothing else is emitted of a process that cannot be started."""
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            process, self._process = self._process, None
            _forget(process)
            self.failed.emit(f"msankd estimate could not be started: {process.errorString()}")


def _create_process(recipe: Path, device: str) -> QProcess:
    process = QProcess()
    # What another tool set for this process is of no use to a script.
    process.setProcessEnvironment(QProcessEnvironment.systemEnvironment())
    # Not where napari was started: a file called like a module of ours may lie there.
    process.setWorkingDirectory(str(recipe.parent))
    process.setProgram(sys.executable)
    options = ["--json", "-", "--progress", "--device", device]
    process.setArguments(["-m", "src_training", "estimate", str(recipe), *options])
    _ENDING.add(process)
    process.finished.connect(lambda: _forget(process))
    return process


def _forget(process: QProcess) -> None:
    _ENDING.discard(process)
    process.deleteLater()


@atexit.register
def _end_all() -> None:
    """Kill every process that is still measuring, and wait until the system has ended it."""
    for process in tuple(_ENDING):
        process.kill()
        process.waitForFinished(-1)
