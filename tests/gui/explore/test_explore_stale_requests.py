"""Late results of former requests in Explore are not mistaken for current ones."""

import os
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.explore.embedding.page import EmbeddingPage
from napari_msankd.explore.extraction import Extraction, Request, explore
from napari_msankd.explore.fsd.page import FsdPage
from napari_msankd.explore.graphs.page import GraphPage
from napari_msankd.explore.sample_layers import read_sample
from napari_msankd.explore.state import ExploreState, Sample
from napari_msankd.layers import WidgetLayers
from napari_msankd.widgets.export_button import save_and_report, save_rows
from src_training.data.augmentation import Augmentation
from src_training.data.domain import Domain
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks import build_network
from tests.gui.conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture(scope="module")
def explored(finished_run, tmp_path_factory):
    """An extraction of a run with its own domains and three models."""
    cache = tmp_path_factory.mktemp("vectors")
    *_, last = explore(Request(finished_run.path, None, own_domains=True, cache=cache))
    assert isinstance(last, Extraction)
    return last


@pytest.fixture
def page(qtbot, request):
    viewer = ViewerModel()
    own = [WidgetLayers(viewer)] if request.param is GraphPage else []
    made = request.param(viewer, ExploreState(), *own)
    qtbot.addWidget(made)
    yield made
    made.end()


def at_rest(page, qtbot):
    qtbot.waitUntil(lambda: not page.workers, timeout=PATIENCE)


@pytest.mark.parametrize("page", [FsdPage], indirect=True)
def test_late_distances_of_another_model_are_not_shown(page, explored, qtbot):
    page._state.extraction = explored
    at_rest(page, qtbot)
    last, (first, *_) = page.model.currentText(), explored.tables
    (own,) = page._matrices.values()
    page.model.setCurrentText(first)
    # The displayed matrix is still that of the other model.
    page._on_cell(0, 1)
    page.model.setCurrentText(last)
    at_rest(page, qtbot)
    assert list(page._matrices) == [last] and page._matrices[last] is own
    page.model.setCurrentText(first)
    at_rest(page, qtbot)
    assert page._matrices[last] is own
    values = [[[pair.value for pair in row] for row in m.fsd] for m in page._matrices.values()]
    assert not np.allclose(*values)


@pytest.mark.parametrize("page", [EmbeddingPage], indirect=True)
def test_a_stopped_extract_removes_the_points_of_the_earlier(page, explored, qtbot):
    page._state.extraction = explored
    at_rest(page, qtbot)
    assert len(page.scatters) == 3
    fewer = {name: table.where(domain="B") for name, table in explored.tables.items()}
    page._state.extraction = replace(explored, tables=fewer)
    page.stop()
    assert page.scatters == {}
    page.column.setCurrentIndex(1)
    page._state.select(page._samples["teacher"][:1])
    page.project()
    at_rest(page, qtbot)
    assert [len(page._samples[name]) for name in page.scatters] == [len(t) for t in fewer.values()]


@pytest.mark.parametrize("page", [GraphPage], indirect=True)
def test_a_patch_of_another_grid_has_no_graphs_of_the_run(page, explored, qtbot):
    page._state.extraction = explored
    at_rest(page, qtbot)
    case = explored.domains["B"].names[0]
    page._state.select([], Sample("B", case, (999, 999)))
    qtbot.waitUntil(lambda: "another patch size" in page.status.text(), timeout=PATIENCE)
    assert page._drawing is None


def test_a_slice_is_shown_without_its_neighbours(tiny_model):
    how = tiny_model().card.preprocessing.model_copy(update={"neighbours": 3})
    card = ModelCard(
        name="slices",
        architecture="fanet",
        options={"width": 2},
        in_channels=3,
        classes=("background", "liver"),
        preprocessing=how,
        patch=32,
        augmentation=Augmentation(),
    )
    model = SegmentationModel(card, build_network("fanet", 3, 2, width=2).eval())
    slices = list(np.random.default_rng(0).integers(-100, 200, (3, 40, 40)).astype(np.int16))
    scans = Domain.from_arrays("scans", slices, names=["ct_z0", "ct_z1", "ct_z2"])
    found = Extraction(Request(None, None), {"slices": model}, {"scans": scans})
    (opened,) = read_sample(found, Sample("scans", "ct_z1", (4, 4)), "slices")
    np.testing.assert_array_equal(opened.image, slices[1])


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    assert (
        save_and_report(lambda: save_rows(tmp_path / "a.csv", [[1]]), tmp_path / "a.csv")[0] == "✓"
    )
    (tmp_path / "file").write_text("")
    words = save_and_report(lambda: save_rows(tmp_path / "file" / "a.csv", [[1]]), tmp_path)
    assert words.startswith("✕ A file could not be used") and os.linesep not in words
