"""File names from names of runs, models, domains and classes, in any script."""

import hashlib
import re
import unicodedata

LONGEST_NAME = 100
"""Maximum number of characters of a name, which file systems support in any script."""

# Windows reserves these names of devices, whatever the suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def name_fault(name: str) -> str:
    """Return why a name is not valid for a file or folder; empty if it is valid.

    Examples
    --------
    >>> name_fault("Gefäße 2"), name_fault("血管"), name_fault("-rf"), name_fault("CON")
    ('', '', "begins with '-'", 'is a device of Windows')
    """
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST_NAME or len(name.encode("utf-8", "replace")) > 2 * LONGEST_NAME:
        return f"has {len(name)} letters, more than {LONGEST_NAME}"
    if name[0] in "-. ":
        return f"begins with {name[0]!r}"
    if name[-1] in ". ":
        return f"ends with {name[-1]!r}"
    if _RESERVED.fullmatch(name):
        return "is a device of Windows"
    for letter in name:
        if letter in '/\\:*?"<>|' or unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            return f"holds {letter!r}"
    return ""


def file_name(name: str) -> str:
    """Return a valid file name: the name itself if it is valid, else a unique one derived from it.

    Examples
    --------
    >>> file_name("drive"), file_name("हृदय"), file_name("a/b"), file_name("a-b")
    ('drive', 'हृदय', 'a-b-c14c', 'a-b')
    """
    if not name_fault(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:4]
    return f"{plain_name(name)[: LONGEST_NAME // 2]}-{digest}".removeprefix("-")


def plain_name(text: str, joint: str = "-") -> str:
    """Reduce a text to letters, marks, digits, ``.``, ``-`` and ``_``; the result may be empty.

    Parameters
    ----------
    text
        Text from the user, or name of a layer.
    joint
        Replacement for other characters between them.

    Examples
    --------
    >>> plain_name(" My first run (2026) "), plain_name("a/b"), plain_name(".."), plain_name("con")
    ('My-first-run-2026', 'a-b', '', 'con-')
    """
    letters = (
        each if each in "._-" or unicodedata.category(each)[0] in "LMN" else " "
        for each in unicodedata.normalize("NFC", text)
    )
    name = joint.join("".join(letters).split()).strip("-._")[:LONGEST_NAME].strip("-._")
    return name + joint if _RESERVED.fullmatch(name) else name
