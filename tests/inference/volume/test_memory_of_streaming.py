"""Four times the volume takes no more memory."""

import pytest

from tests.bench_volume import measured


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_volume(tmp_path):
    pytest.importorskip("resource")
    short, _ = measured(50, tmp_path)
    long, _ = measured(200, tmp_path)
    # 150 slices of int16 are 79 MB, and their labels 39 MB.
    assert long < short + 40e6
