"""Discovery of the images, masks and fields of view of a folder, and of its other files."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from src_training.data.layouts.dataset_json import DatasetJson, read_dataset_json
from src_training.data.layouts.listing import (
    Entry,
    key_of,
    layout_of,
    list_entries,
    matches_of,
    nfc,
    stem_of,
)
from src_training.data.layouts.registry import Layout, compile_pattern, short_case
from src_training.errors import InputError
from src_training.io.decoders.base import file_suffix
from src_training.io.decoders.registry import IMAGE_SUFFIXES
from src_training.io.folders import counted, some_names, unread_notes

_DATASET_JSON = "dataset.json"


@dataclass
class FolderFiles:
    """Files of a folder by case name, in order.

    Attributes
    ----------
    folder
        Path of the folder.
    layout
        Layout of the folder.
    images, masks, fovs
        Images, and the masks and fields of view of those that have one.
    volumes
        Whether the images are volumes.
    mixed
        2-D images in a folder of volumes.
    duplicates
        File with the same stem as another one -> error.
    unpaired_files
        Masks and fields of view without an image.
    notes
        Sentences about what is not used.
    class_values
        Class values of ``dataset.json``; None without one.
    unmatched
        Entries of `exclude` that match no file.
    """

    folder: Path
    layout: Layout
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    fovs: dict[str, Path] = field(default_factory=dict)
    volumes: bool = False
    mixed: tuple[Path, ...] = ()
    duplicates: dict[Path, str] = field(default_factory=dict)
    unpaired_files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    class_values: dict[str, int | list[int]] | None = None
    unmatched: frozenset[str] = frozenset()

    def name_of(self, file: Path) -> str:
        """Return the path of a file within the folder, as in messages and `exclude`."""
        return file.relative_to(self.folder).as_posix()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes, preceded by one about masks and fields of view without an image."""
        unpaired = self.describe_unpaired_files()
        return (*((unpaired,) if unpaired else ()), *self.notes)

    def describe_unpaired_files(self) -> str:
        """Count and name the masks and fields of view without an image; empty if all have one."""
        if not self.unpaired_files:
            return ""
        names = [self.name_of(file) for file in self.unpaired_files]
        one = len(names) == 1
        has = "has" if one else "have"
        sentence = f"{some_names(names)} {has} no image of the same stem"
        return sentence if one else f"{len(names):,} masks or fields of view: {sentence}"


