"""No legend shows the bare name of a loss."""

import pytest

from src_training.config.loss_titles import LOSS_TITLES, loss_title
from src_training.distillation.registry import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_of_a_method_has_a_title_of_its_own(method):
    spec = METHODS[method]
    weights = [name for part in spec.parts for name in part.weights(spec.options(method=method))]
    titles = [LOSS_TITLES[f"{method}/{name}"] for name in weights]
    assert len(set(titles)) == len(titles)


def test_every_loss_of_a_run_has_a_title(finished_run):
    names = {
        name
        for event in finished_run.events
        if event.kind == "step_done"
        for name in (*event.losses, "total")
    }
    assert len(names) > 8 and names <= LOSS_TITLES.keys()
    assert all("/" not in loss_title(name) for name in names)
