"""Every distillation by its name in a recipe: from shared stages to a distilled student."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.config.recipe import Distilling
from src_training.data.sampling import Batch
from src_training.distillation import METHODS
from src_training.errors import InputError
from src_training.inference.model_file import read_card
from src_training.networks import build_network
from src_training.runs.directory import STAGES
from src_training.runs.events import RunStarted, StageFinished, StepDone
from src_training.runs.run import RunDirectory, distil, run_state
from src_training.training.interruption import Interrupted
from src_training.training.stages.distillation import Distil, distillations_of, stage_names


def chosen(**fields):
    torch.manual_seed(0)
    teacher, student = build_network("fanet", 1, 2, width=2), build_network("enet", 1, 2)
    return distillations_of(Distilling(**fields), teacher, student)


@pytest.fixture
def begun(finished_run, tmp_path, monkeypatch):
    """A run of other methods whose stages up to the last are those of the finished one."""
    monkeypatch.setattr("src_training.runs.finalise.finalise", lambda *_: None)

    def begin(methods, name="run"):
        path = tmp_path / name
        shutil.copytree(finished_run.path / "stages", path / "stages")
        shutil.rmtree(path / "stages" / "distil")
        recipe = finished_run.recipe
        stages = recipe.stages.model_copy(
            update={"paraphraser": recipe.stages.tan, "distil": recipe.stages.distil}
        )
        distilling = recipe.distilling.model_copy(update={"methods": methods})
        recipe = recipe.model_copy(update={"stages": stages, "distilling": distilling})
        recipe.save(RunDirectory(path).recipe)
        return recipe, path

    return begin


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_by_its_name_and_its_losses_are_in_the_events(begun, method):
    recipe, path = begun({method: 1.0})
    events = []
    distil(recipe, path, resume=True, device="cpu", listener=events.append)
    names = {loss for part in METHODS[method].parts for loss in part.weights} - {"predictions"}
    steps = [event for event in events if isinstance(event, StepDone) and event.stage == "distil"]
    assert [step.losses.keys() for step in steps] == [{"ce"} | names] * 3
    finished = [event.stage for event in events if isinstance(event, StageFinished)]
    with_paraphraser = method.startswith("graph_flow")
    assert finished == ["paraphraser"] * with_paraphraser + ["distil"]
    (started,) = (event for event in events if isinstance(event, RunStarted))
    assert started.stages == list(stage_names(recipe.distilling))
    assert run_state(path).state == "finished"
    student = load_file(path / "stages" / "distil" / "best.safetensors")
    alone = load_file(path / "stages" / "student" / "best.safetensors")
    assert student.keys() == alone.keys()


@pytest.mark.parametrize("methods", [{"graph_flow": 1.0}, {"fsp": 0.5, "gkd": 1.0}])
def test_what_learns_beside_the_student_resumes_exactly_too(begun, methods):
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


@pytest.mark.parametrize("methods", [{"emkd": 1.0}, {"gkd": 1.0, "graph_flow": 1.0}])
def test_images_without_masks_join_the_last_stage_and_are_named_in_the_model(
    make_recipe, tmp_path, monkeypatch, methods
):
    batches = []
    distilled = Distil.forward

    def watched(self, batch):
        batches.append((len(batch.image), len(batch.mask)))
        return distilled(self, batch)

    monkeypatch.setattr(Distil, "forward", watched)
    few = {"steps": 1, "batch": 2}
    stages = dict.fromkeys((*STAGES, "paraphraser"), few) | {"distil": {"steps": 2, "batch": 3}}
    del stages["alone"]
    recipe = make_recipe(
        stages=stages,
        unlabelled=[UNLABELLED],
        distilling={"views": 2, "methods": methods},
    )
    distil(recipe, tmp_path / "run", device="cpu")
    # One before the first step, to see how loud each loss is.
    assert batches == [(3, 2)] * (1 + 2)
    named = {
        role: [domain.name for domain in read_card(model).sources]
        for role in ("alone", "distilled")
        for model in [tmp_path / "run" / "models" / f"{role}.safetensors"]
    }
    assert named == {"alone": ["A"], "distilled": ["A", "C"]}
    assert read_card(tmp_path / "run" / "model.safetensors").sources[1].terms == "c"


def test_unlabelled_images_teach_and_their_supervised_loss_is_not_asked_for():
    torch.manual_seed(0)
    teacher, student = build_network("fanet", 1, 2, width=2), build_network("enet", 1, 2)
    tan, san = (AlignmentNetwork(n.bottleneck_channels, (4, 4), 8, 4) for n in (teacher, student))
    taught = distillations_of(Distilling(methods={"logits": 1.0}), teacher, student)
    stage = Distil((student, san), (teacher, tan), *taught, 0, "ce").eval()
    images, mask = torch.rand(4, 1, 32, 32), torch.randint(2, (4, 32, 32))
    half, labelled, whole = (
        stage(batch)
        for batch in (Batch(images, mask[:2]), Batch(images[:2], mask[:2]), Batch(images, mask))
    )
    assert half["ce"].item() == pytest.approx(labelled["ce"].item(), rel=1e-5)
    assert half["logits"].item() == pytest.approx(whole["logits"].item(), rel=1e-5)
    assert half["logits"].item() != pytest.approx(labelled["logits"].item(), rel=1e-5)


def test_gkd_is_what_a_recipe_distils_by_unless_it_says_otherwise():
    distillations, weights = chosen(cross=0.1)
    assert [type(each).__name__ for each in distillations] == [
        "DCGD",
        "DICD",
    ]
    assert weights == {"intra": 0.02, "inter": 0.02, "cross": 0.1}
    assert chosen(intra=0, inter=0, cross=0, predictions=0.5)[1] == {"predictions": 0.5}


def test_a_sum_weighs_each_loss_by_its_method_and_by_its_place_in_it():
    distillations, weights = chosen(methods={"emkd": 0.5, "gkd": 2.0, "logits": 0.0}, cross=0)
    assert [type(each).__name__ for each in distillations] == [
        "EMKD",
        "DCGD",
    ]
    expected = {"pmd": 0.05, "imd_low": 0.45, "rad_high": 0.45, "intra": 0.04, "inter": 0.04}
    assert {name: weights[name] for name in expected} == pytest.approx(expected)
    assert "logits" not in weights


def test_a_recipe_may_weigh_single_losses():
    weights = chosen(methods={"emkd": 0.5}, weights={"rad_high": 0.2, "logits": 3.0})[1]
    assert weights["rad_high"] == pytest.approx(0.1)
    assert weights["rad_low"] == pytest.approx(0.45)
    assert "logits" not in weights


def test_what_weighs_nothing_is_left_out_and_its_stage_with_it():
    left_out = dict.fromkeys(("imd_low", "imd_high", "rad_low", "rad_high", "pmd"), 0)
    distillations, weights = chosen(methods={"emkd": 1.0, "logits": 1.0}, weights=left_out)
    assert [type(each).__name__ for each in distillations] == ["LogitsKD"]
    assert weights == {"logits": 1.0}
    no_graphs = {"vertices": 0, "edges": 0, "prediction": 0}
    for taught, stages in (({}, ["paraphraser"]), (no_graphs, [])):
        named = stage_names(Distilling(methods={"graph_flow": 1.0}, weights=taught))
        assert [name for name in named if name not in STAGES] == stages


def test_published_weights():
    assert chosen(methods={"graph_flow": 1})[1] == {
        "vertices": 1e-5,
        "edges": 1e-9,
        "prediction": 1.0,
        "adversarial": 0.1,
        "critic": 1.0,
    }
    emkd = chosen(methods={"emkd": 1})[1]
    assert emkd == {
        "pmd": 0.1,
        "imd_low": 0.9,
        "imd_high": 0.9,
        "rad_low": 0.9,
        "rad_high": 0.9,
    }


def test_the_critic_has_its_own_rate_and_the_student_that_of_the_stage(begun, monkeypatch):
    groups = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments, **keywords):
        groups.append([(group["lr"], group["betas"]) for group in self.param_groups])
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    recipe, path = begun({"graph_flow": 1.0})
    distil(recipe, path, resume=True, device="cpu")
    student, critic = groups[-3]
    assert student == (recipe.stages.distil.rate, (0.9, 0.999))
    assert critic == (3e-5, (0.9, 0.99))


def test_a_method_without_weight_has_no_stage():
    assert stage_names(Distilling(methods={"gkd": 1.0, "graph_flow": 0.0})) == STAGES
    assert stage_names(Distilling(methods={"graph_flow": 1.0}))[-2:] == ("paraphraser", "distil")


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"gdk": 1.0}, "method 'gdk' is unknown; expected one of"),
        ({"gkd": -1.0}, "the field distilling.methods.gkd is -1.0"),
        (
            {"graph_flow": 1.0, "graph_flow_normalised": 1.0},
            "methods graph_flow and graph_flow_normalised each have a loss 'vertices'",
        ),
    ],
)
def test_methods_that_make_no_sense_are_refused_in_one_sentence(make_recipe, methods, said):
    with pytest.raises(InputError) as caught:
        make_recipe(distilling={"methods": methods})
    assert said in str(caught.value) and "\n" not in str(caught.value)
