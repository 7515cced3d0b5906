"""Data of Explore's plots, without a window."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.transforms import Affine

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import FolderDataset, LayerDataset
from napari_msankd.explore.embedding.point_colors import COLUMNS, point_colors
from napari_msankd.explore.extraction import Extraction, FirstImage, Progress, Request, explore
from napari_msankd.explore.graphs.layers import add_graphs
from napari_msankd.explore.graphs.layout import EDGES, drawing, strongest
from napari_msankd.explore.graphs.source import batch_of
from napari_msankd.explore.state import ExploreState, Sample, missing, samples_of
from napari_msankd.layers import WidgetLayers, placement_over
from src_training.errors import InputError
from src_training.explore.embedding_table import EmbeddingTable


@pytest.fixture
def table():
    """A table of two domains with two images each, a patch and a view; the second has no masks."""
    rows = [(d, c, v) for d in ("A", "B") for c in ("x", "y") for v in (0, 1)]
    domains, cases, views = zip(*rows, strict=True)
    known = np.array([domain == "A" for domain in domains])
    return EmbeddingTable(
        values=np.random.default_rng(0).random((8, 3)),
        domains=domains,
        cases=cases,
        corners=np.zeros((8, 2), np.int64),
        views=np.array(views),
        areas=np.where(known, 0.2, np.nan)[:, None],
        dice=np.where(known, np.linspace(0.1, 0.9, 8), np.nan),
        kinds=("image",) * 8,
    )


@pytest.fixture
def graphs():
    """Graphs of two samples with three views, as from the engine."""
    random = np.random.default_rng(0)

    def graph():
        return SimpleNamespace(star=random.random(3), complete=random.random((3, 3)))

    samples = [
        SimpleNamespace(
            images=random.random((4, 8, 8)).astype(np.float32),
            teacher=graph(),
            student=graph(),
            difference=graph(),
        )
        for _ in range(2)
    ]
    whole = {panel: random.random((6, 6)) for panel in ("teacher", "student", "difference")}
    return SimpleNamespace(samples=samples, **whole)


def test_a_selection_is_emitted_once(table):
    state, samples, emitted = ExploreState(), samples_of(table), []
    state.events.selection.connect(lambda selection: emitted.append(selection))
    state.select(samples[:3], samples[0])
    state.select(reversed(samples[:3]))
    assert len(emitted) == 1 and state.selection.current == samples[0]


def test_an_image_opens_at_its_first_patch_and_selects_all(table):
    state, opened = ExploreState(), []
    state.open_requested.connect(lambda *request: opened.append(request))
    state.extraction = Extraction(Request(None, None), {}, {}, {"tiny": table})
    state.open_image("tiny", "B", "x")
    first = Sample("B", "x", (0, 0))
    assert opened == [(first, "tiny", None)]
    assert state.selection.samples == {first, first._replace(view=1)}


def test_it_says_what_has_to_be_chosen():
    state = ExploreState(use_run=False)
    assert missing(state) == "Choose a finished run or a model."
    state.model = Path("model.safetensors")
    assert missing(state) == "Add a folder of images, or open layers."
    state.datasets = None
    assert "cannot be used" in missing(state)
    state.datasets = (FolderDataset(Path("scans")),)
    assert missing(state) == ""
    of_run = ExploreState(run=Path("run"))
    assert missing(of_run) == ""
    of_run.own_domains = False
    assert missing(of_run) == "Add a folder of images, or open layers."


def test_a_sample_says_what_it_is():
    assert str(Sample("DRIVE", "01", (0, 256), 2)) == "DRIVE / 01, patch at (0, 256), view 2"
    assert str(Sample("DRIVE", "01", (0, 0), kind="mask")).endswith("its mask")


@pytest.mark.parametrize("by", COLUMNS)
def test_every_row_has_a_colour_and_the_legend_names_the_colours(table, by):
    found = point_colors(table, by)
    assert found.index.shape == (8,) and found.index.max() < len(found.palette)
    assert "<span" in found.legend


def test_the_legend_names_diamonds_where_there_are_any(table):
    assert "masks" not in point_colors(table, "domain").legend
    with_mask = replace(table, kinds=("image",) * 7 + ("mask",))
    assert point_colors(with_mask, "domain").legend.endswith("masks")


def test_what_is_unknown_is_grey_and_dice_grows_along_the_ramp(table):
    found = point_colors(table, "Dice")
    assert set(found.index[4:]) == {len(found.palette) - 1}
    assert np.all(np.diff(found.index[:4]) >= 0)
    assert "unknown" in found.legend


@pytest.mark.parametrize("edges, count", [(EDGES[0], 6), (EDGES[1], 3), (EDGES[2], 3)])
def test_a_star_has_an_edge_a_view_a_complete_graph_one_a_pair(graphs, edges, count):
    drawn = drawing(graphs, edges, together=False)
    assert len(drawn.edges) == count and len(drawn.places) == 4
    assert all(len(values) == count for values in drawn.values.values())


def test_edges_carry_the_similarity_of_the_nodes_they_join(graphs):
    drawn = drawing(graphs, "both", together=True)
    assert len(drawn.places) == 8 and len(drawn.edges) == 2 * 3 + 15
    values = dict(zip(map(tuple, drawn.edges.tolist()), drawn.values["student"], strict=True))
    assert values[4, 6] == graphs.samples[1].student.star[1]
    # The second view of the first sample and the third of the second.
    assert values[2, 7] == graphs.student[1, 5]
    assert strongest(drawn)["teacher"] == strongest(drawn)["student"]


def test_graphs_become_an_image_vectors_and_points(graphs):
    viewer = ViewerModel()
    drawn = drawing(graphs, "both", together=False)
    montage, lines, points = add_graphs(viewer, WidgetLayers(viewer), drawn, "eye")
    assert lines.vector_style == "line"
    first = points.data[: len(points.data) // 3]
    row, column = first[1].astype(int)
    top, left = row - 4, column - 4
    found = montage.data[top : top + 8, left : left + 8]
    np.testing.assert_array_equal(found, graphs.samples[0].images[1])
    starts, along = lines.data[:, 0], lines.data[:, 1]
    np.testing.assert_allclose((starts + along)[0], first[1])


def test_a_batch_begins_with_the_sample_and_holds_none_twice(table):
    known = samples_of(table)
    batch = batch_of(known[3], known[:2], known, 4)
    assert batch[0] == known[2] and len(batch) == len(set(batch)) == 4
    assert all(sample.view == 0 for sample in batch)


def test_a_map_lies_over_a_layer_that_is_turned_and_scaled():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((20, 30)), scale=(2, 3), rotate=30, translate=(5, 7))
    shown = viewer.add_image(
        np.zeros((3, 5, 5)), **placement_over(layer, (4, 6), (1.5, 2.5), leading=1)
    )
    np.testing.assert_allclose(
        shown.data_to_world((2, 1, 1))[1:], layer.data_to_world((1.5 + 4, 2.5 + 6)), rtol=1e-6
    )
    assert Affine(affine_matrix=shown.affine.affine_matrix).ndim == 3


def explored(request):
    *progress, last = explore(request)
    assert all(isinstance(step, Progress | FirstImage) for step in progress)
    assert isinstance(last, Extraction)
    return last


def test_folders_and_layers_of_one_name_are_kept_apart(model_file, make_domain, tmp_path):
    viewer = ViewerModel()
    layer = viewer.add_image(np.random.default_rng(0).random((40, 40)), name="scans")
    layers = LayerDataset("scans", (LayerPair.of(layer),), "targets")
    chosen = (FolderDataset(make_domain("scans")), layers)
    found = explored(Request(None, model_file, chosen, cache=tmp_path / "cache"))
    assert list(found.domains) == ["scans", "scans 2"]
    assert found.layers == {("scans 2", "scans"): layer.unique_id}
    again = explored(Request(None, model_file, chosen, cache=tmp_path / "cache"))
    np.testing.assert_array_equal(found.tables["tiny"].values, again.tables["tiny"].values)


def test_without_model_or_domain_it_says_what_is_missing(model_file, tmp_path):
    with pytest.raises(InputError, match="expected a run or a model"):
        explored(Request(None, None))
    with pytest.raises(InputError, match="expected a folder or open layers"):
        explored(Request(None, model_file))
    with pytest.raises(InputError, match="expected a run that has finished"):
        explored(Request(tmp_path, None))
