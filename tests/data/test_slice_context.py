"""Names and stacks of neighbouring slices."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src_training.data.slice_context import neighbouring


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    count=st.sampled_from([1, 3, 5]),
    axis=st.integers(0, 2),
    place=st.floats(0, 1, exclude_max=True),
)
def test_channels_are_the_slices_around_with_the_ends_repeated(shape, count, axis, place):
    volume = np.arange(np.prod(shape)).reshape(shape)
    index = int(place * shape[axis])
    found = neighbouring(volume, index, count, axis)
    for channel, offset in enumerate(range(-(count // 2), count // 2 + 1)):
        at = min(max(index + offset, 0), shape[axis] - 1)
        assert np.array_equal(found[..., channel], volume.take(at, axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lazy_volume_gives_what_an_array_gives(axis):
    volume = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7), np.int16)
    lazy = neighbouring(da.from_array(volume, chunks=2), 4, 5, axis)
    assert lazy.dtype == np.int16 and np.array_equal(lazy, neighbouring(volume, 4, 5, axis))
