from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_msankd.layers import WidgetLayers, placement, shown_index
from napari_msankd.planes import Slicing, planes_of
from src_training.errors import InputError

numbers = st.floats(-50, 50, allow_nan=False)
steps = st.floats(0.1, 20)
# napari warns that it slices such layers along their data axes; their transforms are still exact.
tilted = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


@st.composite
def placed_images(draw, ndim=3):
    """Images with every transform that a layer can have."""
    upper = np.eye(ndim)
    upper[np.triu_indices(ndim, 1)] = draw(arrays(float, ndim * (ndim - 1) // 2, elements=numbers))
    affine = np.eye(ndim + 1)
    affine[:ndim] += draw(arrays(float, (ndim, ndim + 1), elements=st.floats(-0.2, 0.2)))
    return Image(
        np.zeros((5, 6, 7)),
        scale=draw(st.lists(steps, min_size=ndim, max_size=ndim)),
        translate=draw(st.lists(numbers, min_size=ndim, max_size=ndim)),
        rotate=draw(st.lists(st.floats(-180, 180), min_size=ndim, max_size=ndim)),
        shear=draw(arrays(float, ndim, elements=st.floats(-1, 1))),
        affine=affine,
        units=("mm", "um", "um"),
        axis_labels=("z", "y", "x"),
    )


@tilted
@settings(deadline=None, max_examples=40)
@given(placed_images())
def test_labels_lie_exactly_on_their_image(image):
    labels = Labels(np.zeros((5, 6, 7), np.uint8), **placement(image))
    for corner in np.ndindex(2, 2, 2):
        point = np.array(corner) * (4, 5, 6)
        assert np.allclose(labels.data_to_world(point), image.data_to_world(point))
    assert labels.units == image.units
    assert labels.axis_labels == image.axis_labels


@tilted
@settings(deadline=None, max_examples=40)
@given(placed_images(), st.integers(0, 4))
def test_labels_of_one_slice_lie_on_that_slice(image, index):
    labels = Labels(np.zeros((1, 6, 7), np.uint8), **placement(image, (index, 0, 0)))
    for y, x in ((0, 0), (5, 6), (2, 3)):
        there = image.data_to_world((index, y, x))
        assert np.allclose(labels.data_to_world((0, y, x)), there, atol=1e-6)


def test_the_slice_in_sight_is_found_through_scale_and_translate():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((9, 4, 4)), scale=(2.5, 1, 1), translate=(10, 0, 0))
    viewer.dims.set_point(0, 10 + 2.5 * 6)
    assert shown_index(viewer, layer) == (6,)


def test_the_slice_in_sight_stays_inside_the_layer():
    viewer = ViewerModel()
    small = viewer.add_image(np.zeros((3, 4, 4)))
    viewer.add_image(np.zeros((30, 4, 4)))
    viewer.dims.set_point(0, 25)
    assert shown_index(viewer, small) == (2,)


def test_an_image_without_sliders_has_one_plane():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((8, 9)))
    assert planes_of(layer).indices == ((),)
    assert shown_index(viewer, layer) == ()


@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array])
def test_planes_of_every_kind_of_array_read_the_same(wrap, stack):
    planes = planes_of(Image(wrap(stack)))
    assert planes.shape == stack.shape
    assert len(planes.indices) == len(stack)
    assert np.array_equal(planes.read((2,)), stack[2])


def test_a_pyramid_gives_its_finest_level(stack):
    planes = planes_of(Image([stack, stack[:, ::2, ::2]], multiscale=True))
    assert planes.shape == stack.shape


def test_colours_are_no_axis(image):
    planes = planes_of(Image(np.stack([image] * 3), rgb=True))
    assert planes.shape == (3, 40, 48)
    assert planes.plane_shape == (40, 48, 3)
    assert planes.read((1,)).shape == (40, 48, 3)


def test_bool_is_read_as_numbers():
    assert planes_of(Image(np.ones((4, 4), bool))).read(()).dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "message"),
    [(np.ones((4, 4), complex), "holds complex128"), (np.ones((0, 4)), r"is empty \(0, 4\)")],
)
def test_pixels_that_cannot_be_used_are_refused_by_name(data, message):
    layer = SimpleNamespace(name="holo", data=data, multiscale=False, rgb=False)
    with pytest.raises(InputError, match=f"'holo' {message}"):
        planes_of(layer)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(0, 2))
def test_planes_tile_their_array(shape, axis):
    slicing = Slicing(tuple(shape), axis if len(shape) == 3 else 0)
    seen = np.zeros(shape, int)
    for index in slicing.indices:
        assert seen[slicing.at(index)].shape == slicing.size
        seen[slicing.at(index)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_read_along_any_axis_with_its_neighbours(stack, axis):
    planes = planes_of(Image(stack), axis)
    moved = np.moveaxis(stack, axis, 0)
    assert planes.size == moved.shape[1:] and len(planes.indices) == len(moved)
    assert np.array_equal(planes.read((1,)), moved[1])
    assert np.array_equal(planes.read((1,), 3), np.moveaxis(moved[:3], 0, -1))


def test_the_plane_in_sight_is_found_along_any_axis(stack):
    viewer = ViewerModel()
    layer = viewer.add_image(stack, scale=(3, 2, 1))
    viewer.dims.set_point((0, 1, 2), (6, 10, 4))
    assert [shown_index(viewer, layer, axis) for axis in range(3)] == [(2,), (5,), (4,)]


@pytest.mark.parametrize(
    ("units", "axis", "expected"),
    [
        (("mm", "mm", "mm"), 0, (3, 0.5, 0.7)),
        (("mm", "mm", "mm"), 1, (0.5, 3, 0.7)),
        (("cm", "mm", "um"), 2, (0.0007, 30, 0.5)),
        (("pixel",) * 3, 0, None),
    ],
)
def test_spacing_is_in_millimetres_where_there_are_lengths(stack, units, axis, expected):
    found = planes_of(Image(stack, scale=(3, 0.5, 0.7), units=units), axis).spacing
    assert found == (expected and pytest.approx(expected))


def test_what_a_widget_hides_and_puts_in_a_grid_comes_back():
    viewer = ViewerModel()
    one, two = (viewer.add_image(np.zeros((8, 8)), name=name) for name in ("one", "two"))
    two.visible = False
    own = WidgetLayers(viewer)
    shown = own.add("map", np.zeros((8, 8)), "image", name="map")
    own.show_only([shown])
    own.set_grid(True)
    assert [layer.visible for layer in viewer.layers] == [False, False, True]
    own.show_only([shown, two])
    one.name = "renamed"
    own.restore()
    assert (one.visible, two.visible) == (True, False) and not viewer.canvas.grid.enabled


def test_a_widget_replaces_its_own_layers_and_no_others():
    viewer = ViewerModel()
    own = WidgetLayers(viewer)
    first = own.add(("map", 1), np.zeros((8, 8)), "image", name="map")
    first.name = "kept"
    theirs = viewer.add_image(np.zeros((8, 8)), name="map")
    second = own.add(("map", 1), np.ones((8, 8)), "image", name="map")
    assert list(viewer.layers) == [theirs, second] and own.added("map") == [second]
    viewer.layers.remove(second)
    assert own.get(("map", 1)) is None and own.added("map") == []
