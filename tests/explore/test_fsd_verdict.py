import numpy as np
import pytest

from src_training.errors import InputError
from src_training.explore.fsd_verdict import measure_verdict
from tests.explore.tables import table


def images(name, seed, count, shift=0.0, scale=1.0, patches=8, d=16):
    """Images of a domain: patches of one image are alike, as those of scans are."""
    random = np.random.default_rng(seed)
    own = random.normal(size=(count, 1, d)) + random.normal(size=(count, patches, d))
    return [(name, f"{name}{i}", scale * rows + shift) for i, rows in enumerate(own)]


def judged(*parts, **options):
    verdict = measure_verdict(table(*(image for part in parts for image in part)), **options)
    return {each.domain: each for each in verdict.domains}, verdict.sentences()


@pytest.mark.parametrize("seed", range(5))
def test_images_like_the_own_are_near_and_others_far(seed):
    found, sentences = judged(
        images("own", seed, 12),
        images("alike", seed + 100, 8),
        images("shifted", seed + 200, 8, shift=3),
        images("wide", seed + 300, 8, scale=3),
    )
    assert found["alike"].relation in ("near", "unclear")
    assert found["shifted"].relation == found["wide"].relation == "far"
    assert found["shifted"].distance.low > 2 * found["alike"].own.median
    first, alike, shifted, wide, _few = sentences
    assert first == "Compared with own's own images:"
    assert shifted.startswith("shifted lies far, ") and "; label these first: " in shifted
    assert "first: " not in alike and wide.startswith("wide lies far, ")


def test_the_claim_is_that_of_the_relation():
    alike, unclear = ([images("own", seed, 12), images("alike", seed + 100, 8)] for seed in (0, 2))
    found, [_, sentence, _] = judged(*alike)
    assert found["alike"].relation == "near"
    assert sentence.startswith("alike lies about as near (FSD ")
    found, [_, sentence, _] = judged(*unclear)
    assert found["alike"].relation == "unclear" and "within chance (FSD" in sentence


def test_what_lies_in_between_is_called_so():
    found, _ = judged(images("own", 0, 30), images("other", 1, 30, shift=0.7))
    assert found["other"].relation == "further"
    assert found["other"].distance.low > found["other"].own.high


def test_the_number_of_images_does_not_decide():
    small, _ = judged(images("own", 0, 12), images("alike", 1, 2))
    large, _ = judged(images("own", 0, 12), images("alike", 1, 40))
    assert small["alike"].relation == large["alike"].relation == "near"


def test_too_few_images_are_not_judged():
    few, sentences = judged(images("own", 0, 3), images("far", 1, 9, shift=9))
    assert few["far"].relation == "unknown" and few["far"].distance is None
    assert sentences[1:] == [
        "far: no verdict. It has 9 images and own 3; expected at least 2 and 4."
    ]
    one, _ = judged(images("own", 0, 9), images("far", 1, 1, shift=9))
    assert one["far"].relation == "unknown"


def test_few_images_are_a_first_impression():
    _, few = judged(images("own", 0, 4), images("far", 1, 3, shift=9))
    assert few[-1] == "A first impression, with few images: 4 of own, 3 of far."
    _, many = judged(images("own", 0, 10), images("far", 1, 10, shift=9))
    assert len(many) == 2 and "impression" not in many[-1]


def test_of_many_domains_the_furthest_are_told():
    near = [images(f"near{i}", i + 1, 10) for i in range(3)]
    parts = [*images("own", 0, 10), *(image for part in near for image in part)]
    verdict = measure_verdict(table(*parts, *images("far", 9, 10, shift=9)))
    _, far, _near, rest = verdict.sentences(most=2)
    assert far.startswith("far lies far") and rest.startswith("2 more domains lie nearer")


def test_the_image_furthest_off_is_named_first():
    outlier = [("far", "odd", np.random.default_rng(5).normal(size=(8, 16)) + 12)]
    found, [_, sentence, _] = judged(images("own", 0, 10), images("far", 1, 6, shift=3), outlier)
    assert found["far"].label_first[0] == "odd" and len(found["far"].label_first) == 3
    assert ": odd, " in sentence


def test_where_masks_are_there_dice_is_told():
    parts = [*images("own", 0, 4), *images("far", 1, 4, shift=9)]
    verdict = measure_verdict(table(*parts, dice=[0.8] * 32 + [0.4] * 32))
    _, sentence, _ = verdict.sentences()
    assert "; Dice 0.40, own 0.80); look at these first: " in sentence


def test_equal_vectors_are_no_ground_for_a_verdict():
    flat = [("own", f"{i}", np.ones((4, 8))) for i in range(5)]
    found, [sentence] = judged(flat, images("far", 1, 5, d=8))
    assert not found and "practically equal" in sentence


def test_one_domain_alone_asks_for_another():
    _, sentences = judged(images("own", 0, 5))
    assert sentences == ["Add a second domain to compare it with own."]
    with pytest.raises(InputError, match="expected one of own"):
        judged(images("own", 0, 5), source="other")


def test_the_source_may_be_another_than_the_first():
    parts = images("own", 0, 10), images("far", 1, 10, shift=9)
    found, [first, _] = judged(*parts, source="far")
    assert list(found) == ["own"] and first == "Compared with far's own images:"