class SeveralChannels(InputError):
    """A folder has several images of each case, so that a channel must be chosen.

    Attributes
    ----------
    channels
        Names of the channels.
    """

    def __init__(self, sentence: str, channels: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.channels = channels


def read_folder(
    folder: Path, exclude: Collection[str] = (), channel: str | None = None
) -> FolderFiles:
    """Find the images, masks and fields of view of a folder of any layout.

    Parameters
    ----------
    folder
        Path of the folder; only one level of subfolders is searched.
    exclude
        Names of cases, and files such as ``masks/01.png``, to ignore.
    channel
        Image to read of each case if there are several: ``flair``, ``0001``, or the
        name of these digits in ``dataset.json``.

    Raises
    ------
    SeveralChannels
        If there are several images of each case, and `channel` is not one of them.
    InputError
        If `channel` is given but the folder has no channels.
    """
    entries, hidden = list_entries(folder)
    layout = layout_of(entries)
    described = read_dataset_json(folder / _DATASET_JSON) if _has_json(layout) else DatasetJson()
    files = FolderFiles(folder, layout, class_values=described.class_values)
    excluded = {nfc(name) for name in exclude}
    included = [entry for entry in entries if not _names(entry, folder) & excluded]
    used = {folder / _DATASET_JSON} if _has_json(layout) else set[Path]()
    other_channels, matched_cases = _take_images(files, entries, excluded, described, channel, used)
    extra_masks = [
        *_take_masks(files, included, layout.masks, files.masks, used, matched_cases),
        *_take_masks(files, included, layout.fov, files.fovs, used, matched_cases),
    ]
    ignored = {entry.path for entry in entries} - {entry.path for entry in included}
    files.unmatched = frozenset(
        name
        for name in exclude
        if not any(nfc(name) in _names(entry, folder) for entry in entries)
        and nfc(name) not in matched_cases
    )
    used |= {
        *other_channels,
        *extra_masks,
        *files.duplicates,
        *files.unpaired_files,
        *files.mixed,
        *ignored,
    }
    if not files.images and not files.mixed:
        return files  # The caller reports the lack of images; notes would distract from it.
    files.notes = (
        *described.notes,
        *_channel_note(other_channels, files),
        *_extra_mask_note(extra_masks, files),
        *_unused_notes(folder, entries, used, hidden),
    )
    return files


def _take_images(
    files: FolderFiles,
    entries: Iterable[Entry],
    excluded: Collection[str],
    described: DatasetJson,
    channel: str | None,
    used: set[Path],
) -> tuple[list[Path], dict[str, bool]]:
    """Set the images; return those of other channels, and whether each case is excluded."""
    by_channel = defaultdict[str, list[tuple[str, Path]]](list)
    kinds, cases = dict[Path, str](), dict[str, bool]()
    for entry in entries:
        match = compile_pattern(files.layout.images).fullmatch(entry.key)
        if match is None or not (kind := entry.kind()):
            continue
        groups = match.groupdict()
        name = groups.get("name") or groups["case"]
        aliases = {name, groups["case"], *_names(entry, files.folder)}
        cases[name] = cases[groups["case"]] = bool(aliases & set(excluded))
        if cases[name]:
            used.add(entry.path)
            continue
        kinds[entry.path] = kind
        by_channel[groups.get("channel") or ""].append((name, entry.path))
    chosen = by_channel.pop(_choose_channel(files.folder, by_channel, described, channel), [])
    files.volumes = any(kinds[path] == "volume" for _, path in chosen)
    if files.volumes:
        files.mixed = tuple(path for _, path in chosen if kinds[path] == "image")
    for name, path in chosen:
        used.add(path)
        if path in files.mixed:
            continue
        first = files.images.setdefault(name, path)
        if first != path:
            files.duplicates[path] = _duplicate_error(first, path)
    return [path for images in by_channel.values() for _, path in images], cases


def _choose_channel(
    folder: Path, by_channel: Mapping[str, object], described: DatasetJson, channel: str | None
) -> str:
    channels = tuple(key for key in by_channel if key)
    if len(channels) < 2 and channel is None:
        return channels[0] if channels else ""
    names = {key: described.channels.get(key, key) for key in channels}
    for key, name in names.items():
        if channel is not None and channel.casefold() in (key.casefold(), name.casefold()):
            return key
    listed = ", ".join(
        key if name == key else f"{key} ({name})" for key, name in sorted(names.items())
    )
    if not channels:
        raise InputError(f"{folder} has no channels; expected no channel {channel!r}")
    chosen = f" and no {channel!r}" if channel is not None else ""
    raise SeveralChannels(
        f"{folder} holds {len(channels)} images of each case{chosen}: {listed}; "
        "expected one to be chosen, by --channel (channel: in a recipe)",
        tuple(names[key] for key in sorted(channels)),
    )


def _take_masks(
    files: FolderFiles,
    entries: Iterable[Entry],
    patterns: tuple[str, ...],
    chosen: dict[str, Path],
    used: set[Path],
    cases: Mapping[str, bool],
) -> list[Path]:
    """Add masks or fields of view to `chosen`; return those of images that have a better one."""
    image_names = _images_by_case(files)
    ranked = list[tuple[int, Entry, str]]()
    unpaired = list[Path]()
    for entry in entries:
        matches = list(matches_of(patterns, entry.key)) if entry.readable else []
        if not matches or entry.path in used or not _fits(entry, files.volumes):
            continue
        for rank, match in enumerate(matches):
            if (name := image_names.get(match["case"])) is not None:
                ranked.append((rank, entry, name))
                break
        else:
            ignored = any(cases.get(match["case"]) for match in matches)
            (used.add if ignored else unpaired.append)(entry.path)
    extra = list[Path]()
    for _, entry, name in sorted(ranked, key=lambda item: item[0]):
        used.add(entry.path)
        first = chosen.setdefault(name, entry.path)
        if first != entry.path and nfc(stem_of(first)) == nfc(stem_of(entry.path)):
            files.duplicates[entry.path] = _duplicate_error(first, entry.path)
        elif first != entry.path:
            extra.append(entry.path)
    files.unpaired_files += tuple(unpaired)
    return extra


def _images_by_case(files: FolderFiles) -> dict[str, str]:
    """Names of cases by the names that their masks may have for them."""
    names = dict[str, str]()
    for name, path in files.images.items():
        match = compile_pattern(files.layout.images).fullmatch(key_of(path, files.folder))
        names[match["case"] if match else name] = name
    short = Counter(map(short_case, names))
    unique = {short_case(case): name for case, name in names.items() if short[short_case(case)] < 2}
    return unique | names


def _fits(entry: Entry, volumes: bool) -> bool:
    """Whether a mask is of the same kind as the images: a volume, or a 2-D image."""
    if volumes:
        return entry.kind() == "volume"
    return file_suffix(entry.path) in IMAGE_SUFFIXES


def _duplicate_error(first: Path, other: Path) -> str:
    both = f"{other.parent} has both {first.name} and {other.name}"
    return f"{both}; expected one file for each stem"


def _names(entry: Entry, folder: Path) -> set[str]:
    """Names by which `exclude` may refer to an entry."""
    path = entry.path
    return {
        nfc(name)
        for name in (
            path.relative_to(folder).as_posix(),
            f"{path.parent.name}/{path.name}",
            stem_of(path),
            path.name if path.is_dir() else path.stem,
        )
    }


def _channel_note(paths: list[Path], files: FolderFiles) -> Iterator[str]:
    if paths:
        names = [files.name_of(path) for path in paths]
        one, many = "image of another channel is", "images of other channels are"
        yield counted(names, f"{one} not used", f"{many} not used")


def _extra_mask_note(paths: list[Path], files: FolderFiles) -> Iterator[str]:
    if paths:
        names = [files.name_of(path) for path in paths]
        yield counted(
            names,
            "further mask of an image that has one is not used",
            "further masks of images that have one are not used",
        )


def _unused_notes(
    folder: Path, entries: Iterable[Entry], used: Collection[Path], hidden: Iterable[Path]
) -> Iterator[str]:
    """Sentences that count and list the unused files; wholly unused folders by their name."""
    unused = [entry.path for entry in entries if entry.path not in used]
    in_use = {path.parent for path in used}
    folders = Counter(path.parent for path in unused if path.parent not in in_use)
    folders.pop(folder, None)
    single = [path for path in unused if path.parent not in folders]
    names = [path.relative_to(folder).as_posix() + "/" * path.is_dir() for path in single]
    names += [f"{path.name}/ ({count:,} in it)" for path, count in folders.items()]
    if names:
        total = len(single) + sum(folders.values())
        subject = "file is" if total == 1 else "files are"
        yield f"{total:,} {subject} not used: {some_names(names)}"
    yield from unread_notes(folder, hidden, "used")


def _has_json(layout: Layout) -> bool:
    return _DATASET_JSON in layout.example
