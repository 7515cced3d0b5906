"""What the docstring of a typed recipe says of each field."""

import inspect
import re
from functools import cache

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


@cache
def field_docs(model: type) -> dict[str, str]:
    """Text of each field in the section ``Attributes`` of a numpydoc docstring, by its name.

    Fields that a class inherits are those of its bases' docstrings.
    """
    docs = dict[str, str]()
    for base in reversed(model.__mro__):
        docs |= _own_docs(base)
    return docs


def _own_docs(model: type) -> dict[str, str]:
    docs, names = dict[str, list[str]](), list[str]()
    for line in _attributes(inspect.cleandoc(model.__doc__ or "")).splitlines():
        if line and not line[0].isspace():
            names = [name.strip() for name in line.split(":")[0].split(",")]
        for name in names if line.startswith(" ") else ():
            docs.setdefault(name, []).append(line.strip())
    return {name: " ".join(lines).replace("`", "") for name, lines in docs.items()}


def summary(model: type) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(model) or "").partition("\n")[0].replace("`", "")


def _attributes(doc: str) -> str:
    """The lines of that section; empty if there is none."""
    _, _, rest = doc.partition("Attributes\n----------\n")
    following = _HEADING.search(rest)
    return rest[: following.start()] if following else rest
