"""Sessions of nox: the tests on each Python and each Qt, and what is published.

``pip install nox``, then ``nox -s "tests-3.12(pyqt6)"``; ``nox -l`` lists all. Arguments after
``--`` go to pytest. On Linux without a screen the windows need
``xvfb-run``, which is used where it is.
"""

import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OLDEST = PYTHONS[0]
SAVE_SAMPLE = """
from napari_msankd.sample_data import fundus_a
from PIL import Image

Image.fromarray(fundus_a()[0][0]).save("eye.png")
"""

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


def displayed(*command: str) -> list[str]:
    """The command in a screen of its own, where there is a program for one."""
    wrapper = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"] if shutil.which("xvfb-run") else []
    return [*wrapper, *command]


@nox.session(python=PYTHONS)
@nox.parametrize("qt", ["pyqt6", "pyside6"], ids=["pyqt6", "pyside6"])
def tests(session: nox.Session, qt: str) -> None:
    """Run the fast tests; of the second Qt those of the windows."""
    # Torch first: the build of the machine, which the constraints name.
    session.install("-r", "constraints.txt")
    session.install("-c", "constraints.txt", "-e", f".[{qt},test]")
    chosen = session.posargs or (["tests/gui"] if qt == "pyside6" else [])
    pytest = displayed("python", "-m", "pytest", "-m", "not slow", *chosen)
    session.run(*pytest, env={"QT_API": qt, "PYTEST_QT_API": qt}, external=True)


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Build and check what is published, and segment with it in an environment of its own."""
    folder = Path(session.create_tmp())
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", str(folder))
    built = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    session.run("twine", "check", "--strict", *map(str, built))
    session.install("-r", "constraints.txt")
    session.install("-c", "constraints.txt", str(built[0]))
    session.cd(folder)  # where no module of the checkout is found in place of the installed one
    session.run("python", "-c", SAVE_SAMPLE)
    session.run("msankd", "segment", "eye.png", "--model", "vessels", "--out", "labels")


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Build the site; a link to nowhere fails."""
    session.install("-r", "constraints.txt")
    session.install("-c", "constraints.txt", ".[pyqt6,docs]")  # forms are read, which import Qt
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python=OLDEST)
def style(session: nox.Session) -> None:
    """Check style, types and the manifest."""
    session.install("-r", "constraints.txt")
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("npe2", "validate", "napari_msankd/napari.yaml")
