"""What other programs get must be what PyTorch gives, or nothing."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from scipy import ndimage
from skimage.exposure import equalize_adapthist
from skimage.filters import threshold_otsu
from torch import nn

from src_training.data.phantom.camera import fundus_phantom
from src_training.data.preprocessing import (
    FundusPreprocessing,
    IntensityPreprocessing,
    WindowPreprocessing,
)
from src_training.errors import InputError
from src_training.export import bioimageio, export_bioimageio, export_onnx
from src_training.export import onnx as onnx_graph
from src_training.export.onnx import checked_graph
from src_training.export.pooling import ExportableAvgPool, with_sizeable_means
from src_training.export.preprocessing_spec import preparation, way_back
from src_training.export.rounding_sensitivity import Unsettledness
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import SegmentationModel
from src_training.networks import NETWORKS, build_network
from src_training.networks.base import SegmentationNetwork, Skips
from tests.small_networks import SMALL_OPTIONS, small_network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZES = [(1, 1, 1), (1, 7, 30), (3, 16, 24), (1, 40, 12), (2, 33, 17)]


class Unpooling(SegmentationNetwork):
    """Everything that is hard to export, and little else."""

    stride = 4
    taps = {}  # noqa: RUF012 - as the base class declares it
    bottleneck_channels = 4

    def __init__(self, in_channels, classes):
        super().__init__(in_channels, classes)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.head = nn.ConvTranspose2d(4, classes, 2, 2)

    def encode(self, x):
        pooled, indices = F.max_pool2d(self.stem(self.pad(x)), 2, return_indices=True)
        return Skips((indices,), tuple(x.shape[-2:])), pooled

    def decode(self, skips, bottleneck):
        return self.crop(self.head(F.max_unpool2d(bottleneck, skips.features[0], 2)), skips)


FUNDUS = FundusPreprocessing(diameter=96)


def carded(network, name, architecture, preprocessing=FUNDUS, **fields):
    card = ModelCard(
        name=name,
        architecture=architecture,
        in_channels=network.in_channels,
        classes=["background", *(f"class {i}" for i in range(1, network.classes))],
        preprocessing=preprocessing,
        patch=32,
        **fields,
    )
    return SegmentationModel(card, network.eval())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return carded(Unpooling(1, 2), "tiny", "unpooling", licence="CC BY 4.0")


@pytest.fixture(scope="module")
def graph(model):
    return checked_graph(model)


@pytest.fixture
def translated(graph, monkeypatch):
    """Let every export use the one graph that was translated."""
    monkeypatch.setattr(onnx_graph, "checked_graph", lambda _model: graph)
    monkeypatch.setattr(bioimageio, "checked_graph", lambda _model: graph)


def largest_difference(content, network, shape, seed=0):
    """From PyTorch; of an odd size, from the graph on the padded image: edges repeat, and tie."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    found = session.run(None, {"image": image.numpy()})[0]
    assert found.shape == (shape[0], 2, *shape[2:]) and found.dtype == np.float32
    with torch.no_grad():
        padded = network.pad(image)
        expected = network(image).softmax(1).numpy()
    if padded is not image:
        whole = session.run(None, {"image": padded.numpy()})[0]
        expected = whole[..., : shape[2], : shape[3]]
    return np.abs(found - expected).max()


@pytest.mark.parametrize("size", SIZES)
def test_the_graph_gives_what_pytorch_gives_at_any_batch_and_size(graph, model, size):
    batch, height, width = size
    assert largest_difference(graph[0], model.network, (batch, 1, height, width)) < 1e-6


def test_the_check_tells_the_difference_and_its_sizes(graph):
    check = graph[1]
    assert 0 <= check.largest_difference <= 1e-4
    assert len({shape[2:] for shape in check.shapes}) == 3


def test_the_model_is_not_changed_by_its_export(model, graph):
    assert graph
    torch.manual_seed(0)
    fresh = Unpooling(1, 2).state_dict()
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, fresh[name]), name


