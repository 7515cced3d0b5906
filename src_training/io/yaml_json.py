"""Safe parsing of YAML and JSON from untrusted files: plain values only, and of limited size."""

import json
from typing import Any

import yaml

LONGEST = 2**20
"""Maximum size of YAML in bytes; a recipe that excludes ten thousand images needs a third of it."""

LONGEST_JSON = 2**24
"""Maximum size of JSON in bytes; a card with a long recipe needs a hundredth of it."""

_MAX_DEPTH, _MAX_VALUES = 40, 200_000
_MAX_DIGITS = 400
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


# The loader of libyaml, which may be missing, is five times as fast.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]  # one of two classes
    """Constructs plain values, and raises a `YAMLError` for invalid ones."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
            raise _fault(f"a number of {len(node.value):,} digits", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:  # an invalid date or number raises errors of many types
            kind = node.tag.rpartition(":")[2]
            raise _fault(f"{node.value[:40]!r}, which is no {kind}", node.start_mark) from None


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check(text: bytes | str) -> None:
    """Refuse deep nesting, and aliases that expand to more values than a recipe can have."""
    values, sizes, within = 0, dict[str | None, int](), list[tuple[str | None, int]]()
    for event in yaml.parse(text, _Safe):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = within.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            recursive = any(event.anchor == anchor for anchor, _ in within)
            values += _MAX_VALUES + 1 if recursive else sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if len(within) > _MAX_DEPTH:
            raise _fault(f"more than {_MAX_DEPTH} levels of fields", event.start_mark)
        if values > _MAX_VALUES:
            raise _fault(f"more than {_MAX_VALUES:,} values, aliases unfolded,", event.start_mark)


def parse_yaml(text: bytes | str) -> Any:
    """Parse YAML to plain values, lists and mappings.

    Raises
    ------
    yaml.YAMLError
        If the text is no YAML, or is longer, deeper or, with expanded aliases, larger than any
        recipe; the message names the line.

    Examples
    --------
    >>> parse_yaml("steps: 10")
    {'steps': 10}
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text) / 2**20:.1f} MB; expected at most {LONGEST >> 20} MB")
    try:
        _check(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is None:
            raise
        # At the end of the text, libyaml counts an additional line.
        line = min(error.problem_mark.line + 1, len(text.splitlines()))
        raise yaml.YAMLError(f"{error.problem} in line {line}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(str(error).splitlines()[0]) from None


def parse_json(text: bytes | str) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If the text is no JSON, is nested too deeply, has a number of thousands of digits, or is
        longer than `LONGEST_JSON`.

    Examples
    --------
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: it is nested too deeply
    """
    if len(text) > LONGEST_JSON:
        raise ValueError(f"it has {len(text) / 2**20:.1f} MB")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None
    except ValueError:
        raise ValueError("it has a number of thousands of digits") from None
