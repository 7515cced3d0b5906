"""What a run will cost on this machine, found out by a few real steps in another process."""

import json
import sys
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

from napari_msankd.formatting import duration, size


class CostEstimate(QObject):
    """Runs ``msankd estimate`` on a recipe; one at a time.

    Attributes
    ----------
    done
        Emitted with the estimate, as `Estimate.to_dict` has it.
    failed
        Emitted with a sentence.
    """

    done = Signal(object)
    failed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None

    @property
    def running(self) -> bool:
        """Whether steps are being timed."""
        return self._process is not None

    def start(self, recipe: Path, device: str) -> None:
        """Begin to time a recipe; what was being timed is dropped."""
        self.stop()
        process = self._process = QProcess(self)
        # What another tool set for this process is of no use to a script.
        process.setProcessEnvironment(QProcessEnvironment.systemEnvironment())
        # Not where napari was started: a file called like a module of ours may lie there.
        process.setWorkingDirectory(str(recipe.parent))
        process.setProgram(sys.executable)
        options = ["--json", "-", "--device", device]
        process.setArguments(["-m", "src_training", "estimate", str(recipe), *options])
        # Where this is deleted first, the process is killed with it, and tells nobody.
        process.finished.connect(self._on_finished)
        process.start()

    def stop(self) -> None:
        """Drop what is being timed."""
        if self._process is not None:
            process, self._process = self._process, None
            process.finished.disconnect(self._on_finished)
            process.finished.connect(process.deleteLater)
            process.kill()

    def end(self) -> None:
        """Drop what is being timed, and see it gone; for when the widget goes."""
        process = self._process
        self.stop()
        if process is not None:
            process.waitForFinished(1000)

    def _on_finished(self, code: int) -> None:
        process, self._process = self._process, None
        assert process is not None
        printed = bytes(process.readAllStandardOutput().data()).decode(errors="replace")
        said = bytes(process.readAllStandardError().data()).decode(errors="replace")
        process.deleteLater()
        if code == 0:
            self.done.emit(json.loads(printed.strip().splitlines()[-1]))
        else:
            lines = [line for line in said.splitlines() if line.strip()]
            self.failed.emit(lines[-1].strip() if lines else f"it ended with code {code}")


def cost(estimate: dict[str, Any]) -> str:
    """An estimate in words: ``About 5 min 10 s and 1.2 GB of memory on cpu``."""
    words = f"About {duration(estimate['seconds'])} and {size(estimate['memory'])} of memory"
    return "\n".join([f"{words} on {estimate['device']}", *estimate.get("notes", ())])
