"""Layers and folders as domains of a run."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from napari.layers import Image, Labels

from napari_msankd.datasets.layer_export import LayerCase, case_names, cases_of, stored_pixels
from napari_msankd.datasets.layer_pairs import LayerPair, matched
from napari_msankd.datasets.selection import FolderDataset, LayerDataset
from src_training.data.split import patient_of
from src_training.errors import InputError
from src_training.runs.data import load_domain

SIDE = (20, 24)


def photograph(name, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIDE, 3), np.uint8)
    return Image(pixels, rgb=True, name=name)


def painted(name, value=1, shape=SIDE):
    data = np.zeros(shape, np.int32)
    data[..., 3:9, 4:8] = value
    return Labels(data, name=name)


def chosen(*layers, role="source", name="eyes"):
    return LayerDataset(name, tuple(LayerPair.of(*pair) for pair in layers), role)


def read_back(domain, folder, masks=True, classes=None):
    return load_domain(domain.recipe(folder, classes), masks_required=masks)


def test_photographs_and_painted_labels_are_saved_unchanged(tmp_path):
    layers = [(photograph(f"eye {n}", n), painted(f"mask {n}")) for n in (1, 2)]
    domain = read_back(chosen(*layers), tmp_path)
    assert domain.name == "eyes"
    assert domain.names == ("eye_1", "eye_2")
    assert domain.classes == ("background", "foreground")
    for case, (image, labels) in zip(domain, layers, strict=True):
        assert np.array_equal(case.image, image.data)
        assert np.array_equal(case.mask, labels.data)


def test_source_and_targets_have_folders_of_their_own(tmp_path):
    one = chosen((photograph("a"), painted("b"))).recipe(tmp_path)
    other = chosen((photograph("a"),), role="targets").recipe(tmp_path)
    assert one.folder == str(tmp_path / "source" / "eyes")
    assert other.folder == str(tmp_path / "targets" / "eyes")
    assert other.class_values is None


def test_only_painted_slices_are_cases_named_by_their_index(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (5, *SIDE), np.uint16)
    labels = painted("paint", shape=(5, *SIDE))
    labels.data[[0, 3]] = 0
    domain = read_back(chosen((Image(stack, name="ct"), labels)), tmp_path)
    assert domain.names == ("ct-001", "ct-002", "ct-004")
    for case, plane in zip(domain, (1, 2, 4), strict=True):
        assert np.array_equal(case.image, stack[plane])


def test_a_target_without_paint_has_all_its_planes(tmp_path):
    stack = np.random.default_rng(0).random((4, *SIDE))
    empty = Labels(np.zeros((4, *SIDE), np.uint8), name="nothing yet")
    for number, pair in enumerate([(Image(stack),), (Image(stack), empty)]):
        domain = read_back(chosen(*[pair], role="targets"), tmp_path / str(number), masks=False)
        assert len(domain) == 4
        assert not domain.labelled


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (np.arange(480, dtype=np.int16).reshape(SIDE) - 200, {}),
        (np.arange(480).reshape(SIDE) * 4 % 256 == 0, {}),
        ([np.ones((40, 48), np.uint8) * 7, np.ones(SIDE, np.uint8)], {"multiscale": True}),
        (da.from_array(np.arange(1440, dtype=np.uint8).reshape(*SIDE, 3)), {"rgb": True}),
        (np.linspace(0, 1, 480 * 4).reshape(*SIDE, 4), {"rgb": True}),
    ],
    ids=["signed", "bool", "pyramid", "dask colour", "float colour with alpha"],
)
def test_images_of_every_kind_are_written(data, options, tmp_path):
    image = Image(data, name="odd", **options)
    shape = (40, 48) if options.get("multiscale") else SIDE
    domain = read_back(chosen((image, painted("paint", shape=shape))), tmp_path)
    case = domain[0]
    assert case.image.shape[:2] == shape
    assert case.image.shape[2:] == ((3,) if options.get("rgb") else ())


whole = arrays(
    st.sampled_from([np.int16, np.uint32, np.int8]), array_shapes(min_dims=2, max_dims=2)
)


@given(whole)
def test_grey_is_written_in_its_own_values(pixels):
    written = stored_pixels(LayerCase("x", LayerPair.of(Image(pixels)), (), None))
    assert written.dtype in (np.uint16, np.int16, np.float32)
    assert np.array_equal(written, pixels.astype(written.dtype))
    if written.dtype != np.float32:
        assert np.array_equal(written.astype(np.int64), pixels.astype(np.int64))


def test_hu_come_back_as_they_were(tmp_path):
    for kind in (np.int16, np.float64):
        hu = np.linspace(-1024, 3000, 480).reshape(SIDE).astype(kind)
        domain = read_back(
            chosen((Image(hu, name="ct"), painted("paint"))), tmp_path / kind.__name__
        )
        assert np.allclose(domain[0].image, hu, rtol=1e-6)


def test_pixels_that_are_no_numbers_name_their_layer(tmp_path):
    image = Image(np.full(SIDE, np.nan), name="hole", contrast_limits=(0, 1))
    with pytest.raises(InputError, match="'hole' has 480 values that are NaN"):
        chosen((image, painted("paint"))).recipe(tmp_path)


def test_labels_above_one_are_classes(tmp_path):
    labels = painted("organs")
    labels.data[15:, 15:] = 3
    source = chosen((photograph("a"), labels))
    recipe = source.recipe(tmp_path)
    assert recipe.class_values == {"class_1": 1, "class_3": 3}
    assert load_domain(recipe, masks_required=True).classes == ("background", "class_1", "class_3")


@pytest.mark.parametrize("value", [1, 7, 255, 5000])
def test_a_single_label_is_foreground_whatever_its_number(value, tmp_path):
    domain = read_back(chosen((photograph("a"), painted("paint", value))), tmp_path)
    assert domain.classes == ("background", "foreground")
    assert set(np.unique(domain[0].mask)) == {0, 1}


def test_many_labels_are_objects_and_all_foreground(tmp_path):
    labels = Labels(np.arange(480).reshape(SIDE), name="cells")
    domain = read_back(chosen((photograph("a"), labels)), tmp_path)
    assert domain.classes == ("background", "foreground")
    assert domain[0].mask.sum() == 479


def test_a_target_takes_the_classes_of_the_source(tmp_path):
    classes = {"class_1": 1, "class_3": 3}
    target = chosen((photograph("a"), painted("paint", 3)), role="targets")
    domain = read_back(target, tmp_path / "3", classes=classes)
    assert domain.classes == ("background", "class_1", "class_3")
    assert set(np.unique(domain[0].mask)) == {0, 2}
    vessels = read_back(target, tmp_path / "1", classes={"vessel": 255})
    assert vessels.classes == ("background", "vessel")
    other = chosen((photograph("a"), painted("paint", 2)), role="targets")
    with pytest.raises(InputError, match="'paint' holds label 2; expected only 0, 1, 3"):
        other.recipe(tmp_path / "2", classes)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((photograph("a"),), "image layer 'a' has no Labels layer"),
        ((photograph("a"), Labels(np.zeros(SIDE, int), name="b")), "Labels layer 'b' is empty"),
    ],
)
def test_a_source_without_paint_is_refused_by_name(pair, message, tmp_path):
    with pytest.raises(InputError, match=message):
        chosen(pair).recipe(tmp_path)


def test_a_folder_that_holds_images_is_not_mixed_with_others(tmp_path):
    layers = chosen((photograph("a"), painted("b")))
    layers.recipe(tmp_path)
    with pytest.raises(InputError, match="holds images already"):
        layers.recipe(tmp_path)


def test_labels_of_another_shape_are_refused_by_name():
    with pytest.raises(InputError, match=r"'b' has shape .* as image layer 'a'"):
        LayerPair.of(photograph("a"), painted("b", shape=(5, 5)))


names = st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6)


@given(names, st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_every_plane_has_a_file_name_of_its_own(names, depths):
    shapes = [(*([2] * min(1, depth)), *([depth] * (depth > 1)), 3, 4) for depth in depths]
    pairs = [
        LayerPair.of(Image(np.zeros(shape, np.uint8), name=name))
        for name, shape in zip(names, shapes, strict=False)
    ]
    every = [name for own in case_names(pairs) for name in own]
    assert len({name.casefold() for name in every}) == len(every)
    assert all(len(f".{name}.12345678.png".encode()) < 256 for name in every)
    assert not any(set(name) & set('/\\:*?"<>| ') for name in every)
    assert len(every) == sum(len(pair.image.indices) for pair in pairs)


def test_a_stack_is_split_only_when_it_is_the_whole_domain():
    stack = LayerPair.of(Image(np.zeros((3, 4, 4), np.uint8), name="ct"))
    alone, together = case_names([stack]), case_names([stack, stack])
    assert len({patient_of(name) for name in alone[0]}) == 3
    assert len({patient_of(name) for own in together for name in own}) == 2


def test_planes_are_read_when_they_are_asked_for():
    read = []

    def load(block_info=None):
        read.append(block_info[None]["chunk-location"][0])
        return np.ones((1, 4, 4), np.uint8)

    stack = da.map_blocks(load, chunks=((1,) * 6, (4,), (4,)), dtype=np.uint8)
    image = Image(np.zeros((6, 4, 4), np.uint8))
    labels = Labels(stack, name="lazy")
    read.clear()
    next(cases_of([LayerPair.of(image, labels)]))
    assert read == [0]


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (["fundus A", "fundus B"], ["fundus B vessels", "fundus A vessels"], [1, 0]),
        (["fundus 1", "fundus 10"], ["fundus 10 mask", "fundus 1 mask"], [1, 0]),
        (["Image", "Image [1]"], ["Labels", "Labels [1]"], [0, 1]),
        (["eye", "retina"], ["first", "second"], [0, 1]),
        (["Image_01L", "Image_01R"], ["Image_01R_1stHO", "Image_01L_1stHO"], [1, 0]),
        (["a", "b"], ["b"], [None, 0]),
    ],
)
def test_labels_are_paired_by_name_and_otherwise_in_order(images, labels, expected):
    masks = [painted(name) for name in labels]
    found = matched([photograph(name) for name in images], masks)
    assert [None if mask is None else masks.index(mask) for mask in found] == expected


def test_what_a_person_painted_goes_before_a_result_of_ours():
    result = painted("fundus A foreground")
    result.metadata["msankd"] = {"model": "x"}
    truth = painted("fundus A true vessels")
    assert matched([photograph("fundus A")], [result, truth]) == [truth]
    assert matched([photograph("fundus A")], [result]) == [result]


def test_labels_of_another_shape_are_matched_to_nothing():
    assert matched([photograph("a")], [painted("a", shape=(4, 4))]) == [None]


def test_a_folder_is_used_where_it_is(make_domain, tmp_path):
    folder = make_domain("sc äns", images=2)
    source = FolderDataset(folder)
    assert source.name == "sc äns"
    recipe = source.recipe(tmp_path / "run")
    assert recipe.folder == str(folder)
    assert not (tmp_path / "run").exists()
    assert len(load_domain(recipe, masks_required=True)) == 2


def test_a_folder_has_the_several_class_values_of_the_source(tmp_path):
    folder = FolderDataset(tmp_path)
    assert folder.recipe(tmp_path, {"class_1": 1, "class_2": 2}).class_values
    assert folder.recipe(tmp_path, {"foreground": 1}).class_values is None


def test_a_folder_is_split_by_masks_and_leaves_files_out(make_domain, tmp_path):
    folder = make_domain("lab", images=5)
    (folder / "masks" / "001.png").unlink()
    (folder / "images" / "003.png").write_bytes(b"no picture")
    dataset = FolderDataset(folder, exclude=("003",), unmasked="unlabelled", angle=45)
    labelled = load_domain(dataset.recipe(tmp_path), masks_required=True)
    assert labelled.names == ("000", "002", "004")
    assert dataset.domain().names == labelled.names
    rest = dataset.unlabelled_recipe(tmp_path)
    assert (rest.name, rest.angle) == ("lab, without masks", 45)
    assert load_domain(rest, masks_required=False).names == ("001",)
    assert FolderDataset(folder).unlabelled_recipe(tmp_path) is None


def test_layers_are_split_into_painted_and_bare(tmp_path):
    stack = Image(np.zeros((4, *SIDE), np.uint8), name="ct")
    labels = painted("liver", shape=(4, *SIDE))
    labels.data[[0, 3]] = 0
    pairs = tuple(LayerPair.of(*each) for each in ((stack, labels), (photograph("eye"),)))
    dataset = LayerDataset("both", pairs, unmasked="unlabelled")
    labelled = load_domain(dataset.recipe(tmp_path), masks_required=True)
    assert labelled.names == ("ct1_001", "ct1_002") == dataset.domain().names
    rest = load_domain(dataset.unlabelled_recipe(tmp_path), masks_required=False)
    assert sorted(rest.names) == ["ct1_000", "ct1_003", "eye"]
    assert not any(case.mask is not None for case in rest)
    assert LayerDataset("both", pairs).unlabelled_recipe(tmp_path) is None
