"""Listing of the files of a folder, and detection of its layout."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from src_training.data.layouts.registry import LAYOUTS, Layout, compile_pattern, short_case
from src_training.io.decoders.base import file_stem, file_suffix
from src_training.io.decoders.registry import IMAGE_SUFFIXES
from src_training.io.folders import is_hidden, some_names
from src_training.io.volumes.registry import FORMATS, format_of, volume_name


@dataclass(frozen=True)
class Entry:
    """A file, or a folder that may be a volume.

    Attributes
    ----------
    path
        Path of the file or folder.
    key
        Path within the folder that patterns are matched with; see `key_of`.
    """

    path: Path
    key: str

    @property
    def readable(self) -> bool:
        """Whether it is, by its name, an image or a volume."""
        return (
            self.path.is_dir()
            or file_suffix(self.path) in IMAGE_SUFFIXES
            or _is_volume_name(self.path)
        )

    def kind(self) -> str:
        """``volume``, ``image``, or an empty string if it is neither."""
        if (volume_format := format_of(self.path)) is not None and volume_format.in_domains:
            return "volume"
        return "image" if file_suffix(self.path) in IMAGE_SUFFIXES else ""


def list_entries(folder: Path) -> tuple[list[Entry], list[Path]]:
    """List the files of a folder and its subfolders, and separately the hidden ones."""
    entries, hidden = list[Entry](), list[Path]()
    if not folder.is_dir():
        return entries, hidden
    for path in sorted(folder.iterdir()):
        if is_hidden(path):
            hidden.append(path)
        elif path.is_dir() and not _is_volume_name(path):
            for child in sorted(path.iterdir()):
                if is_hidden(child):
                    hidden.append(child)
                else:
                    entries.append(Entry(child, nfc(f"{path.name}/{stem_of(child)}")))
        else:
            entries.append(Entry(path, nfc(stem_of(path))))
    return entries, hidden


def layout_of(entries: Iterable[Entry]) -> Layout:
    """Choose the first layout that finds masks, fields of view and images, in this priority."""
    listed = list(entries)

    def rank(layout: Layout) -> tuple[bool, bool, bool]:
        images, masks, fovs = _fit(layout, listed)
        return masks > 0, fovs > 0, images > 0

    return max(LAYOUTS, key=rank)


def _fit(layout: Layout, entries: Iterable[Entry]) -> tuple[int, int, int]:
    """Count the images, and their masks and fields of view, that match a layout."""
    listed = [entry for entry in entries if entry.readable]
    cases = set[str]()
    for entry in listed:
        if match := compile_pattern(layout.images).fullmatch(entry.key):
            cases |= {match["case"], short_case(match["case"])}

    def count(patterns: Iterable[str]) -> int:
        return sum(
            any(match["case"] in cases for match in matches_of(patterns, entry.key))
            for entry in listed
        )

    images = sum(
        compile_pattern(layout.images).fullmatch(entry.key) is not None for entry in listed
    )
    return images, count(layout.masks), count(layout.fov)


def matches_of(patterns: Iterable[str], key: str) -> Iterator[re.Match[str]]:
    """Yield the matches of patterns with a path, in the order of the patterns."""
    for pattern in patterns:
        if match := compile_pattern(pattern).fullmatch(key):
            yield match


def no_images(folder: Path) -> str:
    """Return the error for a folder without images or volumes."""
    images = folder / "images"
    if images.is_dir() and format_of(images) is not None:
        return f"{images} is itself a volume; expected it in a folder of its own in images/"
    if parts := _parts_of(folder):
        return f"{folder} has no images itself, but holds {parts}; expected one of them"
    return (
        f"{folder} has no readable image in images/; expected at least one, "
        f"or the layout of {', '.join(layout.name for layout in LAYOUTS[1:])}"
    )


def _parts_of(folder: Path) -> str:
    """List subfolders with images, such as ``training`` and ``test``, and their counts."""
    parts = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not is_hidden(path):
            entries, _ = list_entries(path)
            images, masks, _ = _fit(layout_of(entries), entries)
            count = f"{images:,} image{'s' * (images > 1)}, {masks:,} mask{'s' * (masks != 1)}"
            parts += [f"{path.name}/ ({count})"] if images else []
    return " and ".join(parts) if len(parts) < 3 else some_names(parts)


def _is_volume_name(path: Path) -> bool:
    return any(volume_format.suffix_of(path) for volume_format in FORMATS.values())


def stem_of(path: Path) -> str:
    """Return the name of an image or volume without its suffix, or the name of a folder."""
    if file_suffix(path) == ".ppm.gz" or not _is_volume_name(path):
        known = file_suffix(path) in IMAGE_SUFFIXES and not path.is_dir()
        return file_stem(path) if known else path.name if path.is_dir() else path.stem
    return volume_name(path)


def key_of(path: Path, folder: Path) -> str:
    """Return the path within a folder, without suffix, that patterns are matched with."""
    parent = path.relative_to(folder).parent
    return nfc((parent / stem_of(path)).as_posix())


def nfc(text: str) -> str:
    """Normalise text to composed characters, so that names can be compared."""
    return unicodedata.normalize("NFC", text)
