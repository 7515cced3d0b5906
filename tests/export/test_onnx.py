"""An exported graph agrees with PyTorch, or is not written."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from src_training.errors import InputError
from src_training.export import export_onnx
from src_training.export.onnx import (
    ExportableAvgPool,
    check_graph,
    checked_graph,
    with_exportable_pooling,
)
from src_training.export.preprocessing_spec import preprocessing_text
from src_training.inference.model_card import ModelCard
from src_training.networks import NETWORKS
from tests.export.conftest import Unpooling, model_of
from tests.small_networks import SMALL_OPTIONS, small_network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZES = [(1, 1, 1), (1, 7, 30), (3, 16, 24), (1, 40, 12), (2, 33, 17)]


def largest_difference(content, network, shape, seed=0):
    """From PyTorch; for odd sizes, where repeated edges tie, from the graph on the padded image."""
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
def test_the_graph_agrees_with_pytorch_at_any_size(graph, unpooling, size):
    batch, height, width = size
    assert largest_difference(graph[0], unpooling.network, (batch, 1, height, width)) < 1e-6


def test_the_check_reports_the_difference_and_its_sizes(graph):
    check = graph[1]
    assert 0 <= check.largest_difference <= 1e-4
    assert len({shape[2:] for shape in check.shapes}) == 3


def test_the_model_is_not_changed_by_its_export(unpooling, graph):
    assert graph
    torch.manual_seed(0)
    fresh = Unpooling(1, 2).state_dict()
    for name, tensor in unpooling.network.state_dict().items():
        assert torch.equal(tensor, fresh[name]), name


@pytest.mark.usefixtures("translated")
def test_the_file_is_valid_and_describes_itself(unpooling, tmp_path):
    export_onnx(unpooling, tmp_path / "a.onnx")
    read = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(read, full_check=True)
    described = {entry.key: entry.value for entry in read.metadata_props}
    assert ModelCard.model_validate(json.loads(described["msankd"])) == unpooling.card
    assert described["preparation"] == preprocessing_text(unpooling.card.preprocessing)
    assert [part.name for part in (*read.graph.input, *read.graph.output)] == [
        "image",
        "probabilities",
    ]


def test_the_file_names_no_file_of_this_machine(graph):
    assert b".py" not in graph[0]


def test_a_graph_of_other_weights_fails_the_check(unpooling, graph):
    other = Unpooling(1, 2).eval()
    with pytest.raises(InputError, match=r"tiny: onnxruntime differs .* at most 0\.0001"):
        check_graph(graph[0], other, unpooling.card)


def test_a_small_error_in_the_weights_fails_the_check(unpooling, graph):
    other = Unpooling(1, 2).eval()
    other.load_state_dict(unpooling.network.state_dict())
    with torch.no_grad():
        other.head.bias[0].add_(1e-3)
    with pytest.raises(InputError, match="onnxruntime differs"):
        check_graph(graph[0], other, unpooling.card)


def test_a_network_of_nan_fails_the_check(unpooling, graph):
    broken = Unpooling(1, 2).eval()
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="finite weights"):
        check_graph(graph[0], broken, unpooling.card)


def test_a_graph_that_fails_the_check_is_not_written(unpooling, tmp_path, monkeypatch):
    def refuse(*_):
        raise InputError("it differs")

    monkeypatch.setattr("src_training.export.onnx.check_graph", refuse)
    with pytest.raises(InputError, match="it differs"):
        export_onnx(unpooling, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("grid", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 2), (6, 6), (7, 16), (12, 35)])
def test_exportable_pooling_equals_adaptive_pooling(grid, size):
    image = torch.rand(2, 3, *size)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(grid))
    exportable = with_exportable_pooling(network)
    assert isinstance(exportable[0], ExportableAvgPool)
    assert not isinstance(network[0], ExportableAvgPool)
    torch.testing.assert_close(exportable(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_exports(name):
    torch.manual_seed(0)
    network = small_network(name).train()
    # Update running statistics; without them, large logits cause large rounding errors.
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 1, 64, 64))
    model = model_of(network.eval(), name, name, options=SMALL_OPTIONS.get(name, {}))
    content, check = checked_graph(model)
    assert check.largest_difference <= 1e-4
    for shape in [(1, 1, 1, 1), (2, 1, 32, 96), (1, 1, 64, 64), (1, 1, 33, 97)]:
        assert largest_difference(content, network, shape) <= 1e-4


@pytest.mark.usefixtures("translated")
def test_the_command_reports_the_difference(msankd, model_file, tmp_path):
    answer = msankd("export", model_file, "--onnx", tmp_path / "a.onnx")
    assert answer.code == 0, answer.err
    assert (tmp_path / "a.onnx").is_file()
    assert "a.onnx: the probabilities are those of PyTorch within" in answer.out


@pytest.mark.parametrize(
    ("options", "words"),
    [([], "expected at least one"), (["--onnx", "a", "--sample", "b"], "expected --bioimageio")],
)
def test_the_command_needs_a_target_and_a_folder_for_a_sample(msankd, options, words):
    answer = msankd("export", "vessels", *options)
    assert answer.code == 2 and words in answer.err
