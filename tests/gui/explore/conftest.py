import pytest

from napari_msankd import settings
from napari_msankd.explore import setup_page
from napari_msankd.explore.widget import ExploreWidget
from tests.gui.conftest import PATIENCE


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    chosen = settings.Preferences("cpu", cache=tmp_path / "cache", runs=tmp_path / "runs")
    monkeypatch.setattr(setup_page, "preferences", lambda: chosen)
    return chosen


@pytest.fixture
def explore(viewer, qtbot):
    made = ExploreWidget(viewer)
    viewer.window.add_dock_widget(made, name="Explore")
    # Show the window, because clicks on plots need a computed layout.
    made.window().show()
    yield made
    made.end()
    qtbot.waitUntil(lambda: not made.setup.workers and not made.workers, timeout=PATIENCE)


@pytest.fixture
def extracted(explore, qtbot):
    """Choose a model or a run and folders, press Extract, and wait for the plots."""

    def extract(*folders, model=None, run=None, wait=True):
        page = explore.setup
        page.use_run.setChecked(run is not None)
        page.own_domains.setChecked(not folders)
        if run is not None:
            page.run.open(run)
        if model is not None:
            page.model.open(model)
        for folder in folders:
            page.domains.add(folder)
        qtbot.waitUntil(page.extract.isEnabled, timeout=PATIENCE)
        page.extract.click()
        if not wait:
            return explore
        qtbot.waitUntil(lambda: "extract" not in page.workers, timeout=PATIENCE)
        if page.status.text().startswith("✓"):
            qtbot.waitUntil(lambda: len(explore.parts) == 4, timeout=PATIENCE)
            pages = explore.parts.values()
            busy = lambda: explore.workers or any(page.workers for page in pages)  # noqa: E731
            qtbot.waitUntil(lambda: not busy(), timeout=PATIENCE)
            wait_until_laid_out(explore, qtbot)
        return explore

    return extract


def wait_until_laid_out(explore, qtbot):
    """Process events until the layout of the plots is stable."""
    scatters = explore.parts["embedding"].scatters.values()
    matrix, former = explore.parts["fsd"].matrix, None
    for _ in range(100):
        qtbot.wait(50)
        now = [(scatter.geometry(), scatter.box.viewRect()) for scatter in scatters]
        now.append((matrix.geometry(), matrix.getPlotItem().vb.viewRect()))
        if now == former:
            return
        former = now
    raise AssertionError("the pictures move on")
