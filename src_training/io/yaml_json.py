"""YAML and JSON from files that a stranger may have written: data alone, and not without end."""

import json
from typing import Any

import yaml

LONGEST = 2**20
"""Bytes of YAML; a recipe that excludes ten thousand images has a third of it."""

LONGEST_JSON = 2**24
"""Bytes of JSON; a card with a long recipe has a hundredth of it."""

_DEEPEST, _MOST = 40, 200_000
_MOST_DIGITS = 400
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


# That of libyaml is five times as fast, where there is one.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]  # one of two classes
    """Plain values; what a tag cannot be made of is a fault of the text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        if node.tag in _NUMBERS and len(node.value) > _MOST_DIGITS:
            raise _fault(f"a number of {len(node.value):,} digits", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:  # of an impossible date or number, whatever parses it raises
            kind = node.tag.rpartition(":")[2]
            raise _fault(f"{node.value[:40]!r}, which is no {kind}", node.start_mark) from None


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check(text: bytes | str) -> None:
    """Refuse nesting without end, and aliases that unfold to more values than a recipe can have."""
    values, sizes, within = 0, dict[str | None, int](), list[tuple[str | None, int]]()
    for event in yaml.parse(text, _Safe):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = within.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            endless = any(event.anchor == anchor for anchor, _ in within)
            values += _MOST + 1 if endless else sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if len(within) > _DEEPEST:
            raise _fault(f"more than {_DEEPEST} levels of fields", event.start_mark)
        if values > _MOST:
            raise _fault(f"more than {_MOST:,} values, aliases unfolded,", event.start_mark)


def parse_yaml(text: bytes | str) -> Any:
    """Return what YAML holds: plain values, lists and mappings.

    Raises
    ------
    yaml.YAMLError
        If it is no YAML, or is longer, deeper or, aliases unfolded, larger than any recipe; says in
        which line.

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
        # At the end of the text libyaml counts one line more.
        line = min(error.problem_mark.line + 1, len(text.splitlines()))
        raise yaml.YAMLError(f"{error.problem} in line {line}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(str(error).splitlines()[0]) from None


def parse_json(text: bytes | str) -> Any:
    """Return what JSON holds.

    Raises
    ------
    ValueError
        If it is no JSON, is nested without end, has a number of thousands of digits, or is longer
        than `LONGEST_JSON`.

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