@pytest.mark.usefixtures("translated")
def test_the_file_is_valid_and_says_what_it_takes_and_is(model, tmp_path):
    export_onnx(model, tmp_path / "a.onnx")
    read = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(read, full_check=True)
    described = {entry.key: entry.value for entry in read.metadata_props}
    assert ModelCard.model_validate(json.loads(described["msankd"])) == model.card
    assert described["preparation"] == preparation(model.card.preprocessing)
    assert [part.name for part in (*read.graph.input, *read.graph.output)] == [
        "image",
        "probabilities",
    ]


def test_the_file_names_no_file_of_the_machine_it_was_made_on(graph):
    assert b".py" not in graph[0]


def test_a_graph_that_differs_is_not_written(model, graph, tmp_path, monkeypatch):
    other = Unpooling(1, 2).eval()
    with pytest.raises(InputError, match=r"tiny: onnxruntime differs .* at most 0\.0001"):
        onnx_graph._check(graph[0], other, model.card)

    def refuse(*_):
        raise InputError("it differs")

    monkeypatch.setattr(onnx_graph, "_translate", lambda *_: onnx.ModelProto())
    monkeypatch.setattr(onnx_graph, "_check", refuse)
    with pytest.raises(InputError, match="it differs"):
        export_onnx(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_of_nan_is_refused(model, graph):
    broken = Unpooling(1, 2).eval()
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="finite weights"):
        onnx_graph._check(graph[0], broken, model.card)


def test_equal_pixels_unsettle_an_unpooling_network_and_no_other(model):
    unsettledness = Unsettledness(model.network)
    flat, noise = torch.full((1, 1, 16, 16), 0.3), torch.rand(1, 1, 16, 16)
    assert unsettledness(flat) > 1e-3 and unsettledness(noise) < 1e-5
    bare = build_network("erfnet", 1, 2).eval()
    assert Unsettledness(bare)(flat) < 1e-4


def test_the_test_image_is_the_first_part_without_a_tie(model):
    image = torch.rand(1, 1, 300, 300)
    image[..., 140:160, 140:160] = 0.3
    parts = bioimageio._windows(image)
    found = bioimageio._steadiest(parts, Unsettledness(model.network))
    assert found.shape[-1] == 64 and not (found == 0.3).any()
    flat = bioimageio._windows(torch.full((1, 1, 20, 70), 0.3))
    assert bioimageio._steadiest(flat, Unsettledness(model.network)).shape == (1, 1, 20, 20)


