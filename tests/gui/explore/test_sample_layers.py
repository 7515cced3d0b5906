"""Layers of samples, found by identity and not by name; without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import LayerDataset
from napari_msankd.explore.extraction import Extraction, Request
from napari_msankd.explore.sample_layers import (
    FRAME,
    OpenedSample,
    camera_angle,
    clear_samples,
    show_sample,
)
from napari_msankd.explore.state import Sample
from napari_msankd.layers import WidgetLayers

PIXELS = np.zeros((20, 30))


def sample(case, view=None):
    opened = Sample("scans", case, (2, 3), 0 if view is None else 1)
    return OpenedSample(opened, PIXELS, (2, 3, 10, 11), view, (1, 1))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def own(viewer):
    return WidgetLayers(viewer)


@pytest.fixture
def extraction():
    return Extraction(Request(None, None), {}, {})


def test_after_a_rename_the_frame_lies_on_the_right_image(viewer, own, extraction):
    mine = viewer.add_image(PIXELS, name="scan", translate=(100, 0))
    extraction.layers[("scans", "scan")] = mine.unique_id
    mine.name = "patient 1"
    other = viewer.add_image(PIXELS, name="scan")
    assert show_sample(viewer, own, extraction, sample("scan")) is mine
    frame = viewer.layers[FRAME].extent.world
    np.testing.assert_allclose(frame.mean(0), mine.data_to_world((5.5, 6.5)), atol=0.5)
    assert mine.visible and not other.visible


def test_a_removed_layer_is_opened_anew(viewer, own, extraction):
    mine = viewer.add_image(PIXELS, name="scan")
    extraction.layers[("scans", "scan")] = mine.unique_id
    viewer.layers.remove(mine)
    other = viewer.add_image(PIXELS, name="scan")
    image = show_sample(viewer, own, extraction, sample("scan"))
    assert image not in (mine, other) and image.name == "scans / scan"
    assert show_sample(viewer, own, extraction, sample("scan")) is image


def test_an_image_of_an_earlier_extraction_is_another(viewer, own, extraction):
    first = show_sample(viewer, own, extraction, sample("scan"))
    later = Extraction(Request(None, None), {}, {})
    second = show_sample(viewer, own, later, sample("scan"))
    assert first is not second and not first.visible


def test_what_was_hidden_for_a_sample_comes_back(viewer, own, extraction):
    below = viewer.add_image(PIXELS, name="below", visible=False)
    above = viewer.add_image(PIXELS, name="above")
    painted = viewer.add_labels(PIXELS.astype(int), name="painted")
    extraction.layers[("scans", "below")] = below.unique_id
    show_sample(viewer, own, extraction, sample("below", np.zeros((8, 8), np.float32)))
    assert below.visible and not above.visible and painted.visible
    assert viewer.layers.selection.active is below
    clear_samples(own)
    assert list(viewer.layers) == [below, above, painted]
    assert [layer.visible for layer in viewer.layers] == [False, True, True]


def test_one_image_of_several_samples_is_in_sight(viewer, own, extraction):
    one = show_sample(viewer, own, extraction, sample("one"))
    two = show_sample(viewer, own, extraction, sample("two"))
    assert two.visible and not one.visible
    show_sample(viewer, own, extraction, sample("one"))
    assert one.visible and not two.visible


def test_the_angle_is_that_of_the_layer_and_not_of_its_name(viewer):
    mine = viewer.add_image(PIXELS, name="scan")
    dataset = LayerDataset("scans", (LayerPair.of(mine),), "targets", angle=45.0)
    extraction = Extraction(Request(None, None, (dataset,)), {}, {})
    mine.name = "renamed"
    other = viewer.add_image(PIXELS, name="scan")
    assert camera_angle(extraction, mine) == 45
    assert camera_angle(extraction, other) is None


def test_layers_of_explore_say_what_they_are(viewer, own, extraction):
    show_sample(viewer, own, extraction, sample("one"))
    assert viewer.layers[FRAME].metadata["msankd"] == {
        "explore": "patch",
        "domain": "scans",
        "case": "one",
        "corner": [2, 3],
        "view": 0,
    }
