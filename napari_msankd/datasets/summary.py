"""Summary of a dataset as text, from cases that a worker reads one by one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_msankd.datasets.layer_export import (
    HIGHEST,
    LayerCase,
    cases_of,
    stored_labels,
    stored_pixels,
)
from napari_msankd.datasets.layer_pairs import LayerPair
from napari_msankd.datasets.selection import (
    Dataset,
    FolderDataset,
    LayerDataset,
    Masks,
    Unmasked,
    unpainted_error,
)
from napari_msankd.torch_import import gc_paused
from src_training.errors import InputError

if TYPE_CHECKING:
    from src_training.data.summary import CaseSummary, Finding, Problem

_FEW = 3
_MOST_CLASSES = 8


@dataclass(frozen=True)
class WithoutMask:
    """Images without a mask although masks are required.

    Attributes
    ----------
    count
        Number of images.
    problem
        Message about them; empty if they are left out silently.
    """

    count: int
    problem: str = ""


def inspect(dataset: Dataset, masks: Masks) -> "Iterator[Finding | WithoutMask | int]":
    """Read all cases of a dataset; call it in a worker.

    Parameters
    ----------
    dataset
        The dataset; errors in it are yielded as `Problem`, not raised.
    masks
        Purpose of the images.

    Yields
    ------
    int
        First, the number of cases.
    CaseSummary, Problem, Note or WithoutMask
        Items for `DatasetSummary.add`.
    """
    with gc_paused():
        import src_training.data.validation  # noqa: F401
    if isinstance(dataset, LayerDataset):
        yield sum(len(pair.image.indices) for pair in dataset.pairs)
        yield from _inspect_layers(dataset, masks)
    else:
        yield from _inspect_folder(dataset)


def _inspect_folder(dataset: FolderDataset) -> "Iterator[Finding | int]":
    from src_training.data.layouts.files import read_folder
    from src_training.data.summary import Problem
    from src_training.data.validation import inspect_folder

    path = dataset.path
    if path.is_dir():
        try:
            yield len(read_folder(path, dataset.exclude, dataset.channel).images)
        except InputError:
            yield 0  # `inspect_folder` reports the error
        # Masks are "optional" here, because the user decides about images without one.
        yield from inspect_folder(
            path,
            "optional",
            dataset.exclude,
            class_values=dataset.class_values,
            channel=dataset.channel,
            resample=dataset.resample_masks,
        )
        return
    fault = "is a file" if path.exists() else "does not exist"
    yield Problem(path.name, f"{path} {fault}; expected a folder with images/ and masks/")


def _inspect_layers(dataset: LayerDataset, masks: Masks) -> "Iterator[Finding | WithoutMask]":
    from src_training.data.summary import Problem
    from src_training.data.validation import inspect_array

    classes, required = dataset.classes(), masks == "required"
    cases = cases_of(dataset.pairs, "present" if required else None)
    if dataset.unmasked == "unlabelled":
        cases = (*cases, *cases_of(dataset.pairs, "absent"))
    painted = Counter[str]()
    for case in cases:
        layer = case.pair.labels or case.pair.image
        painted[case.pair.image.name] += case.labels is not None
        try:
            pixels, labels = stored_pixels(case), stored_labels(case, classes)
            _require_labels(case)
        except InputError as error:
            yield Problem(layer.name, str(error))
            continue
        for finding in inspect_array(case.name, pixels, labels, classes, dataset.name):
            # The user excludes layers with the tick, not by name.
            yield replace(finding, exclude="") if isinstance(finding, Problem) else finding
    for pair in dataset.pairs:
        unlabelled = len(pair.image.indices) - painted[pair.image.name]
        if unlabelled and painted[pair.image.name]:
            yield _partly_painted(pair, unlabelled)
        if unlabelled and required and dataset.unmasked != "unlabelled":
            all_empty = not painted[pair.image.name]
            yield WithoutMask(unlabelled, str(unpainted_error(pair)) if all_empty else "")


def _require_labels(case: LayerCase) -> None:
    """Raise InputError if a Labels layer has grey values of a mask instead of labels."""
    from src_training.data.classes import StoredMask, read_classes
    from src_training.io.masks import MaskValues

    labels, layer = case.labels, case.pair.labels
    if labels is None or layer is None or labels.max() < HIGHEST // 2:
        return
    stored = MaskValues.of(labels)
    reading = read_classes([StoredMask(f"Labels layer {layer.name!r}", stored, lambda: labels)])
    for sentence in reading.problems.values():
        raise InputError(sentence)
    if len(stored.values) > 2 and reading.classes.threshold is not None:
        raise InputError(
            f"Labels layer {layer.name!r} holds {len(stored.values)} values from "
            f"{stored.values[0]:g} to {stored.values[-1]:g}, two and grey edges or noise; expected "
            "painted labels, or the mask opened as an image and used as labels"
        )


def _partly_painted(pair: LayerPair, unlabelled: int) -> "Finding":
    from src_training.data.summary import Note

    count = len(pair.image.indices)
    return Note(f"{count - unlabelled} of {count} slices of {pair.image.name!r} are painted.")


class DatasetSummary:
    """Summary of the cases and problems found so far.

    Parameters
    ----------
    masks
        Purpose of the images.

    Attributes
    ----------
    without_masks
        Number of images without a mask, if masks are required.
    other_values
        Alternative class values; see `Note`.
    """

    def __init__(self, masks: Masks = "required") -> None:
        self.masks = masks
        self.without_masks = 0
        self.other_values: Mapping[str, int | list[int]] | None = None
        self._notes: list[str] = []
        self._problems: list[Problem] = []
        self._mask_problems: list[str] = []
        self._cases: list[CaseSummary] = []
        self._unmasked_names: list[str] = []
        self._failure = ""
        self._done = self._total = 0

    def add(self, finding: "Finding | WithoutMask | int") -> None:
        """Add an item of `inspect`."""
        from src_training.data.summary import Note, Problem

        if isinstance(finding, int):
            self._total = finding
        elif isinstance(finding, Note):
            self._notes.append(finding.sentence)
            self.other_values = finding.other_values or self.other_values
        elif isinstance(finding, Problem):
            self._problems.append(finding)
        elif isinstance(finding, WithoutMask):
            self.without_masks += finding.count
            self._mask_problems += [finding.problem] if finding.problem else []
        else:
            self._done += 1
            if finding.counts is None and finding.name in self.faulty:
                return
            if finding.counts is None and self.masks == "required":
                self.without_masks += 1
                self._unmasked_names.append(finding.name)
            else:
                self._cases.append(finding)

    def note(self, sentences: Iterable[str]) -> None:
        """Add notes."""
        self._notes += sentences

    def fail(self, sentence: str) -> None:
        """Record that the dataset cannot be read."""
        self._failure = sentence

    def close(self, exclude: Sequence[str] = (), unmasked: Unmasked = "error") -> None:
        """Add notes and problems that depend on all cases, after reading.

        Parameters
        ----------
        exclude, unmasked
            Excluded cases, and treatment of images without a mask.
        """
        from src_training.data.split import patient_of

        if exclude:
            self._notes.append(f"{len(exclude)} left out: {_first_names(exclude)}.")
        names = self._unmasked_names
        if names and unmasked == "error":
            count, have = _count(len(names), self._noun), "has" if len(names) == 1 else "have"
            self._mask_problems.append(
                f"{count} {have} no mask ({_first_names(names)}); "
                "expected a file of the same name in masks/"
            )
        if unmasked != "error":
            self._mask_problems.clear()
        if self.without_masks and unmasked != "error":
            use = "left out" if unmasked == "exclude" else "used as unlabelled images"
            self._notes.append(f"{self.without_masks:,} without a mask: {use}.")
        patients = {patient_of(case.name) for case in self._cases}
        if self.masks == "required" and len(patients) == 1:
            self._notes.append(
                f"Only one {self._noun if len(self._cases) == 1 else 'patient'}: "
                "validation is not independent of training."
            )

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems and skipped files, a sentence each."""
        sentences = [problem.sentence for problem in self._problems]
        return tuple(filter(None, (*sentences, *self._mask_problems, self._failure)))

    @property
    def blocking(self) -> int:
        """Number of images or files that prevent the use of the dataset and can be excluded."""
        if not self._cases:
            return 0
        return len(self.faulty) + (self.without_masks if self._mask_problems else 0)

    @property
    def faulty(self) -> tuple[str, ...]:
        """Entries of `DomainRecipe.exclude` that exclude all cases and files with problems."""
        return tuple(dict.fromkeys(p.exclude for p in self._problems if p.exclude))

    @property
    def on_other_grids(self) -> int:
        """Number of masks that can be used after resampling."""
        return sum(problem.other_grid for problem in self._problems)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of each case, if one must be chosen; else empty."""
        return next((p.channels for p in self._problems if p.channels), ())

    @property
    def other_reading(self) -> str:
        """Text of the button that reads masks by `other_values`; empty if there are none."""
        names = [name for name in self.other_values or () if name != "background"]
        if not names:
            return ""
        if len(names) < len(self.other_values or ()):
            return "Read masks inverted"
        return f"Read masks as {f'{len(names)} classes' if len(names) > 1 else 'one class'}"

    @property
    def usable(self) -> bool:
        """Whether a run can use the dataset."""
        errors = [problem for problem in self._problems if not problem.unused]
        return bool(self._cases) and not (errors or self._mask_problems or self._failure)

    @property
    def volumes(self) -> bool:
        """Whether the cases are volumes."""
        return any(case.slices for case in self._cases)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first; empty without masks."""
        return next((tuple(case.counts) for case in reversed(self._cases) if case.counts), ())

    @property
    def progress(self) -> str:
        """Progress of the reading."""
        done = self._done
        return f"Reading… {done:,} of {max(done, self._total):,}" if self._total else "Reading…"

    @property
    def text(self) -> str:
        """Number and sizes of the images, share of each class, and notes."""
        if not self._cases:
            return ""
        slices = sum(case.slices for case in self._cases)
        count = _count(len(self._cases), self._noun) + (f", {slices:,} slices" if slices else "")
        lines = [f"{count} of {self._size()}{self._some_without()}"]
        lines += [self._shares()] if self._labelled else []
        lines += [self._use()] if self.masks != "required" else []
        return "\n".join(line for line in (*lines, *self._notes) if line)

    @property
    def _labelled(self) -> list["CaseSummary"]:
        return [case for case in self._cases if case.counts is not None]

    @property
    def _noun(self) -> str:
        return "volume" if self.volumes else "image"

    def _size(self) -> str:
        from src_training.io.volumes.grid import format_size

        sizes = sorted({case.size for case in self._cases})
        return " to ".join(format_size(size) for size in dict.fromkeys((sizes[0], sizes[-1])))

    def _some_without(self) -> str:
        without = len(self._cases) - len(self._labelled)
        return f"; {without:,} without a mask" if self._labelled and without else ""

    def _shares(self) -> str:
        counts = sum((Counter(case.counts) for case in self._labelled), Counter[str]())
        classes = self.classes[1:] or self.classes
        total = sum(counts.values())
        shown = classes if len(classes) <= _MOST_CLASSES else classes[: _MOST_CLASSES - 1]
        shares = [f"{name} {share_of(counts[name], total, self.volumes)}" for name in shown]
        more = len(classes) - len(shown)
        return " · ".join([*shares, *([f"{more} more classes"] if more else [])])

    def _use(self) -> str:
        if self.masks == "unused":
            return "Their masks are not used." if self._labelled else ""
        if not self._labelled:
            return "No masks, so no Dice is measured; the distance to the source (FSD) is."
        if len(self._labelled) < len(self._cases):
            return f"No scores: they need a mask for every {self._noun}."
        return "Masks are used for scores only."


def share_of(count: int, total: int, volumes: bool) -> str:
    """``"8.1 % (63,712 pixels)"``, or voxels of volumes."""
    percent, unit = 100 * count / max(1, total), "voxels" if volumes else "pixels"
    return f"{percent:.{1 if percent < 10 else 0}f} % ({count:,} {unit})"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _first_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_FEW])
    return shown if len(names) <= _FEW else f"{shown} and {len(names) - _FEW:,} more"
