"""Windows and their weights are MONAI's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices

from src_training.inference.sliding_window import (
    BlendedMaps,
    round_up,
    sliding_windows,
    tile_shape,
)

sides = st.integers(1, 200)


@given(sides, sides, st.integers(1, 9), st.floats(0, 0.9), st.sampled_from([1, 8, 32]))
def test_windows_are_those_of_monai(height, width, side, overlap, stride):
    size = (height, width)
    tile = tile_shape(size, 16 * side, 16, stride)
    whole = [round_up(length, stride) for length in size]
    step = [max(stride, int(length * (1 - overlap)) // stride * stride) for length in tile]
    assert sliding_windows(size, tile, overlap, stride) == dense_patch_slices(whole, tile, step)


@pytest.mark.parametrize("tile", [(32, 32), (7, 96), (640, 512)])
def test_weights_of_a_window_are_those_of_monai(tile):
    maps = BlendedMaps(2, tile, tile)
    window = (slice(0, tile[0]), slice(0, tile[1]))
    first, second = torch.rand(2, *tile), torch.rand(2, *tile)
    maps.add(torch.stack([first, second]), [window, window])
    torch.testing.assert_close(torch.from_numpy(maps.read(window)), (first + second) / 2)

    weights = compute_importance_map(tile, mode="gaussian")
    wider = BlendedMaps(1, (tile[0], tile[1] + 1), tile)
    wider.add(
        torch.stack([torch.ones(1, *tile), torch.zeros(1, *tile)]),
        [window, (window[0], slice(1, tile[1] + 1))],
    )
    inner = wider.read((window[0], slice(1, tile[1])))[0]
    expected = weights[:, 1:] / (weights[:, 1:] + weights[:, :-1])
    torch.testing.assert_close(torch.from_numpy(inner), expected)
