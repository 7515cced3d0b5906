"""Masks as channels, and the mean features of their regions."""

import pytest
import torch

from src_training.losses.regions import one_hot, region_means, regions, resize


@pytest.mark.parametrize("classes", [2, 4])
def test_one_hot_has_one_channel_that_is_true(classes):
    mask = torch.randint(classes, (2, 5, 7))
    channels = one_hot(mask, classes)
    assert channels.shape == (2, classes, 5, 7) and channels.dtype == torch.bool
    assert torch.equal(channels.int().argmax(1), mask)
    assert torch.equal(channels.sum(1), torch.ones_like(mask))


def test_one_hot_is_that_of_monai():
    from monai.networks.utils import one_hot as reference

    mask = torch.randint(3, (2, 5, 7))
    assert torch.equal(one_hot(mask, 3), reference(mask[:, None], 3).bool())


def test_regions_sample_the_mask_at_the_size_of_the_feature():
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[:, 4:, :2] = 2
    found = regions(mask, 3, (2, 4))
    assert found.shape == (1, 3, 2, 4)
    assert found[0, 2].int().tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert not found[0, 1].any()


def test_means_are_those_of_each_region_and_zero_where_empty():
    feature = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    mask = torch.randint(2, (2, 4, 6))
    inside = one_hot(mask, 3)
    found = region_means(feature, inside)
    for sample in range(2):
        for label in range(2):
            expected = feature[sample][:, mask[sample] == label].mean(1)
            torch.testing.assert_close(found[sample, label], expected)
    assert torch.equal(found[:, 2], torch.zeros(2, 5, dtype=torch.float64))


def test_a_feature_of_the_right_size_is_not_touched():
    feature = torch.randn(1, 2, 4, 4)
    assert resize(feature, (4, 4)) is feature
    assert resize(feature, (8, 6)).shape == (1, 2, 8, 6)
