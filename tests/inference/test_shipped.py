"""The models that come with the package."""

import pytest

from src_training.inference.model_file import load_model
from src_training.inference.shipped import shipped_models


def test_the_first_is_that_of_the_samples():
    assert list(shipped_models()) == ["vessels", "liver-msd"]


@pytest.mark.parametrize("name", shipped_models())
def test_each_says_where_it_comes_from_and_how_good_it_is(name):
    model = load_model(name)
    card, said = model.card, shipped_models()[name].with_suffix(".md").read_text("utf-8")
    assert said.startswith(f"# {name}\n") and "Not a medical device" in said
    assert card.licence and f"{card.licence}; attribute" in said
    assert {domain.terms for domain in card.sources} == {card.licence}
    assert model.semantics is not None
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    assert f"{weights:,} parameters" in said
    assert any(f"{scores['dice']:.3f}" in said for scores in card.metrics.values())
