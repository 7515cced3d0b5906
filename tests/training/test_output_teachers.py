"""Teachers that are used by their outputs alone: ensembles, and external models."""

import json

import numpy as np
import pytest
import torch
import yaml

from src_training.config.networks import ExternalTeacher
from src_training.config.recipe import Recipe
from src_training.errors import InputError
from src_training.export import export_bioimageio, export_onnx
from src_training.inference.external.model import describe_model
from src_training.inference.external.networks import EnsembleNetwork, OnnxNetwork, turned_mean
from src_training.inference.model_file import load_model, read_card
from src_training.runs.directory import RunDirectory
from src_training.runs.events import Noted, RunStarted, StepDone, read_events
from src_training.runs.load import load_networks, load_pair
from src_training.runs.run import distil
from src_training.training.distributed import launch
from src_training.training.interruption import Interrupted
from tests.run_stages import run_stages
from tests.small_networks import small_network

onnx = pytest.importorskip("onnx")
LOGITS = [{"method": "logits"}]
CLASSES = ("background", "vessel")
WEIGHTS = np.array([[3.0, -1.0], [-2.0, 1.5]], np.float32)


def write_graph(path, weights=WEIGHTS, after=None, side=None):
    """A graph of a 1 x 1 convolution, optionally followed by an operator."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.asarray(weights, np.float32)
    shape = ["batch", weights.shape[1], side or "height", side or "width"]
    name = "made" if after else "out"
    nodes = [helper.make_node("Conv", ["image", "weights"], [name])]
    if after:
        options = {"axis": 1} if after == "Softmax" else {}
        nodes.append(helper.make_node(after, [name], ["out"], **options))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights[..., None, None], "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def external(path, classes=CLASSES, in_channels=1, output="logits", **fields):
    model = ExternalTeacher(file=str(path), output=output, **fields)
    return OnnxNetwork(model, path.read_bytes(), in_channels, classes)


def elsewhere(path, **fields):
    return {"kind": "onnx", "file": str(path), "output": "logits", "preprocessing": {}} | fields


def pixels(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_graph_of_each_output_predicts_the_same(tmp_path):
    column, x = WEIGHTS[:, :1], pixels(2, 1, 40, 33)
    logits = torch.einsum("kc,bchw->bkhw", torch.from_numpy(column), x)
    expected = logits.softmax(1)
    one = column[1:] - column[:1]
    found = {
        "logits": external(write_graph(tmp_path / "a.onnx", column)),
        "probabilities": external(
            write_graph(tmp_path / "b.onnx", column, "Softmax"), output="probabilities"
        ),
        "sigmoid": external(write_graph(tmp_path / "c.onnx", one), output="sigmoid"),
        "foreground": external(
            write_graph(tmp_path / "d.onnx", one, "Sigmoid"),
            output="probabilities",
            classes=CLASSES,
        ),
        "swapped": external(
            write_graph(tmp_path / "e.onnx", column[::-1]),
        ),
    }
    swapped = ExternalTeacher(
        file=str(tmp_path / "e.onnx"), output="logits", classes=["Vessel", "background"]
    )
    content = (tmp_path / "e.onnx").read_bytes()
    found["swapped"] = OnnxNetwork(swapped, content, 1, CLASSES)
    for name, network in found.items():
        torch.testing.assert_close(network(x).softmax(1), expected, msg=name)


def test_other_classes_count_as_background(tmp_path):
    path = write_graph(tmp_path / "a.onnx", [[1.0], [2.0], [3.0]])
    model = ExternalTeacher(file=str(path), output="logits", classes=["disc", "vessel", "none"])
    x = pixels(1, 1, 32, 32)
    found = OnnxNetwork(model, path.read_bytes(), 1, CLASSES)(x).softmax(1)
    logits = torch.einsum("k,bhw->bkhw", torch.tensor([1.0, 2.0, 3.0]), x[:, 0])
    torch.testing.assert_close(found[:, 1], logits.softmax(1)[:, 1])


@pytest.mark.parametrize("how", [{"side": 16}, {"multiple": 32}, {"multiple": 1}])
def test_images_of_any_size_are_cut_or_padded(tmp_path, how):
    path = write_graph(tmp_path / "a.onnx", WEIGHTS[:, :1], side=how.get("side"))
    x = pixels(3, 1, 37, 50)
    found = external(path, preprocessing=how)(x)
    torch.testing.assert_close(
        found, torch.einsum("kc,bchw->bkhw", torch.from_numpy(WEIGHTS[:, :1]), x)
    )


def test_the_input_is_made_as_the_recipe_says(tmp_path):
    path, x = write_graph(tmp_path / "a.onnx", WEIGHTS), pixels(2, 1, 32, 32)
    how = {"channels": 2, "values": [0, 255], "normalise": "fixed", "mean": [100], "std": [10, 20]}
    given = (x.expand(-1, 2, -1, -1) * 255 - 100) / torch.tensor([10.0, 20.0])[:, None, None]
    expected = torch.einsum("kc,bchw->bkhw", torch.from_numpy(WEIGHTS), given)
    torch.testing.assert_close(external(path, preprocessing=how)(x), expected)
    single = write_graph(tmp_path / "b.onnx", WEIGHTS[:, :1])
    for normalise in ("image", "percentiles"):
        network = external(single, preprocessing={"normalise": normalise})
        torch.testing.assert_close(network(x), network(3 * x), rtol=1e-3, atol=1e-3)
    assert external(single, preprocessing={"scale": 2.0})(x).shape == (2, 2, 32, 32)


def test_an_ensemble_predicts_the_mean_probability():
    members = [small_network("fanet").eval(), small_network("enet").eval()]
    x = pixels(2, 1, 64, 64)
    with torch.no_grad():
        found = EnsembleNetwork(members)(x).softmax(1)
        expected = torch.stack([each(x).softmax(1) for each in members]).mean(0)
    torch.testing.assert_close(found, expected)


def test_flips_and_turns_predict_a_turned_image_alike():
    network, x = small_network("fanet").eval(), pixels(1, 1, 32, 32)
    with torch.no_grad():
        found = turned_mean(network, x)
        for move in (lambda each: each.flip(-1), lambda each: torch.rot90(each, 1, (-2, -1))):
            torch.testing.assert_close(
                turned_mean(network, move(x)), move(found), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"distillation": [{"method": "gkd"}]}, "gkd reads features inside the teacher unless"),
        ({"distillation": [{"method": "skd"}]}, "skd reads features inside the teacher, and"),
        ({"distillation": [{"method": "skd"}]}, "expected methods of outputs: logits,"),
    ],
)
def test_methods_of_features_are_refused(make_recipe, tmp_path, fields, sentence):
    path = write_graph(tmp_path / "a.onnx")
    with pytest.raises(InputError) as caught:
        make_recipe(teacher=elsewhere(path), **fields)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    gkd = {"method": "gkd", "views": 2, "predictions": 1, "intra": 0, "inter": 0, "cross": 0}
    make_recipe(teacher=elsewhere(path), distillation=[gkd])


def test_flips_need_a_method_that_shows_plain_patches(make_recipe):
    flips = {"name": "fanet", "options": {"width": 2}, "flips": True}
    with pytest.raises(InputError, match="expected teacher_sees: plain, or no flips"):
        make_recipe(teacher=flips, distillation=LOGITS)
    make_recipe(teacher=flips, distillation=[{"method": "logits", "teacher_sees": "plain"}])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"output": "probabilities"}, "expected values from 0 to 1, or output: logits or sigmoid"),
        ({"classes": ["background", "liver"]}, "expected vessel among them"),
        ({"classes": ["background"]}, "names 1 channels, and a.onnx returns 2"),
        ({"preprocessing": {"channels": 3}}, "expected 1, as many as the input of the file has"),
    ],
)
def test_a_wrong_description_is_one_sentence(make_recipe, tmp_path, fields, sentence):
    path = write_graph(tmp_path / "a.onnx", 5 * WEIGHTS[:, :1])
    recipe = make_recipe(1, teacher=elsewhere(path, **fields), distillation=LOGITS)
    with pytest.raises(InputError) as caught:
        distil(recipe, tmp_path / "run", device="cpu")
    assert sentence in str(caught.value) and not (tmp_path / "run" / "recipe.yaml").exists()


def test_descriptions_of_the_zoo_are_read(tmp_path):
    write_graph(tmp_path / "weights.onnx", WEIGHTS[:, :1], "Sigmoid")
    described = {
        "inputs": [
            {
                "axes": "bcyx",
                "shape": {"min": [1, 3, 64, 64], "step": [0, 0, 16, 16]},
                "preprocessing": [{"name": "zero_mean_unit_variance", "kwargs": {"axes": "xy"}}],
            }
        ],
        "outputs": [{"axes": "bcyx", "postprocessing": [{"name": "sigmoid"}]}],
        "weights": {"onnx": {"source": "https://zoo.example/weights.onnx"}},
    }
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(described))
    model = ExternalTeacher(file=str(tmp_path))
    assert (model.output, model.file) == ("sigmoid", str(tmp_path / "weights.onnx"))
    how = model.preprocessing
    assert (how.channels, how.multiple, how.normalise) == (3, 16, "image")
    described["inputs"][0]["preprocessing"] = [{"name": "binarize"}]
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(InputError, match="the step binarize, which cannot be followed"):
        describe_model(tmp_path)
    described["weights"] = {"torchscript": {"source": "a.pt"}}
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(InputError, match="its weights are torchscript; expected onnx"):
        describe_model(tmp_path / "rdf.yaml")


@pytest.fixture(scope="module")
def copies(finished_run, tmp_path_factory):
    """A teacher of ours, the same as an ONNX file, and as a bioimage.io folder."""
    folder = tmp_path_factory.mktemp("copies")
    model = load_model(RunDirectory(finished_run.path).role_model("teacher"))
    file = folder / "teacher.safetensors"
    with torch.no_grad():
        # After three steps logits are in the hundreds, so their rounding errors are large.
        size = model.network(pixels(1, 1, 64, 64)).std()
        for parameter in model.network.head.parameters():
            parameter /= size
    model.save(file)
    export_onnx(model, folder / "teacher.onnx")
    export_bioimageio(model, folder / "zoo")
    return file, folder / "teacher.onnx", folder / "zoo"


def test_an_exported_teacher_describes_itself(copies):
    for file in copies[1:]:
        model = ExternalTeacher(file=str(file))
        assert model.output == "probabilities" and model.classes == list(CLASSES)
        assert model.preprocessing.channels == 1 and model.file.endswith(".onnx")


def losses(events):
    return [
        event.losses
        for event in events
        if isinstance(event, StepDone) and event.stage in ("student", "distil")
    ]


def test_an_onnx_copy_distils_like_the_teacher(make_recipe, copies, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "training_precision", lambda _device: "32-true")
    file, graph, _ = copies
    events = {}
    for name, teacher in (
        ("ours", {"start_from": str(file), "train": False}),
        ("onnx", {"kind": "onnx", "file": str(graph)}),
        ("ensemble", {"start_from": [str(file), str(file)]}),
    ):
        recipe = make_recipe(teacher=teacher, distillation=LOGITS)
        events[name] = []
        run_stages(recipe, RunDirectory(tmp_path / name), events[name].append)
    expected = losses(events["ours"])
    assert any("logits/logits" in each for each in expected)
    for name in ("onnx", "ensemble"):
        for found, wanted in zip(losses(events[name]), expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-5)


def test_a_run_keeps_its_teacher_and_resumes_exactly(make_recipe, copies, tmp_path):
    graph = tmp_path / "big.onnx"
    graph.write_bytes(copies[1].read_bytes())
    recipe = make_recipe(2, teacher={"kind": "onnx", "file": str(graph)}, distillation=LOGITS)
    whole, halves = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "halves")
    distil(recipe, whole.path, device="cpu")
    seen = []
    with pytest.raises(Interrupted):
        distil(
            recipe,
            halves.path,
            device="cpu",
            listener=seen.append,
            stopping=lambda: any(isinstance(e, StepDone) and e.stage == "distil" for e in seen),
        )
    graph.unlink()
    distil(Recipe.load(halves.recipe), halves.path, resume=True, device="cpu")
    one, other = (load_model(run.model).network.state_dict() for run in (whole, halves))
    assert all(torch.equal(one[name], other[name]) for name in one)
    started = next(e for e in read_events(whole.events) if isinstance(e, RunStarted))
    assert not {"teacher", "tan"} & set(started.stages)
    notes = [e.sentence for e in read_events(whole.events) if isinstance(e, Noted)]
    assert any("big.onnx (SHA-256 " in note for note in notes)
    assert any("the teacher has a Dice of" in note for note in notes)
    page = (whole.report / "report.md").read_text()
    assert "Stages teacher and tan are left out" in page and "| B | teacher | unseen |" in page
    assert json.loads((whole.report / "report.json").read_text())["teacher"]["scores"]["B"]
    assert not whole.role_model("teacher").exists()
    assert (
        "distilled by logits KD (arXiv 1503.02531) from big.onnx" in read_card(whole.model).method
    )
    assert load_networks(whole.path).recipe == recipe
    with pytest.raises(InputError, match="the outputs alone are known"):
        load_pair(whole.path)


def test_a_recipe_of_folders_takes_a_teacher_from_elsewhere(msankd, make_domain, tmp_path):
    graph, out = write_graph(tmp_path / "big.onnx", WEIGHTS[:, :1]), tmp_path / "made.yaml"
    command = ("recipe", make_domain(), "--teacher", graph, "--time", "quick", "--out", out)
    refused = msankd(*command)
    assert refused.code and "output of big.onnx is missing" in " ".join(refused.err.split())
    assert msankd(*command, "--teacher-output", "logits").code == 0
    teacher = Recipe.load(out).teacher
    assert (teacher.kind, teacher.output, teacher.file) == ("onnx", "logits", str(graph))
