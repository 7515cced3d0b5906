import numpy as np
import pytest
import torch

from src_training.data.domain import Domain
from src_training.errors import InputError
from src_training.explore.extraction import extract
from src_training.inference.model_file import load_model
from src_training.training.semantic_encoder import STAGES, fit_semantic_encoder
from src_training.training.train_step import StepResult


@pytest.fixture
def domain(make_domain):
    return Domain.from_folder(make_domain())


def fitted(model, domain, **options):
    *steps, last = fit_semantic_encoder(model, domain, **options)
    assert all(isinstance(step, StepResult) for step in steps)
    return steps, last


def test_the_model_gets_an_encoder_and_keeps_its_network(tiny_model, domain, tmp_path):
    bare = tiny_model(semantics=False)
    before = {name: tensor.clone() for name, tensor in bare.network.state_dict().items()}
    steps, model = fitted(bare, domain, steps=2)
    assert [step.stage for step in steps[::2]] == ["autoencoder", "vectors", "san"]
    assert len(steps) == 2 * STAGES
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert "fitted afterwards to 3 images of scans" in model.card.method
    model.save(tmp_path / "aligned.safetensors")
    *_, last = extract(load_model(tmp_path / "aligned.safetensors"), [domain])
    assert last.table.values.shape == (3, 512) and np.isfinite(last.table.values).all()


def test_the_same_seed_gives_the_same_encoder(tiny_model, domain):
    one, other, another = (
        fitted(tiny_model(semantics=False), domain, steps=1, seed=seed)[1].semantics.state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], another[name]) for name in one)


def test_more_steps_reconstruct_the_bottleneck_better(tiny_model, domain):
    steps, _ = fitted(tiny_model(semantics=False), domain, steps=30)
    errors = [step.losses["alignment/reconstruction"] for step in steps if step.stage == "san"]
    assert np.mean(errors[-5:]) < np.mean(errors[:5])


def test_what_cannot_be_fitted_is_said_in_one_sentence(tiny_model, domain, make_domain):
    def refused(words, model, domain, **options):
        with pytest.raises(InputError, match=words):
            list(fit_semantic_encoder(model, domain, **options))

    refused("has a semantic encoder already; expected a model without", tiny_model(), domain)
    bare = tiny_model(semantics=False)
    refused("steps is 0; expected 1 or more", bare, domain, steps=0)
    unlabelled = Domain.from_folder(make_domain("bare", masks=False), masks="optional")
    refused("no masks; expected a mask for every image", bare, unlabelled)
    odd = tiny_model(semantics=False)
    odd.card = odd.card.model_copy(update={"patch": 30})
    refused("the patch of model tiny is 30 pixels; expected a multiple of 8", odd, domain)
    many = tiny_model(semantics=False)
    many.card = many.card.model_copy(update={"classes": ["background", "a", "b"]})
    refused("expected the model's 3 classes, background, a, b", many, domain)
