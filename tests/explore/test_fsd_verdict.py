import numpy as np
import pytest

from src_training.errors import InputError
from src_training.explore.fsd_verdict import measure_verdict
from tests.explore.tables import table


def images(name, seed, count, shift=0.0, scale=1.0, patches=8, d=16):
    """Images of a domain; as in scans, patches of one image are correlated."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(count, 1, d)) + random.normal(size=(count, patches, d))
    return [(name, f"{name}{i}", scale * rows + shift) for i, rows in enumerate(own)]


def judged(*parts, **options):
    verdict = measure_verdict(table(*(image for part in parts for image in part)), **options)
    return {each.domain: each for each in verdict.domains}


@pytest.mark.parametrize("seed", range(5))
def test_images_like_the_own_are_near_and_others_far(seed):
    found = judged(
        images("own", seed, 12),
        images("alike", seed + 100, 8),
        images("shifted", seed + 200, 8, shift=3),
        images("wide", seed + 300, 8, scale=3),
    )
    assert found["alike"].relation in ("near", "unclear")
    assert found["shifted"].relation == found["wide"].relation == "far"
    assert found["shifted"].distance.low > 2 * found["alike"].own.median


def test_what_lies_in_between_is_called_so():
    found = judged(images("own", 0, 30), images("other", 1, 30, shift=0.7))
    assert found["other"].relation == "further"
    assert found["other"].distance.low > found["other"].own.high


def test_the_number_of_images_does_not_decide():
    small = judged(images("own", 0, 12), images("alike", 1, 2))
    large = judged(images("own", 0, 12), images("alike", 1, 40))
    assert small["alike"].relation == large["alike"].relation == "near"


def test_too_few_images_are_not_judged():
    few = judged(images("own", 0, 3), images("far", 1, 9, shift=9))
    assert few["far"].relation == "unknown" and few["far"].distance is None
    one = judged(images("own", 0, 9), images("far", 1, 1, shift=9))
    assert one["far"].relation == "unknown"


def test_equal_vectors_are_no_ground_for_a_verdict():
    flat = [("own", f"{i}", np.ones((4, 8))) for i in range(5)]
    verdict = measure_verdict(table(*flat, *images("far", 1, 5, d=8)))
    assert verdict.collapsed and not verdict.domains


def test_there_must_be_such_a_source():
    with pytest.raises(InputError, match="expected one of own"):
        judged(images("own", 0, 5), source="other")


def test_the_source_may_be_another_than_the_first():
    found = judged(images("own", 0, 10), images("far", 1, 10, shift=9), source="far")
    assert list(found) == ["own"]