@pytest.mark.parametrize("grid", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 2), (6, 6), (7, 16), (12, 35)])
def test_means_of_parts_are_those_of_adaptive_pooling(grid, size):
    image = torch.rand(2, 3, *size)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(grid))
    sizeable = with_sizeable_means(network)
    assert isinstance(sizeable[0], ExportableAvgPool) and not isinstance(
        network[0], ExportableAvgPool
    )
    torch.testing.assert_close(sizeable(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_exports(name):
    torch.manual_seed(0)
    network = small_network(name).train()
    # Statistics as training leaves them: without, logits are so large that rounding is, too.
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 1, 64, 64))
    model = carded(network.eval(), name, name, options=SMALL_OPTIONS.get(name, {}))
    content, check = checked_graph(model)
    assert check.largest_difference <= 1e-4
    for shape in [(1, 1, 1, 1), (2, 1, 32, 96), (1, 1, 64, 64), (1, 1, 33, 97)]:
        assert largest_difference(content, network, shape) <= 1e-4


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "bioimageio.spec"])
def test_a_missing_extra_is_said_in_one_sentence(package, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'napari-msankd\[export\]'") as told:
        export_bioimageio(model, tmp_path / "folder")
    assert package in str(told.value) and "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


class TestBioimageio:
    """Folders for bioimage.io."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(model, graph, tmp_path_factory):
        pytest.importorskip("bioimageio.spec")
        folder = tmp_path_factory.mktemp("zoo") / "vessels of mine"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bioimageio, "checked_graph", lambda _model: graph)
            export_bioimageio(model, folder)
        return folder

    def test_the_folder_holds_all_and_nothing_half_done(self, folder):
        assert {file.name for file in folder.iterdir()} == {
            "rdf.yaml",
            "weights.onnx",
            "test_input.npy",
            "test_output.npy",
            "cover.png",
            "README.md",
        }
        assert list(folder.parent.iterdir()) == [folder]

    def test_the_test_output_is_pytorchs_and_onnxruntime_reproduces_it(self, folder, model):
        image = np.load(folder / "test_input.npy")
        expected = np.load(folder / "test_output.npy")
        with torch.no_grad():
            given = model.network(torch.from_numpy(image)).softmax(1).numpy()
        np.testing.assert_array_equal(expected, given)
        session = onnxruntime.InferenceSession(folder / "weights.onnx")
        np.testing.assert_allclose(session.run(None, {"image": image})[0], expected, atol=1e-5)

    def test_the_readme_holds_preparation_way_back_and_terms(self, folder, model):
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert preparation(model.card.preprocessing) in text
        assert way_back(model.card) in text and "CC BY 4.0" in text and "## Validation" in text

    def test_the_description_names_terms_and_carries_the_card(self, folder, model):
        described = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
        assert described["license"] == "CC-BY-4.0"
        assert ModelCard.model_validate(described["config"]["msankd"]) == model.card

    @pytest.mark.skipif(
        not importlib.util.find_spec("bioimageio.core"),
        reason="bioimageio.core 0.11 needs pydantic < 2.14",
    )
    @pytest.mark.filterwarnings("ignore")
    def test_the_test_of_bioimageio_core_passes(self, folder):
        from bioimageio.core import test_model

        assert test_model(folder / "rdf.yaml", devices=["cpu"]).status == "passed"

    @pytest.mark.usefixtures("translated")
    def test_other_terms_go_along_as_a_file(self, model, tmp_path):
        pytest.importorskip("bioimageio.spec")
        card = model.card.model_copy(update={"licence": "Ask me first.", "name": "É/x"})
        sample = np.random.default_rng(0).integers(0, 255, (60, 50), np.uint8)
        export_bioimageio(SegmentationModel(card, model.network), tmp_path / "a", sample)
        assert (tmp_path / "a" / "LICENSE.md").read_text(encoding="utf-8") == "Ask me first.\n"

    @pytest.mark.usefixtures("translated")
    def test_a_folder_with_something_in_it_is_left_alone(self, model, tmp_path):
        pytest.importorskip("bioimageio.spec")
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match="not empty; expected a new or an empty folder"):
            export_bioimageio(model, tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.usefixtures("translated")
    def test_what_the_validator_refuses_is_not_left(self, model, tmp_path, monkeypatch):
        pytest.importorskip("bioimageio.spec")
        monkeypatch.setattr(bioimageio, "_title", lambda _name: "no/")
        with pytest.raises(InputError, match=r"validator of bioimage\.io says"):
            export_bioimageio(model, tmp_path / "a")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by-nc-sa-3.0", "CC-BY-NC-SA-3.0"),
        ("CC0 1.0", "CC0-1.0"),
        ("CC BY 4.0; attribute X", {"source": "LICENSE.md"}),
        ("", None),
    ],
)
def test_terms_are_named_as_spdx_does_or_not_at_all(model, terms, named):
    assert bioimageio._licence(model.card.model_copy(update={"licence": terms})) == named


def bilinear(maps, size):
    return F.interpolate(torch.from_numpy(maps)[None, None], size, mode="bilinear", antialias=True)[
        0, 0
    ].numpy()


def test_the_fundus_preparation_as_worded_gives_the_networks_input():
    """Programmed from the eight numbered steps, not from `Preprocessing`."""
    image = fundus_phantom(3, 160).image.astype(np.float32)  # 1
    smooth = ndimage.gaussian_filter(image.max(-1), sigma=2)  # 2
    bright = smooth > smooth.min() + 0.35 * (threshold_otsu(smooth) - smooth.min())
    assert sum([bright[0, 0], bright[0, -1], bright[-1, 0], bright[-1, -1]]) < 2
    parts, _ = ndimage.label(bright)
    seen = ndimage.binary_fill_holes(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
    assert seen.mean() > 0.2
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))  # 3
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    green, seen = image[..., 1][box], seen[box].astype(np.float32)
    scale = 96 / max(green.shape)  # 4
    size = round(green.shape[0] * scale), round(green.shape[1] * scale)
    green, seen = bilinear(np.ascontiguousarray(green), size), bilinear(seen, size) > 0.5
    inner = ndimage.binary_erosion(seen, iterations=3, border_value=1)  # 5
    nearest = ndimage.distance_transform_edt(~inner, return_indices=True)[1]
    green = green[tuple(nearest)]
    green = (green - green.min()) / (green.max() - green.min())  # 6
    green = equalize_adapthist(green, kernel_size=12, clip_limit=0.01)  # 7
    # 64 pixels for 30 degrees, and half as many again for 45.
    learnt = FundusPreprocessing(diameter=64, angle=30)
    for how in (FundusPreprocessing(diameter=96), learnt.for_camera(45)):
        expected = how.prepare(fundus_phantom(3, 160).image).pixels
        np.testing.assert_allclose(np.where(seen, green, 0), expected[0], atol=1e-5)  # 8
    assert "kernel_size=12" in preparation(FundusPreprocessing(diameter=96))
    assert "spans 30 degrees; where it spans x, x / 30 times as many" in preparation(learnt)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("percentiles", [(0, 100), (1, 99), (0.5, 100)])
def test_the_other_preparations_as_worded_give_the_networks_input(percentiles, channels):
    image = np.random.default_rng(0).integers(0, 4000, (20, 30, 3)).astype(np.float32)
    low, high = np.percentile(image, percentiles)
    scaled = np.clip((image - low) / (high - low), 0, 1)
    weights = np.eye(3) if channels == 3 else np.array([[0.299], [0.587], [0.114]])
    preprocessing = IntensityPreprocessing(percentiles=percentiles, channels=channels)
    expected = preprocessing.prepare(image).pixels
    np.testing.assert_allclose((scaled @ weights).transpose(2, 0, 1), expected, atol=1e-6)
    words = preparation(preprocessing)
    ends = {0: "the smallest value", 100: "the largest"}
    assert all(ends.get(end, f"percentile {end}") in words for end in percentiles)
    assert ("Average colours" in words) == (channels == 1)


def test_a_window_with_neighbours_as_worded_gives_the_networks_input():
    slices = np.random.default_rng(0).integers(-1000, 1000, (60, 40, 3)).astype(np.float32)
    preprocessing = WindowPreprocessing(window="liver", neighbours=3, side=32)
    words = preparation(preprocessing)
    for told in ("-60 HU becomes 0", "140 HU becomes 1", "(1, 3, h, w)", "has 32 pixels"):
        assert told in words
    scaled = torch.from_numpy(np.clip((slices + 60) / 200, 0, 1).transpose(2, 0, 1))[None]
    resized = F.interpolate(scaled, (32, 21), mode="bilinear", antialias=True)[0]
    np.testing.assert_allclose(preprocessing.prepare(slices).pixels, resized, atol=1e-6)


@pytest.mark.usefixtures("translated")
def test_the_command_says_how_close_the_file_is(msankd, model_file, tmp_path):
    said = msankd("export", model_file, "--onnx", tmp_path / "a.onnx")
    assert said.code == 0, said.err
    assert (tmp_path / "a.onnx").is_file()
    assert "a.onnx gives the probabilities of PyTorch within" in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [([], "expected at least one"), (["--onnx", "a", "--sample", "b"], "expected --bioimageio")],
)
def test_the_command_needs_a_target_and_a_folder_for_a_sample(msankd, options, words):
    said = msankd("export", "vessels-chasedb1", *options)
    assert said.code == 2 and words in said.err
