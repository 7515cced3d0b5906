"""The angle of the fundus camera: chosen for domains and images, stored in results."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import LayerDataset
from napari_msankd.datasets.selector import DatasetSelector
from napari_msankd.explore.extraction import Extraction, Request, explore
from napari_msankd.explore.feature_maps.page import FeatureMapPage
from napari_msankd.explore.sample_layers import camera_angle, show_image
from napari_msankd.explore.state import ExploreState, Sample
from napari_msankd.layers import WidgetLayers
from napari_msankd.training.run_request import with_datasets_of
from src_training.config.presets import recipe_for
from src_training.config.recipe import Recipe
from src_training.data.domain import Domain, write_domain
from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import FundusPreprocessing
from src_training.errors import InputError
from src_training.inference.model_file import load_model
from src_training.inference.predictor import Predictor, labels_from

from .conftest import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")


@pytest.fixture
def fundus_model(tiny_model, tmp_path):
    """A model trained with a camera of 30 degrees."""
    model = tiny_model(FundusPreprocessing(diameter=64, angle=30))
    model.save(tmp_path / "fundus.safetensors")
    return model.source


def test_segment_asks_for_the_camera_if_the_model_has_an_angle(
    viewer, widget, segmented, model, fundus_model, qtbot
):
    eye = fundus_phantom(1, 96, "A").image
    viewer.add_image(eye, rgb=True, name="eye")
    qtbot.waitUntil(
        lambda: bool(widget.compatibility.text()) and not widget.workers, timeout=PATIENCE
    )
    assert not widget.choices.isRowVisible(widget.camera)
    widget.model.open(fundus_model)
    qtbot.waitUntil(lambda: widget.choices.isRowVisible(widget.camera), timeout=PATIENCE)
    assert widget.camera.text() == "unknown" and widget.camera.angle is None
    widget.camera.setValue(45)
    labels = segmented()
    loaded = load_model(fundus_model)
    maps = Predictor(loaded.for_camera(45), "cpu").predict(eye)
    np.testing.assert_array_equal(labels.data, labels_from(maps, loaded.card.threshold))
    assert labels.metadata["msankd"]["angle_degrees"] == 45
    # Changing to a model without a training angle keeps the photograph's angle.
    widget.model.open(model)
    qtbot.waitUntil(lambda: not widget.choices.isRowVisible(widget.camera), timeout=PATIENCE)
    widget.model.open(fundus_model)
    assert widget.camera.angle == 45
    assert segmented().metadata["msankd"]["angle_degrees"] == 45


@pytest.fixture
def eyes(tmp_path):
    case = fundus_phantom(1, 96, "A")
    write_domain(Domain.from_arrays("eyes", [case.image] * 2, [case.mask] * 2), tmp_path / "eyes")
    return tmp_path / "eyes"


@pytest.fixture
def chosen(eyes, qtbot):
    """Choose the eyes with a camera angle."""
    made = []

    def choose(angle, masks="required"):
        choice = DatasetSelector(ViewerModel(), masks)
        qtbot.addWidget(choice)
        made.append(choice)
        choice.choose_folder(eyes)
        choice.camera.setValue(angle)
        QApplication.processEvents()
        qtbot.waitUntil(lambda: not choice.looking, timeout=PATIENCE)
        return choice

    yield choose
    for choice in made:
        choice.end()


def test_a_domains_camera_goes_into_the_recipe(chosen, tmp_path, qtbot):
    choice = chosen(0)
    assert choice.camera.isVisibleTo(choice) and choice.value().recipe(tmp_path).angle is None
    with qtbot.waitSignal(choice.changed):
        choice.camera.setValue(35)
    source = choice.value().recipe(tmp_path)
    assert source.angle == 35
    target = source.model_copy(update={"name": "other", "angle": 50})
    recipe = recipe_for("mine", [source], [target], "enet", "quick")
    assert recipe.preprocessing.angle == 35
    without_angle = source.model_copy(update={"angle": None})
    unknown = recipe_for("mine", [without_angle], [], "enet", "quick")
    assert with_datasets_of(unknown, recipe).preprocessing.angle == 35
    grey = unknown.changed({"preprocessing.kind": "intensity"}, "recipe.yaml")
    with pytest.raises(InputError, match="Advanced…: domain eyes: the camera's angle is 35"):
        with_datasets_of(grey, recipe)
    with pytest.raises(InputError, match="domain other: the camera's angle is 50 degrees, but"):
        recipe_for("mine", [without_angle], [target], "enet", "quick")
    with pytest.raises(InputError, match=r"recipe\.yaml: domain eyes: the camera's angle"):
        Recipe.validated(
            recipe.model_dump() | {"preprocessing": {"kind": "intensity"}}, "recipe.yaml"
        )


def test_maps_are_those_of_the_camera_that_took_the_image(
    chosen, fundus_model, tmp_path, viewer, qtbot
):
    domain = chosen(60, "optional").value()
    *_, explored = explore(Request(None, fundus_model, (domain,), cache=tmp_path / "cache"))
    image = explored.domains["eyes"][0]
    own, sample = WidgetLayers(viewer), Sample("eyes", image.name, (0, 0))
    wide = show_image(viewer, own, explored, sample, image.image)
    unknown = viewer.add_image(image.image, rgb=True, name="another")
    state = ExploreState()
    page = FeatureMapPage(viewer, state, own)
    qtbot.addWidget(page)
    state.extraction = explored
    sizes = []
    for layer in (wide, unknown):
        page.image.layer = layer
        page.show_features()
        qtbot.waitUntil(lambda: "maps" not in page.workers, timeout=PATIENCE)
        sizes.append(viewer.layers[-1].data.shape)
    page.end()
    # Twice the angle means twice the side in pixels.
    np.testing.assert_allclose(sizes[0], 2 * np.array(sizes[1]), atol=2)


def test_a_stack_has_the_camera_of_the_domain_it_is_in(viewer):
    stack, other = (viewer.add_image(np.zeros((3, 32, 32)), name=name) for name in ("a", "b"))
    layers = LayerDataset("eyes", (LayerPair.of(stack),), "targets", angle=45)
    explored = Extraction(Request(None, None, (layers,)), {}, {})
    assert camera_angle(explored, stack) == 45 and camera_angle(explored, other) is None


def test_vectors_are_those_of_the_camera(chosen, fundus_model, tmp_path):
    def vectors(angle):
        domains = (chosen(angle, "optional").value(),)
        request = Request(run=None, model=fundus_model, datasets=domains, cache=tmp_path / "cache")
        *_, found = explore(request)
        assert isinstance(found, Extraction)
        return next(iter(found.tables.values()))

    unknown, same, wider = vectors(0), vectors(30), vectors(60)
    np.testing.assert_array_equal(unknown.values, same.values)
    # Twice the side in pixels means four times the patches.
    assert len(wider) > 2 * len(same)
