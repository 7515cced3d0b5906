"""Mutated files are read or rejected with a message, within limits of memory and time."""

import json

import pytest

from tests.faults.harness import in_child, linux
from tests.faults.mutations import read_mutants


@linux
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "seeds", [range(10), pytest.param(range(10, 250), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_mutated_file_is_read_or_refused_in_a_sentence(seeds, make_recipe, tmp_path):
    report = tmp_path / "report.json"
    recipe = make_recipe().to_yaml()
    ended = in_child(read_mutants, tmp_path, recipe, seeds, report, memory=2 * 10**9, seconds=3000)
    assert ended.code == 0, ((tmp_path / "now.txt").read_text(), ended.said[-2000:])
    found = json.loads(report.read_text())
    print({name: value for name, value in found.items() if name != "faults"})
    assert not found["faults"]
    assert found["peak_mb"] < found["before_mb"] + 300
    assert found["sentence"] > found["tried"] / 4 and found["tried"] == 20 * len(seeds)
