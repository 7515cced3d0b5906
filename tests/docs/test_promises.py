"""Each promise names a test that exists, and each test of faults stands behind a promise."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "promises.md").read_text(encoding="utf-8")


def test_every_promise_names_a_test_that_exists():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and " | test |" not in line]
    assert rows and all("`test_" in row for row in rows)
    known = {
        node.name
        for file in TESTS.rglob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert not set(re.findall(r"`(test_\w+)`", PAGE)) - known
