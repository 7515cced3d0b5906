"""Sentences on files in a folder that are not read, so that nothing is ignored silently."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

_FEW = 3
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def is_hidden(path: Path) -> bool:
    """Whether a file or folder belongs to the system (``.DS_Store``, ``._a.png``, ``Thumbs.db``).

    Examples
    --------
    >>> [is_hidden(Path(name)) for name in ("images/._a.png", "Thumbs.db", "a.png")]
    [True, True, False]
    """
    return path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES


def some_names(names: Sequence[str]) -> str:
    """Return the first names and the number of further ones.

    Examples
    --------
    >>> some_names(["a", "b"]), some_names(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    shown = ", ".join(names[:_FEW])
    return shown if len(names) <= _FEW else f"{shown} and {len(names) - _FEW:,} more"


def counted(names: Sequence[str], one: str, many: str = "") -> str:
    """Return the number of names, what they are, and the first of them.

    Examples
    --------
    >>> counted(["a.txt"], "file is not used", "files are not used")
    '1 file is not used: a.txt'
    """
    return f"{len(names):,} {one if len(names) == 1 else many or one + 's'}: {some_names(names)}"


def unread(folder: Path, read: Collection[Path], what: str = "read") -> tuple[str, ...]:
    """Return at most two sentences on the entries of a folder that are not read.

    Parameters
    ----------
    folder
        Folder; the contents of its subfolders are not listed.
    read
        Entries of the folder that are read.
    what
        Participle that describes the reading, such as ``segmented``.
    """
    others = [path for path in sorted(folder.iterdir()) if path not in read]
    return unread_notes(folder, others, what)


def unread_notes(folder: Path, paths: Iterable[Path], what: str = "read") -> tuple[str, ...]:
    """Return sentences on files that are not read; see `unread`."""
    hidden, others = list[str](), list[str]()
    for path in paths:
        name = path.relative_to(folder).as_posix()
        (hidden if is_hidden(path) else others).append(name + "/" * path.is_dir())
    notes = []
    if others:
        notes.append(counted(others, f"file is not {what}", f"files are not {what}"))
    if hidden:
        notes.append(
            counted(
                hidden, f"file of the system is not {what}", f"files of the system are not {what}"
            )
        )
    return tuple(notes)
