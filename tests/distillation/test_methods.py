"""Every distillation, by its name in a recipe, trains a student from shared stages."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.config.recipe import Recipe
from src_training.config.stages import REQUIRED_STAGES, STAGES, stages_of
from src_training.data.sampling import Batch
from src_training.distillation import METHODS, build_distillations, parse_options
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.networks import build_network
from src_training.runs.directory import RunDirectory
from src_training.runs.events import RunStarted, StageFinished, StepDone
from src_training.runs.run import distil
from src_training.runs.state import run_state
from src_training.training.interruption import Interrupted
from src_training.training.stages.distillation import DistillationStage


def stage_names(*methods):
    recipe = Recipe.load("phantom").changed({"distillation": list(methods)}, "test")
    return [spec.name for spec in stages_of(recipe)]


def options_of(*methods):
    return [parse_options({"method": each} if isinstance(each, str) else each) for each in methods]


def build(*methods):
    """Distillations of methods, and the weights of their losses."""
    torch.manual_seed(0)
    teacher, student = build_network("fanet", 1, 2, width=2), build_network("enet", 1, 2)
    parts = build_distillations(options_of(*methods), teacher, student)
    return parts, {
        f"{part.options.method}/{name}": weight
        for part in parts
        for name, weight in part.weights(part.options).items()
    }


@pytest.fixture
def begun(finished_run, tmp_path, monkeypatch):
    """A run of other methods whose stages up to the last are those of the finished one."""
    monkeypatch.setattr("src_training.runs.finalise.finalise", lambda *_: None)

    def begin(methods, name="run"):
        path = tmp_path / name
        shutil.copytree(finished_run.path / "stages", path / "stages")
        for stage in ("distil", "san_distilled"):
            shutil.rmtree(path / "stages" / stage)
        recipe = finished_run.recipe
        stages = recipe.stages | {"paraphraser": recipe.stages["tan"]}
        recipe = recipe.model_copy(update={"stages": stages, "distillation": options_of(*methods)})
        recipe.save(RunDirectory(path).recipe)
        return recipe, path

    return begin


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_logs_its_losses(begun, method):
    recipe, path = begun([{"method": method, "views": 2} if method == "gkd" else method])
    events = []
    distil(recipe, path, resume=True, device="cpu", listener=events.append)
    names = {f"{method}/{loss}" for part in METHODS[method].parts for loss in part.loss_names}
    # Parts whose weight is 0 by default.
    names -= {"gkd/predictions", "masks/mixed"}
    steps = [event for event in events if isinstance(event, StepDone) and event.stage == "distil"]
    assert [step.losses.keys() for step in steps] == [{"segmentation/ce"} | names] * 3
    finished = [event.stage for event in events if isinstance(event, StageFinished)]
    with_paraphraser = method.startswith("graph_flow")
    assert finished == ["paraphraser"] * with_paraphraser + ["distil", "san_distilled"]
    (started,) = (event for event in events if isinstance(event, RunStarted))
    assert started.stages == [spec.name for spec in stages_of(recipe)]
    assert run_state(path).state == "finished"
    student = load_file(path / "stages" / "distil" / "best.safetensors")
    alone = load_file(path / "stages" / "student" / "best.safetensors")
    assert student.keys() == alone.keys()


@pytest.mark.parametrize("methods", [["graph_flow"], [{"method": "fsp", "weight": 0.5}, "gkd"]])
def test_modules_trained_beside_the_student_resume_exactly(begun, methods):
    recipe, whole = begun(methods, "whole")
    distil(recipe, whole, resume=True, device="cpu")
    _, path = begun(methods, "stopped")
    done = []
    with pytest.raises(Interrupted):
        distil(
            recipe,
            path,
            resume=True,
            device="cpu",
            listener=done.append,
            stopping=lambda: any(e.kind == "step_done" and e.stage == "distil" for e in done),
        )
    distil(recipe, path, resume=True, device="cpu")
    for checkpoint in ("last", "best"):
        expected, found = (
            load_file(run / "stages" / "distil" / f"{checkpoint}.safetensors")
            for run in (whole, path)
        )
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


UNLABELLED = {"name": "C", "phantoms": {"scanner": "C", "images": 1, "size": 64}, "terms": "c"}


@pytest.mark.parametrize("methods", [["emkd"], ["gkd", "graph_flow"]])
def test_unlabelled_images_join_distil_and_are_on_the_card(
    make_recipe, tmp_path, monkeypatch, methods
):
    batches = []
    distilled = DistillationStage.forward

    def watched(self, batch):
        batches.append((len(batch.image), len(batch.mask)))
        return distilled(self, batch)

    monkeypatch.setattr(DistillationStage, "forward", watched)
    few = {"steps": 1, "batch": 2}
    named = [name for name, spec in STAGES.items() if spec.in_recipe]
    stages = dict.fromkeys(named, few) | {"distil": {"steps": 2, "batch": 3}}
    recipe = make_recipe(
        stages=stages,
        unlabelled=[UNLABELLED],
        distillation=[each.model_dump() for each in options_of(*methods)],
    )
    distil(recipe, tmp_path / "run", device="cpu")
    # One batch before the first step, to measure the strength of each loss.
    assert batches == [(3, 2)] * (1 + 2)
    named = {
        role: [domain.name for domain in read_card(model).sources]
        for role in ("baseline", "distilled")
        for model in [tmp_path / "run" / "models" / f"{role}.safetensors"]
    }
    assert named == {"baseline": ["A"], "distilled": ["A", "C"]}
    assert read_card(tmp_path / "run" / "model.safetensors").sources[1].terms == "c"


def test_unlabelled_images_have_no_supervised_loss():
    torch.manual_seed(0)
    teacher, student = build_network("fanet", 1, 2, width=2), build_network("enet", 1, 2)
    tan, san = (AlignmentNetwork(n.bottleneck_channels, (4, 4), 8, 4) for n in (teacher, student))
    parts = build_distillations(options_of("logits"), teacher, student)
    stage = DistillationStage((student, san), (teacher, tan), parts, "ce").eval()
    images, mask = torch.rand(4, 1, 32, 32), torch.randint(2, (4, 32, 32))
    half, labelled, whole = (
        stage(batch)
        for batch in (Batch(images, mask[:2]), Batch(images[:2], mask[:2]), Batch(images, mask))
    )
    assert half["segmentation/ce"].item() == pytest.approx(
        labelled["segmentation/ce"].item(), rel=1e-5
    )
    assert half["logits/logits"].item() == pytest.approx(whole["logits/logits"].item(), rel=1e-5)
    assert half["logits/logits"].item() != pytest.approx(labelled["logits/logits"].item(), rel=1e-5)


def test_gkd_is_the_default(make_recipe):
    recipe = make_recipe()
    bare = Recipe.validated(recipe.model_dump(exclude={"distillation"}), "bare")
    assert [each.method for each in bare.distillation] == ["gkd"]
    parts, weights = build({"method": "gkd", "cross": 0.1})
    assert [type(each).__name__ for each in parts] == ["DCGD", "DICD"]
    assert weights == {"gkd/intra": 0.02, "gkd/inter": 0.02, "gkd/cross": 0.1}
    predictions = {"method": "gkd", "intra": 0, "inter": 0, "cross": 0, "predictions": 0.5}
    assert build(predictions)[1] == {"gkd/predictions": 0.5}


def test_weights_of_methods_and_losses_multiply():
    parts, weights = build(
        {"method": "emkd", "weight": 0.5, "rad_high": 0.2},
        {"method": "gkd", "weight": 2.0, "cross": 0},
        {"method": "logits", "weight": 0.0},
    )
    assert [type(each).__name__ for each in parts] == ["EMKD", "DCGD"]
    expected = {"emkd/pmd": 0.05, "emkd/imd_low": 0.45, "emkd/rad_high": 0.1, "gkd/intra": 0.04}
    assert {name: weights[name] for name in expected} == pytest.approx(expected)
    assert not [name for name in weights if name.startswith("logits")]


def test_parts_without_weight_have_no_stage():
    left_out = dict.fromkeys(("imd_low", "imd_high", "rad_low", "rad_high", "pmd"), 0)
    parts, weights = build({"method": "emkd", **left_out}, "logits")
    assert [type(each).__name__ for each in parts] == ["LogitsKD"]
    assert weights == {"logits/logits": 1.0}
    no_graphs = {"vertices": 0, "edges": 0, "prediction": 0}
    for options, stages in (({}, ["paraphraser"]), (no_graphs, [])):
        names = stage_names({"method": "graph_flow", **options})
        assert [name for name in names if name not in REQUIRED_STAGES] == stages
    unused = {"method": "graph_flow", "weight": 0}
    assert stage_names({"method": "gkd"}, unused) == [*REQUIRED_STAGES]
    assert stage_names({"method": "graph_flow"})[-3:-1] == ["paraphraser", "distil"]


def test_published_weights():
    assert build("graph_flow")[1] == {
        "graph_flow/vertices": 1e-5,
        "graph_flow/edges": 1e-9,
        "graph_flow/prediction": 1.0,
        "graph_flow/adversarial": 0.1,
        "graph_flow/critic": 1.0,
    }
    assert build("emkd")[1] == {
        "emkd/pmd": 0.1,
        "emkd/imd_low": 0.9,
        "emkd/imd_high": 0.9,
        "emkd/rad_low": 0.9,
        "emkd/rad_high": 0.9,
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_has_an_option(method):
    spec = METHODS[method]
    losses = [name for part in spec.parts for name in part.loss_names]
    assert len(set(losses)) == len(losses)
    assert set(losses) <= spec.options.model_fields.keys()
    assert spec.options().method == method


def test_the_critic_has_its_own_learning_rate(begun, monkeypatch):
    groups = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments, **keywords):
        groups.append([(group["lr"], group["betas"]) for group in self.param_groups])
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    recipe, path = begun(["graph_flow"])
    distil(recipe, path, resume=True, device="cpu")
    # The first step, at the peak rate. Stages with one parameter group are alignment stages.
    student, critic = next(each for each in groups if len(each) == 2)
    assert student == (recipe.stages["distil"].rate, (0.9, 0.999))
    assert critic == (3e-5, (0.9, 0.99))


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (["gkd"], "the field distillation is 'gkd'; expected fields with values"),
        ([{"views": 2}], "the field distillation.method is missing"),
        ([{"method": "gdk"}], "the field distillation.method is 'gdk'; expected one of 'gkd', 'e"),
        ([{"method": "gkd", "weight": -1}], "distillation.gkd.weight is -1; expected at least 0"),
        ([{"method": "gkd", "vews": 2}], "the field distillation.gkd.vews is unknown"),
        ([{"method": "emkd", "views": 2}], "the field distillation.emkd.views is unknown"),
        ([{"method": "emkd", "weight": 0}], "all method weights are 0; expected one above 0"),
        ([{"method": "fsp", "flow": 0}], "all weights of the losses of fsp are 0"),
        ([{"method": "fsp"}, {"method": "fsp"}], "method fsp is given twice"),
        ({"method": "gkd"}, "expected a list"),
    ],
)
def test_wrong_methods_are_refused_in_one_sentence(make_recipe, methods, words):
    with pytest.raises(InputError) as caught:
        make_recipe(distillation=methods)
    assert words in str(caught.value) and "\n" not in str(caught.value)
