"""What lies in a folder and is not read: named, so that nothing is left out silently."""

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
    """Return the first names, and how many more there are.

    Examples
    --------
    >>> some_names(["a", "b"]), some_names(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    shown = ", ".join(names[:_FEW])
    return shown if len(names) <= _FEW else f"{shown} and {len(names) - _FEW:,} more"


def counted(names: Sequence[str], one: str, many: str = "") -> str:
    """Return how many there are of what, and the first names.

    Examples
    --------
    >>> counted(["a.txt"], "file is not used", "files are not used")
    '1 file is not used: a.txt'
    """
    return f"{len(names):,} {one if len(names) == 1 else many or one + 's'}: {some_names(names)}"


def unread(folder: Path, read: Collection[Path], what: str = "read") -> tuple[str, ...]:
    """Return what of a folder is not read, in at most two sentences.

    Parameters
    ----------
    folder
        Its files and folders are named; what these hold is not.
    read
        Those of them that are read.
    what
        What does not become of the others, such as ``segmented``.
    """
    others = [path for path in sorted(folder.iterdir()) if path not in read]
    return unread_notes(folder, others, what)


def unread_notes(folder: Path, paths: Iterable[Path], what: str = "read") -> tuple[str, ...]:
    """Return sentences that count and name files that are not read; see `unread`."""
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
